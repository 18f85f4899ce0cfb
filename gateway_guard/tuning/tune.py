"""Proposes quotas and rungs for a budget of friction, from benign traffic.

First the traffic is played in shadow, without an analyst, and every organisation's needs are taken down; the quotas follow from them. Then the proposal itself
is played, with the analyst and its calibration, and whoever is still touched by clusters or rungs moves those.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import msgspec

from gateway_guard.policy.model import Policy
from gateway_guard.tuning.bounds import SURE, enough
from gateway_guard.tuning.friction import Friction
from gateway_guard.tuning.needs import Need
from gateway_guard.tuning.patch import Change, Figures, figures
from gateway_guard.tuning.propose import NEARLY, Choice, choose

VERSION = 1
# A quota that nobody comes near says nothing about how narrow it may be: it is left alone.
UNUSED = 1e-3


class Basis(msgspec.Struct, frozen=True):
    """What a proposal rests on. `unasked`: quotas whose bucket strangers share, or that nothing was charged to."""

    traffic: str
    requests: int
    accounts: int
    organisations: int
    first: float
    last: float
    unasked: list[str]

    @property
    def span(self) -> float:
        return self.last - self.first


class Proposal(msgspec.Struct, frozen=True, kw_only=True):
    """`friction` of the proposal on the same traffic, with the analyst when the policy has a calibration (`calibrated`)."""

    v: int = VERSION
    policy: str
    budget: float
    basis: Basis
    choice: Choice
    change: Change
    before: Friction
    friction: Friction
    calibrated: str
    guarantee: list[str]


def quotas(policy: Policy, needs: list[Need], choice: Choice, organisations: int) -> list[Figures]:
    """The quotas that a choice makes, with a reason each."""
    out = []
    for need in needs:
        factor = choice.point.factors[need.quota.name]
        if factor < UNUSED:
            continue
        most = max(need.units.values(), default=0.0)
        room = factor / most if most else 1.0
        rest = "" if room >= 1.0 else f"; {sum(need.units[unit] > factor for unit in need.units):,} need more"
        why = f"The widest of {organisations:,} organisations needs {most:.0%} of {need.quota.name} as it was; this is {room:.3g} times that{rest}."
        out.append(figures(need.quota.name, policy.quotas[need.quota.name], factor, why))
    return out


def untouched(policy: Policy, asked: list[Figures]) -> list[str]:
    """Quotas of the policy that the proposal leaves alone."""
    told = {one.quota for one in asked}
    return [name for name in policy.quotas if name not in told]


def moved(policy: Policy, change: Change, friction: Friction, scores: Mapping[str, float], budget: float) -> Change:
    """The change with rungs and clusters moved until what they touch in benign traffic is within the budget."""
    allowed = max(0, math.floor(budget * (friction.units + 1)) - 1)
    if friction.by["rung"] > allowed:
        change = msgspec.structs.replace(change, rungs=_raised(policy, scores, allowed), rungs_why=_rungs_why(friction, allowed))
    if friction.by["cluster"] > allowed:
        hit = friction.by["cluster"]
        why = f"Shared quotas touch {hit:,} of {friction.units:,} organisations, the budget allows {allowed:,}: recorded only. Calibrate again."
        change = msgspec.structs.replace(change, clusters_shadow=True, clusters_why=why)
    return change


def _raised(policy: Policy, scores: Mapping[str, float], allowed: int) -> dict[str, float]:
    """Every rung moved up by so much that only `allowed` organisations still reach the lowest."""
    lowest = min(rung.at for rung in policy.ladder)
    highest = sorted(scores.values(), reverse=True)
    shift = math.floor(highest[allowed] * 10 + 1) / 10 - lowest
    return {rung.id: round(rung.at + shift, 6) for rung in policy.ladder}


def _rungs_why(friction: Friction, allowed: int) -> str:
    return f"{friction.by['rung']:,} of {friction.units:,} benign organisations reach the ladder, the budget allows {allowed:,}: every rung begins above them."


def proposed(policy: Policy, needs: list[Need], units: Mapping[str, str], budget: float, span: float) -> tuple[Choice, Change]:
    """Quotas for a budget."""
    choice = choose(needs, units.values(), budget=budget, span=span)
    return choice, Change(quotas(policy, needs, choice, len(set(units.values()))))


def guarantee(choice: Choice, basis: Basis, budget: float) -> list[str]:
    """What may be said about the next week, and what may not."""
    point, of = choice.point, basis.organisations
    out = [
        f"{point.touched:,} of {of:,} organisations were touched by quotas that had been set without asking them (an account without one counts as one).",
        f"For organisations like these that is {point.friction:.3%} a week in expectation, and below {point.bound:.3%} with {SURE:.0%} confidence.",
    ]
    if not choice.vouched:
        out.append(
            f"TOO LITTLE TRAFFIC to vouch for the budget: it takes {enough(budget):,} organisations in a week. These quotas are the best that it can say."
        )
    elif point.bound > budget:
        out.append("The budget is kept in expectation; to keep it with 95 % confidence takes about three times the organisations.")
    if basis.span < NEARLY:
        out.append(f"The traffic covers {basis.span / 86400:.1f} days; a week is taken to go on alike, and weekends or month ends may not be in it.")
    return out
