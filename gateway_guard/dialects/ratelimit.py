"""The IETF's RateLimit fields (draft-ietf-httpapi-ratelimit-headers-11), and the headers that tell a client when to come back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from gateway_guard.dialects.limits import INFINITE, Headers, seconds, whole
from gateway_guard.ports import LimitShown

# The draft registers requests, content-bytes and concurrent-requests; the others are names of our own.
UNITS = {"in_flight": "concurrent-requests"}
# The official clients do not wait longer than this; some would sleep for days inside one call, so they are told not to.
PATIENCE = 120.0


def fields(limits: Sequence[LimitShown]) -> Headers:
    """RateLimit-Policy and RateLimit for all of `limits`; nothing when there are none."""
    if not limits:
        return []
    policies: list[bytes] = []
    states: list[bytes] = []
    for limit in limits:
        policy, name = item(limit.name, limit.limit, limit.window_seconds, limit.unit)
        policies.append(policy)
        if limit.reset_seconds < INFINITE:
            states.append(b"%b;r=%d;t=%d" % (name, whole(limit.remaining), seconds(limit.reset_seconds)))
        else:
            states.append(b"%b;r=%d" % (name, whole(limit.remaining)))
    return [(b"ratelimit-policy", b", ".join(policies)), (b"ratelimit", b", ".join(states))]


def retry(wait: float, *, again: bool | None = None) -> Headers:
    """When to come back, and whether the client should try by itself: unless said otherwise, if the wait is one that it would sit out."""
    if again is None:
        again = wait <= PATIENCE
    asked = (b"x-should-retry", b"true" if again else b"false")
    if not wait < INFINITE:
        return [asked]
    milliseconds = max(1, seconds(wait * 1000.0))
    return [(b"retry-after", b"%d" % -(-milliseconds // 1000)), (b"retry-after-ms", b"%d" % milliseconds), asked]


def quoted(name: str) -> str:
    """A structured-field string. Names are restricted where policies are read; escaping here keeps a header from ever being cut in two."""
    plain = "".join(char if " " <= char <= "~" else "?" for char in name)
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


@lru_cache(maxsize=1024)
def item(name: str, limit: float, window: float, unit: str) -> tuple[bytes, bytes]:
    """The policy's item and its name, as the fields write them. They are the same from answer to answer."""
    shown = quoted(name)
    size = f"{shown};q={whole(limit)};w={seconds(window)}" if window > 0 else f"{shown};q={whole(limit)}"
    return f"{size};qu={quoted(UNITS.get(unit, unit.replace('_', '-')))}".encode(), shown.encode()
