"""From a log to steps: what is decided, what is imputed, what is written as a trace."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from msgspec import structs

from gateway_guard.decision import Action, Decision
from gateway_guard.dialects import DIALECTS
from gateway_guard.errors import RequestError, Unidentified, UnreadableBody
from gateway_guard.facts import Adopted, Cut, Done, Ending, Event, Identity, RequestFacts, Seen, Usage
from gateway_guard.ports import Dialect
from gateway_guard.replay import run as module
from gateway_guard.replay.player import Player
from gateway_guard.replay.run import Ended, Played, Step, Terms, Tracing, outcome_of, play, play_trace, row_of
from gateway_guard.trace.exchanges import Exchange, Response, TokenCounts
from tests.logs import START, exchange
from tests.test_replay_player import Scripted

FACTS = RequestFacts("x1", START + 1, Identity("ab"), "openai.chat", input_tokens=30, ask_tokens=0)


class Bare:
    """An intake that reads nothing but the body's `trouble`."""

    def dialect(self, method: str, path: str) -> Dialect | None:
        return DIALECTS["openai.chat"] if method == "POST" else None

    def recorded(
        self, ident: str, at: float, method: str, path: str, headers: Any, client: str, raw: bytes, identity: Identity | None, *, passes: Any
    ) -> RequestFacts:
        trouble: dict[str, RequestError] = {"body": UnreadableBody("no"), "nobody": Unidentified("who?")}
        found = msgspec.json.decode(raw).get("trouble")
        if found and not passes(trouble[found]):
            raise trouble[found]
        return RequestFacts(ident, at, identity or Identity("ab"), "openai.chat", input_tokens=30)


def steps(log: Iterable[Exchange], terms: Terms = Terms(), by_id: dict[str, dict[str, Any]] | None = None) -> tuple[list[Step], Scripted]:  # noqa: B008 - frozen
    gate = Scripted(**by_id or {})
    return list(play(log, Bare(), Player(gate), terms)), gate


def test_a_request_is_played_then_ended() -> None:
    found, gate = steps([exchange(1), exchange(2)])
    assert [(type(step), step.id if isinstance(step, Played) else step.facts.id) for step in found] == [
        (Played, "x1"),
        (Ended, "x1"),
        (Played, "x2"),
        (Ended, "x2"),
    ]
    assert gate.calls == [("decide", "x1", START + 1), ("settle", "x1", START + 1.5), ("decide", "x2", START + 2), ("settle", "x2", START + 2.5)]


def test_the_recorded_identity_is_handed_on() -> None:
    (played, _), _ = steps([exchange(1, identity=Identity("cd", plan="pro"))])
    assert isinstance(played, Played)
    assert played.facts is not None
    assert played.facts.identity == Identity("cd", plan="pro")


EXCUSES: dict[str, tuple[str, Terms, str, bool]] = {
    "unreadable": ("body", Terms(), "invalid_request_body", False),
    "unreadable, shadow": ("body", Terms(shadow=True), "invalid_request_body", True),
    "unreadable, lenient": ("body", Terms(lenient=True), "invalid_request_body", True),
    "nobody": ("nobody", Terms(), "invalid_credentials", False),
    "nobody, shadow": ("nobody", Terms(shadow=True), "invalid_credentials", True),
    "nobody, lenient": ("nobody", Terms(lenient=True), "invalid_credentials", False),
}


@pytest.mark.parametrize(("trouble", "terms", "code", "excused"), EXCUSES.values(), ids=EXCUSES)
def test_what_cannot_be_read_is_refused_or_excused_as_live_does_it(trouble: str, terms: Terms, code: str, excused: bool) -> None:
    found, gate = steps([exchange(1, trouble=trouble)], terms)
    played = found[0]
    assert isinstance(played, Played)
    assert (played.undecided, played.excused) == (("", (code,)) if excused else (code, ()))
    assert bool(gate.calls) == excused
    row = row_of(played, "")
    assert (row.id, row.served) == ("x1", excused)
    if not excused:
        assert (row.action, row.enforced, row.reasons) == ("deny", True, [f"request.{code}"])


