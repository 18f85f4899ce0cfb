"""Lint for plans, quotas, clusters and prices."""

from __future__ import annotations

import fnmatch
import itertools
from collections.abc import Iterator

from gateway_guard.policy.finding import Finding, odd, ruled
from gateway_guard.policy.mistakes import meant
from gateway_guard.policy.model import Policy, QuotaRule

OUTPUT_UNITS = ("tokens", "output_tokens")
PROMPT_UNITS = ("tokens", "input_tokens")
LONG_PROMPT = 32_000  # tokens; what coding programs send as a matter of course


def plans(policy: Policy) -> Iterator[Finding]:
    """Plans that are named exist, and nobody starts at nothing."""
    known = plan_names(policy)
    if policy.plans and policy.default_plan not in policy.plans:
        yield Finding(("default_plan",), f"callers whose plan is not listed get `default_plan`, and {missing(policy.default_plan, 'plan', set(policy.plans))}")
    rules = policy.identity
    if rules.anonymous_plan not in known and (rules.anonymous == "accept" or "anonymous_plan" in rules.model_fields_set):
        yield Finding(
            ("identity", "anonymous_plan"),
            f"callers without an account get the plan `{rules.anonymous_plan}`, and " + missing(rules.anonymous_plan, "plan", known),
        )
    for name, plan in policy.plans.items():
        if plan.trust is not None and plan.trust.start <= 0:
            yield Finding(("plans", name, "trust", "start"), f"new accounts of plan `{name}` could use nothing at all; start for example at 20%")
    for name, rule in policy.quotas.items():
        for index, plan_name in enumerate(rule.plans or ()):
            if plan_name not in known:
                yield Finding(("quotas", name, "plans", index), f"quota `{name}`: {missing(plan_name, 'plan', known)}")
        for key in ("plans", "models"):
            if getattr(rule, key) == []:
                yield Finding(("quotas", name, key), f"quota `{name}` applies to no {key[:-1]}; take `{key}` out for all of them")


def quotas(policy: Policy) -> Iterator[Finding]:
    """Each quota can be met by at least one request, and says nothing that has no meaning for its unit."""
    for name, rule in policy.quotas.items():
        unit, burst = rule.limit.unit, _burst(rule)
        where = ("quotas", name, "limit" if rule.burst is None else "burst")
        if unit == "in_flight":
            yield from _in_flight(name, rule)
        elif unit == "requests" and burst < 1:
            yield Finding(where, f"quota `{name}` has a burst of {burst:g} requests, so not even one fits; give `burst: 1` or more")
        if unit in OUTPUT_UNITS and burst < policy.reservation.output:
            yield Finding(
                where,
                f"quota `{name}` has a burst of {burst:g} tokens, less than `reservation.output` ({policy.reservation.output}) holds for one answer",
            )
        if rule.reserve == "asked" and unit in ("requests", "in_flight", "input_tokens"):
            yield Finding(
                ("quotas", name, "reserve"),
                f"quota `{name}` counts what is known before the answer; `reserve: asked` is for output, tokens and money",
            )
        if rule.per == "network" and rule.plans is not None and policy.identity.anonymous_plan not in rule.plans:
            yield Finding(
                ("quotas", name, "per"),
                f"quota `{name}` is per network, which holds callers without an account, but leaves out their plan `{policy.identity.anonymous_plan}`",
            )


def prompts(policy: Policy) -> Iterator[Finding]:
    """A prompt longer than the burst never fits: the caller would be told to wait for ever."""
    for name, rule in policy.quotas.items():
        if rule.limit.unit not in PROMPT_UNITS or rule.per in ("org", "model", "plan"):
            continue
        smallest = min((_burst(rule) * scale, plan) for plan, scale in _scales(policy, rule))
        if smallest[0] < LONG_PROMPT:
            yield odd(
                ("quotas", name, "limit" if rule.burst is None else "burst"),
                f"quota `{name}`: a prompt of more than {smallest[0]:,.0f} tokens can never fit with plan {smallest[1]}; coding programs send more than 32,000",
            )


def shadowed(policy: Policy) -> Iterator[Finding]:
    """A quota beside a tighter one of the same kind decides nothing."""
    kinds: dict[str, list[tuple[str, QuotaRule]]] = {}
    for name, rule in policy.quotas.items():
        kinds.setdefault(repr((rule.limit.unit, rule.per, rule.plans, rule.models)), []).append((name, rule))
    for same in kinds.values():
        for (name, loose), (other, tight) in itertools.permutations(same, 2):
            room, less = (_rate(loose), _burst(loose)), (_rate(tight), _burst(tight))
            if room != less and room[0] >= less[0] and room[1] >= less[1]:
                yield odd(("quotas", name), f"quota `{name}` decides nothing: `{other}` is tighter in rate and burst")


