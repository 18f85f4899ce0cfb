"""The loop beside the requests where several workers share a server: one of them runs the analyst, all of them go by its views.

Every worker shows itself, sends its events to the stream, and adopts each view that is published: at once when it hears of it, at the next beat otherwise. The
one that leads reads the stream, concludes every `refresh` seconds and publishes. When it is gone, the first one to notice leads on: it reads the
stream from its beginning, so that what the others have seen within the history is neither lost nor counted twice.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from msgspec import structs

from gateway_guard.analysis.analyst import Analyst
from gateway_guard.errors import StoreError
from gateway_guard.facts import Event
from gateway_guard.gate import Gate
from gateway_guard.view import View
from gateway_guard.worker import concluded

if TYPE_CHECKING:
    from gateway_guard.stores.redis.crew import Crew

log = logging.getLogger("gateway_guard")
# Seconds between beats at most, and events that are sent together.
BEAT, TOGETHER = 1.0, 500
# Seconds that an event waits to be sent with others.
TELL = 2.0
# Events kept for a server that does not take them; what comes then is not learned from.
KEPT = 50_000


class Desk:
    """The leader's analyst and how far it has read."""

    def __init__(self, analyst: Analyst) -> None:
        self.analyst = analyst
        # What stood before this worker led: the analyst has to see it again, and until then it is not forgotten.
        self.before = analyst.view
        self.after = "0"
        self.concluded: float | None = None
        self._numbers: dict[str, int] = {}

    async def read(self, crew: Crew) -> None:
        """Take in all that is new."""
        while entries := await crew.read(self.after):
            for self.after, entry in entries:
                if entry.number > self._numbers.get(entry.sender, 0):
                    self._numbers[entry.sender] = entry.number
                    for event in entry.events:
                        self.analyst.observe(event)


# How often a task is asked to end.
ASKED = 5


class SharedWorker:
    """A worker's part. `analyst` makes the analyst when this worker comes to lead, on the view in force; None: nobody analyses.

    `clock` is the edge's · `adopted` is told, in a thread, of each view that this worker has published.
    """

    def __init__(  # noqa: PLR0917 - made in one place
        self,
        crew: Crew,
        gate: Gate,
        clock: Callable[[], float],
        refresh: float,
        analyst: Callable[[View], Analyst] | None,
        adopted: Callable[[View], None] = lambda view: None,
    ) -> None:
        self._adopted = adopted
        self.workers = 0
        self.dropped = 0
        self.token = 0
        self._crew = crew
        self._gate = gate
        self._clock = clock
        self._refresh = refresh
        self._make = analyst
        self._desk: Desk | None = None
        self._events: list[Event] = []
        self._out: list[Event] = []
        self._number = 0
        self._told = 0.0
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._beat = min(BEAT, crew.lead / 3)

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if len(self._events) < KEPT:
            self._events.append(event)
        else:
            self.dropped += 1

    def start(self) -> None:
        """Begin, on the loop that serves requests."""
        if not self._tasks or self._tasks[0].done():
            loop = asyncio.get_running_loop()
            self._tasks = [loop.create_task(self._run()), loop.create_task(self._listen())]

    async def close(self) -> None:
        """Send what is left, and be gone."""
        for _ in range(ASKED):
            # redis-py sends under `asyncio.wait_for`, which before Python 3.12 swallows a cancellation that comes as the sending is done: ask again.
            going = [task for task in self._tasks if not task.done()]
            for task in going:
                task.cancel()
            if going:
                await asyncio.wait(going, timeout=self._beat)
        await asyncio.gather(*(task for task in self._tasks if task.done()), return_exceptions=True)
        if self._tasks:
            try:
                await self.tell()
                await self._crew.leave()
            except StoreError as error:
                log.debug("left without a word: %s", error)

    async def step(self) -> None:
        """One beat: be counted, adopt, send, and lead if it is this worker's turn."""
        beat = await self._crew.beat(leads=self._make is not None)
        self.workers = beat.workers
        if beat.view > self._gate.view.id:
            await self.adopt()
        now = self._clock()
        if (self._out or self._events) and (len(self._events) >= TOGETHER or now - self._told >= TELL):
            self._told = now
            await self.tell()
        if beat.token != self.token:
            # A new token is a new beginning: what another one has published meanwhile is the ground to build on.
            self.token, self._desk = beat.token, None
        if beat.token and self._make is not None:
            await self._lead(self._desk or await self._sit(self._make))

    async def tell(self) -> None:
        """Send all events that wait. What may have arrived although the answer was lost is sent again as it was, and counts once."""
        while self._out or self._events:
            if not self._out:
                self._number += 1
                self._out, self._events = self._events[:TOGETHER], self._events[TOGETHER:]
            await self._crew.tell(self._number, self._out)
            self._out = []

    async def adopt(self) -> None:
        """Go by the view that was published last."""
        view = await self._crew.view()
        if view is not None and view.id > self._gate.view.id:
            await self._gate.adopt(view, self._clock())

    async def _sit(self, make: Callable[[View], Analyst]) -> Desk:
        await self.adopt()
        self._desk = Desk(await asyncio.to_thread(make, self._gate.view))
        log.info("this worker runs the analyst now")
        return self._desk

    async def _lead(self, desk: Desk) -> None:
        await desk.read(self._crew)
        now = self._clock()
        if desk.concluded is None:
            # The predecessor's view says when the next one is due.
            desk.concluded = self._gate.view.at or now
        if now - desk.concluded < self._refresh:
            return
        desk.concluded = now
        view = await concluded(desk.analyst, self._gate, desk.before, now)
        # After a change of the calibration the analyst begins anew; the numbers of views go on.
        published = structs.replace(view, id=max(view.id, self._gate.view.id + 1))
        if not await self._crew.publish(published, self.token):
            # Another one leads by now: whatever was concluded here counts for nothing.
            self.token, self._desk = 0, None
            return
        desk.analyst.adopt(view)
        desk.analyst.adopt(published)
        await self._gate.adopt(published, self._clock())
        await self._crew.trim()
        await asyncio.to_thread(self._adopted, published)

    async def _run(self) -> None:
        while True:
            try:
                await self.step()
            except StoreError as error:
                # The store's link tells of it already.
                log.debug("no beat: %s", error)
            except Exception:
                log.exception("the analyst failed, the last view stays in force")
            try:
                async with asyncio.timeout(self._beat):
                    await self._news.wait()
            except TimeoutError:
                continue
            self._news.clear()

    async def _listen(self) -> None:
        while True:
            try:
                await self._crew.listen(self._news.set)
            except StoreError as error:
                log.debug("views are polled for: %s", error)
            await asyncio.sleep(self._beat)
