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
from collections.abc import Callable, Sequence
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
    """A connection, or a pool of them. Raises OSError, TimeoutError or `Wire.errors`."""

    name: str

    async def call(self, keys: Sequence[str], payload: bytes) -> Sequence[bytes]:
        """Run the ledger script."""
        ...

    async def close(self) -> None:
        """Let the connections go."""
        ...


Heard = Callable[[Sequence[Operation], Sequence[Answer]], None]


def _nobody(operations: Sequence[Operation], found: Sequence[Answer]) -> None:
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
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
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
        if self._timer is None and self._task is None:
            self._timer = asyncio.get_running_loop().call_later(self._flush, self._start)
        elif self._pause and len(self._queue) >= self._kept:
            self._fold()

    async def ask(self, operation: Operation) -> Answer:
        """Have it done now. Raises StoreError, at once while the breaker is open and after `timeout` at the latest."""
        if self._pause:
            raise StoreError(f"the store at {self.wire.name} is down", retryable=True)
        loop = asyncio.get_running_loop()
        answer = operation.answer = loop.create_future()
        self._queue.append(operation)
        self._urgent = True
        if self._task is None:
            self._start()
        try:
            async with asyncio.timeout(self._timeout):
                found: Answer = await answer
                return found
        except TimeoutError:
            raise StoreError(f"the store at {self.wire.name} did not answer within {self._timeout:g} s", retryable=True) from None

    async def drain(self) -> None:
        """Send everything now; returns when it is done or has failed."""
        if self._task is not None:
            await asyncio.wait((self._task,))
        self._urgent = True
        if self._task is None and self._is_due():
            await asyncio.wait((self._start(),))

    async def close(self) -> None:
        """Send what is left, if the server answers, and let the connections go."""
        await self.drain()
        if self._timer is not None:
            self._timer.cancel()
        await self.wire.close()

    def _start(self) -> asyncio.Task[None]:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._task = task = asyncio.get_running_loop().create_task(self._run())
        return task

    async def _run(self) -> None:
        """Send batches until nobody waits, or one fails."""
        try:
            while self._is_due():
                self._urgent = False
                if not await self._sent(self._again or self._next()) or (not self._urgent and len(self._queue) < BATCH):
                    return
        finally:
            self._task = None
            if self._is_due():
                wait = self._pause or (0.0 if self._urgent else self._flush)
                self._timer = asyncio.get_running_loop().call_later(wait, self._start)

    def _is_due(self) -> bool:
        """Something is to be sent; to a server that is down, if only to see whether it answers."""
        return self._pause > 0.0 or self._again is not None or len(self._queue) > 0

    def _fold(self) -> None:
        """Keep less: one operation a subject. Of more subjects than can be kept, those that came last are not carried over."""
        found = folded(self._queue, self._folded)
        self.dropped += max(0, len(found) - MOST)
        self._queue = found[:MOST]
        self._kept = KEPT + len(self._queue)

    def _next(self) -> Batch:
        taken, self._queue = self._queue[:BATCH], self._queue[BATCH:]
        self._urgent = self._urgent or len(self._queue) > 0
        self._number += 1
        return Batch(self.naming, taken, number=self._number, live=self.live, journal=self._journal)

    async def _sent(self, batch: Batch) -> bool:
        self._again = batch
        try:
            async with asyncio.timeout(self._timeout):
                found = answers(await self.wire.call(batch.keys, batch.payload), batch.operations)
        except (OSError, TimeoutError, StoreError, struct.error, ValueError, TypeError) as error:
            self._failed(batch, error)
            return False
        self._again = None
        self._recovered()
        self.heard(batch.operations, found)
        for operation, answer in zip(batch.operations, found, strict=True):
            if operation.answer is not None and not operation.answer.done():
                operation.answer.set_result(answer)
        return True

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
