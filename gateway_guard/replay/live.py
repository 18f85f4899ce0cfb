"""A live replay: recorded requests go to a staging deployment, and its answers are compared with what the policy decides offline.

Theory of operation. The log is read twice in step: once as a replay reads it, for the decisions, and once for what is sent. With a speed other than one the
times of the log are that much closer together, for both. A thread works some requests ahead; the loop that sends keeps the pace.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from gateway_guard.errors import GuardError, UsageError
from gateway_guard.replay.answers import Answers, Got, Record
from gateway_guard.replay.resend import Bounds, Planned, Resend, Taker, has_text
from gateway_guard.replay.run import Ended, Played
from gateway_guard.replay.stage import Stage
from gateway_guard.trace.exchanges import Exchange, ExchangeLog

AHEAD = 32
# So many requests without one that can be sent, and the log is not one to send.
PATIENCE = 1000


class Plan(NamedTuple):
    """`credentials` keys by account, as reports show accounts or by hash · `speed` times the recorded pace · `most` requests are sent."""

    target: str
    credentials: Mapping[str, str]
    bounds: Bounds
    speed: float = 1.0
    most: int = 10_000


class Live:
    """One live replay. `record` holds what was found so far; `stopped` says why it ended early."""

    def __init__(self, stage: Stage, plan: Plan) -> None:
        self.record = Record()
        self.stopped = ""
        self._stage = stage
        self._plan = plan
        self._log = ExchangeLog(stage.source.name)

    def run(self, tick: Callable[[], None]) -> None:
        """Send all. Ctrl-C and SIGTERM stop it; KeyboardInterrupt is raised when all is put away."""
        try:
            if not asyncio.run(self._send(tick)):
                self.stopped = "interrupted"
                raise KeyboardInterrupt
        except GuardError as error:
            self.stopped = str(error)
            raise
        finally:
            self._log.close()
            self._stage.source.close()

    def report(self, seconds: float) -> Answers:
        """What was found so far."""
        plan = self._plan
        return self.record.report(stopped=self.stopped, target=plan.target, policy=self._stage.policy, speed=plan.speed, seconds=seconds)

    async def _send(self, tick: Callable[[], None]) -> bool:
        resend, loop = Resend(self._plan.target, self._plan.bounds), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, resend.stop)
        try:
            return await resend.run(self._planned(tick))
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def _planned(self, tick: Callable[[], None]) -> AsyncIterator[tuple[Planned, Taker]]:
        pairs, first, sent = self._pairs(), -1.0, 0
        while batch := await asyncio.to_thread(lambda: list(itertools.islice(pairs, AHEAD))):
            for exchange, played in batch:
                self.record.requests += 1
                key = self._key(exchange, played)
                if key is None or played.decision is None:
                    self._doubt()
                    continue
                if sent >= self._plan.most:
                    return
                first = played.at if first < 0 else first
                sent += 1
                yield Planned(played.at - first, exchange, key), partial(self._take, played)
            tick()

    def _pairs(self) -> Iterator[tuple[Exchange, Played]]:
        """Each line of the log with what is decided about it."""
        played = (step for step in self._stage.steps if not isinstance(step, Ended))
        return zip(self._log, played, strict=False)

    def _key(self, exchange: Exchange, played: Played) -> str | None:
        """The key under which a request is sent, None when it is not; why, is counted."""
        if played.decision is None:
            self.record.skipped[played.undecided] += 1
            return None
        account = played.decision.account
        key = self._plan.credentials.get(self._stage.name(account)) or self._plan.credentials.get(account)
        if key is None:
            self.record.skipped["no credential"] += 1
        elif not has_text(exchange):
            self.record.skipped["no text"] += 1
            return None
        return key

    def _doubt(self) -> None:
        """A log without text, or of other accounts, is told apart early: else it would be read for hours and nothing come of it."""
        found = self.record
        if found.requests - found.skipped.total() or found.skipped.total() < PATIENCE:
            return
        raise UsageError(self.nothing())

    def nothing(self) -> str:
        """Why nothing was sent."""
        skipped, name = self.record.skipped, self._stage.source.name
        if 2 * skipped["no credential"] < skipped.total():
            return f"{name}: has no request with a text to send: record one with `record.exchanges`, which keeps bodies"
        return f"{name}: none of its accounts has a credential in --credentials: its `account` column names them as reports show them, or by hash"

    def _take(self, played: Played, got: Got, late: float) -> None:
        assert played.decision is not None  # noqa: S101 - only what was decided is sent
        self.record.add(self._stage.name(played.decision.account), played.decision, got, late)
