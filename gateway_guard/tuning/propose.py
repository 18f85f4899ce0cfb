"""Chooses how wide quotas have to be for a budget of friction, and checks the choice on organisations that it has not seen.

Theory of operation. Strictness is one number line: from quotas that leave out the widest 5 % of organisations each, over those that just fit everybody, to
three times that. At each place the quotas are set on four fifths of the organisations and tried on the fifth that is left (five times, so that each is
once among those who were not asked). Organisations are dealt out whole: an office's accounts resemble each other, and an account seen in one half would
vouch for its neighbour in the other. The strictest place whose held-out friction is within the budget is taken, and set once more on everybody.
All quotas stand at the same place: setting each by itself has more ways to fit the traffic that it is measured on, and kept its promise less well on other
traffic.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import numpy as np

from gateway_guard.tuning.bounds import expected, upper
from gateway_guard.tuning.needs import Floats, Need

FOLDS = 5
WEEK = 7 * 86400.0
# A recorded week begins and ends within a request: it is a week all the same.
NEARLY = 0.99 * WEEK


class Strictness(NamedTuple):
    """`left_out` share of organisations whose needs a quota ignores; `room` factor on what the others need."""

    left_out: float
    room: float

    def __str__(self) -> str:
        if self.left_out:
            return f"without the widest {self.left_out:.2%}"
        return "fits everybody" if self.room == 1.0 else f"{self.room:g} times that"


STRICTEST_FIRST = (
    *(Strictness(share, 1.0) for share in (0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0005, 0.0002, 0.0001)),
    *(Strictness(0.0, room) for room in (1.0, 1.1, 1.25, 1.5, 2.0, 2.5, 3.0)),
)


class Point(msgspec.Struct, frozen=True):
    """One place of the curve: `touched` organisations of all, each asked while it was held out · `friction` in expectation and `bound` with 95 %
    confidence, a week · `factors` on the policy's quotas when set on everybody.
    """

    strictness: str
    touched: int
    friction: float
    bound: float
    factors: dict[str, float]


class Choice(msgspec.Struct, frozen=True):
    """The curve and where on it the choice fell. `vouched`: the traffic suffices to say that the budget is kept, in expectation."""

    curve: list[Point]
    chosen: int
    vouched: bool

    @property
    def point(self) -> Point:
        """The place that was chosen."""
        return self.curve[self.chosen]


def weekly(share: float, span: float) -> float:
    """A share of the traffic as one of a week. Who is touched in a longer stretch may be so in each week of it; a shorter one is taken to go on alike."""
    return min(1.0, share if span >= NEARLY else share * WEEK / max(span, 1.0))


def choose(needs: Sequence[Need], units: Iterable[str], *, budget: float, span: float) -> Choice:
    """The strictest quotas whose friction on held-out organisations is within the budget; the widest that were tried, if none are."""
    table = _Table(needs, sorted(set(units)))
    curve = [_point(table, place, span) for place in STRICTEST_FIRST]
    # The curve falls but for chance: once within the budget is not enough, everything wider has to be, too.
    steady = [number for number in range(len(curve)) if all(point.friction <= budget for point in curve[number:])]
    fewest = min(point.touched for point in curve)
    chosen = steady[0] if steady else next(number for number, point in enumerate(curve) if point.touched == fewest)
    return Choice(curve, chosen, vouched=bool(steady))


def _point(table: _Table, place: Strictness, span: float) -> Point:
    hit, of = table.hit(place), table.units
    friction, bound = weekly(expected(hit, of), span), weekly(upper(hit, of), span)
    return Point(str(place), hit, round(friction, 8), round(bound, 8), table.factors(place))


class _Table:
    """Needs as columns, and the folds: for each the held-out rows and the others' columns, sorted."""

    def __init__(self, needs: Sequence[Need], units: Sequence[str]) -> None:
        self._names = [need.quota.name for need in needs]
        self._wanted = np.array([[need.units.get(unit, 0.0) for need in needs] for unit in units]).reshape(len(units), len(needs))
        fold = np.array([blake2b(unit.encode(), digest_size=4).digest()[0] % FOLDS for unit in units], np.int64)
        parts = [(self._wanted[fold == number], np.sort(self._wanted[fold != number], axis=0)) for number in range(FOLDS)]
        self._folds = [(held, asked) for held, asked in parts if len(held) and len(asked)]

    @property
    def units(self) -> int:
        return len(self._wanted)

    def hit(self, place: Strictness) -> int:
        """How many organisations the quotas touch at this place, each held out once."""
        return sum(int((held > _wide(asked, place)).any(axis=1).sum()) for held, asked in self._folds)

    def factors(self, place: Strictness) -> dict[str, float]:
        """How wide the quotas are at this place, going by everybody."""
        wide = _wide(np.sort(self._wanted, axis=0), place)
        return {name: round(float(factor), 6) for name, factor in zip(self._names, wide, strict=True)}


def _wide(ordered: Floats, place: Strictness) -> Floats:
    wide: Floats = ordered[len(ordered) - 1 - int(place.left_out * len(ordered))] * place.room
    return wide
