"""Debts in this process's memory: bounded, lossless in expiry, and tighter (never more generous) when full.

Theory of operation. A subject owns one row of doubles: `[forecast, latest, level, since, level, since, ...]`, a pair for each quota name that was ever
charged to subjects of its kind. Rows are kept packed, as bytes: a third of what Python's own floats take, and nothing for the garbage collector to
walk through. A call unpacks the rows that it touches into drafts, works on these, and packs them again only when every charge fits: that is
what makes a spend all or none. Time never runs back in a row: a call that comes with an earlier `at` is worked out as of the row's `latest`.

A cluster's bucket opens at its first charge (`Charge.opened`). What it inherits may come before: then its row is there with a `latest` of 0, as of nobody
who was ever charged, and the opening is still to come.

A row whose levels have all drained says nothing that an absent row does not say, so a clock hand that moves two rows for each new subject can
drop it without loss. When the cap is reached and nothing has drained, new subjects share one overflow row of their kind: together they get
what one of them would have had. (An LRU would forget debts instead, and an attacker with many keys could make it forget his own.)

Every call is atomic because none of them awaits.
"""

from __future__ import annotations

import math
from collections import defaultdict, deque
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from struct import Struct

from msgspec import structs

from gateway_guard.quota import SPECK, Bill, Charges, Figures, Heir, Lines, Part, Spend, billed, drained

# The kind's shared row once the store is full. Subjects are hex digests or policy names, so none can be called this.
OVERFLOW = "\0overflow"
SWEEP = 2
FORECAST_WEIGHT = 0.1
FORECAST = Struct("d")
# Where `latest` is in a row, and where the first level is.
LATEST, FIRST = 1, 2
# Expiries of holds that are settled are dropped when there are so many more of them than of others.
STALE = 1000
# Where a line's level and its time are in a row, with the line's rate and burst.
Slot = tuple[int, int, int, float, float]
# A charge that goes over its burst, and how long until it would fit.
Over = tuple[int, float]
# Slots are remembered for so many lines; a policy has a few for each plan.
REMEMBERED = 1000


class _Kind:
    """All rows of one kind of subject (account, org, cluster, ...)."""

    __slots__ = ("_places", "codec", "hand", "least", "rows", "slots", "slowest", "width")

    def __init__(self) -> None:
        self.rows: dict[str, bytes] = {}
        self.hand: deque[str] = deque()
        self.codec = Struct(f"{FIRST}d")
        self.width = self.codec.size
        self.slots: dict[Lines, tuple[Slot, ...]] = {}
        self.slowest: list[float] = []
        self.least = 1.0
        self._places: dict[str, int] = {}

    def learn(self, lines: Lines) -> tuple[Slot, ...]:
        """Give each line its place. The slowest rate of a place is remembered, since only with that one a row has surely drained."""
        figures = zip(lines.quotas, lines.figures.rates, lines.figures.bursts, strict=True)
        places = [(self._place(quota.name, rate), rate, burst) for quota, rate, burst in figures]
        if len(self.slots) > REMEMBERED:
            self.slots.clear()
        slots = self.slots[lines] = tuple((line, place, place + 1, rate, burst) for line, (place, rate, burst) in enumerate(places))
        return slots

    def unpacked(self, row: bytes) -> list[float]:
        """The row's numbers, those of quotas that came later included."""
        return list(self.codec.unpack(row.ljust(self.width, b"\0")))

    def is_drained(self, row: bytes, at: float) -> bool:
        values = self.unpacked(row)
        levels = zip(values[FIRST::2], values[FIRST + 1 :: 2], self.slowest, strict=True)
        return not any(drained(level, since, at, rate * self.least) for level, since, rate in levels)

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
            place = self._places[name] = FIRST + 2 * len(self._places)
            self.slowest.append(rate)
            self.codec = Struct(f"{place + 2}d")
            self.width = self.codec.size
        number = (place - FIRST) >> 1
        self.slowest[number] = min(self.slowest[number], rate)
        return place


