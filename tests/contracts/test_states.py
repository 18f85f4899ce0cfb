"""Every place that keeps the state: a file, and the oldest server and another kind of it that hosts share. What it keeps, within which bounds, for whom."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis import Redis

from gateway_guard.appeals import ledger as ledgers
from gateway_guard.appeals import shared_ledger as shared_ledgers
from gateway_guard.appeals.keeper import Keeper
from gateway_guard.appeals.ledger import Ledger
from gateway_guard.appeals.shared_ledger import SharedLedger
from gateway_guard.appeals.state import EACH, KEEP, LEAD, State
from gateway_guard.appeals.values import Act, Appeal, Status, Touched
from gateway_guard.errors import UsageError
from gateway_guard.evidence import Evidence
from gateway_guard.policy.acknowledged import Acknowledged, Acknowledgement, Suspension
from gateway_guard.view import EMPTY, Cluster, Standing, View
from tests.servers import running

AT = 1_795_000_000.0
GIVEN = Acknowledgement(0, "account", "alice", ("a" * 20,), ("content",), "known", AT + LEAD, AT + 86400)
ORDER = Suspension(0, "account", "mallory", ("m" * 20,), "resold", AT + LEAD, AT + 86400)
# One more process that opens the same state.
Opening = Callable[[], State]


@pytest.fixture(params=["a file", "redis 6.2", "valkey 9.1"])
def opening(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opening]:
    if request.param == "a file":
        yield lambda: Ledger(tmp_path / "state.sqlite")
        return
    with running(request.param, tmp_path) as server:
        yield lambda: SharedLedger(lambda: Redis.from_url(server.url), server.url, "gateway_guard", "here")


def touched(number: int, account: str = "a" * 20, action: str = "deny", at: float = AT) -> Touched:
    return Touched(f"d{number}", account, at + number, action, "shut", "c-1", ("content", "network"), ("rung.shut",))


def appeal(number: int = 0) -> Appeal:
    return Appeal(f"a-{number}", AT + 60, "please", touched(number))


def test_each_account_keeps_its_latest_of_either_kind(opening: Opening) -> None:
    """Refusals in mass by quotas push out neither graver decisions nor anybody else's."""
    ledger = opening()
    ledger.remember([touched(1)], AT)
    ledger.remember([touched(2, "b" * 20, "throttle")], AT)
    for start in range(100, 400, 100):
        ledger.remember([touched(number, action="throttle") for number in range(start, start + 100)], AT)
    kept = [number for number in range(400) if ledger.decision(f"d{number}") is not None]
    assert kept == [1, 2, *range(400 - EACH, 400)]
    assert ledger.decision("d1") == touched(1)


