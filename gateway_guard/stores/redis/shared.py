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
from typing import Literal, NamedTuple

from gateway_guard.errors import StoreError
from gateway_guard.quota import SPECK, Bill, Charges, Heir, Lines, Part, Spend, billed
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.stores.redis.ledger import Answer, Operation, Verb, inheritance, names
from gateway_guard.stores.redis.link import Link
from gateway_guard.stores.redis.shelves import Shelves

StoreDown = Literal["local", "open", "closed"]
# So long a refusal by the server is repeated without asking again, in seconds: whoever floods is not answered by a call each.
REFUSED = 0.05
REMEMBERED = 10_000
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
        self._unsent: dict[Row, dict[str, float]] = {}
        self._refused: dict[Row, Refusal] = {}
        self._leases: dict[Lines, tuple[float, ...]] = {}
        self._at = self._heard = 0.0
        self.forecast = self._picture.forecast
        self.observe = self._picture.observe
        link.heard = self._adopt

    async def spend(self, charges: Charges, at: float, *, patience: float = 0.0, hold: str = "", until: float = 0.0) -> Spend:
        """See `ports.Store.spend`. Raises StoreError where the policy says that nothing is served without the store."""
        bill = charges if type(charges) is Bill else billed(charges)
        self._saw(at)
        if self.link.is_down:
            return await self._alone(bill, at, patience, hold, until)
        refused = self._again_refused(bill, at) if self._refused else None
        if refused is not None:
            return Spend(False, *refused, await self._picture.peek(bill, at))
        if self._is_leased(bill):
            found = await self._picture.spend(bill, at, hold=hold, until=until)
            if found.ok:
                self._charge(bill, at, hold, until)
                return found
        return await self._asked(bill, at, patience, hold, until)

    async def adjust(self, charges: Charges, at: float, *, hold: str = "") -> None:
        """See `ports.Store.adjust`."""
        bill = charges if type(charges) is Bill else billed(charges)
        self._saw(at)
        await self._picture.adjust(self._weighed(bill), at, hold=hold)
        self._owe(bill, 1.0)
        self.link.post(Operation(Verb.ADJUST, bill, at, hold=hold))

    async def inherit(self, heirs: Sequence[Heir], at: float, *, version: int) -> None:
        """See `ports.Store.inherit`. While the server is down debts are moved here, and there when it is back."""
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
        self._leases.clear()

    async def close(self) -> None:
        """Report what is left and disconnect."""
        await self.link.close()

    def _is_leased(self, bill: Bill) -> bool:
        """Whether all that the bill asks may be spent before it is reported."""
        unsent = self._unsent
        for part in bill.parts:
            lines = part.lines
            leases = self._leases.get(lines) or self._lease(lines)
            row = unsent.get((lines.per, part.subject))
            if row is None and len(unsent) >= self._cap:
                return False
            for name, cost, burst, lease in zip(names(lines), part.costs, part.figures.bursts, leases, strict=True):
                if cost > 0.0 and (not lease or cost + (row.get(name, 0.0) if row is not None else 0.0) > burst * lease):
                    return False
        return True

    def _lease(self, lines: Lines) -> tuple[float, ...]:
        """The lease of each line, as a share of its burst."""
        if len(self._leases) > REMEMBERED:
            self._leases.clear()
        exact = self.terms.exact
        found = self._leases[lines] = tuple(0.0 if name.removesuffix(".minimum") in exact else self.terms.lease for name in names(lines))
        return found

    def _charge(self, bill: Bill, at: float, hold: str, until: float) -> None:
        """Report a spend that was decided here."""
        self._owe(bill, 1.0)
        self.link.post(Operation(Verb.SPEND, bill, at, until, hold, math.inf))

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
            found = await self.link.ask(Operation(Verb.SPEND, bill, at, until, hold, patience))
        except StoreError:
            return await self._alone(bill, at, patience, hold, until)
        if not found.ok:
            self._refuse(bill, found, at)
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
            self._charge(bill, at, hold, until)
        return found

    def _weighed(self, bill: Bill) -> Bill:
        """While the server is down each worker counts for all of them."""
        times = self.workers() if self.link.is_down else 1
        return bill if times == 1 else Bill(tuple(_times(part, float(times)) for part in bill.parts))

    def _adopt(self, operations: Sequence[Operation], answers: Sequence[Answer]) -> None:
        """The server has carried these out: its levels, and on top what is unsent, are the picture."""
        for operation in operations:
            if operation.answer is None and operation.owed:
                self._owe(operation.bill, -1.0)
        now = self._now() if self.link.live else 0.0
        for operation, answer in zip(operations, answers, strict=True):
            if operation.answer is not None and operation.verb is Verb.SPEND and operation.hold and answer.ok:
                self._picture.reserve(operation.hold, operation.until, operation.bill)
            start = 0
            for part, at in zip(operation.bill.parts, answer.times, strict=True):
                end = start + len(part.costs)
                self._take(part, answer.levels[start:end], now or abs(at), charged=at > 0.0 or part.lines.per != "cluster")
                start = end

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
        if at > self._at:
            self._at = at
            self._heard = asyncio.get_running_loop().time() if self.link.live else 0.0

    def _now(self) -> float:
        """The time by the callers' clock."""
        return self._at + asyncio.get_running_loop().time() - self._heard


def _times(part: Part, times: float) -> Part:
    costs, held = [cost * times for cost in part.costs], [cost * times for cost in part.held]
    return Part(part.subject, part.lines, part.figures, costs, held, part.opened, part.filled)