# A row that is worked on: its kind and subject, its numbers, whether there was none yet, and whether it was ever charged.
Draft = tuple[_Kind, str, list[float], bool, bool]


class MemoryStore:
    """`ports.Store` in one process. `cap` bounds the number of subjects of all kinds together."""

    def __init__(self, cap: int = 1_000_000) -> None:
        self._cap = cap
        self._kinds: defaultdict[str, _Kind] = defaultdict(_Kind)
        self._accounts = self._kinds["account"].rows
        self._size = 0
        self._opened = 0
        self._due = -math.inf
        self._inherited = 0
        self._holds: dict[str, tuple[float, Bill]] = {}
        self._expiries: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return self._size

    async def spend(self, charges: Charges, at: float, *, patience: float = 0.0, hold: str = "", until: float = 0.0) -> Spend:
        """See `ports.Store.spend`."""
        if at >= self._due:
            self._tend(at)
        bill = charges if type(charges) is Bill else billed(charges)
        drafts, levels, over = self._work(bill, at)
        short, wait = -1, 0.0
        if over:
            short, wait = max(over, key=lambda found: found[1])
            if wait > patience:
                return Spend(False, wait, short, self._owed(bill, at))
        self._keep(drafts)
        if hold:
            self._holds[hold] = (until, bill)
            heappush(self._expiries, (until, hold))
            self._due = until if until < self._due else self._due
        return Spend(True, wait, short, tuple(levels))

    async def adjust(self, charges: Charges, at: float, *, hold: str = "") -> None:
        """See `ports.Store.adjust`."""
        if at >= self._due:
            self._tend(at)
        bill = charges if type(charges) is Bill else billed(charges)
        # A hold that has expired was already given back: what it held must not be given back a second time.
        if hold and self._holds.pop(hold, None) is None:
            bill = Bill(tuple(part.costing([cost + held for cost, held in zip(part.costs, part.held, strict=True)]) for part in bill.parts))
        self._keep(self._changed(bill, at))
        if len(self._expiries) > STALE + 2 * len(self._holds):
            self._drop_stale()

    async def inherit(self, heirs: Sequence[Heir], at: float, *, version: int) -> None:
        """See `ports.Store.inherit`."""
        self._tend(at)
        if version <= self._inherited:
            return
        self._inherited = version
        self._keep(self._handed_over(heirs))

    async def peek(self, charges: Charges, at: float) -> tuple[float, ...]:
        """See `ports.Store.peek`."""
        self._tend(at)
        return self._owed(billed(charges), at)

    def forecast(self, account: str) -> float:
        """Decayed mean of the account's output tokens; 0 when nothing is known."""
        row = self._accounts.get(account)
        return 0.0 if row is None else FORECAST.unpack_from(row)[0]

    def observe(self, account: str, output: float) -> None:
        """Learn what a request really used. Accounts without a row are not remembered."""
        row = self._accounts.get(account)
        if row is not None:
            known: float = FORECAST.unpack_from(row)[0]
            mean = known + FORECAST_WEIGHT * (output - known) if known else output
            self._accounts[account] = FORECAST.pack(mean) + row[FORECAST.size :]

    def reserve(self, hold: str, until: float, bill: Bill) -> None:
        """Know a hold whose charges are in the levels already."""
        self._holds[hold] = (until, bill)
        heappush(self._expiries, (until, hold))
        self._due = min(self._due, until)

    def assume(self, part: Part, levels: Sequence[float], at: float, unsent: Sequence[float], *, charged: bool = True) -> None:
        """Take over what somebody else says that a subject owed at `at`, with what he does not know of on top, and whether it was ever `charged`.

        A subject that there is no room for is not told apart from others.
        """
        if at >= self._due:
            self._tend(at)
        drafts: list[Draft] = []
        [slots] = self._slots(Bill((part,)))
        values = self._draft(drafts, self._kinds[part.lines.per], slots, part)
        if drafts[0][1] == OVERFLOW:
            return
        now = max(at, values[LATEST])
        values[LATEST] = now if charged else 0.0
        for (_, place, since, rate, _), level, more in zip(slots, levels, unsent, strict=True):
            values[place], values[since] = drained(level, at, now, rate) + more, now
        self._keep(drafts)

    def _work(self, bill: Bill, at: float) -> tuple[list[Draft], list[float], list[Over]]:
        """Add all charges to drafts of their rows. Returns the drafts, the levels, and what goes over its burst."""
        drafts: list[Draft] = []
        levels: list[float] = []
        over: list[Over] = []
        for part, slots in zip(bill.parts, self._slots(bill), strict=True):
            costs = part.costs
            kind = self._kinds[part.lines.per]
            values = self._draft(drafts, kind, slots, part)
            now = values[LATEST] = at if at > values[LATEST] else values[LATEST]
            for line, place, since, rate, burst in slots:
                level = values[place] - rate * (now - values[since])
                if level < SPECK:
                    level = 0.0
                values[place] = level = level + costs[line]
                values[since] = now
                levels.append(level)
                if level - burst > SPECK:
                    fits = rate > 0.0 and costs[line] <= burst + SPECK
                    over.append((len(levels) - 1, (level - burst) / rate if fits else math.inf))
        return drafts, levels, over

    def _changed(self, bill: Bill, at: float) -> list[Draft]:
        """Drafts with all charges added, whatever their bursts. A line that is charged nothing is left as it is."""
        drafts: list[Draft] = []
        for part, slots in zip(bill.parts, self._slots(bill), strict=True):
            kind = self._kinds[part.lines.per]
            values = self._draft(drafts, kind, slots, part)
            now = values[LATEST] = at if at > values[LATEST] else values[LATEST]
            for (_, place, since, rate, _), cost in zip(slots, part.costs, strict=True):
                if cost:
                    level = values[place] - rate * (now - values[since])
                    values[place] = level + cost if level >= SPECK else cost
                    values[since] = now
        return drafts

    def _handed_over(self, heirs: Sequence[Heir]) -> list[Draft]:
        """Drafts in which each heir owes its shares, and whoever lives owes so much less. No row is charged by it: `latest` stays."""
        drafts: list[Draft] = []
        known = [(heir, slots, self._kinds[heir.part.lines.per]) for heir, slots in zip(heirs, self._slots(Bill(tuple(h.part for h in heirs))), strict=True)]
        owed = {share.source: kind.unpacked(kind.rows[share.source]) for heir, _, kind in known for share in heir.shares if share.source in kind.rows}
        for heir, slots, kind in known:
            for share in heir.shares:
                if share.source not in owed:
                    continue
                if share.lives:
                    _scale(self._draft(drafts, kind, slots, structs.replace(heir.part, subject=share.source)), owed[share.source], slots, share.part)
                _add(self._draft(drafts, kind, slots, heir.part), owed[share.source], slots, share.part)
        return drafts

    def _slots(self, bill: Bill) -> list[Sequence[Slot]]:
        """Where the levels of each part are. All are known before a row is unpacked, so that every draft has room for all."""
        found: list[Sequence[Slot]] = []
        for part in bill.parts:
            lines = part.lines
            kind = self._kinds[lines.per]
            slots = kind.slots.get(lines) or kind.learn(lines)
            found.append(slots if part.figures is lines.figures else _scaled(slots, part.figures, kind))
        return found

    def _owed(self, bill: Bill, at: float) -> tuple[float, ...]:
        """The levels without the charges."""
        free = Bill(tuple(part.costing([0.0] * len(part.costs)) for part in bill.parts))
        return tuple(self._work(free, at)[1])

    def _draft(self, drafts: list[Draft], kind: _Kind, slots: Sequence[Slot], part: Part) -> list[float]:
        """The draft of the part's row; one for each row, however the parts are mixed."""
        subject, fresh = part.subject, False
        row = kind.rows.get(subject)
        if row is None:
            fresh = self._size + len(drafts) < self._cap
            subject = subject if fresh else OVERFLOW
            row = kind.rows.get(OVERFLOW, b"")
        if drafts:
            for known, name, values, _, charged in drafts:
                if name == subject and known is kind:
                    if part.opened and not charged:
                        _fill(values, slots, part.opened, part.filled)
                    return values
        values = list(kind.codec.unpack(row)) if len(row) == kind.width else kind.unpacked(row)
        charged = values[LATEST] > 0.0 or subject is OVERFLOW
        if part.opened and not charged:
            _fill(values, slots, part.opened, part.filled)
        drafts.append((kind, subject, values, fresh, charged))
        return values

    def _keep(self, drafts: list[Draft]) -> None:
        """Make the drafts the rows."""
        for kind, subject, values, fresh, _ in drafts:
            kind.rows[subject] = kind.codec.pack(*values)
            if fresh:
                kind.hand.append(subject)
                self._size += 1
                self._opened += 1
                self._due = -math.inf

    def _tend(self, at: float) -> None:
        """What is due: expired holds come back, and the clock hands move two rows for each that was opened."""
        while self._expiries and self._expiries[0][0] <= at:
            self._expire(*heappop(self._expiries))
        if self._opened or self._size >= self._cap:
            steps, self._opened = SWEEP * max(1, self._opened), 0
            for kind in self._kinds.values():
                before = len(kind.hand)
                kind.sweep(at, steps)
                self._size += len(kind.hand) - before
        # A full store looks for room at every call.
        self._due = -math.inf if self._size >= self._cap else self._expiries[0][0] if self._expiries else math.inf

    def _expire(self, until: float, hold: str) -> None:
        """Give back what a reservation holds, as of the moment of its expiry, unless it was settled or made anew."""
        known = self._holds.get(hold)
        if known is not None and known[0] == until:
            del self._holds[hold]
            back = Bill(tuple(part.costing([-held for held in part.held]) for part in known[1].parts))
            self._keep(self._changed(back, until))

    def _drop_stale(self) -> None:
        """Forget the expiries of holds that were settled: they would fill the memory for as long as a hold may last."""
        self._expiries = [(until, hold) for hold, (until, _) in self._holds.items()]
        heapify(self._expiries)


