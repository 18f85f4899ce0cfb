"""The way to the server: operations go out together, at most one batch at a time, and a server that does not answer is left alone for a while.

Theory of operation. An awaited call for each request would cost several times what the whole guard costs, so operations that come up while a batch is
under way go out with the next one. A batch that failed may have been carried out all the same; what nobody waits for any more is therefore sent
again under the same number, and the script carries out each number once. Whoever waits is told at once (StoreError), and decides without the store.

After a failure the breaker is open: nobody waits for the server, operations that have to arrive are kept, and one batch is tried after a pause
that doubles. One line is logged when the breaker opens and one when it closes.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from gateway_guard.errors import StoreError
from gateway_guard.stores.redis.debts import folded
from gateway_guard.stores.redis.ledger import Answer, Batch, Naming, Operation, answers

log = logging.getLogger("gateway_guard")
# Operations in a batch: the server does nothing else while it works on one (some 10 µs an operation).
BATCH = 250
# Seconds until a server that failed is tried again: the first pause, and the longest.
PAUSE, LONGEST = 0.1, 5.0
# Operations kept for a server that is down; beyond it they are folded into one a subject.
KEPT = 20_000
# Subjects whose debts are kept for it.
MOST = 200_000


class Wire(Protocol):
    """A connection, or a pool of them."""

    name: str

    def send(self, keys: Sequence[str], payload: bytes, done: Callable[[object], None]) -> None:
        """Run the ledger script. `done` is told the reply, or the exception for which there is none; never before this returns."""
        ...

    def drop(self) -> None:
        """Expect no reply any more to what was sent."""
        ...

    async def close(self) -> None:
        """Let the connections go."""
        ...


# What was carried out, what came of it, and what is still to be sent on the same link.
Heard = Callable[[Sequence[Operation], Sequence[Answer], Sequence[Operation]], None]


def _nobody(operations: Sequence[Operation], found: Sequence[Answer], queue: Sequence[Operation]) -> None:
    """Nobody listens."""


class Link:
    """Carries operations to the ledger. `timeout` seconds for a batch · `flush` seconds that an operation that nobody waits for may be kept back.

    `live`: the server's clock counts (see `ledger`) · `sender` names this process, unlike all others · `heard` is told of every batch that was carried out ·
    `shelf` of a Redis Cluster that all keys lie on.
    """

    def __init__(self, wire: Wire, naming: Naming, *, sender: str, timeout: float = 0.05, flush: float = 0.005, live: bool = True, shelf: str = "") -> None:
        self.wire = wire
        self.naming = naming
        self.live = live
        self.sender = sender
        self.heard: Heard = _nobody
        self.failures = self.dropped = 0
        self._journal = naming.of(f"journal:{sender}", shelf or sender)
        self._timeout = timeout
        self._flush = flush
        self._queue: list[Operation] = []
        self._again: Batch | None = None
        self._number = 0
        self._under_way: Batch | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._limit: asyncio.TimerHandle | None = None
        self._resting: asyncio.Future[None] | None = None
        self._asked: deque[tuple[float, Operation]] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._urgent = False
        self._pause = 0.0
        self._since = 0.0
        self._kept = KEPT
        self._folded: set[str] = set()

    @property
    def is_down(self) -> bool:
        """The breaker is open."""
        return self._pause > 0.0

    @property
    def waiting(self) -> int:
        """Operations that have not been carried out, as far as is known."""
        return len(self._queue) + (len(self._again.operations) if self._again is not None else 0)

    def post(self, operation: Operation) -> None:
        """Have it done within `flush` seconds, or when the server is back."""
        self._queue.append(operation)
        if self._timer is None and self._under_way is None:
            self._timer = asyncio.get_running_loop().call_later(self._flush, self._start)
        elif self._pause and len(self._queue) >= self._kept:
            self._fold()

    async def ask(self, operation: Operation) -> Answer:
        """Have it done now. Raises StoreError, at once while the breaker is open and after `timeout` at the latest."""
        if self._pause:
            raise StoreError(f"the store at {self.wire.name} is down", retryable=True)
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        operation.answer = answer
        self._queue.append(operation)
        self._urgent = True
        if self._under_way is None:
            self._start()
        due = loop.time() + self._timeout
        self._asked.append((due, operation))
        if self._alarm is None:
            self._alarm = loop.call_at(due, self._late)
        return await answer

    def _late(self) -> None:
        """Tell those who have waited for too long. One timer serves all: one for each would cost as much as the answer's decoding."""
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._asked and (self._asked[0][0] <= now or _is_answered(self._asked[0][1])):
            operation = self._asked.popleft()[1]
            if operation.answer is not None and not operation.answer.done():
                operation.answer.set_exception(StoreError(f"the store at {self.wire.name} did not answer within {self._timeout:g} s", retryable=True))
        self._alarm = loop.call_at(self._asked[0][0], self._late) if self._asked else None

    async def drain(self) -> None:
        """Send everything now; returns when it is done or has failed."""
        await self._rest()
        self._urgent = True
        if self._under_way is None and self._is_due():
            self._start()
            await self._rest()

    async def close(self) -> None:
        """Send what is left, if the server answers, and let the connections go."""
        await self.drain()
        for timer in (self._timer, self._alarm):
            if timer is not None:
                timer.cancel()
        await self.wire.close()

    async def _rest(self) -> None:
        """Wait until no batch is under way."""
        if self._under_way is not None:
            self._resting = self._resting or asyncio.get_running_loop().create_future()
            await asyncio.shield(self._resting)

    def _start(self) -> None:
        """Send batches until nobody waits, or one fails."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._urgent = False
        batch = self._under_way = self._again = self._again or self._next()
        self._limit = asyncio.get_running_loop().call_later(self._timeout, self._ended, batch, TimeoutError("no answer in time"))
        self.wire.send(batch.keys, batch.payload, partial(self._ended, batch))

    def _ended(self, batch: Batch, reply: object) -> None:
        """A batch was answered, or not in time."""
        if batch is not self._under_way:
            return
        self._under_way = None
        if self._limit is not None:
            self._limit.cancel()
        done = self._taken(batch, reply)
        if done and self._is_due() and (self._urgent or len(self._queue) >= BATCH):
            self._start()
            return
        if self._resting is not None:
            self._resting.set_result(None)
            self._resting = None
        if self._is_due():
            wait = self._pause or (0.0 if self._urgent else self._flush)
            self._timer = asyncio.get_running_loop().call_later(wait, self._start)

    def _is_due(self) -> bool:
        """Something is to be sent; to a server that is down, if only to see whether it answers."""
        return self._pause > 0.0 or self._again is not None or len(self._queue) > 0

    def _fold(self) -> None:
        """Keep less: one operation a subject. Of more subjects than can be kept, those that came last are not carried over."""
        self.heard((), (), self._queue)
        found = folded(self._queue, self._folded)
        self.dropped += max(0, len(found) - MOST)
        self._queue = found[:MOST]
        self._kept = KEPT + len(self._queue)

    def _next(self) -> Batch:
        taken, self._queue = self._queue[:BATCH], self._queue[BATCH:]
        self._urgent = self._urgent or len(self._queue) > 0
        self._number += 1
        return Batch(self.naming, taken, number=self._number, live=self.live, journal=self._journal)

    def _taken(self, batch: Batch, reply: object) -> bool:
        try:
            if isinstance(reply, Exception):
                raise reply
            found = answers(reply, batch.operations)
        except (OSError, TimeoutError, StoreError, struct.error, ValueError, TypeError) as error:
            if not isinstance(error, StoreError):
                # Whatever is still to come is no answer to the next batch.
                self.wire.drop()
            self._failed(batch, error)
            return False
        self._again = None
        self._recovered()
        for operation, answer in zip(batch.operations, found, strict=True):
            if operation.answer is not None and not operation.answer.done():
                operation.answer.set_result(answer)
        # Who waits goes on first.
        asyncio.get_running_loop().call_soon(self._tell, batch.operations, found)
        return True

    def _tell(self, operations: Sequence[Operation], found: Sequence[Answer]) -> None:
        self.heard(operations, found, [*self._again.operations, *self._queue] if self._again is not None else self._queue)

    def _failed(self, batch: Batch, error: Exception) -> None:
        """Tell those who wait, keep what has to arrive, and open the breaker."""
        self.failures += 1
        reason = str(error) or "no answer in time"
        if not self._pause:
            self._since = asyncio.get_running_loop().time()
            log.error("the store at %s is down (%s): requests are decided without it until it answers", self.wire.name, reason)
        self._pause = min(LONGEST, max(PAUSE, 2 * self._pause))
        kept = [o for o in batch.operations if o.answer is None]
        self._again = Batch(self.naming, kept, number=batch.number, live=self.live, journal=self._journal) if kept else None
        for operation in (*batch.operations, *self._queue):
            if operation.answer is not None and not operation.answer.done():
                operation.answer.set_exception(StoreError(f"the store at {self.wire.name} is down ({reason})", retryable=True))
        self._queue = [o for o in self._queue if o.answer is None]

    def _recovered(self) -> None:
        if self._pause:
            self._pause, self._kept = 0.0, KEPT
            self._folded.clear()
            down = asyncio.get_running_loop().time() - self._since
            log.warning("the store at %s answers again after %.1f s; what was decided without it is being carried over", self.wire.name, down)


def _is_answered(operation: Operation) -> bool:
    return operation.answer is None or operation.answer.done()
