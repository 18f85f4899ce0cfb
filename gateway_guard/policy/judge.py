"""The policy compiled for the gate: which quotas apply to a request, what the evidence adds up to, which rung that is.

Pure arithmetic on facts; everything that depends on the policy alone is worked out once, in `compile_policy`.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from gateway_guard.decision import Action
from gateway_guard.evidence import Evidence
from gateway_guard.facts import Asks, Identity, RequestFacts, Usage
from gateway_guard.policy.model import Plan, Policy, QuotaRule, Rung
from gateway_guard.quota import Charge, Quota
from gateway_guard.signals.catalogue import SIGNALS
from gateway_guard.view import Cluster, Standing, View

if TYPE_CHECKING:
    import datetime

MILLION = 1_000_000.0
# Names of models come from callers: the tables kept for them are bounded.
MODELS = 1000
# Ordinal of 1970-01-01 in the proleptic Gregorian calendar.
EPOCH = 719163
# What the analyst concluded counts only when it knows from benign history what is usual.
FROM_VIEW = frozenset({"coordination", "harvest"})
GRAVE = frozenset({"degrade", "deny"})
# A plain integer: an enum's operators cost more than the charge.
REASONING = int(Asks.REASONING)
COUNTED = ("requests", "in_flight")
# What a plan's scale applies to: everything else is the operator's or the organisation's own figure.
PERSONAL = ("account", "account_model", "network")
TOKEN_WEIGHTS = {"tokens": (1.0, 1.0, 0.0), "input_tokens": (1.0, 0.0, 0.0), "output_tokens": (0.0, 1.0, 0.0), "reasoning_tokens": (0.0, 0.0, 1.0)}


Weights = tuple[float, float, float]


class Term(msgspec.Struct, frozen=True):
    """One quota as it applies to a plan and a model.

    `counted`: the unit counts requests · `held`: what of a counted cost is given back · `asked`: reserve the caller's maximum, not a forecast ·
    `weights` of an input, an output and a reasoning token in the unit.
    """

    quota: Quota
    scale: float
    counted: bool
    held: float
    asked: bool
    weights: Weights


class Score(msgspec.Struct, frozen=True):
    """The evidence of one request, its sum in log-odds, and the rung that follows. `would` counts what is in shadow too."""

    evidence: tuple[Evidence, ...]
    total: float
    rung: Rung | None
    would: Rung | None


CALM = Score((), 0.0, None, None)


class Rulebook:
    """A compiled policy. Immutable but for a bounded table of the terms for each plan and model."""

    def __init__(self, policy: Policy, digest: str, account_ids: Callable[[str], Sequence[str]], org_ids: Callable[[str], Sequence[str]]) -> None:
        self.policy = policy
        self.digest = digest
        self.enforcing = policy.mode == "enforce"
        self.patience = policy.throttle.wait
        self.expires = policy.reservation.expires
        self._expected = float(policy.reservation.output)
        self._ladder = tuple(sorted(policy.ladder, key=lambda rung: rung.at))
        self._signals = tuple((name, SIGNALS[name], rule) for name, rule in sorted(policy.signals.items()) if rule.mode != "off")
        self._quotas = tuple((_quota(name, rule), rule) for name, rule in policy.quotas.items())
        self._pooled = {quota.name: _pooled(quota) for quota, _ in self._quotas if quota.name in policy.clusters.share and quota.per == "account"}
        self._prices: dict[str, Weights] = {}
        self._plans = {"": policy.plans.get(policy.default_plan, Plan()), **policy.plans}
        self._terms: dict[tuple[str, str], tuple[Term, ...]] = {}
        self._exempt = {ident: (e.id, _midnight_after(e.until)) for e in policy.exemptions for name in e.accounts for ident in account_ids(name)}
        self._exempt_orgs = {ident: (e.id, _midnight_after(e.until)) for e in policy.exemptions for name in e.orgs for ident in org_ids(name)}

    def exemption(self, identity: Identity, at: float) -> str:
        """Id of the exemption that holds for this caller now, else empty."""
        for table, key in ((self._exempt, identity.account), (self._exempt_orgs, identity.org)):
            found = table.get(key)
            if found is not None and at < found[1]:
                return found[0]
        return ""

    def score(self, facts: RequestFacts, standing: Standing | None, view: View) -> Score:
        """Weigh what the signals say and find the rung."""
        evidence: list[Evidence] = []
        total = shadow = 0.0
        for name, signal, rule in self._signals:
            found = signal(facts, standing, view)
            if found is None:
                continue
            weight = min(rule.weight * found.log_odds, rule.ceiling)
            evidence.append(Evidence(found.family, name, weight, found.says))
            if rule.mode == "enforce" and (view.calibrated or name not in FROM_VIEW):
                total += weight
            shadow += weight
        if not self._ladder:
            return Score(tuple(evidence), total, None, None) if evidence else CALM
        return Score(tuple(evidence), total, self._rung(total, evidence, standing), self._rung(max(total, shadow), evidence, standing))

    def charges(self, facts: RequestFacts, *, forecast: float, scale: float) -> list[Charge]:
        """What the request asks of each quota that applies to it, cluster quotas aside."""
        identity = facts.identity
        terms = self._terms.get((identity.plan, facts.model))
        if terms is None:
            terms = self._find_terms(identity.plan, facts.model)
        scale *= self._trust(identity, facts.at)
        out: list[Charge] = []
        for term in terms:
            quota = term.quota
            subject = identity.account if quota.per == "account" else _subject(quota.per, facts)
            if not subject:
                continue
            share = term.scale * scale if quota.per != "org" else term.scale
            if term.counted:
                # Scaling never shrinks a count below one request: that would deny, not limit.
                out.append(Charge(subject, quota, 1.0, term.held, share if share * quota.burst >= 1.0 else 1.0 / quota.burst))
            else:
                out.append(self._token_charge(term, subject, facts, forecast, share))
        return out

    def cluster_charges(self, charges: Sequence[Charge], cluster: Cluster) -> tuple[list[Charge], list[Charge]]:
        """The cluster's charges beside the member's own `charges`, and the member's guaranteed minimum to use when the cluster is spent.

        A cluster of n shares `q * n^a` with a = 1 - confidence: one account's quota when surely one actor, n quotas when surely not.
        """
        members = max(1.0, float(cluster.size)) ** (1.0 - cluster.confidence)
        pooled, minimum = [], []
        for charge in charges:
            quotas = self._pooled.get(charge.quota.name) if charge.quota.per == "account" else None
            if quotas is None:
                continue
            pooled.append(_at_least_one(Charge(cluster.id, quotas[0], charge.cost, charge.held, charge.scale * members, cluster.born)))
            minimum.append(_at_least_one(Charge(charge.subject, quotas[1], charge.cost, charge.held, charge.scale * self.policy.clusters.minimum)))
        return pooled, minimum

    def actual(self, charge: Charge, model: str, usage: Usage) -> float:
        """What the request really cost under `charge`'s quota."""
        unit = charge.quota.unit
        if unit == "requests":
            return charge.cost
        if unit == "in_flight":
            return 0.0
        given, output, reasoning = self._weights(unit, model)
        return given * usage.input + output * usage.output + reasoning * usage.reasoning

    def _token_charge(self, term: Term, subject: str, facts: RequestFacts, forecast: float, scale: float) -> Charge:
        given, output, reasoning = term.weights
        asked = facts.ask_tokens
        expected = forecast or self._expected
        if asked and (term.asked or asked < expected):
            expected = float(asked)
        sure = given * facts.input_tokens
        cost = sure + output * expected + (reasoning * expected if facts.asks & REASONING else 0.0)
        if not term.asked:
            # A forecast may not make a request impossible that the quota could hold.
            cost = max(sure, min(cost, term.quota.burst * scale))
        return Charge(subject, term.quota, cost, cost - sure, scale)

    def _weights(self, unit: str, model: str) -> Weights:
        if unit != "money":
            return TOKEN_WEIGHTS[unit]
        known = self._prices.get(model)
        if known is None:
            prices = self.policy.prices
            known = next(((p.input / MILLION, p.output / MILLION, 0.0) for pattern, p in prices.items() if fnmatch.fnmatchcase(model, pattern)), (0.0, 0.0, 0.0))
            if len(self._prices) < MODELS:
                self._prices[model] = known
        return known

    def _trust(self, identity: Identity, at: float) -> float:
        plan = self._plans.get(identity.plan) or self._plans[""]
        if plan.trust is None or not identity.created_at:
            return 1.0
        age = max(0.0, at - identity.created_at)
        return min(1.0, plan.trust.start + (1.0 - plan.trust.start) * age / plan.trust.over)

    def _find_terms(self, plan: str, model: str) -> tuple[Term, ...]:
        known = plan if plan in self.policy.plans else self.policy.default_plan
        scale = (self.policy.plans.get(known) or self._plans[""]).scale
        found = tuple(
            self._term(quota, rule, scale, model)
            for quota, rule in self._quotas
            if (rule.plans is None or known in rule.plans) and (rule.models is None or any(fnmatch.fnmatchcase(model, m) for m in rule.models))
        )
        if len(self._terms) < MODELS:
            self._terms[(plan, model)] = found
        return found

    def _term(self, quota: Quota, rule: QuotaRule, scale: float, model: str) -> Term:
        counted = quota.unit in COUNTED
        held = 1.0 if quota.unit == "in_flight" else 0.0
        weights = (0.0, 0.0, 0.0) if counted else self._weights(quota.unit, model)
        return Term(quota, scale if quota.per in PERSONAL else 1.0, counted, held, rule.reserve == "asked", weights)

    def _rung(self, total: float, evidence: Sequence[Evidence], standing: Standing | None) -> Rung | None:
        """The highest rung that the score reaches and the evidence may carry: beyond quotas, both columns and two independent families."""
        families = {e.family for e in evidence} | set(standing.families if standing else ())
        names = {e.signal for e in evidence}
        for rung in reversed(self._ladder):
            if total < rung.at:
                continue
            if rung.do in GRAVE and not (len(families) >= 2 and FROM_VIEW <= names):
                continue
            return rung
        return None


