"""Plays an exchange log, or a trace of already fingerprinted events, and yields what was decided, one by one."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import heappop, heappush
from typing import Protocol
from zlib import crc32

import msgspec
from msgspec import structs

from gateway_guard.decision import Decision
from gateway_guard.errors import RequestError, UnreadableBody
from gateway_guard.facts import Done, Event, Identity, RequestFacts, Seen, Usage, imputed
from gateway_guard.ports import Dialect, Sink
from gateway_guard.replay.player import Outcome, Player
from gateway_guard.trace.decisions import DecisionRow, row, undecided
from gateway_guard.trace.exchanges import Exchange, Response, asgi_headers

# Requests of a trace whose end is not yet known.
OPEN = 1_000_000
UNGUARDED = "unguarded"


class Reader(Protocol):
    """What a replay needs of an intake."""

    def dialect(self, method: str, path: str) -> Dialect | None: ...

    def recorded(  # noqa: PLR0917 - as an intake has it
        self,
        ident: str,
        at: float,
        method: str,
        path: str,
        headers: list[tuple[bytes, bytes]],
        client: str,
        raw: bytes,
        identity: Identity | None,
        *,
        passes: Callable[[RequestError], bool],
    ) -> RequestFacts: ...


class Played(msgspec.Struct, frozen=True, gc=False):
    """A request was played: it has `facts` and a `decision`, or `undecided` says why not (`unguarded`, or the code of the guard's refusal).

    `excused`: codes of what was wrong with it, but let pass by the policy · `candidate` what the policy's candidate decided.
    """

    id: str
    at: float
    facts: RequestFacts | None = None
    decision: Decision | None = None
    undecided: str = ""
    excused: tuple[str, ...] = ()
    candidate: Decision | None = None

    @property
    def passed(self) -> bool:
        """Whether an undecided request reaches the model."""
        return self.undecided == UNGUARDED


class Ended(msgspec.Struct, frozen=True, gc=False):
    """How a decided request ended in the log. Comes after its `Played`; whether it was served is the decision's to tell."""

    facts: RequestFacts
    decision: Decision
    outcome: Outcome


Step = Played | Ended


class Terms(msgspec.Struct, frozen=True):
    """What of the policy a replay needs beside the gate: tokens taken for an answer of which nothing is known, what happens to the unreadable,
    and which share of accounts is taken to have met the challenges of which rungs.
    """

    output: int = 500
    shadow: bool = False
    lenient: bool = False
    solved: float = 0.0
    rungs: tuple[str, ...] = ()

    def passes(self, error: RequestError) -> bool:
        """Whether a request that cannot be read or identified goes on all the same, as with the live guard."""
        return self.shadow or (self.lenient and isinstance(error, UnreadableBody))

    def assumed(self, facts: RequestFacts) -> RequestFacts:
        """The facts to decide on: with the challenges that this account is taken to have met. The share is of accounts, always the same ones."""
        if self.solved and crc32(facts.identity.account.encode()) < self.solved * 2**32:
            return structs.replace(facts, passes=self.rungs)
        return facts


class Reading(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a line of an exchange log came to: `facts` and `outcome` of a request at `at`, or `undecided` for want of them; nothing of the gate's."""

    id: str
    at: float
    facts: RequestFacts | None = None
    outcome: Outcome | None = None
    undecided: str = ""
    excused: tuple[str, ...] = ()


def readings(log: Iterable[Exchange], reader: Reader, terms: Terms) -> Iterator[Reading]:
    """Read an exchange log: most of a replay's work, and none of it waits for a decision. Time stands still rather than go back."""
    now = 0.0
    for exchange in log:
        now = max(now, exchange.ts)
        found = _read(exchange, reader, now, terms)
        if isinstance(found, str):
            yield Reading(exchange.id, now, undecided=found)
        else:
            facts, excused = found
            yield Reading(exchange.id, now, facts, outcome_of(exchange, facts, terms.output), excused=excused)


def play(log: Iterable[Exchange], reader: Reader, player: Player, terms: Terms) -> Iterator[Step]:
    """Play an exchange log."""
    return play_readings(readings(log, reader, terms), player, terms)


def play_readings(found: Iterable[Reading], player: Player, terms: Terms) -> Iterator[Step]:
    """Play what was read of an exchange log."""
    for one in found:
        at = player.advance(one.at)
        if one.facts is None or one.outcome is None:
            yield Played(one.id, at, undecided=one.undecided)
            continue
        decision = player.decide(terms.assumed(one.facts))
        order = player.played
        yield Played(one.id, at, one.facts, decision, excused=one.excused, candidate=player.beside)
        if decision.served:
            player.settle_later(decision, one.outcome, order)
        yield Ended(one.facts, decision, one.outcome)
    player.finish()


def play_trace(events: Iterable[Event], player: Player, terms: Terms) -> Iterator[Step]:
    """Play a trace. Its own decisions count for nothing; a request that it shows as refused is imputed its usage if it is served now."""
    running: dict[str, tuple[int, Decision, RequestFacts]] = {}
    for event in events:
        if isinstance(event, Seen):
            facts = event.facts
            at = player.advance(facts.at)
            if at != facts.at:
                facts = structs.replace(facts, at=at)
            decision = player.decide(terms.assumed(facts) if terms.solved else facts)
            running[facts.id] = (player.played, decision, facts)
            if len(running) > OPEN:
                del running[next(iter(running))]
            yield Played(facts.id, at, facts, decision, candidate=player.beside)
        elif isinstance(event, Done):
            known = running.pop(event.id, None)
            if known is not None:
                order, decision, facts = known
                outcome = _outcome_of_event(event, facts, terms.output, player.now)
                if decision.served:
                    player.settle_later(decision, outcome, order)
                yield Ended(facts, decision, outcome)
        else:
            player.mark(event)
    player.finish()


def _read(exchange: Exchange, reader: Reader, at: float, terms: Terms) -> str | tuple[RequestFacts, tuple[str, ...]]:
    """The facts of an exchange and the codes of what was excused in it; or the code that says why there are none."""
    method, path = exchange.method, exchange.path
    if reader.dialect(method, path) is None:
        return UNGUARDED
    excused: list[str] = []

    def passes(error: RequestError) -> bool:
        excused.append(error.code)
        return terms.passes(error)

    headers = asgi_headers(exchange.headers)
    try:
        facts = reader.recorded(exchange.id, at, method, path, headers, exchange.client, exchange.octets, exchange.identity, passes=passes)
    except RequestError as error:
        return error.code
    return structs.replace(facts, passes=exchange.met) if exchange.met else facts, tuple(excused)


def outcome_of(exchange: Exchange, facts: RequestFacts, output: int) -> Outcome:
    """How a logged exchange ended."""
    response = exchange.response or Response()
    at = max(exchange.ends, facts.at)
    held = (response.held_ms or 0.0) / 1000.0
    usage = response.usage
    if usage is not None and usage.output_tokens is not None:
        given = facts.input_tokens if usage.input_tokens is None else usage.input_tokens
        told = Usage(given, usage.output_tokens, usage.reasoning_tokens or 0, usage.estimated)
        return Outcome(at, told, 200 if response.status is None else response.status, response.ending, held=held)
    if _unanswered(response):
        return Outcome(at, None, response.status or 0, response.ending, held=held)
    return Outcome(at, imputed(facts, output), imputed=True, held=held)


def _unanswered(response: Response) -> bool:
    """The server failed, or was never reached; but what the recording guard refused may be served now, and is not counted here."""
    failed = response.status is not None and response.status >= 400
    return response.ending != "refused" and (failed or response.ending in ("left", "raised"))


def _outcome_of_event(done: Done, facts: RequestFacts, output: int, now: float) -> Outcome:
    at = done.at if done.at > now else now
    if done.ending == "refused":
        return Outcome(at, imputed(facts, output), imputed=True)
    unused = not 0 < done.status < 400 and done.usage == Usage()
    return Outcome(at, None if unused else done.usage, done.status, done.ending)


class Tracing:
    """Writes what is played as a trace that does not depend on the policy: every request, and every end where the log has it."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._ends: list[tuple[float, int, Done]] = []
        self._order = 0

    def take(self, step: Step) -> None:
        """Add one step of a replay."""
        if isinstance(step, Ended):
            facts, outcome = step.facts, step.outcome
            self._order += 1
            ended = max(facts.at, round(outcome.at - outcome.held, 6))
            done = Done(facts.id, ended, facts.identity.account, outcome.usage or Usage(), outcome.status, outcome.ending)
            heappush(self._ends, (ended, self._order, done))
        elif step.facts is not None and step.decision is not None:
            self._until(step.at)
            self._sink(Seen(step.facts, step.decision.would.label, step.decision.cluster))

    def finish(self) -> None:
        """Add the ends that are still to come."""
        self._until(math.inf)

    def _until(self, at: float) -> None:
        while self._ends and self._ends[0][0] <= at:
            self._sink(heappop(self._ends)[2])


def history(steps: Iterable[Step]) -> Iterator[Event]:
    """The events of a replay, in the order of their times, whatever the policy made of them."""
    ready: deque[Event] = deque()
    tracing = Tracing(ready.append)
    for step in steps:
        tracing.take(step)
        while ready:
            yield ready.popleft()
    tracing.finish()
    yield from ready


def row_of(played: Played, name: str) -> DecisionRow:
    """The row of the decision log; `name` shows the account."""
    if played.decision is not None:
        return row(played.decision, name, played.candidate)
    return undecided(played.id, played.at, played.undecided, passed=played.passed)