def test_what_is_not_guarded_passes() -> None:
    (played,), _ = steps([msgspec.structs.replace(exchange(1), method="GET")])
    assert isinstance(played, Played)
    assert (played.undecided, played.passed) == ("unguarded", True)


TOLD = Usage(20, 10)
OUTCOMES: dict[str, tuple[Response | None, int, Usage | None, int, Ending, bool]] = {
    "told": (Response(200, 500.0, usage=TokenCounts(20, 10)), 0, TOLD, 200, "done", False),
    "told with reasoning": (Response(200, 500.0, usage=TokenCounts(20, 10, 4, True)), 0, Usage(20, 10, 4, True), 200, "done", False),
    "input not told": (Response(200, usage=TokenCounts(None, 10)), 0, Usage(30, 10), 200, "done", False),
    "cut off, but counted": (Response(200, usage=TokenCounts(20, 3), ending="left"), 0, Usage(20, 3), 200, "left", False),
    "status not told": (Response(usage=TokenCounts(20, 10)), 0, TOLD, 200, "done", False),
    "nothing told": (None, 0, Usage(30, 500, estimated=True), 200, "done", True),
    "nothing told, but asked": (None, 77, Usage(30, 77, estimated=True), 200, "done", True),
    "output not told": (Response(200, usage=TokenCounts(20, None)), 0, Usage(30, 500, estimated=True), 200, "done", True),
    "server error": (Response(503), 77, None, 503, "done", False),
    "server raised": (Response(ending="raised"), 77, None, 0, "raised", False),
    "client left before the answer": (Response(ending="left"), 77, None, 0, "left", False),
    "refused then, perhaps served now": (Response(429, ending="refused"), 77, Usage(30, 77, estimated=True), 200, "done", True),
}


@pytest.mark.parametrize("case", OUTCOMES.values(), ids=OUTCOMES)
def test_how_an_exchange_ended(case: tuple[Response | None, int, Usage | None, int, Ending, bool]) -> None:
    response, asked, usage, status, ending, imputed = case
    facts = msgspec.structs.replace(FACTS, ask_tokens=asked)
    found = outcome_of(msgspec.structs.replace(exchange(1), response=response), facts, 500)
    assert (found.usage, found.status, found.ending, found.imputed) == (usage, status, ending, imputed)


def test_an_embedding_has_no_output_to_impute() -> None:
    found = outcome_of(exchange(1, tokens=None), msgspec.structs.replace(FACTS, dialect="openai.embeddings"), 500)
    assert found.usage == Usage(30, 0, estimated=True)


def test_nothing_ends_before_it_was_decided() -> None:
    """A line that is out of order is decided later than it says."""
    assert outcome_of(exchange(1), msgspec.structs.replace(FACTS, at=START + 9), 500).at == START + 9


def test_a_latency_that_is_not_known_is_none() -> None:
    assert outcome_of(msgspec.structs.replace(exchange(1), response=None), FACTS, 500).at == START + 1


LOG = [
    exchange(1),
    exchange(2, after=1.2, tokens=None),
    msgspec.structs.replace(exchange(3, after=1.5), response=Response(503, 100.0)),
    msgspec.structs.replace(exchange(4, after=1.6), response=Response(429, 1.0, ending="refused")),
    exchange(5, after=1.7, trouble="body"),
    exchange(6, after=1.4),
    exchange(7, after=30),
]
BY_ID: dict[str, dict[str, Any]] = {"x2": {"wait": 0.7}, "x3": {"served": False, "would": Action.THROTTLE}, "x6": {"wait": 0.1}}


def traced(found: Iterable[Step]) -> list[Event]:
    events: list[Event] = []
    tracing = Tracing(events.append)
    for step in found:
        tracing.take(step)
    tracing.finish()
    return events


def test_a_trace_does_not_depend_on_the_policy() -> None:
    assert traced(steps(LOG)[0])[0] == Seen(RequestFacts("x1", START + 1, Identity("ab"), "openai.chat", input_tokens=30))
    dones = [[event for event in traced(steps(LOG, by_id=by_id)[0]) if isinstance(event, Done)] for by_id in ({}, BY_ID)]
    assert dones[0] == dones[1]


