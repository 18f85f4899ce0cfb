"""The quotas that apply to a plan and a model, compiled: all that does not depend on the single request is worked out here, once."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from itertools import groupby
from sys import intern
from typing import NamedTuple

import msgspec
from msgspec import structs

from gateway_guard.policy.model import Plan, Policy, QuotaRule, Rung
from gateway_guard.quota import Lines, Quota, lines_of

MILLION = 1_000_000.0
# Names of models come from callers: the table of those that were seen is bounded.
MODELS = 1000
COUNTED = ("requests", "in_flight")
# What a plan's scale applies to: everything else is the operator's or the organisation's own figure.
PERSONAL = ("account", "account_model", "network")

# What an input, an output and a reasoning token are in a unit.
Weights = tuple[float, float, float]
TOKENS: dict[str, Weights] = {"tokens": (1.0, 1.0, 0.0), "input_tokens": (1.0, 0.0, 0.0), "output_tokens": (0.0, 1.0, 0.0), "reasoning_tokens": (0.0, 0.0, 1.0)}


class Rule(NamedTuple):
    """A quota of the policy, and the rule that it was made of."""

    quota: Quota
    rule: QuotaRule


class Metered(NamedTuple):
    """A line that counts tokens: what one of the input and one of the output costs; `asked`: reserve the caller's maximum, not a forecast."""

    line: int
    given: float
    output: float
    asked: bool


class Used(NamedTuple):
    """The same line when it is settled: output includes reasoning, which may cost something beside."""

    line: int
    given: float
    output: float
    reasoning: float


class Terms(Lines, frozen=True, eq=False, kw_only=True):
    """Lines with their prices.

    `graded`: trust and rungs scale them · `least` scale of each: shrinking a count below one request would deny, not limit · `costs` and `held` before any
    tokens are counted · `metered` lines, and the same for a request that asks for reasoning (`thinking`) · `returned`: what settling changes
    before any tokens are counted, `used` what it takes to count them · `pool`: what a cluster shares of it.
    """

    graded: bool
    least: tuple[float, ...]
    costs: tuple[float, ...]
    held: tuple[float, ...]
    metered: tuple[Metered, ...]
    thinking: tuple[Metered, ...]
    returned: tuple[float, ...]
    used: tuple[Used, ...]
    pool: Pool | None = None


class Pool(msgspec.Struct, frozen=True):
    """Which lines a cluster shares: its own bucket for each, and the one that keeps a member's minimum."""

    lines: tuple[int, ...]
    shared: Terms
    minimum: Terms


