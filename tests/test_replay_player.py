"""Virtual time: who is decided and settled when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway_guard.decision import Action, Decision
from gateway_guard.errors import UsageError
from gateway_guard.facts import Done, Event, Identity, RequestFacts, Seen, Usage
from gateway_guard.gate import at_once
from gateway_guard.replay import player as module
from gateway_guard.replay.player import Outcome, Player

USED = Usage(1, 2)


class Scripted:
    """A gate that does what it is told and notes what it is asked."""

    def __init__(self, **by_id: dict[str, Any]) -> None:
        self.calls: list[tuple[str, str, float]] = []
        self._by_id = by_id

    async def decide(self, facts: RequestFacts, /) -> Decision:
        self.calls.append(("decide", facts.id, facts.at))
        plain = Decision(facts.id, facts.at, "ab", Action.ALLOW, Action.ALLOW)
        return structs.replace(plain, **self._by_id.get(facts.id, {}))

    async def settle(self, decision: Decision, usage: Usage | None, at: float, /) -> None:
        self.calls.append(("settle", decision.id, at))


def facts(ident: str, at: float) -> RequestFacts:
    return RequestFacts(ident, at, Identity("ab"), "openai.chat")


def play(player: Player, ident: str, ts: float, end: float, **outcome: Any) -> None:
    at = player.advance(ts)
    decision = player.decide(facts(ident, at))
    if decision.served:
        player.settle_later(decision, Outcome(max(end, at), USED, **outcome), player.played)


def test_what_has_ended_is_settled_before_the_next_is_decided() -> None:
    gate = Scripted()
    player = Player(gate)
    for ident, ts, end in (("a", 1, 5), ("b", 2, 3), ("c", 3, 10), ("d", 4, 5), ("e", 20, 21)):
        play(player, ident, ts, end)
    player.finish()
    assert gate.calls == [
        ("decide", "a", 1), ("decide", "b", 2), ("settle", "b", 3), ("decide", "c", 3), ("decide", "d", 4),
        ("settle", "a", 5), ("settle", "d", 5), ("settle", "c", 10), ("decide", "e", 20), ("settle", "e", 21),
    ]  # fmt: skip


def test_time_stands_still_rather_than_go_back() -> None:
    gate = Scripted()
    player = Player(gate)
    for ident, ts in (("a", 5), ("b", 3), ("c", 6)):
        play(player, ident, ts, ts + 1)
    player.finish()
    assert [at for _, _, at in gate.calls] == [5, 5, 5, 6, 6, 7]


def test_a_delayed_request_ends_later_and_a_refused_one_never() -> None:
    gate = Scripted(a={"wait": 2.5}, b={"served": False, "wait": 9.0})
    player = Player(gate)
    play(player, "a", 1, 2)
    play(player, "b", 1, 2)
    player.finish()
    assert gate.calls[2:] == [("settle", "a", 4.5)]


@pytest.mark.parametrize(("wait", "held", "ends"), [(0.25, 0.25, 7.0), (0.2500001, 0.25, 7.0), (0.0, 0.25, 6.75), (0.5, 0.25, 7.25), (0.0, 6.5, 1.0)])
def test_the_delay_of_the_recording_guard_is_taken_off_again(wait: float, held: float, ends: float) -> None:
    """The last: the caller left while he was held, so what is left of his time is less than nothing."""
    gate = Scripted(a={"wait": wait})
    player = Player(gate)
    play(player, "a", 1, 7, held=held)
    player.finish()
    assert gate.calls[1:] == [("settle", "a", ends)]


def test_more_than_can_run_at_once_are_settled_early(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "IN_FLIGHT", 3)
    gate = Scripted()
    player = Player(gate)
    for n in range(10):
        play(player, f"x{n}", n, 1000)
    assert sum(what == "settle" for what, _, _ in gate.calls) == 7


def test_events_are_told_in_order() -> None:
    told: list[Event] = []
    player = Player(Scripted(b={"served": False, "would": Action.DENY, "cluster": "c"}), events=told.append)
    play(player, "a", 1, 5)
    play(player, "b", 2, 3)
    player.finish()
    assert told == [
        Seen(facts("a", 1), "allow"),
        Seen(facts("b", 2), "deny", "c"),
        Done("b", 2, "ab", Usage(), 0, "refused"),
        Done("a", 5, "ab", USED),
    ]


def test_the_view_is_refreshed_at_whole_intervals_after_all_before_was_settled() -> None:
    gate = Scripted()
    told: list[str] = []
    player = Player(gate, refresh=lambda at: told.append(f"{at} after {len(gate.calls)}"), every=10.0)
    for ident, ts, end in (("a", 13, 19), ("b", 15, 22), ("c", 25, 26), ("d", 26, 27), ("e", 99, 100)):
        play(player, ident, ts, end)
    player.finish()
    assert told == ["20.0 after 3", "90.0 after 8"]


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 30), st.integers(0, 3)), max_size=40))
def test_time_never_goes_back_whatever_the_log_says(log: list[tuple[int, int, int]]) -> None:
    gate = Scripted(**{str(n): {"wait": float(wait)} for n, (_, _, wait) in enumerate(log)})
    player = Player(gate)
    for number, (ts, took, _) in enumerate(log):
        play(player, str(number), ts, ts + took)
    player.finish()
    times = [at for _, _, at in gate.calls]
    assert times == sorted(times)
    assert len(times) == 2 * len(log)


async def _seven() -> int:
    return 7


async def _raises() -> int:
    raise KeyError


async def _waits() -> int:
    await asyncio.sleep(0)
    return 7


def test_a_coroutine_that_never_waits_needs_no_loop() -> None:
    assert at_once(_seven()) == 7
    with pytest.raises(KeyError):
        at_once(_raises())
    with pytest.raises(UsageError, match="a store that answers at once"):
        at_once(_waits())
