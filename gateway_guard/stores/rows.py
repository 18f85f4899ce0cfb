"""The rows of the store in memory: packed doubles, and the drafts that are worked on.

Theory of operation. A subject's row is `[forecast, at, level, level, ...]`, a level for each quota name that was ever charged to subjects of its kind, all
of them as of `at`. A row whose levels are of different ages (some quotas apply to some of the subject's requests only) is *mixed*: behind the levels come
their times, and a byte by which it is known. Rows are kept as bytes: a third of what Python's own floats take, and nothing for the garbage collector to walk
through. Time never runs back in a row: what comes with an earlier `at` is worked out as of the row's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import cache
from struct import Struct

from gateway_guard.quota import Lines, Part, drained

# The kind's shared row once the store is full. Subjects are hex digests or policy names, so none can be called this.
OVERFLOW = "\0overflow"
# Doubles before the first level, and the byte behind a mixed row.
HEAD = 2
MIXED = b"\1"


class Slots:
    """Where lines have their levels: the `places` in the `rows` of a `kind`. `codec` and `size` of rows that hold these levels and no others; size 0
    where there are none such, because other lines come first.
    """

    __slots__ = ("codec", "kind", "places", "rows", "size")

    def __init__(self, kind: Kind, places: tuple[int, ...]) -> None:
        self.kind = kind
        self.rows = kind.rows
        self.places = places
        self.codec = Struct(f"{HEAD + len(places)}d")
        self.size = self.codec.size if places == tuple(range(len(places))) else 0


class Kind:
    """All rows of one kind of subject (account, org, cluster, ...)."""

    __slots__ = ("_places", "first", "hand", "least", "rows", "slowest")

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.hand: deque[str] = deque()
        self.slowest: list[float] = []
        self.least = 1.0
        # How many levels every row has: those of the lines that were learnt first. Others follow where they are not zero.
        self.first = 0
        self._places: dict[str, int] = {}

    def learn(self, lines: Lines) -> Slots:
        """Give each line its place. The slowest rate of a place is remembered, since only with that one a row has surely drained."""
        places = tuple(self._place(quota.name, rate) for quota, rate in zip(lines.quotas, lines.figures.rates, strict=True))
        self.first = self.first or len(places)
        return Slots(self, places)

    def is_drained(self, row: bytes, at: float) -> bool:
        draft = Draft(self, "", row, fresh=False)
        return not any(draft.level(place, rate * self.least, at) for place, rate in enumerate(self.slowest))

    def sweep(self, at: float, steps: int) -> None:
        """Move the hand; drop what has drained."""
        for _ in range(min(steps, len(self.hand))):
            subject = self.hand.popleft()
            if self.is_drained(self.rows[subject], at):
                del self.rows[subject]
            else:
                self.hand.append(subject)
        if OVERFLOW in self.rows and self.is_drained(self.rows[OVERFLOW], at):
            del self.rows[OVERFLOW]

    def _place(self, name: str, rate: float) -> int:
        place = self._places.get(name)
        if place is None:
            place = self._places[name] = len(self._places)
            self.slowest.append(rate)
        self.slowest[place] = min(self.slowest[place], rate)
        return place


class Draft:
    """A row that is worked on: its levels, each as of its time in `since`. `fresh`: there was none yet; `charged`: it was, ever."""

    __slots__ = ("at", "charged", "forecast", "fresh", "kind", "levels", "since", "subject")

    def __init__(self, kind: Kind, subject: str, row: bytes, *, fresh: bool) -> None:
        self.kind = kind
        self.subject = subject
        self.fresh = fresh
        numbers = _doubles(len(row) // 8).unpack_from(row) or (0.0,) * HEAD
        self.forecast: float = numbers[0]
        self.at: float = numbers[1]
        self.charged = self.at > 0.0 or subject == OVERFLOW
        mixed = len(row) % 8
        known = (len(numbers) - HEAD) // 2 if mixed else len(numbers) - HEAD
        missing = [0.0] * (len(kind.slowest) - known)
        self.levels = [*numbers[HEAD : HEAD + known], *missing]
        self.since = [*numbers[HEAD + known :], *missing] if mixed else [self.at] * len(self.levels)

    def add(self, slots: Slots, rates: Sequence[float], costs: Sequence[float], at: float) -> list[float]:
        """Let the lines' levels drain until `at`, and add `costs`. Returns the levels."""
        now = self.at = max(at, self.at)
        for place, rate, cost in zip(slots.places, rates, costs, strict=True):
            self.levels[place] = self.level(place, rate, now) + cost
            self.since[place] = now
        return [self.levels[place] for place in slots.places]

    def level(self, place: int, rate: float, at: float) -> float:
        """What is owed at a time."""
        return drained(self.levels[place], self.since[place], at, rate)

    def packed(self) -> bytes:
        """The row."""
        at, since, levels = self.at, self.since, self.levels
        if all(then == at or level <= 0.0 for level, then in zip(levels, since, strict=True)):
            first = self.kind.first
            kept = levels if any(levels[first:]) else levels[:first]
            return _doubles(HEAD + len(kept)).pack(self.forecast, at, *kept)
        return _doubles(HEAD + 2 * len(levels)).pack(self.forecast, at, *levels, *since) + MIXED


@cache
def _doubles(count: int) -> Struct:
    """Bounded by what a policy has of quotas."""
    return Struct(f"{count}d")


def fill(draft: Draft, slots: Slots, part: Part) -> None:
    """A bucket that was never charged held `filled` of its burst when it was opened: no free burst, and forgetting a drained one loses nothing."""
    for place, rate, burst in zip(slots.places, part.figures.rates, part.figures.bursts, strict=True):
        now = max(draft.since[place], part.opened)
        draft.levels[place] = max(draft.level(place, rate, now), drained(burst * part.filled, part.opened, now, rate))
        draft.since[place] = now


def take_out(draft: Draft, before: Draft, slots: Slots, lines: Part, part: float) -> None:
    """Take out `part` of what was owed before."""
    for place, rate in zip(slots.places, lines.figures.rates, strict=True):
        taken = drained(part * before.levels[place], before.since[place], draft.since[place], rate)
        draft.levels[place] = max(0.0, draft.levels[place] - taken)


def put_on(draft: Draft, before: Draft, slots: Slots, lines: Part, part: float) -> None:
    """Put `part` of what was owed before on top, as of the later of both."""
    for place, rate in zip(slots.places, lines.figures.rates, strict=True):
        now = max(draft.since[place], before.since[place])
        draft.levels[place] = draft.level(place, rate, now) + drained(part * before.levels[place], before.since[place], now, rate)
        draft.since[place] = now