class Tariff:
    """The terms of every plan and model."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._rules = tuple(Rule(_quota(name, rule), rule) for name, rule in policy.quotas.items())
        self._seen: dict[tuple[str, str, bool, bool], tuple[Terms, ...]] = {}
        self._made: dict[tuple[str, Weights, tuple[Quota, ...]], tuple[Terms, ...]] = {}

    def terms(self, plan: str, model: str, org: bool, anonymous: bool) -> tuple[Terms, ...]:
        """One `Terms` for each run of quotas with the same kind of subject, in the policy's order. Callers without an `org` have no quotas of one,
        and only `anonymous` ones have those of a network.
        """
        found = self._seen.get((plan, model, org, anonymous))
        if found is None:
            if len(self._seen) >= MODELS:
                self._seen.clear()
            held = self._find(plan if plan in self._policy.plans else self._policy.default_plan, model)
            missing = {"org": not org, "network": not anonymous}
            found = self._seen[(plan, model, org, anonymous)] = tuple(terms for terms in held if not missing.get(terms.per))
        return found

    def pooled(self) -> Lines | None:
        """What clusters share, at the scale of the smallest plan: what drains slowest forgives least."""
        share = self._policy.clusters.share
        quotas = [structs.replace(quota, per="cluster") for quota, _ in self._rules if quota.name in share and quota.per == "account"]
        least = min((plan.scale for plan in self._policy.plans.values()), default=1.0)
        return lines_of(quotas, [least] * len(quotas)) if quotas else None

    def _find(self, plan: str, model: str) -> tuple[Terms, ...]:
        """Shared by all models that the policy does not tell apart."""
        rules = [found for found in self._rules if _applies(found.rule, plan, model)]
        money = self.price(model)
        key = (plan, money, tuple(found.quota for found in rules))
        if key not in self._made:
            runs = groupby(rules, key=lambda found: found.quota.per)
            self._made[key] = tuple(self._terms(list(run), plan, money) for _, run in runs)
        return self._made[key]

    def _terms(self, rules: Sequence[Rule], plan: str, money: Weights) -> Terms:
        scale = self._policy.plans.get(plan, Plan()).scale if rules[0].quota.per in PERSONAL else 1.0
        return structs.replace(_compiled(rules, scale, money), pool=self._pool(rules, scale, money))

    def _pool(self, rules: Sequence[Rule], scale: float, money: Weights) -> Pool | None:
        share = self._policy.clusters.share
        lines = tuple(index for index, (quota, _) in enumerate(rules) if quota.name in share and quota.per == "account")
        if not lines:
            return None
        shared = [Rule(structs.replace(quota, per="cluster"), rule) for quota, rule in (rules[i] for i in lines)]
        minimum = [Rule(structs.replace(quota, name=intern(f"{quota.name}.minimum")), rule) for quota, rule in (rules[i] for i in lines)]
        return Pool(lines, _compiled(shared, scale, money), _compiled(minimum, scale, money))

    def price(self, model: str) -> Weights:
        """Money for an input and an output token of a model."""
        for pattern, price in self._policy.prices.items():
            if fnmatch.fnmatchcase(model, pattern):
                return price.input / MILLION, price.output / MILLION, 0.0
        return 0.0, 0.0, 0.0


def cap_of(rung: Rung) -> Terms:
    """The requests that a rung allows an actor at once."""
    rule = QuotaRule(limit=f"{rung.in_flight} in flight")  # type: ignore[arg-type]
    return _compiled([Rule(structs.replace(_quota(f"rung.{rung.id}", rule), per="cluster"), rule)], 1.0, (0.0, 0.0, 0.0))


def _compiled(rules: Sequence[Rule], scale: float, money: Weights) -> Terms:
    quotas = [found.quota for found in rules]
    least = tuple(1.0 / quota.burst if quota.unit in COUNTED else 0.0 for quota in quotas)
    lines = lines_of(quotas, [max(scale, floor) for floor in least])
    weights = [(line, *_weights(quota, money), rule.reserve == "asked") for line, (quota, rule) in enumerate(rules) if quota.unit not in COUNTED]
    return Terms(
        *structs.astuple(lines),
        graded=lines.per != "org",
        least=least,
        costs=tuple(1.0 if quota.unit in COUNTED else 0.0 for quota in quotas),
        held=tuple(1.0 if quota.unit == "in_flight" else 0.0 for quota in quotas),
        metered=tuple(Metered(line, given, output, asked) for line, given, output, _, asked in weights),
        thinking=tuple(Metered(line, given, output + reasoning, asked) for line, given, output, reasoning, asked in weights),
        returned=tuple(-1.0 if quota.unit == "in_flight" else 0.0 for quota in quotas),
        used=tuple(Used(line, given, output, reasoning) for line, given, output, reasoning, _ in weights),
    )


def _weights(quota: Quota, money: Weights) -> Weights:
    return money if quota.unit == "money" else TOKENS[quota.unit]


def _applies(rule: QuotaRule, plan: str, model: str) -> bool:
    return (rule.plans is None or plan in rule.plans) and (rule.models is None or any(fnmatch.fnmatchcase(model, pattern) for pattern in rule.models))


def _quota(name: str, rule: QuotaRule) -> Quota:
    limit = rule.limit
    burst = limit.amount if rule.burst is None else rule.burst
    rate = limit.amount / limit.window if limit.window else 0.0
    return Quota(intern(name), rate, burst, limit.unit, rule.per, limit.window)  # type: ignore[arg-type]