def anonymous(policy: Policy) -> Iterator[Finding]:
    """Whoever gives no name is held by something."""
    plan = policy.identity.anonymous_plan
    if policy.identity.anonymous == "refuse":
        return
    if not any(rule.per != "org" and rule.models is None and (rule.plans is None or plan in rule.plans) for rule in policy.quotas.values()):
        yield Finding(
            ("identity", "anonymous"), f"callers without an account are accepted and no quota holds them; add one with `per: network` for plan `{plan}`"
        )


def clusters(policy: Policy) -> Iterator[Finding]:
    """Only what one account may use can be shared by a cluster."""
    rules = policy.clusters
    for index, name in enumerate(rules.share):
        steps, rule = ("clusters", "share", index), policy.quotas.get(name)
        if rule is None:
            yield Finding(steps, missing(name, "quota", set(policy.quotas)))
        elif rule.per != "account":
            yield Finding(steps, f"quota `{name}` is per {rule.per}; a cluster shares only quotas per account")
        elif rule.limit.unit == "in_flight":
            yield Finding(steps, f"quota `{name}` counts what is in flight; a cluster's share opens full and drains with time, which that never does")
        elif name in rules.share[:index]:
            yield Finding(steps, f"quota `{name}` is listed twice")
    if not rules.share and {"minimum", "mode"} & rules.model_fields_set:
        yield Finding(("clusters", "share"), "clusters share no quota; list the quotas per account that count for all members together")
    if rules.share and rules.minimum >= 0.5:
        yield odd(
            ("clusters", "minimum"),
            f"with a minimum of {rules.minimum:.0%} sharing hardly bites: a hundred accounts keep the quotas of {100 * rules.minimum:.0f}",
        )
    if not rules.share and any(rule.mode != "off" for name, rule in policy.signals.items() if name == "coordination"):
        yield odd(("clusters",), "coordinated accounts keep their whole quotas each: `clusters.share` lists none")


def prices(policy: Policy) -> Iterator[Finding]:
    """Money is counted for every model, by the price that is meant."""
    for name, rule in policy.quotas.items():
        if rule.limit.unit == "money" and "*" not in policy.prices:
            yield Finding(("quotas", name, "limit"), f'quota `{name}` counts money, and a model without a price would be free; give `prices` an entry `"*"`')
    for wide, narrow in itertools.combinations(policy.prices, 2):
        if fnmatch.fnmatchcase(narrow, wide):
            yield Finding(("prices", narrow), f"the price of `{narrow}` is never used: `{wide}` above it fits first; put the narrower one above")


def throttle(policy: Policy) -> Iterator[Finding]:
    """Held requests are counted in requests, and callers do not wait for ever."""
    rules = policy.throttle
    if rules.release.unit != "requests":
        yield Finding(("throttle", "release"), f"`release` is a pace of requests; {rules.release} is not; write for example `100/s`")
    if rules.wait > 60:
        yield odd(("throttle", "wait"), f"callers are held up to {rules.wait:g} s before anything is sent; many clients give up after 60 s")


def missing(word: str, kind: str, known: set[str]) -> str:
    """There is no such thing; which was probably meant."""
    near = meant(word, sorted(known))
    if near:
        return f"there is no {kind} `{word}`; did you mean `{near}`?"
    return f"there is no {kind} `{word}`; " + (f"there are: {', '.join(sorted(known))}" if known else "there are none at all")


def plan_names(policy: Policy) -> set[str]:
    """Plans that can apply to a caller: the default one needs no entry."""
    return {policy.default_plan, *policy.plans}


def _in_flight(name: str, rule: QuotaRule) -> Iterator[Finding]:
    if rule.limit.amount < 1:
        yield Finding(("quotas", name, "limit"), f"quota `{name}` lets less than one request run; write `1 in flight` or more")
    if rule.burst is not None:
        yield Finding(("quotas", name, "burst"), f"quota `{name}` counts what is in flight at once; it has no burst")


def _scales(policy: Policy, rule: QuotaRule) -> Iterator[tuple[str, float]]:
    for name in sorted(plan_names(policy)):
        if rule.plans is None or name in rule.plans:
            plan = policy.plans.get(name)
            yield name, plan.scale if plan else 1.0
            if plan and plan.trust:
                yield f"{name}, new accounts", plan.scale * plan.trust.start


def _rate(rule: QuotaRule) -> float:
    return rule.limit.amount / rule.limit.window if rule.limit.window else 0.0


def _burst(rule: QuotaRule) -> float:
    return rule.limit.amount if rule.burst is None else rule.burst


RULES = (
    ruled("plans default_plan identity quotas", plans),
    ruled("quotas reservation identity", quotas),
    ruled("quotas plans", prompts),
    ruled("quotas", shadowed),
    ruled("identity quotas", anonymous),
    ruled("clusters quotas signals", clusters),
    ruled("prices quotas", prices),
    ruled("throttle", throttle),
)
