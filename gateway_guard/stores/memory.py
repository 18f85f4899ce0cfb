"""Debts in this process's memory: bounded, lossless in expiry, and tighter (never more generous) when full.

Theory of operation. A subject owns one packed row (see `rows`). A call unpacks the rows that it touches, works on what it has unpacked, and packs it again
only when every charge fits: that is what makes a spend all or none.

A cluster's bucket opens at its first charge (`Charge.opened`). What it inherits may come before: then its row is there, mixed, with an `at` of 0, as of
nobody who was ever charged, and the opening is still to come.

A row whose levels have all drained says nothing that an absent row does not say, so a clock hand that moves two rows for each new subject can
drop it without loss. When the cap is reached and nothing has drained, new subjects share one overflow row of their kind: together they get
what one of them would have had. (An LRU would forget debts instead, and an attacker with many keys could make it forget his own.)

Every call is atomic because none of them awaits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from operator import gt
from struct import Struct

from msgspec import structs

from gateway_guard.quota import SPECK, Bill, Charges, Heir, Lines, Part, Spend, billed, drained
from gateway_guard.stores.rows import HEAD, OVERFLOW, Draft, Kind, Slots, fill, put_on, take_out

SWEEP = 2
# New subjects between two moves of the hand: it is not worth setting off for a single one.
GATHERED = 4
FORECAST_WEIGHT = 0.1
FORECAST = Struct("d")
# Expiries of holds that are settled are dropped when there are so many more of them than of others.
STALE = 1000
# A charge that goes over its burst, and how long until it would fit.
Over = tuple[int, float]
# Slots are remembered for so many lines; a policy has a few for each plan.
REMEMBERED = 1000
# When a reservation expires, and its charges.
Hold = tuple[float, Bill]
# A row that is known whole, after its charges: what it is of, its subject, and what is packed.
Moved = tuple[Slots, str, list[float]]


class MemoryStore:
    """`ports.Store` in one process. `cap` bounds the number of subjects of all kinds together."""

    def __init__(self, cap: int = 1_000_000) -> None:
        self._cap = cap
        self._kinds: defaultdict[str, Kind] = defaultdict(Kind)
        self._accounts = self._kinds["account"].rows
        self._slots: dict[Lines, Slots] = {}
        self._size = 0
        self._opened = 0
        # When there is something to tend to: holds that expire, a hand to move.
        self._due = self._lapse = math.inf
        self._inherited = 0
        self._young: dict[str, Hold] = {}
        self._old: dict[str, Hold] = {}
        self._expiries: list[tuple[float, str]] = []

    def __len__(self) -> int:
        return self._size

    async def spend(self, charges: Charges, at: float, *, patience: float = 0.0, hold: str = "", until: float = 0.0) -> Spend:
        """See `ports.Store.spend`."""
        if at >= self._due:
            self._tend(at)
        bill = charges if type(charges) is Bill else billed(charges)
        moved = self._moved(bill.parts, at)
        if moved:
            if hold:
                self.reserve(hold, until, bill)
            self._put(moved)
            return Spend(True, 0.0, -1, _owed(moved))
        drafts, levels, over = self._work(bill, at)
        short, wait = -1, 0.0
        if over:
            short, wait = max(over, key=lambda found: found[1])
            if wait > patience:
                return Spend(False, wait, short, self._owed(bill, at))
        self._keep(drafts)
        if hold:
            self.reserve(hold, until, bill)
        return Spend(True, wait, short, tuple(levels))

    async def adjust(self, charges: Charges, at: float, *, hold: str = "") -> None:
        """See `ports.Store.adjust`."""
        if at >= self._due:
            self._tend(at)
        bill = charges if type(charges) is Bill else billed(charges)
        # A hold that has expired was already given back: what it held must not be given back a second time.
        if hold and self._young.pop(hold, None) is None and self._old.pop(hold, None) is None:
            bill = Bill(tuple(part.costing([cost + held for cost, held in zip(part.costs, part.held, strict=True)]) for part in bill.parts))
        moved = self._moved(bill.parts, at, False)
        if moved:
            self._put(moved)
        else:
            self._keep(self._changed(bill, at))

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
        if self._old:
            self._old.pop(hold, None)
        self._young[hold] = (until, bill)
        if until < self._lapse:
            self._lapse = until
            self._due = min(self._due, until)

    def assume(self, part: Part, levels: Sequence[float], at: float, unsent: Sequence[float], *, charged: bool = True) -> None:
        """Take over what somebody else says that a subject owed at `at`, with what he does not know of on top, and whether it was ever `charged`.

        A subject that there is no room for is not told apart from others.
        """
        if at >= self._due:
            self._tend(at)
        [slots] = self._places((part,))
        draft = self._draft([], slots, part)
        if draft.subject == OVERFLOW:
            return
        now = max(at, draft.at)
        for place, rate, level, more in zip(slots.places, part.figures.rates, levels, unsent, strict=True):
            draft.levels[place], draft.since[place] = drained(level, at, now, rate) + more, now
        draft.at = now if charged else 0.0
        self._keep([draft])

    def _moved(self, parts: Sequence[Part], at: float, binding: bool = True) -> list[Moved]:
        """The rows with the charges added, when nothing is out of the ordinary: they hold these lines and no others, or are new, and (`binding`) all fits.
        Else nothing. That is nearly every call, and far less work than drafts are.
        """
        if len(parts) == 1:
            found = self._move(parts[0], at, 1, binding)
            return [] if found is None else [found]
        moved: list[Moved] = []
        for part in parts:
            found = self._move(part, at, len(parts), binding)
            if found is None or found[0].kind in [known[0].kind for known in moved]:
                return []
            moved.append(found)
        return moved

    def _move(self, part: Part, at: float, beside: int, binding: bool) -> Moved | None:
        slots = self._slots.get(part.lines)
        figures = part.figures
        if slots is None or figures.scale < slots.kind.least:
            return None
        row = slots.rows.get(part.subject)
        if row is None or len(row) != slots.size:
            return self._opening(part, slots, at, beside, binding) if row is None else None
        known = slots.codec.unpack(row)
        gone = at - known[1]
        if gone < 0.0 or (part.opened and not known[1]):
            return None
        numbers, place = [known[0], at], HEAD
        # (With strict=True zip would cost as much as a line.)
        for rate, burst, cost in zip(figures.rates, figures.bursts, part.costs):  # noqa: B905
            rest = known[place] - rate * gone
            level = rest + cost if rest >= SPECK else cost
            if binding and level > burst:
                return None
            numbers.append(level)
            place += 1
        return slots, part.subject, numbers

    def _opening(self, part: Part, slots: Slots, at: float, beside: int, binding: bool) -> Moved | None:
        """The row of a new subject that just gets one of its own that begins empty."""
        if part.opened or not slots.size or OVERFLOW in slots.rows or self._size + beside > self._cap:
            return None
        if binding and True in map(gt, part.costs, part.figures.bursts):
            return None
        return slots, part.subject, [0.0, at, *part.costs]

    def _put(self, moved: Sequence[Moved]) -> None:
        """Make them the rows."""
        for slots, subject, numbers in moved:
            if subject not in slots.rows:
                self._opens(slots.kind, subject)
            slots.rows[subject] = slots.codec.pack(*numbers)

    def _work(self, bill: Bill, at: float) -> tuple[list[Draft], list[float], list[Over]]:
        """Add all charges to drafts of their rows. Returns the drafts, the levels, and what goes over its burst."""
        drafts: list[Draft] = []
        levels: list[float] = []
        over: list[Over] = []
        for part, slots in zip(bill.parts, self._places(bill.parts), strict=True):
            figures = part.figures
            moved = self._draft(drafts, slots, part).add(slots, figures.rates, part.costs, at)
            if True in map(gt, moved, figures.bursts):
                over += _over(part, moved, len(levels))
            levels += moved
        return drafts, levels, over

    def _changed(self, bill: Bill, at: float) -> list[Draft]:
        """Drafts with all charges added, whatever their bursts."""
        drafts: list[Draft] = []
        for part, slots in zip(bill.parts, self._places(bill.parts), strict=True):
            self._draft(drafts, slots, part).add(slots, part.figures.rates, part.costs, at)
        return drafts

    def _handed_over(self, heirs: Sequence[Heir]) -> list[Draft]:
        """Drafts in which each heir owes its shares, and whoever lives owes so much less. No row is charged by it: `at` stays."""
        drafts: list[Draft] = []
        known = list(zip(heirs, self._places([heir.part for heir in heirs]), strict=True))
        sources = {share.source: slots.kind for heir, slots in known for share in heir.shares if share.source in slots.rows}
        owed = {source: Draft(kind, source, kind.rows[source], fresh=False) for source, kind in sources.items()}
        for heir, slots in known:
            for share in heir.shares:
                before = owed.get(share.source)
                if before is None:
                    continue
                if share.lives:
                    source = structs.replace(heir.part, subject=share.source)
                    take_out(self._draft(drafts, slots, source), before, slots, heir.part, share.part)
                put_on(self._draft(drafts, slots, heir.part), before, slots, heir.part, share.part)
        return drafts

    def _owed(self, bill: Bill, at: float) -> tuple[float, ...]:
        """The levels without the charges."""
        free = Bill(tuple(part.costing([0.0] * len(part.costs)) for part in bill.parts))
        return tuple(self._work(free, at)[1])

    def _places(self, parts: Sequence[Part]) -> list[Slots]:
        """Where the levels of each part are. All are known before a row is unpacked, so that every draft has room for all."""
        found = []
        for part in parts:
            lines, figures = part.lines, part.figures
            slots = self._slots.get(lines) or self._learn(lines)
            if figures is not lines.figures and 0.0 < figures.scale < slots.kind.least:
                slots.kind.least = figures.scale
            found.append(slots)
        return found

    def _learn(self, lines: Lines) -> Slots:
        if len(self._slots) > REMEMBERED:
            self._slots.clear()
        slots = self._slots[lines] = self._kinds[lines.per].learn(lines)
        return slots

    def _draft(self, drafts: list[Draft], slots: Slots, part: Part) -> Draft:
        """The draft of the part's row; one for each row, however the parts are mixed."""
        kind, subject, fresh = slots.kind, part.subject, False
        row = kind.rows.get(subject)
        if row is None:
            fresh = self._size + len(drafts) < self._cap
            subject = subject if fresh else OVERFLOW
            row = kind.rows.get(OVERFLOW, b"")
        for known in drafts:
            if known.subject == subject and known.kind is kind:
                break
        else:
            known = Draft(kind, subject, row, fresh=fresh)
            drafts.append(known)
        if part.opened and not known.charged:
            fill(known, slots, part)
        return known

    def _keep(self, drafts: list[Draft]) -> None:
        """Make the drafts the rows."""
        for draft in drafts:
            draft.kind.rows[draft.subject] = draft.packed()
            if draft.fresh:
                self._opens(draft.kind, draft.subject)

    def _opens(self, kind: Kind, subject: str) -> None:
        """A new subject has a row from now on."""
        kind.hand.append(subject)
        self._size += 1
        self._opened += 1
        if self._opened >= GATHERED or self._size >= self._cap:
            self._due = -math.inf

    def _tend(self, at: float) -> None:
        """What is due: expired holds come back, and the clock hands move two rows for each that was opened."""
        if at >= self._lapse:
            self._expire(at)
        if self._opened or self._size >= self._cap:
            steps, self._opened = SWEEP * max(1, self._opened), 0
            for kind in self._kinds.values():
                before = len(kind.hand)
                kind.sweep(at, steps)
                self._size += len(kind.hand) - before
        # A full store looks for room at every call.
        self._due = -math.inf if self._size >= self._cap else self._lapse

    def _expire(self, at: float) -> None:
        """Give back what expired reservations hold. Nearly all are settled long before: only what is left is put in the order of its expiry."""
        for hold, (until, _) in self._young.items():
            heappush(self._expiries, (until, hold))
        self._old |= self._young
        self._young = {}
        while self._expiries and self._expiries[0][0] <= at:
            self._give_back(*heappop(self._expiries))
        if len(self._expiries) > STALE + 2 * len(self._old):
            self._expiries = [(until, hold) for hold, (until, _) in self._old.items()]
            heapify(self._expiries)
        self._lapse = self._expiries[0][0] if self._expiries else math.inf

    def _give_back(self, until: float, hold: str) -> None:
        """As of the moment of its expiry, unless it was settled or made anew."""
        known = self._old.get(hold)
        if known is not None and known[0] == until:
            del self._old[hold]
            back = Bill(tuple(part.costing([-held for held in part.held]) for part in known[1].parts))
            self._keep(self._changed(back, until))


def _owed(moved: Sequence[Moved]) -> tuple[float, ...]:
    """All levels, in the order of the charges."""
    if len(moved) == 1:
        return tuple(moved[0][2][HEAD:])
    return tuple(level for _, _, numbers in moved for level in numbers[HEAD:])


def _over(part: Part, levels: Sequence[float], first: int) -> list[Over]:
    """The charges that go over their bursts; `first` is the place of the part's first one in its bill."""
    found = []
    for line, (level, rate, burst) in enumerate(zip(levels, part.figures.rates, part.figures.bursts, strict=True)):
        if level - burst > SPECK:
            fits = rate > 0.0 and part.costs[line] <= burst + SPECK
            found.append((first + line, (level - burst) / rate if fits else math.inf))
    return found
