"""Debts on a server, spent from in this process.

Theory of operation. A store in memory is kept beside the server's ledger as a picture of it: the levels that the server told last, and on top what was
spent here since (*unsent*). A spend is decided on the picture and reported afterwards, together with others, as long as what is unsent of each
quota stays within its *lease*, a share of the quota's burst. What does not fit its lease, what a quota declared `exact` is asked for (its
lease is none), and what the picture would refuse or delay, is asked of the server.

The bound. Levels that the server told are never too high for what was reported, and each worker holds back at most a lease. Consider all reports
in the order in which the server took them, and the first one that lifts the level past the burst. Whoever made the report before it knew the
level; each other worker can have one report under way that did not know. So W workers together admit at most

    burst + rate * t + (W - 1) * lease

in any stretch of length t: nothing beyond the quota with one worker, or where the lease is none. What a request turns out to have used beyond its
reservation comes on top, as with any store.

When the server is down, the picture decides alone. Workers do not hear of each other then, so each one counts everything as many times as there are
workers: together they spend what is left once. What was decided so is reported when the server is back, and the picture becomes the server's again.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from operator import mul
from typing import Literal, NamedTuple

from gateway_guard.errors import StoreError
from gateway_guard.quota import SPECK, Bill, Charges, Figures, Heir, Lines, Part, Spend, billed
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.stores.redis.ledger import Answer, Operation, Verb, inheritance, names
from gateway_guard.stores.redis.link import Link
from gateway_guard.stores.redis.shelves import Shelves

StoreDown = Literal["local", "open", "closed"]
# So long a refusal by the server is repeated without asking again, in seconds: whoever floods is not answered by a call each.
REFUSED = 0.05
REMEMBERED = 10_000
# A whole lease, with what adding up shares may be off by; and what a unit weighs where there is no lease.
WHOLE, NO_LEASE = 1.0 + 1e-9, 1e300
# How often, in seconds, the callers' clock is compared with the loop's.
STALE = 0.1
SPEND, ADJUST = Verb.SPEND, Verb.ADJUST
Row = tuple[str, str]


class Terms(NamedTuple):
    """`lease` the share of a burst that may be spent before it is reported, none for quotas named in `exact` · `down` what to do without the server."""

    lease: float = 0.02
    exact: frozenset[str] = frozenset()
    down: StoreDown = "local"


class Refusal(NamedTuple):
    """The server would not have `cost` of the quota `name` for `wait` seconds from `at`."""

    at: float
    name: str
    cost: float
    wait: float


class SharedStore:
    """`ports.Store` for one of several workers. `workers` says how many there are, at least; `cap` bounds the subjects in the picture."""

    def __init__(self, link: Link | Shelves, terms: Terms | None = None, *, cap: int = 1_000_000, workers: Callable[[], int] = lambda: 1) -> None:
        self.terms = terms or Terms()
        self.workers = workers
        self.link = link
        self._picture = MemoryStore(cap)
        self._cap = cap
        # Of each row, what share of its lease was spent and is not known to be reported; and what that is, in each quota.
        self._used: dict[Row, float] = {}
        self._unsent: dict[Row, dict[str, float]] = {}
        self._refused: dict[Row, Refusal] = {}
        self._weights: dict[Lines, tuple[float, ...]] = {}
        self._at = self._heard = self._stale = 0.0
        self.forecast = self._picture.forecast
        self.observe = self._picture.observe
        link.heard = self._adopt

    async def spend(self, charges: Charges, at: float, *, patience: float = 0.0, hold: str = "", until: float = 0.0) -> Spend:
        """See `ports.Store.spend`. Raises StoreError where the policy says that nothing is served without the store."""
        bill = charges if type(charges) is Bill else billed(charges)
        if at > self._stale:
            self._saw(at)
        if self.link.is_down:
            return await self._alone(bill, at, patience, hold, until)
        refused = self._again_refused(bill, at) if self._refused else None
        if refused is not None:
            return Spend(False, *refused, await self._picture.peek(bill, at))
        used = self._using(bill)
        if used is not None:
            found = await self._picture.spend(bill, at, hold=hold, until=until)
            if found.ok:
                self._used.update(used)
                self.link.post(Operation(SPEND, bill, at, until, hold, math.inf))
                return found
        return await self._asked(bill, at, patience, hold, until)

    async def adjust(self, charges: Charges, at: float, *, hold: str = "") -> None:
        """See `ports.Store.adjust`."""
        bill = charges if type(charges) is Bill else billed(charges)
        if at > self._stale:
            self._saw(at)
        await self._picture.adjust(self._weighed(bill) if self.link.is_down else bill, at, hold=hold)
        self.link.post(Operation(ADJUST, bill, at, 0.0, hold))

    async def inherit(self, heirs: Sequence[Heir], at: float, *, version: int) -> None:
        """See `ports.Store.inherit`. While the server is down debts are moved here, and there when it is back."""
        if at > self._stale:
            self._saw(at)
        try:
            await self.link.ask(inheritance(heirs, at, version))
        except StoreError:
            await self._picture.inherit(heirs, at, version=version)
            self.link.post(inheritance(heirs, at, version))

    async def peek(self, charges: Charges, at: float) -> tuple[float, ...]:
        """See `ports.Store.peek`. Without the server, what is known here."""
        bill = billed(charges)
        try:
            return (await self.link.ask(Operation(Verb.PEEK, bill, at))).levels
        except StoreError:
            return await self._picture.peek(bill, at)

    def agree(self, terms: Terms) -> None:
        """Go by other terms from now on."""
        self.terms = terms
        self._weights.clear()

    async def close(self) -> None:
        """Report what is left and disconnect."""
        await self.link.close()

    def _using(self, bill: Bill) -> dict[Row, float] | None:
        """How much of each row's lease is used with the bill; None when some of it may not be spent before it is reported.

        A bill counts by the quota whose lease it uses most. So the sum is never less than what is used of any of them.
        """
        used: dict[Row, float] = self._used
        found: dict[Row, float] = {}
        for part in bill.parts:
            key = part.lines.per, part.subject
            total = (found.get(key) or used.get(key, 0.0)) + max(map(mul, part.costs, self._weights_of(part)))
            if total > WHOLE:
                return None
            found[key] = total
        return found if len(used) < self._cap else None

    def _weights_of(self, part: Part) -> tuple[float, ...]:
        """For each line of a part, the share of its lease that a unit is."""
        lines = part.lines
        if part.figures is not lines.figures:
            return self._scaled(lines, part.figures)
        found = self._weights.get(lines)
        if found is None:
            if len(self._weights) > REMEMBERED:
                self._weights.clear()
            found = self._weights[lines] = self._scaled(lines, lines.figures)
        return found

    def _scaled(self, lines: Lines, figures: Figures) -> tuple[float, ...]:
        lease, exact = self.terms.lease, self.terms.exact
        leases = [0.0 if name.removesuffix(".minimum") in exact else lease * burst for name, burst in zip(names(lines), figures.bursts, strict=True)]
        return tuple(1.0 / lease if lease > 0.0 else NO_LEASE for lease in leases)

    def _owe(self, bill: Bill, sign: float) -> None:
        """Add a bill to what is unsent, or take it out."""
        unsent = self._unsent
        for part in bill.parts:
            key = (part.lines.per, part.subject)
            row = unsent.get(key)
            if row is None:
                row = unsent[key] = {}
            for name, cost in zip(names(part.lines), part.costs, strict=True):
                if cost:
                    row[name] = row.get(name, 0.0) + sign * cost

    async def _asked(self, bill: Bill, at: float, patience: float, hold: str, until: float) -> Spend:
        try:
            found = await self.link.ask(Operation(SPEND, bill, at, until, hold, patience))
        except StoreError:
            return await self._alone(bill, at, patience, hold, until)
        if not found.ok:
            self._refuse(bill, found, at)
        elif hold:
            self._picture.reserve(hold, until, bill)
        return Spend(found.ok, found.wait, found.short, found.levels)

    async def _alone(self, bill: Bill, at: float, patience: float, hold: str, until: float) -> Spend:
        """Decide without the server, as the policy says."""
        down = self.terms.down
        if down == "closed":
            raise StoreError("the shared store is down, and the policy serves nobody without it", retryable=True)
        weighed = self._weighed(bill)
        # The server may have carried out what it did not answer: this one then knows the hold, and charges nothing twice.
        found = await self._picture.spend(weighed, at, patience=math.inf if down == "open" else patience, hold=hold, until=until)
        if down == "open":
            found = Spend(True, 0.0, -1, found.levels)
        if found.ok:
            self.link.post(Operation(SPEND, bill, at, until, hold, math.inf))
        return found

    def _weighed(self, bill: Bill) -> Bill:
        """While the server is down each worker counts for all of them."""
        times = self.workers() if self.link.is_down else 1
        return bill if times == 1 else Bill(tuple(_times(part, float(times)) for part in bill.parts))

    def _adopt(self, operations: Sequence[Operation], answers: Sequence[Answer], queue: Sequence[Operation]) -> None:
        """The server has carried these out: its levels, and on top what is unsent, are the picture."""
        self._count(operations, queue)
        now = self._now() if self.link.live else 0.0
        told: dict[tuple[Lines, str], tuple[Part, tuple[float, ...], float, bool]] = {}
        for operation, answer in zip(operations, answers, strict=True):
            start = 0
            for part, at in zip(operation.bill.parts, answer.times, strict=True):
                end = start + len(part.costs)
                # What was told last of a row counts.
                charged = at > 0.0 or part.lines.per != "cluster"
                told[part.lines, part.subject] = part, answer.levels[start:end], now or abs(at), charged
                start = end
        for part, levels, at, charged in told.values():
            self._take(part, levels, at, charged=charged)

    def _count(self, operations: Sequence[Operation], queue: Sequence[Operation]) -> None:
        """Keep account of what is unsent: here, not while a request waits. What is carried out before it was counted need not be counted at all."""
        if not self.link.waiting:
            self._used.clear()
            self._unsent.clear()
            return
        for operation in operations:
            if operation.answer is None and operation.owed:
                if operation.counted:
                    self._owe(operation.bill, -1.0)
                if operation.verb is SPEND:
                    self._reported(operation.bill)
        for operation in reversed(queue):
            if operation.counted:
                break
            operation.counted = True
            if operation.answer is None and operation.owed:
                self._owe(operation.bill, 1.0)

    def _reported(self, bill: Bill) -> None:
        for part in bill.parts:
            key = part.lines.per, part.subject
            rest = self._used.get(key, 0.0) - max(map(mul, part.costs, self._weights_of(part)))
            if rest > SPECK:
                self._used[key] = rest
            else:
                self._used.pop(key, None)

    def _take(self, part: Part, levels: Sequence[float], at: float, *, charged: bool) -> None:
        key = (part.lines.per, part.subject)
        row = self._unsent.get(key)
        if row is not None and not any(abs(cost) > SPECK for cost in row.values()):
            row = None
            del self._unsent[key]
        more = [0.0] * len(levels) if row is None else [row.get(name, 0.0) for name in names(part.lines)]
        self._picture.assume(part, levels, at, more, charged=charged)

    def _refuse(self, bill: Bill, found: Answer, at: float) -> None:
        if len(self._refused) > REMEMBERED:
            self._refused.clear()
        charge = bill[found.short]
        self._refused[charge.quota.per, charge.subject] = Refusal(at, charge.quota.name, charge.cost, found.wait)

    def _again_refused(self, bill: Bill, at: float) -> tuple[float, int] | None:
        """How long to wait, and for which charge, when the server has just refused as much of the same."""
        index = 0
        for part in bill.parts:
            found = self._refused.get((part.lines.per, part.subject))
            for name, cost in zip(names(part.lines), part.costs, strict=True):
                if found is not None and name == found.name and cost >= found.cost and 0.0 <= at - found.at < min(REFUSED, found.wait):
                    return found.wait, index
                index += 1
        return None

    def _saw(self, at: float) -> None:
        self._at, self._stale = at, at + STALE
        self._heard = asyncio.get_running_loop().time() if self.link.live else 0.0

    def _now(self) -> float:
        """The time by the callers' clock."""
        return self._at + asyncio.get_running_loop().time() - self._heard


def _times(part: Part, times: float) -> Part:
    costs, held = [cost * times for cost in part.costs], [cost * times for cost in part.held]
    return Part(part.subject, part.lines, part.figures, costs, held, part.opened, part.filled)
