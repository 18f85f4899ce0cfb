"""Quotas as arithmetic on a level: a leaky bucket whose state does not depend on the quota.

Theory of operation. A subject owes a *level*, in the quota's unit, as of a time *at*. The level drains at `rate` and may
never be pushed past `burst`:

    level(t) = max(0, level - rate * (t - at))          admitted when level(t) + cost <= burst

Rate and burst are arguments of each call and are not stored. So tightening a quota hands nothing out (the debt stands as it is),
widening takes nothing away, and a drained level is the same as no state at all, which makes expiry lossless. (Keeping GCRA's
"theoretical arrival time" instead hands a caller fresh room whenever a rate is cut; keeping the limit in the key does so always.)

A bucket admits at most `burst + rate * t` in any stretch of length t. With `patience` p a request may also be admitted that fits only
after waiting w <= p; it is to be released w later, so that what is *released* in any stretch keeps the same bound.

A quota with `rate` 0 never drains: it counts what is held at once (requests in flight) and is given back by settling or by expiry.
"""

from __future__ import annotations

import math
from typing import Literal

import msgspec

Unit = Literal["requests", "tokens", "input_tokens", "output_tokens", "reasoning_tokens", "money", "in_flight"]
Per = Literal["account", "org", "model", "account_model", "plan", "network", "cluster"]

# A level below this is drained: it absorbs rounding after long sums, far under one unit of anything counted.
SPECK = 1e-9


class Quota(msgspec.Struct, frozen=True):
    """A limit: `burst` at once and `rate` a second of `unit`, one bucket for each `per`. `window` (seconds) is for showing only."""

    name: str
    rate: float
    burst: float
    unit: Unit = "requests"
    per: Per = "account"
    window: float = 0.0


class Charge(msgspec.Struct, frozen=True, gc=False):
    """`cost` asked of `subject` under `quota`; `held` of it is a forecast, given back when nobody settles it.

    `scale` multiplies rate and burst (plans, trust, rungs): it is not state. `opened`: when set, a bucket that is not known was full at that
    time (a new cluster gets no free burst; because the opening level drains from then on, forgetting a drained bucket stays lossless).
    """

    subject: str
    quota: Quota
    cost: float
    held: float = 0.0
    scale: float = 1.0
    opened: float = 0.0


class Balance(msgspec.Struct, frozen=True, gc=False):
    """After a charge: `level` owed, `room` left before the burst is reached, `wait` seconds until the same cost would fit (inf: never)."""

    level: float
    room: float
    wait: float


class Spend(msgspec.Struct, frozen=True, gc=False):
    """The result of one all-or-none spend. `wait`: when `ok`, how long to hold the request; else when to come back.

    `short` is the index of the charge that refuses or delays longest, -1 when none does; `levels` are what is owed now, in the order of the charges.
    """

    ok: bool
    wait: float
    short: int
    levels: tuple[float, ...]


def drained(level: float, at: float, now: float, rate: float) -> float:
    """The level at `now`. A clock that runs back drains nothing and gives nothing back."""
    if now <= at or level <= 0.0:
        return level if level > 0.0 else 0.0
    rest = level - rate * (now - at)
    return rest if rest > SPECK else 0.0


def balance(charge: Charge, level: float) -> Balance:
    """Where the bucket of `charge` stands with `level` owed, and when the same cost would fit."""
    rate, burst = charge.quota.rate * charge.scale, charge.quota.burst * charge.scale
    room, cost = burst - level, charge.cost
    if cost <= room + SPECK:
        wait = 0.0
    else:
        wait = (cost - room) / rate if rate > 0.0 and cost <= burst + SPECK else math.inf
    return Balance(level, room if room > 0.0 else 0.0, wait)
