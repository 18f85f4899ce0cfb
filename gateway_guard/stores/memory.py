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


class MemoryStore:
    """`ports.Store` in one process. `cap` bounds the number of subjects of all kinds together."""

    def __init__(self, cap: int = 1_000_000) -> None:
        self._cap = cap
        self._kinds: dict[str, _Kind] = {}
        self._size = 0
        self._holds: dict[str, tuple[float, tuple[Charge, ...]]] = {}
        self._expiries: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return self._size

    async def spend(self, charges: Sequence[Charge], at: float, *, patience: float = 0.0, hold: str = "", until: float = 0.0) -> Spend:
        """See `ports.Store.spend`."""
        if self._expiries:
            self._expire(at)
        levels: list[float] = []
        short, slow, longest, delay = -1, -1, 0.0, 0.0
        for index, charge in enumerate(charges):
            level = self._level(charge, at)
            levels.append(level)
            quota, cost = charge.quota, charge.cost
            burst = quota.burst * charge.scale
            over = level + cost - burst
            if over > SPECK:
                rate = quota.rate * charge.scale
                wait = over / rate if rate > 0.0 and cost <= burst + SPECK else math.inf
                if wait > patience:
                    if wait > longest:
                        short, longest = index, wait
                elif wait > delay:
                    slow, delay = index, wait
        if short >= 0:
            return Spend(False, longest, short, tuple(levels))
        after = self._commit(charges, levels, at)
        if hold:
            self._hold(hold, until, charges)
        return Spend(True, delay, slow, after)

    async def adjust(self, charges: Sequence[Charge], at: float, *, hold: str = "") -> None:
        """See `ports.Store.adjust`."""
        if self._expiries:
            self._expire(at)
        # A hold that has expired was already given back: what it held must not be given back a second time.
        late = bool(hold) and self._holds.pop(hold, None) is None
        levels = [self._level(c, at) for c in charges]
        if late:
            charges = [Charge(c.subject, c.quota, c.cost + c.held, 0.0, c.scale, c.opened) for c in charges]
        self._commit(charges, levels, at)

    async def peek(self, charges: Sequence[Charge], at: float) -> tuple[float, ...]:
        """See `ports.Store.peek`."""
        self._expire(at)
        return tuple(self._level(c, at) for c in charges)

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

    def _level(self, charge: Charge, at: float) -> float:
        quota = charge.quota
        kind = self._kinds.get(quota.per)
        if kind is None:
            kind = self._kinds[quota.per] = _Kind()
        rate = quota.rate * charge.scale
        index = kind.slots.get(quota.name)
        if index is None or rate < kind.rates[index >> 1]:
            index = kind.slot(quota.name, rate)
        row = kind.rows.get(charge.subject)
        if row is None:
            if charge.opened:
                return drained(quota.burst * charge.scale, charge.opened, at, rate)
            row = kind.rows.get(OVERFLOW)
            if row is None:
                return 0.0
        return drained(row[index], row[index + 1], at, rate) if index < len(row) else 0.0

    def _commit(self, charges: Sequence[Charge], levels: Sequence[float], at: float) -> tuple[float, ...]:
        after = []
        for charge, before in zip(charges, levels, strict=True):
            quota = charge.quota
            kind = self._kinds[quota.per]
            row = kind.rows.get(charge.subject)
            if row is None:
                row = self._open(kind, charge.subject, at)
            index = kind.slots[quota.name]
            while len(row) <= index:
                row.extend((0.0, 0.0))
            level = before + charge.cost
            row[index] = level if level > SPECK else 0.0
            if at > row[index + 1]:
                row[index + 1] = at
            after.append(level)
        return tuple(after)

    def _open(self, kind: _Kind, subject: str, at: float) -> array[float]:
        before = len(kind.hand)
        kind.sweep(at, SWEEP)
        self._size += len(kind.hand) - before
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
        return row

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
            levels = [self._level(c, until) for c in back]
            self._commit(back, levels, until)