@pytest.mark.parametrize("by_id", [{}, BY_ID], ids=["calm", "strict"])
def test_a_trace_is_played_as_its_log(by_id: dict[str, dict[str, Any]]) -> None:
    plain, gate = steps(LOG)
    wanted, strict = steps(LOG, by_id=by_id)
    again = Scripted(**by_id)
    found = list(play_trace(traced(plain), Player(again), Terms()))
    assert again.calls == strict.calls
    assert [step for step in found if isinstance(step, Played)] == [step for step in wanted if isinstance(step, Played) and step.facts is not None]
    assert len(gate.calls) == len(strict.calls) + (by_id == BY_ID)


def test_a_live_trace_without_ends_costs_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN", 2)
    seen: list[Event] = [Seen(msgspec.structs.replace(FACTS, id=f"x{n}")) for n in range(5)]
    done: list[Event] = [Done(f"x{n}", START + 9, "ab", TOLD) for n in range(5)]
    gate = Scripted()
    assert len(list(play_trace([*seen, *done], Player(gate), Terms()))) == 5 + 2
    assert [ident for what, ident, _ in gate.calls if what == "settle"] == ["x3", "x4"]


def test_the_marks_of_views_are_handed_on_in_their_place() -> None:
    told: list[Event] = []
    events: list[Event] = [Seen(FACTS), Done("x1", START + 2, "ab", TOLD), Cut(START + 2, 1), Adopted(START + 3, 1)]
    list(play_trace(events, Player(Scripted(), events=told.append), Terms()))
    assert told == events


def test_what_a_live_guard_refused_is_imputed_if_it_is_served_now() -> None:
    events: list[Event] = [Seen(FACTS, "throttle"), Done("x1", START + 1, "ab", Usage(), 0, "refused")]
    ended = list(play_trace(events, Player(Scripted()), Terms(output=99)))[-1]
    assert isinstance(ended, Ended)
    assert (ended.outcome.usage, ended.outcome.imputed) == (Usage(30, 99, estimated=True), True)


class Looking(Scripted):
    """A gate that keeps the passes that it decides on."""

    def __init__(self) -> None:
        super().__init__()
        self.passes: list[tuple[str, ...]] = []

    async def decide(self, facts: RequestFacts, /) -> Decision:
        self.passes.append(facts.passes)
        return await super().decide(facts)


def decided_on(log: Iterable[Exchange], terms: Terms) -> list[tuple[str, ...]]:
    gate = Looking()
    for step in play(log, Bare(), Player(gate), terms):
        assert isinstance(step, Ended) or step.facts is None or not (step.facts.passes and terms.solved), "what is assumed is not recorded"
    return gate.passes


def test_challenges_that_a_recording_shows_as_met_are_met() -> None:
    log = [structs.replace(exchange(1), met=("prove",)), exchange(2)]
    assert decided_on(log, Terms(rungs=("prove", "show"))) == [("prove",), ()]
    assert [step.facts.passes for step in steps(log)[0] if isinstance(step, Ended)] == [("prove",), ()]


def test_a_share_of_accounts_may_be_taken_to_meet_challenges() -> None:
    """Always the same accounts, about as many as were said, in a log and in a trace."""
    log = [exchange(n, identity=Identity(f"{n % 200:020x}")) for n in range(400)]
    terms = Terms(solved=0.3, rungs=("prove",))
    found = decided_on(log, terms)
    assert found[:200] == found[200:]
    assert 0.2 < sum(map(bool, found)) / len(found) < 0.4
    assert set(found) == {(), ("prove",)}
    assert all(decided_on(log, Terms(solved=1.0, rungs=("prove",))))
    seen = [Seen(structs.replace(FACTS, id=f"x{n}", at=START + n, identity=Identity(f"{n % 200:020x}"))) for n in range(200)]
    gate = Looking()
    list(play_trace(seen, Player(gate), terms))
    assert gate.passes == found[:200]
