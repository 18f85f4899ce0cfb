"""Virtual time: decides and settles in the order that live traffic did, through the same gate.

A request is decided at its own time and settled when it ended. Ends wait in a heap; before anything is decided at a time, everything that
ended up to and including that time is settled, in the order of its end, then of its decision. Time stands still rather than go back.
A request that the replayed policy delays ends that much later; one that it refuses used nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Protocol

import msgspec

from gateway_guard.decision import Decision
from gateway_guard.facts import Adopted, Cut, Done, Ending, RequestFacts, Seen, Usage
from gateway_guard.gate import at_once
from gateway_guard.ports import Sink

# Requests that may run at once. A log that claims more is settled early, so that it cannot claim all memory.
IN_FLIGHT = 1_000_000


class Gatekeeper(Protocol):
    """What a replay needs of a gate."""

    async def decide(self, facts: RequestFacts, /) -> Decision: ...

    async def settle(self, decision: Decision, usage: Usage | None, at: float, /) -> None: ...


class Rival(Protocol):
    """What a replay needs of a candidate policy's gate."""

    def decide(self, facts: RequestFacts, /, *, served: bool) -> Decision | None: ...

    def settle(self, ident: str, usage: Usage | None, at: float, /) -> None: ...


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """How a request ended in the log: `usage` None when nothing was used; `imputed` when the log does not tell and it was worked out instead ·
    `held` seconds of it are a delay by the guard that recorded it.
    """

    at: float
    usage: Usage | None
    status: int = 200
    ending: Ending = "done"
    imputed: bool = False
    held: float = 0.0


class Player:
    """Plays requests one after the other. `refresh` is called with the time at each `every` seconds of virtual time, quiet stretches skipped.

    `candidate` decides beside the gate; what it decided last is in `beside`.
    """

    def __init__(
        self,
        gate: Gatekeeper,
        *,
        events: Sink | None = None,
        refresh: Callable[[float], None] | None = None,
        every: float = 60.0,
        candidate: Rival | None = None,
    ) -> None:
        self.beside: Decision | None = None
        self._candidate = candidate
        self.now = 0.0
        self.played = 0
        self._gate = gate
        self._events = events
        self._refresh = refresh
        self._every = every
        self._next_refresh = math.inf if refresh is None else 0.0
        self._running: list[tuple[float, int, Decision, Outcome]] = []

    def advance(self, ts: float) -> float:
        """Let time pass until `ts`: settle what ended. Returns the time that it is then."""
        now = self.now = ts if ts > self.now else self.now
        if now >= self._next_refresh:
            self._refreshed(now)
        if self._running and self._running[0][0] <= now:
            self._settle_until(now)
        return now

    def decide(self, facts: RequestFacts) -> Decision:
        """Decide a request at `facts.at`, which `advance` has returned."""
        self.played += 1
        decision = at_once(self._gate.decide(facts))
        if self._candidate is not None:
            self.beside = self._candidate.decide(facts, served=decision.served)
        if self._events is not None:
            self._events(Seen(facts, decision.would.label, decision.cluster))
            if not decision.served:
                self._events(Done(facts.id, facts.at, decision.account, Usage(), 0, "refused"))
        return decision

    def settle_later(self, decision: Decision, outcome: Outcome, order: int) -> None:
        """A served request will end as in the log, later by what it was delayed. `order`: the value of `played` at its decision."""
        heappush(self._running, (_end(decision, outcome), order, decision, outcome))
        if len(self._running) > IN_FLIGHT:
            self._settle_first()

    def mark(self, event: Cut | Adopted) -> None:
        """The log says where a view was cut or adopted: hand it to the one who makes views."""
        if self._events is not None:
            self.advance(event.at)
            self._events(event)

    def finish(self) -> None:
        """The log is over: settle what still runs."""
        self._settle_until(math.inf)

    def _settle_until(self, at: float) -> None:
        while self._running and self._running[0][0] <= at:
            self._settle_first()

    def _settle_first(self) -> None:
        at, _, decision, outcome = heappop(self._running)
        at_once(self._gate.settle(decision, outcome.usage, at))
        if self._candidate is not None:
            self._candidate.settle(decision.id, outcome.usage, at)
        if self._events is not None:
            self._events(Done(decision.id, at, decision.account, outcome.usage or Usage(), outcome.status, outcome.ending))

    def _refreshed(self, now: float) -> None:
        """Refreshes fall on multiples of the interval, with all before them settled; of those that are due only the last is worth making."""
        due = now - now % self._every
        if self._next_refresh and self._refresh is not None:
            self._settle_until(due)
            self._refresh(due)
        self._next_refresh = due + self._every


def _end(decision: Decision, outcome: Outcome) -> float:
    """When a request ends that waits `decision.wait` now and was held for `outcome.held` when it was recorded."""
    if not decision.wait and not outcome.held:
        return outcome.at
    more = round(decision.wait, 6) - outcome.held
    # The log has whole microseconds: the same wait is the same end, to the last bit.
    return outcome.at if abs(more) < 1e-6 else max(decision.at, round(outcome.at + more, 6))