def _fill(values: list[float], slots: Sequence[Slot], opened: float, filled: float) -> None:
    """A bucket that was never charged held `filled` of its burst when it was opened: no free burst, and forgetting a drained one loses nothing."""
    for _, place, since, rate, burst in slots:
        now = max(values[since], opened)
        values[place], values[since] = max(drained(values[place], values[since], now, rate), drained(burst * filled, opened, now, rate)), now


def _scale(values: list[float], before: Sequence[float], slots: Sequence[Slot], part: float) -> None:
    """Take out `part` of what was owed before."""
    for _, place, since, rate, _ in slots:
        values[place] = max(0.0, values[place] - drained(part * before[place], before[since], values[since], rate))


def _add(values: list[float], before: Sequence[float], slots: Sequence[Slot], part: float) -> None:
    """Put `part` of what was owed before on top, as of the later of both."""
    for _, place, since, rate, _ in slots:
        now = max(values[since], before[since])
        level = drained(values[place], values[since], now, rate) + drained(part * before[place], before[since], now, rate)
        values[place], values[since] = level, now


def _scaled(slots: Sequence[Slot], figures: Figures, kind: _Kind) -> list[Slot]:
    """The slots at other figures than their lines' own."""
    if 0.0 < figures.scale < kind.least:
        kind.least = figures.scale
    return [(line, place, since, figures.rates[line], figures.bursts[line]) for line, place, since, _, _ in slots]
