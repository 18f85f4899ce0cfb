"""Which of the buckets that a request touched is shown under a header name that has room for one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from math import ceil, floor

from gateway_guard.ports import LimitNames, LimitShown
from gateway_guard.quota import Unit

Headers = list[tuple[bytes, bytes]]
Reset = Callable[[float, float], bytes]

# Structured fields hold integers of 15 digits.
MOST = 999_999_999_999_999.0
INFINITE = float("inf")


def headers(names: Mapping[Unit, LimitNames], reset: Reset, limits: Sequence[LimitShown], at: float) -> Headers:
    """A dialect's headers for each unit that it has names for."""
    shown: Headers = []
    for (full, left, whole_again), limit in tightest(limits, names).items():
        shown += ((full, figure(limit.limit)), (left, b"%d" % whole(limit.remaining)))
        if limit.reset_seconds < INFINITE:
            shown.append((whole_again, reset(at, limit.reset_seconds)))
    return shown


def tightest(limits: Sequence[LimitShown], families: Mapping[Unit, LimitNames]) -> dict[LimitNames, LimitShown]:
    """Of the limits that go by the same names the one with least room; of equals, the one that takes longest."""
    shown: dict[LimitNames, LimitShown] = {}
    for limit in limits:
        names = families.get(limit.unit)
        if names is None:
            continue
        other = shown.get(names)
        if other is None or limit.remaining < other.remaining or (limit.remaining == other.remaining and limit.reset_seconds > other.reset_seconds):
            shown[names] = limit
    return shown


def limit_names(pattern: str, family: str) -> LimitNames:
    """The headers of a family of units, by a pattern with `{family}` and `{what}` in it."""
    limit, remaining, reset = (pattern.format(family=family, what=what).encode() for what in ("limit", "remaining", "reset"))
    return limit, remaining, reset


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