def compile_policy(
    policy: Policy,
    digest: str,
    *,
    account_ids: Callable[[str], Sequence[str]] = lambda name: (name,),
    org_ids: Callable[[str], Sequence[str]] = lambda name: (name,),
) -> Rulebook:
    """A rulebook for the gate. `account_ids` and `org_ids` give the keyed hashes that a name in the policy may stand for."""
    return Rulebook(policy, digest, account_ids, org_ids)


def action_of(rung: Rung) -> Action:
    """What a rung does."""
    return Action[rung.do.upper()]


def _quota(name: str, rule: QuotaRule) -> Quota:
    limit = rule.limit
    burst = limit.amount if rule.burst is None else rule.burst
    rate = limit.amount / limit.window if limit.window else 0.0
    return Quota(name, rate, burst, limit.unit, rule.per, limit.window)  # type: ignore[arg-type]


def _pooled(quota: Quota) -> tuple[Quota, Quota]:
    """The bucket that a cluster shares, and the one that keeps a member's minimum."""
    return structs.replace(quota, per="cluster"), structs.replace(quota, name=f"{quota.name}.minimum")


def _subject(per: str, facts: RequestFacts) -> str:
    identity = facts.identity
    if per == "account":
        return identity.account
    if per == "org":
        return identity.org
    if per == "model":
        return facts.model
    if per == "account_model":
        return f"{identity.account}/{facts.model}"
    if per == "plan":
        return identity.plan or "default"
    return identity.account if identity.anonymous else ""


def _at_least_one(charge: Charge) -> Charge:
    """Scaling never shrinks a count below one request: that would deny, not limit."""
    burst = charge.quota.burst * charge.scale
    if charge.quota.unit not in COUNTED or burst >= 1.0:
        return charge
    return structs.replace(charge, scale=1.0 / charge.quota.burst)


def _midnight_after(day: datetime.date) -> float:
    """The end of `day` in UTC, as epoch seconds."""
    return (day.toordinal() + 1 - EPOCH) * 86400.0