def test_the_whole_is_bounded_and_old_decisions_go(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (ledgers, shared_ledgers):
        monkeypatch.setattr(module, "MOST", 5)
    ledger = opening()
    ledger.remember([touched(0, "g" * 20)], AT)
    for number in range(1, 9):
        ledger.remember([touched(number, f"{number:020x}", "throttle")], AT)
    assert [number for number in range(9) if ledger.decision(f"d{number}") is not None] == [0, 5, 6, 7, 8], "the grave one stays"
    ledger.remember([touched(9, at=AT + KEEP)], AT + KEEP + 7)
    assert [number for number in range(10) if ledger.decision(f"d{number}") is not None] == [7, 8, 9]


def test_an_appeal_is_answered_once_with_what_it_grants(opening: Opening) -> None:
    ledger = opening()
    assert ledger.file(appeal()) == (appeal(), True)
    assert ledger.file(Appeal("a-other", AT + 99, "again", touched(0))) == (appeal(), False)
    answered = ledger.answer("d0", "released", AT + 100, by="op", answer="fine", relief=GIVEN)
    assert (answered.status, answered.by, ledger.appeal("a-0"), ledger.appeals("open")) == ("released", "op", answered, [])
    with pytest.raises(UsageError, match="released by op before"):
        ledger.answer("a-0", "confirmed", AT, by="op", answer="no", relief=GIVEN)
    with pytest.raises(UsageError, match="no appeal a-9"):
        ledger.answer("a-9", "confirmed", AT, by="op", answer="no")
    assert [one.number for one in ledger.acknowledgements()] == [1]


def test_an_acknowledgement_is_withdrawn_once(opening: Opening) -> None:
    ledger = opening()
    kept = ledger.acknowledge(GIVEN, AT, "op")
    assert (kept.number, kept.withdrawn, ledger.acknowledgements()) == (1, math.inf, [kept])
    assert ledger.withdraw(1, AT + 50, by="op", reason="mistaken").withdrawn == AT + 50 + LEAD
    with pytest.raises(UsageError, match="no acknowledgement 1 in force"):
        ledger.withdraw(1, AT, by="op", reason="again")
    assert ledger.acknowledgements()[0].holds(AT + 50)
    assert not ledger.acknowledgements()[0].holds(AT + 52)


def test_acts_are_handed_over_in_order_and_again_when_that_fails(opening: Opening) -> None:
    ledger, got = opening(), list[Act]()
    ledger.file(appeal())
    ledger.acknowledge(GIVEN, AT, "op")

    def fails(acts: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        ledger.hand_over(fails)
    assert (ledger.hand_over(got.extend), ledger.hand_over(got.extend)) == (2, 0)
    assert [act.kind for act in got] == ["appeal.filed", "acknowledged"]
    assert '"reason":"known"' in got[1].body


def test_a_view_is_kept_whole_and_replaced(opening: Opening) -> None:
    ledger = opening()
    assert ledger.view() == EMPTY
    standing = Standing("c-1", AT, 4.0, 3.0, ("content", "network"), (2.0, 1.5), AT + 5)
    evidence = (Evidence("content", "sentence", 3.0, "They say the same."),)
    view = View(7, AT, {"a": standing}, {"c-1": Cluster("c-1", 3, 0.9, 4.0, 3.0, ("content",), evidence, AT, ("c-0",), {"shut": AT})}, "known")
    ledger.keep_view(View(6, AT))
    ledger.keep_view(view)
    ledger.close()
    assert opening().view() == view


def test_a_keeper_takes_up_what_other_processes_write(opening: Opening) -> None:
    adopted: list[Acknowledged] = []
    keeper = Keeper(opening(), lambda: AT, lambda acknowledged, suspended: adopted.append(acknowledged))
    assert [bool(one) for one in adopted] == [False]
    other = opening()
    other.acknowledge(GIVEN, AT, "op")
    keeper.start()
    keeper.stop()
    assert [bool(one) for one in adopted] == [False, True]
    keeper.close()


def test_a_decision_is_found_before_and_after_it_is_written_by_its_account_alone(opening: Opening) -> None:
    keeper = Keeper(opening(), lambda: AT, lambda acknowledged, suspended: None)
    keeper.touched(touched(1))
    assert (keeper.find("a" * 20, "d1"), keeper.find("b" * 20, "d1")) == (touched(1), None)
    keeper.start()
    keeper.stop()
    assert keeper.ledger.decision("d1") == touched(1)
    assert (keeper.find("a" * 20, "d1"), keeper.find("b" * 20, "d1")) == (touched(1), None)
    keeper.close()


def test_a_suspension_is_lifted_once(opening: Opening) -> None:
    state = opening()
    kept = state.suspend(ORDER, AT, "op")
    assert (kept.number, state.suspend(ORDER, AT, "op").number, state.suspensions()[0]) == (1, 2, kept)
    assert state.lift(1, AT + 50, by="op", reason="mistaken").withdrawn == AT + 50 + LEAD
    for number in (1, 7):
        with pytest.raises(UsageError, match=f"no suspension {number} in force"):
            state.lift(number, AT, by="op", reason="again")
    assert [order.withdrawn for order in state.suspensions()] == [AT + 50 + LEAD, math.inf]


def test_more_than_nine_are_in_order(opening: Opening) -> None:
    """Of numbers as of words, 10 comes before 2."""
    state, got = opening(), list[Act]()
    for _ in range(12):
        state.acknowledge(GIVEN, AT, "op")
    assert [one.number for one in state.acknowledgements()] == list(range(1, 13))
    assert state.hand_over(got.extend) == 12
    assert [act.number for act in got] == list(range(1, 13))


def test_appeals_are_listed_by_how_they_stand_the_oldest_first(opening: Opening) -> None:
    state = opening()
    for number in (3, 1, 2):
        state.file(Appeal(f"a-{number}", AT + number, "please", touched(number)))
    state.answer("a-2", "confirmed", AT + 9, by="op", answer="no")
    listed: list[tuple[Status | None, list[str]]] = [
        (None, ["a-1", "a-2", "a-3"]), ("open", ["a-1", "a-3"]), ("confirmed", ["a-2"]), ("released", []),
    ]  # fmt: skip
    assert [(status, [one.id for one in state.appeals(status)]) for status, _ in listed] == listed
    assert [one.id for one in state.appeals(limit=2)] == ["a-1", "a-2"]
    assert (state.appeal("d2"), state.appeal("a-9")) == (state.appeal("a-2"), None)


def test_a_change_by_another_is_seen_once(opening: Opening) -> None:
    state, other = opening(), opening()
    assert (state.changed(), state.changed()) == (True, False)
    for write in (
        lambda: other.acknowledge(GIVEN, AT, "op"),
        lambda: other.withdraw(1, AT, by="op", reason="over"),
        lambda: other.suspend(ORDER, AT, "op"),
        lambda: other.lift(1, AT, by="op", reason="over"),
    ):
        write()
        assert (state.changed(), state.changed()) == (True, False)
    other.file(appeal())
    state.changed()
    other.answer("d0", "released", AT, by="op", answer="fine", relief=GIVEN)
    assert state.changed()


def test_how_far_the_audit_log_goes_is_noted_for_each_file(opening: Opening) -> None:
    state = opening()
    for head in (("b.jsonl", 1, "first"), ("a.jsonl", 7, "x"), ("b.jsonl", 2, "second")):
        state.reached(*head)
    assert opening().heads() == [("a.jsonl", 7, "x"), ("b.jsonl", 2, "second")]


def test_of_many_who_file_and_answer_at_once_one_does(opening: Opening) -> None:
    """Each with a connection of its own, all at the same moment."""
    states = [opening() for _ in range(8)]
    together = threading.Barrier(len(states))
    filed, answered, late = list[tuple[Appeal, bool]](), list[str](), list[str]()

    def work(number: int) -> None:
        together.wait()
        filed.append(states[number].file(Appeal(f"a-{number}", AT + number, "please", touched(0))))
        together.wait()
        try:
            status: Status = "released" if number % 2 else "confirmed"
            answered.append(states[number].answer("d0", status, AT, by=f"op-{number}", answer="so", relief=GIVEN if number % 2 else None).by)
        except UsageError as error:
            late.append(str(error))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(states))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new for _, new in filed) == 1
    assert len({one.id for one, _ in filed}) == 1
    [winner] = answered
    assert all(f"by {winner} before" in says for says in late)
    found, got = states[0].appeal("d0"), list[Act]()
    assert found is not None
    assert found.by == winner
    assert len(states[0].acknowledgements()) == (found.status == "released")
    states[0].hand_over(got.extend)
    assert sorted(act.kind for act in got) == sorted({"appeal.filed", f"appeal.{found.status}"} | ({"acknowledged"} if found.status == "released" else set()))


def test_acts_that_are_being_handed_over_are_not_given_twice(opening: Opening) -> None:
    """While one process writes them to its log, another one asks."""
    state, other, got = opening(), opening(), list[Act]()
    state.acknowledge(GIVEN, AT, "op")
    asking = threading.Thread(target=lambda: other.hand_over(got.extend))

    def take(acts: object) -> None:
        asking.start()

    assert state.hand_over(take) == 1
    asking.join()
    assert got == []
