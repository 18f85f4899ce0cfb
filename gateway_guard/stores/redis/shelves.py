"""Redis Cluster: keys lie on shelves, each in one slot, and each shelf has a link of its own.

Theory of operation. A script reaches the keys of one slot only. What is the account's lies on one shelf; an organisation, a model or a cluster of accounts
may lie on another. A bill over several shelves is spent in steps, one shelf after the other; when a later one refuses, what the earlier ones took is
given back under the same hold. So nothing is overspent, and nothing is charged to who was refused; in between, somebody else may be refused by a
debt that is given back a moment later. Reports need no such care: they are unconditional, and each shelf takes its own part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway_guard.errors import StoreError
from gateway_guard.quota import Bill, Part
from gateway_guard.stores.redis.ledger import Answer, Operation, Verb
from gateway_guard.stores.redis.link import Heard, Link

# A link, its part of an operation, and which parts of the bill these are.
Step = tuple[Link, Operation, list[int]]


class Shelves:
    """Looks like one link. `links` in the order of the naming's shelves."""

    def __init__(self, links: Sequence[Link]) -> None:
        self._links = links
        first = links[0]
        self.wire, self.naming, self.live, self.sender = first.wire, first.naming, first.live, first.sender

    @property
    def heard(self) -> Heard:
        """Who is told of every batch that was carried out."""
        return self._links[0].heard

    @heard.setter
    def heard(self, heard: Heard) -> None:
        for link in self._links:
            link.heard = heard

    @property
    def is_down(self) -> bool:
        """Some shelf cannot be reached."""
        return any(link.is_down for link in self._links)

    @property
    def waiting(self) -> int:
        """Operations that have not been carried out, as far as is known."""
        return sum(link.waiting for link in self._links)

    def post(self, operation: Operation) -> None:
        """See `Link.post`."""
        for link, part, _ in self._steps(operation):
            link.post(part)

    async def ask(self, operation: Operation) -> Answer:
        """See `Link.ask`."""
        steps = self._steps(operation)
        done: list[tuple[Step, Answer]] = []
        for step in steps:
            try:
                found = await step[0].ask(step[1])
            except StoreError:
                self._give_back(done)
                raise
            done.append((step, found))
            if not found.ok:
                self._give_back(done[:-1])
                return await self._refused(operation, done, steps[len(done) :])
        return _together(operation, done)

    async def drain(self) -> None:
        """See `Link.drain`."""
        await asyncio.gather(*(link.drain() for link in self._links))

    async def close(self) -> None:
        """See `Link.close`."""
        await asyncio.gather(*(link.close() for link in self._links))

    def _steps(self, operation: Operation) -> list[Step]:
        """The operation apart, a part for each shelf."""
        shelves: dict[int, list[int]] = {}
        parts = operation.bill.parts
        for index, part in enumerate(parts):
            shelves.setdefault(self.naming.shelf(part), []).append(index)
        if len(shelves) == 1:
            [(shelf, indices)] = shelves.items()
            return [(self._links[shelf], operation, indices)]
        return [(self._links[shelf], _some(operation, [parts[i] for i in indices]), indices) for shelf, indices in shelves.items()]

    def _give_back(self, done: Sequence[tuple[Step, Answer]]) -> None:
        for (link, operation, _), _ in done:
            if operation.verb is Verb.SPEND:
                back = Bill(tuple(part.costing([-cost for cost in part.costs]) for part in operation.bill.parts))
                undo = Operation(Verb.ADJUST, back, operation.at, hold=operation.hold)
                undo.owed = False
                link.post(undo)

    async def _refused(self, operation: Operation, done: list[tuple[Step, Answer]], rest: Sequence[Step]) -> Answer:
        """What is owed on every shelf, without what was asked; and the charge that refuses."""
        free = [(step, _without(step[1], found) if found.ok else found) for step, found in done]
        free += [(step, await step[0].ask(_some(step[1], step[1].bill.parts, Verb.PEEK))) for step in rest]
        return _together(operation, free)


def _some(operation: Operation, parts: Sequence[Part], verb: Verb | None = None) -> Operation:
    return Operation(verb or operation.verb, Bill(tuple(parts)), operation.at, operation.until, operation.hold, operation.patience)


def _without(operation: Operation, found: Answer) -> Answer:
    costs = [cost for part in operation.bill.parts for cost in part.costs]
    return found._replace(levels=tuple(level - cost for level, cost in zip(found.levels, costs, strict=True)))


def _together(operation: Operation, done: Sequence[tuple[Step, Answer]]) -> Answer:
    """One answer out of the shelves' answers, in the order of the whole bill."""
    parts = operation.bill.parts
    starts = [sum(len(part.costs) for part in parts[:index]) for index in range(len(parts))]
    levels = [0.0] * sum(len(part.costs) for part in parts)
    times = [0.0] * len(parts)
    ok, wait, short = True, 0.0, -1
    for (_, step, indices), found in done:
        places = [starts[index] + line for index in indices for line in range(len(parts[index].costs))]
        for place, level in zip(places, found.levels, strict=True):
            levels[place] = level
        for index, at in zip(indices, found.times, strict=True):
            times[index] = at
        ok = ok and found.ok
        if found.short >= 0 and (not found.ok or found.wait > wait) and step.verb is Verb.SPEND:
            wait, short = found.wait, places[found.short]
    return Answer(ok, wait, short, tuple(levels), times)
