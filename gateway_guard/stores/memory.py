"""Debts in this process's memory: bounded, lossless in expiry, and tighter (never more generous) when full.

Theory of operation. A subject owns one row of doubles: `[forecast, level, at, level, at, ...]`, a pair for each quota name that was ever
charged to subjects of its kind. A row whose levels have all drained says nothing that an absent row does not say, so a clock hand that moves two rows for each
new subject can drop it without loss. When the cap is reached and nothing has drained, new subjects share one overflow row of their kind:
together they get what one of them would have had. (An LRU would forget debts instead, and an attacker with many keys could make it forget his own.)

Every call is atomic because none of them awaits.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from collections.abc import Sequence
from heapq import heappop, heappush

from gateway_guard.quota import SPECK, Charge, Spend, drained

# The kind's shared row once the store is full. Subjects are hex digests or policy names, so none can be called this.
OVERFLOW = "\0overflow"
SWEEP = 2
FORECAST_WEIGHT = 0.1


class _Kind:
    """All rows of one kind of subject (account, org, cluster, ...)."""

    __slots__ = ("hand", "rates", "rows", "slots")

    def __init__(self) -> None:
        self.rows: dict[str, array[float]] = {}
        self.slots: dict[str, int] = {}
        self.rates: list[float] = []
        self.hand: deque[str] = deque()

    def slot(self, name: str, rate: float) -> int:
        """Index of the level of quota `name`; remembers the slowest rate, which decides when a row has surely drained."""
        index = self.slots.get(name)
        if index is None:
            index = self.slots[name] = 1 + 2 * len(self.slots)
            self.rates.append(rate)
        elif rate < self.rates[index >> 1]:
            self.rates[index >> 1] = rate
        return index

    def is_drained(self, row: array[float], at: float) -> bool:
        return not any(drained(row[i], row[i + 1], at, self.rates[i >> 1]) for i in range(1, len(row), 2))

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


_NO_KIND = _Kind()
Place = tuple[_Kind, "array[float] | None", int]


class MemoryStore:
    """`ports.Store` in one process. `cap` bounds the number of subjects of all kinds together."""

    def __init__(self, cap: int = 1_000_000) -> None:
        self._cap = cap
        self._kinds: dict[str, _Kind] = {}
        self._size = 0
        self._opened = 0
        self._holds: dict[str, tuple[float, tuple[Charge, ...]]] = {}
        self._expiries: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return self._size

    async def spend(self, charges: Sequence[Charge], at: float, *, patience: float = 0.0, hold: str = "", until: float = 0.0) -> Spend:
        """See `ports.Store.spend`."""
        if self._expiries:
            self._expire(at)
        if self._opened or self._size >= self._cap:
            self._tend(at)
        places, levels = self._find(charges, at)
        short, slow, longest, delay = -1, -1, 0.0, 0.0
        for index, charge in enumerate(charges):
            cost = charge.cost
            burst = charge.quota.burst * charge.scale
            over = levels[index] + cost - burst
            if over > SPECK:
                rate = charge.quota.rate * charge.scale
                wait = over / rate if rate > 0.0 and cost <= burst + SPECK else math.inf
                if wait > patience:
                    if wait > longest:
                        short, longest = index, wait
                elif wait > delay:
                    slow, delay = index, wait
        if short >= 0:
            return Spend(False, longest, short, tuple(levels))
        self._commit(charges, places, levels, at)
        if hold:
            self._hold(hold, until, charges)
        return Spend(True, delay, slow, tuple(levels))

    async def adjust(self, charges: Sequence[Charge], at: float, *, hold: str = "") -> None:
        """See `ports.Store.adjust`."""
        if self._expiries:
            self._expire(at)
        if self._opened or self._size >= self._cap:
            self._tend(at)
        # A hold that has expired was already given back: what it held must not be given back a second time.
        if hold and self._holds.pop(hold, None) is None:
            charges = [Charge(c.subject, c.quota, c.cost + c.held, 0.0, c.scale, c.opened) for c in charges]
        places, levels = self._find(charges, at)
        self._commit(charges, places, levels, at)

    async def peek(self, charges: Sequence[Charge], at: float) -> tuple[float, ...]:
        """See `ports.Store.peek`."""
        self._expire(at)
        return tuple(self._find(charges, at)[1])

    def forecast(self, account: str) -> float:
        """Decayed mean of the account's output tokens; 0 when nothing is known."""
        kind = self._kinds.get("account")
        row = kind.rows.get(account) if kind else None
        return row[0] if row is not None else 0.0

    def observe(self, account: str, output: float) -> None:
        """Learn what a request really used. Accounts without a row are not remembered."""
        kind = self._kinds.get("account")
        row = kind.rows.get(account) if kind else None
        if row is not None:
            row[0] = output if row[0] == 0.0 else row[0] + FORECAST_WEIGHT * (output - row[0])

    def _find(self, charges: Sequence[Charge], at: float) -> tuple[list[Place], list[float]]:
        """For each charge its place (row and index in it, no row yet for a new subject) and its level at `at`."""
        places: list[Place] = []
        levels: list[float] = []
        per = subject = ""
        kind, row = _NO_KIND, None
        for charge in charges:
            quota = charge.quota
            if quota.per != per or charge.subject != subject:
                per, subject = quota.per, charge.subject
                kind = self._kinds.get(per) or self._kinds.setdefault(per, _Kind())
                row = kind.rows.get(subject)
            rate = quota.rate * charge.scale
            index = kind.slots.get(quota.name)
            if index is None or rate < kind.rates[index >> 1]:
                index = kind.slot(quota.name, rate)
            places.append((kind, row, index))
            if row is None:
                levels.append(self._opening(kind, charge, index, at))
                continue
            if index >= len(row):
                row.extend((0.0,) * (index + 2 - len(row)))
            level = row[index]
            if level:
                gone = at - row[index + 1]
                if gone > 0.0:
                    level -= rate * gone
                    if level <= SPECK:
                        level = 0.0
            levels.append(level)
        return places, levels

    def _opening(self, kind: _Kind, charge: Charge, index: int, at: float) -> float:
        """The level of a subject that has no row."""
        rate = charge.quota.rate * charge.scale
        if charge.opened:
            return drained(charge.quota.burst * charge.scale, charge.opened, at, rate)
        shared = kind.rows.get(OVERFLOW)
        return drained(shared[index], shared[index + 1], at, rate) if shared is not None and index < len(shared) else 0.0

    def _commit(self, charges: Sequence[Charge], places: Sequence[Place], levels: list[float], at: float) -> None:
        """Add the costs; `levels` become what is owed then."""
        for i, charge in enumerate(charges):
            kind, row, index = places[i]
            if row is None:
                row = kind.rows.get(charge.subject) or self._open(kind, charge.subject)
                if index >= len(row):
                    row.extend((0.0,) * (index + 2 - len(row)))
            level = levels[i] = levels[i] + charge.cost
            row[index] = level if level > SPECK else 0.0
            if at > row[index + 1]:
                row[index + 1] = at

    def _open(self, kind: _Kind, subject: str) -> array[float]:
        if self._size >= self._cap:
            subject = OVERFLOW
            row = kind.rows.get(subject)
            if row is not None:
                return row
        # Whoever spent from the overflow row takes its debt along into a row of his own.
        shared = kind.rows.get(OVERFLOW)
        row = array("d", shared) if shared is not None else array("d", (0.0,) * (1 + 2 * len(kind.slots)))
        kind.rows[subject] = row
        if subject is not OVERFLOW:
            kind.hand.append(subject)
            self._size += 1
            self._opened += 1
        return row

    def _tend(self, at: float) -> None:
        """Move the clock hands on, two rows for each that was opened. Only before rows are looked up: a row that is in use must not be dropped."""
        steps, self._opened = SWEEP * max(1, self._opened), 0
        for kind in self._kinds.values():
            before = len(kind.hand)
            kind.sweep(at, steps)
            self._size += len(kind.hand) - before

    def _hold(self, hold: str, until: float, charges: Sequence[Charge]) -> None:
        held = tuple(c for c in charges if c.held)
        if held:
            self._holds[hold] = (until, held)
            heappush(self._expiries, (until, hold))

    def _expire(self, at: float) -> None:
        """Give back what expired reservations hold, as of the moment of expiry."""
        while self._expiries and self._expiries[0][0] <= at:
            until, hold = heappop(self._expiries)
            known = self._holds.get(hold)
            if known is None or known[0] != until:
                continue
            del self._holds[hold]
            back = [Charge(c.subject, c.quota, -c.held, 0.0, c.scale, c.opened) for c in known[1]]
            places, levels = self._find(back, until)
            self._commit(back, places, levels, until)
