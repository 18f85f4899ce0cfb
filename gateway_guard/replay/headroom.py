"""How near the subjects of each quota came to it, plan by plan."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from gateway_guard.replay.tally import QuotaTally, Tally

ALL = "(all)"


class Fill(msgspec.Struct, frozen=True):
    """The highest fill of the median subject, of the one at 90 and 99 %, and of the fullest (1 = the whole burst)."""

    subjects: int
    median: float
    at_90: float
    at_99: float
    most: float


class Headroom(msgspec.Struct, frozen=True):
    """One quota: what it counts, and the fills by plan. What is not counted per account has one row for all."""

    per: str
    unit: str
    plans: dict[str, Fill]


def headroom_of(tally: Tally) -> dict[str, Headroom]:
    """By quota, in alphabetic order."""
    return {name: Headroom(quota.per, quota.unit, _plans(quota, tally)) for name, quota in sorted(tally.quotas.items())}


def fill(peaks: Sequence[float]) -> Fill:
    """What a bar shows of many highest fills."""
    ordered = sorted(peaks)
    median, high, higher, most = (round(at(ordered, share), 4) for share in (0.5, 0.9, 0.99, 1.0))
    return Fill(len(ordered), median, high, higher, most)


def at(ordered: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie (nearest rank)."""
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def _plans(quota: QuotaTally, tally: Tally) -> dict[str, Fill]:
    peaks: dict[str, list[float]] = {}
    for subject, peak in quota.peaks.items():
        account = tally.accounts.get(subject) if quota.per == "account" else None
        peaks.setdefault(account.plan if account is not None else ALL, []).append(peak)
    return {plan: fill(peaks[plan]) for plan in sorted(peaks)}
