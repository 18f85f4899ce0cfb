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

On a request's way charges travel as columns: a `Bill` of parts, one for each subject, whose quotas are `Lines` that all requests of a plan and model
share. What depends on the policy alone is worked out once there; a `Charge` is made only when somebody looks at one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain, groupby
from typing import Literal, NamedTuple

import msgspec

Unit = Literal["requests", "tokens", "input_tokens", "output_tokens", "reasoning_tokens", "money", "in_flight"]
Per = Literal["account", "org", "model", "account_model", "plan", "network", "cluster", "challenge"]

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

    `scale` multiplies rate and burst (plans, trust, rungs): it is not state. `opened`: when set, a bucket that is not known held `filled` of its
    burst at that time (a new cluster gets no free burst; because the opening level drains from then on, forgetting a drained bucket stays lossless).
    """

    subject: str
    quota: Quota
    cost: float
    held: float = 0.0
    scale: float = 1.0
    opened: float = 0.0
    filled: float = 1.0


class Figures(msgspec.Struct, frozen=True, gc=False):
    """Lines at a `scale`: each one's own, its rate and its burst."""

    scale: float
    scales: tuple[float, ...]
    rates: tuple[float, ...]
    bursts: tuple[float, ...]


class Lines(msgspec.Struct, frozen=True, eq=False):
    """Quotas that apply together to subjects of one kind, side by side. Compared by identity: one object serves a policy's life, and stores
    remember by it where its levels are. `figures` at scale 1. `units`: for each unit that callers are shown, which lines count in it.
    """

    per: Per
    quotas: tuple[Quota, ...]
    figures: Figures
    units: tuple[tuple[Unit, tuple[int, ...]], ...]


class Part(msgspec.Struct, frozen=True, gc=False):
    """What a bill asks of one subject: `costs` and `held` of each line, under `figures` as they apply to it. `opened` and `filled` as in a charge."""

    subject: str
    lines: Lines
    figures: Figures
    costs: Sequence[float]
    held: Sequence[float]
    opened: float = 0.0
    filled: float = 1.0

    def charges(self) -> Iterator[Charge]:
        """The part as charges."""
        for quota, cost, held, scale in zip(self.lines.quotas, self.costs, self.held, self.figures.scales, strict=True):
            yield Charge(self.subject, quota, cost, held, scale, self.opened, self.filled)

    def costing(self, costs: Sequence[float]) -> Part:
        """The same part with other costs."""
        return Part(self.subject, self.lines, self.figures, costs, self.held, self.opened, self.filled)


class Bill(msgspec.Struct, frozen=True, gc=False):
    """All charges of one request, as columns. Looked at, it is a sequence of charges."""

    parts: tuple[Part, ...] = ()

    def __len__(self) -> int:
        return sum(len(part.costs) for part in self.parts)

    def __iter__(self) -> Iterator[Charge]:
        return chain.from_iterable(part.charges() for part in self.parts)

    def __getitem__(self, index: int) -> Charge:
        return tuple(self)[index]


Charges = Sequence[Charge] | Bill


class Share(NamedTuple):
    """`part` of what `source` owes, 0..1. `lives`: the source goes on, and what is taken over is off it; else its bucket stays as it is, for whoever
    does not know yet that it is over.
    """

    source: str
    part: float
    lives: bool


class Heir(NamedTuple):
    """Who takes debts over (`part` names the subject and the lines; what it costs is of no matter), and which shares of whose."""

    part: Part
    shares: Sequence[Share]


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
    possible = rate > 0.0 and cost <= burst + SPECK
    wait = 0.0 if cost <= room + SPECK else (cost - room) / rate if possible else math.inf
    return Balance(level, room if room > 0.0 else 0.0, wait)


def billed(charges: Charges) -> Bill:
    """Charges as columns, in their order."""
    if isinstance(charges, Bill):
        return charges
    return Bill(tuple(_part(list(run)) for _, run in groupby(charges, key=lambda c: (c.quota.per, c.subject, c.opened, c.filled))))


def lines_of(quotas: Sequence[Quota], scales: Sequence[float]) -> Lines:
    """The lines of `quotas`, all of one kind of subject."""
    units: dict[Unit, list[int]] = {}
    for line, quota in enumerate(quotas):
        if quota.unit != "in_flight":
            units.setdefault(quota.unit, []).append(line)
    return Lines(quotas[0].per, tuple(quotas), figures_of(quotas, 1.0, scales), tuple((unit, tuple(lines)) for unit, lines in units.items()))


def figures_of(quotas: Sequence[Quota], scale: float, scales: Sequence[float]) -> Figures:
    """The figures of `quotas`, each at its own of `scales`."""
    rates = [quota.rate * own for quota, own in zip(quotas, scales, strict=True)]
    bursts = [quota.burst * own for quota, own in zip(quotas, scales, strict=True)]
    return Figures(scale, tuple(scales), tuple(rates), tuple(bursts))


def _part(charges: Sequence[Charge]) -> Part:
    first = charges[0]
    lines = lines_of([c.quota for c in charges], [c.scale for c in charges])
    return Part(first.subject, lines, lines.figures, [c.cost for c in charges], [c.held for c in charges], first.opened, first.filled)
