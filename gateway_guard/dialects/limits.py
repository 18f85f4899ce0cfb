"""Which of the buckets that a request touched is shown under a header name that has room for one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from math import ceil, floor

from gateway_guard.ports import LimitShown

Headers = list[tuple[bytes, bytes]]

# Structured fields hold integers of 15 digits.
MOST = 999_999_999_999_999.0
INFINITE = float("inf")


def tightest(limits: Sequence[LimitShown], families: Mapping[str, str]) -> dict[str, LimitShown]:
    """For each family the bucket with least room; of equals, the one that takes longest."""
    shown: dict[str, LimitShown] = {}
    for limit in limits:
        family = families.get(limit.unit)
        if family is None:
            continue
        other = shown.get(family)
        if other is None or limit.remaining < other.remaining or (limit.remaining == other.remaining and limit.reset_seconds > other.reset_seconds):
            shown[family] = limit
    return shown


def whole(value: float) -> int:
    """Rounded down into what a header may hold; not a number is nothing."""
    if value < MOST:
        return floor(value) if value > 0.0 else 0
    return int(MOST) if value >= MOST else 0


def seconds(value: float) -> int:
    """Rounded up: a client that comes back a moment early is refused again."""
    if value < MOST:
        return ceil(value) if value > 0.0 else 0
    return int(MOST) if value >= MOST else 0


@lru_cache(maxsize=1024)
def figure(value: float) -> bytes:
    """A limit as a header shows it: the same from answer to answer."""
    return b"%d" % whole(value)
