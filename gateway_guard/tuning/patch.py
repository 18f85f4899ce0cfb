"""A proposal as a policy: in memory, to be tried; and as a file that includes the policy it changes, with a comment beside each figure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import msgspec
from msgspec import structs

from gateway_guard.policy.model import Policy, QuotaRule, Rung

# People read and argue about figures: two digits, rounded up.
DIGITS = 2


class Figures(msgspec.Struct, frozen=True):
    """One quota as it was and as it is proposed; `factor` on it, `why` in a sentence."""

    quota: str
    factor: float
    limit: str
    burst: float
    was_limit: str
    was_burst: float
    why: str


class Change(msgspec.Struct, frozen=True):
    """All that a proposal changes: quotas; the rungs' bounds by id; whether clusters share in shadow only. `why` for the last two."""

    quotas: list[Figures] = []
    rungs: dict[str, float] = {}
    rungs_why: str = ""
    clusters_shadow: bool = False
    clusters_why: str = ""


def rounded(value: float) -> float:
    """Up to two digits: 2,341 is 2,400."""
    if value <= 0:
        return value
    step = 10.0 ** (math.floor(math.log10(value)) - DIGITS + 1)
    up = math.ceil(round(value / step, 6)) * step
    return float(round(up)) if step >= 1 else round(up, 12)


def figures(name: str, rule: QuotaRule, factor: float, why: str) -> Figures:
    """A quota made `factor` times as wide."""
    burst = rule.burst if rule.burst is not None else rule.limit.amount
    whole = rule.limit.unit in ("in_flight", "requests")
    limit, wide = (max(1.0, math.ceil(rounded(value * factor))) if whole else rounded(value * factor) for value in (rule.limit.amount, burst))
    said = str(structs.replace(rule.limit, amount=float(limit)))
    return Figures(name, factor, said, float(wide), str(rule.limit), burst, why)


def patched(policy: Policy, change: Change) -> Policy:
    """The policy with the change in force."""
    quotas = dict(policy.quotas)
    for one in change.quotas:
        rule = quotas[one.quota]
        quotas[one.quota] = QuotaRule.model_validate(rule.model_dump() | {"limit": one.limit, "burst": one.burst if rule.limit.unit != "in_flight" else None})
    ladder = [rung.model_copy(update={"at": change.rungs.get(rung.id, rung.at)}) for rung in policy.ladder]
    clusters = policy.clusters.model_copy(update={"mode": "shadow"}) if change.clusters_shadow else policy.clusters
    return policy.model_copy(update={"quotas": quotas, "ladder": ladder, "clusters": clusters})


def written(policy: Policy, include: str, change: Change, head: Sequence[str]) -> str:
    """The file. `include` is the policy's name as seen from it, `head` the sentences that it begins with."""
    lines = [*(f"# {sentence}" for sentence in head), f"include: {include}", "version: 1", f"name: {policy.name}-tuned"]
    if change.quotas:
        lines += ["", "quotas:"]
        for one in change.quotas:
            lines += [f"  # {one.why}", f"  {one.quota}: {_quota(one, policy.quotas[one.quota])}"]
    if change.clusters_shadow:
        lines += ["", f"# {change.clusters_why}", "clusters: {mode: shadow}"]
    if change.rungs:
        lines += ["", f"# {change.rungs_why}", "ladder:  # lists are replaced as a whole"]
        lines += [f"  - {_rung(rung, change.rungs)}" for rung in policy.ladder]
    return "\n".join(lines) + "\n"


def _quota(one: Figures, rule: QuotaRule) -> str:
    burst = "" if rule.limit.unit == "in_flight" else f", burst: {_amount(one.burst)}"
    return f"{{limit: {one.limit}{burst}}}"


def _amount(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)


def _rung(rung: Rung, at: Mapping[str, float]) -> str:
    plain = rung.model_dump(exclude_defaults=True) | {"at": at.get(rung.id, rung.at)}
    return "{" + ", ".join(f"{key}: {value:g}" if isinstance(value, float) else f"{key}: {value}" for key, value in plain.items()) + "}"
