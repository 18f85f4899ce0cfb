"""The state file: what it keeps, within which bounds, for whom."""

from __future__ import annotations

import math
import sqlite3
from pathlib import Path

import pytest

from gateway_guard.appeals import ledger as ledgers
from gateway_guard.appeals.file import STEPS
from gateway_guard.appeals.keeper import Keeper
from gateway_guard.appeals.ledger import EACH, KEEP, LEAD, Ledger
from gateway_guard.appeals.values import Act, Appeal, Touched
from gateway_guard.errors import StoreError, UsageError
from gateway_guard.evidence import Evidence
from gateway_guard.policy.acknowledged import Acknowledged, Acknowledgement
from gateway_guard.view import EMPTY, Cluster, Standing, View

AT = 1_795_000_000.0
GIVEN = Acknowledgement(0, "account", "alice", ("a" * 20,), ("content",), "known", AT + LEAD, AT + 86400)


def touched(number: int, account: str = "a" * 20, action: str = "deny", at: float = AT) -> Touched:
    return Touched(f"d{number}", account, at + number, action, "shut", "c-1", ("content", "network"), ("rung.shut",))


def appeal(number: int = 0) -> Appeal:
    return Appeal(f"a-{number}", AT + 60, "please", touched(number))


def test_each_account_keeps_its_latest_of_either_kind(tmp_path: Path) -> None:
    """Refusals in mass by quotas push out neither graver decisions nor anybody else's."""
    ledger = Ledger(tmp_path / "state.sqlite")
    ledger.remember([touched(1)], AT)
    ledger.remember([touched(2, "b" * 20, "throttle")], AT)
    for start in range(100, 400, 100):
        ledger.remember([touched(number, action="throttle") for number in range(start, start + 100)], AT)
    kept = [number for number in range(400) if ledger.decision(f"d{number}") is not None]
    assert kept == [1, 2, *range(400 - EACH, 400)]
    assert ledger.decision("d1") == touched(1)


def test_the_whole_is_bounded_and_old_decisions_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "MOST", 5)
    ledger = Ledger(tmp_path / "state.sqlite")
    ledger.remember([touched(0, "g" * 20)], AT)
    for number in range(1, 9):
        ledger.remember([touched(number, f"{number:020x}", "throttle")], AT)
    assert [number for number in range(9) if ledger.decision(f"d{number}") is not None] == [0, 5, 6, 7, 8], "the grave one stays"
    ledger.remember([touched(9, at=AT + KEEP)], AT + KEEP + 7)
    assert [number for number in range(10) if ledger.decision(f"d{number}") is not None] == [7, 8, 9]


def test_an_appeal_is_answered_once_with_what_it_grants(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "state.sqlite")
    assert ledger.file(appeal()) == (appeal(), True)
    assert ledger.file(Appeal("a-other", AT + 99, "again", touched(0))) == (appeal(), False)
    answered = ledger.answer("d0", "released", AT + 100, by="op", answer="fine", relief=GIVEN)
    assert (answered.status, answered.by, ledger.appeal("a-0"), ledger.appeals("open")) == ("released", "op", answered, [])
    with pytest.raises(UsageError, match="released by op before"):
        ledger.answer("a-0", "confirmed", AT, by="op", answer="no", relief=GIVEN)
    with pytest.raises(UsageError, match="no appeal a-9"):
        ledger.answer("a-9", "confirmed", AT, by="op", answer="no")
    assert [one.number for one in ledger.acknowledgements()] == [1]


def test_an_acknowledgement_is_withdrawn_once(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "state.sqlite")
    kept = ledger.acknowledge(GIVEN, AT, "op")
    assert (kept.number, kept.withdrawn, ledger.acknowledgements()) == (1, math.inf, [kept])
    assert ledger.withdraw(1, AT + 50, by="op", reason="mistaken").withdrawn == AT + 50 + LEAD
    with pytest.raises(UsageError, match="no acknowledgement 1 in force"):
        ledger.withdraw(1, AT, by="op", reason="again")
    assert ledger.acknowledgements()[0].holds(AT + 50)
    assert not ledger.acknowledgements()[0].holds(AT + 52)


def test_acts_are_handed_over_in_order_and_again_when_that_fails(tmp_path: Path) -> None:
    ledger, got = Ledger(tmp_path / "state.sqlite"), list[Act]()
    ledger.file(appeal())
    ledger.acknowledge(GIVEN, AT, "op")

    def fails(acts: object) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        ledger.hand_over(fails)
    assert (ledger.hand_over(got.extend), ledger.hand_over(got.extend)) == (2, 0)
    assert [act.kind for act in got] == ["appeal.filed", "acknowledged"]
    assert '"reason":"known"' in got[1].body


def test_a_view_is_kept_whole_and_replaced(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "state.sqlite")
    assert ledger.view() == EMPTY
    standing = Standing("c-1", AT, 4.0, 3.0, ("content", "network"), (2.0, 1.5), AT + 5)
    evidence = (Evidence("content", "sentence", 3.0, "They say the same."),)
    view = View(7, AT, {"a": standing}, {"c-1": Cluster("c-1", 3, 0.9, 4.0, 3.0, ("content",), evidence, AT, ("c-0",), {"shut": AT})}, "known")
    ledger.keep_view(View(6, AT))
    ledger.keep_view(view)
    ledger.close()
    assert Ledger(tmp_path / "state.sqlite").view() == view


def test_a_view_of_another_version_counts_as_none(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "state.sqlite")
    ledger.keep_view(View(1))
    with sqlite3.connect(tmp_path / "state.sqlite") as db:
        db.execute("UPDATE views SET body = x'c1'")
    db.close()
    assert ledger.view() == EMPTY


def test_an_older_file_is_upgraded_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as past:
        past.setattr("gateway_guard.appeals.file.STEPS", STEPS[:1])
        Ledger(tmp_path / "state.sqlite").file(appeal())
    ledger = Ledger(tmp_path / "state.sqlite")
    assert (ledger.appeals(), ledger.view()) == ([appeal()], EMPTY)


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "guard" / "state.sqlite"
    ledger = Ledger(path)
    ledger.acknowledge(GIVEN, AT, "op")
    assert {found.name: found.stat().st_mode & 0o777 for found in path.parent.iterdir()} == dict.fromkeys(
        ("state.sqlite", "state.sqlite-wal", "state.sqlite-shm"), 0o600
    )
    ledger.close()
    path.chmod(0o644)
    with pytest.raises(UsageError, match="chmod 600"):
        Ledger(path)


def test_files_that_are_none_of_ours_are_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    with pytest.raises(UsageError, match="the guard makes it"):
        Ledger(path, create=False)
    path.write_bytes(b"not a database, and long enough to be looked at" * 99)
    path.chmod(0o600)
    with pytest.raises(UsageError, match="not a state file"):
        Ledger(path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(UsageError, match="not a regular file"):
        Ledger(tmp_path / "link")
    with pytest.raises(UsageError, match="cannot be opened"):
        Ledger(path / "below")
    newer = tmp_path / "newer.sqlite"
    Ledger(newer).close()
    with sqlite3.connect(newer) as db:
        db.execute(f"PRAGMA user_version = {len(STEPS) + 1}")
    db.close()
    with pytest.raises(UsageError, match="newer gateway-guard"):
        Ledger(newer)


def test_a_locked_file_is_an_error_that_can_be_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_guard.appeals.file.BUSY", 0.0)
    ledger = Ledger(tmp_path / "state.sqlite")
    other = sqlite3.connect(tmp_path / "state.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StoreError) as locked:
        ledger.file(appeal())
    assert locked.value.retryable
    other.execute("ROLLBACK")
    other.close()
    assert ledger.file(appeal())[1]


def test_a_keeper_takes_up_what_other_processes_write(tmp_path: Path) -> None:
    adopted: list[Acknowledged] = []
    keeper = Keeper(Ledger(tmp_path / "state.sqlite"), lambda: AT, lambda acknowledged, suspended: adopted.append(acknowledged))
    assert [bool(one) for one in adopted] == [False]
    other = Ledger(tmp_path / "state.sqlite")
    other.acknowledge(GIVEN, AT, "op")
    keeper.start()
    keeper.stop()
    assert [bool(one) for one in adopted] == [False, True]
    keeper.close()


def test_a_decision_is_found_before_and_after_it_is_written_by_its_account_alone(tmp_path: Path) -> None:
    keeper = Keeper(Ledger(tmp_path / "state.sqlite"), lambda: AT, lambda acknowledged, suspended: None)
    keeper.touched(touched(1))
    assert (keeper.find("a" * 20, "d1"), keeper.find("b" * 20, "d1")) == (touched(1), None)
    keeper.start()
    keeper.stop()
    assert keeper.ledger.decision("d1") == touched(1)
    assert (keeper.find("a" * 20, "d1"), keeper.find("b" * 20, "d1")) == (touched(1), None)
    keeper.close()


def test_decisions_wait_for_a_file_that_fails_within_their_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr("gateway_guard.appeals.keeper.WAITING", 2)
    monkeypatch.setattr("gateway_guard.appeals.keeper.TICK", 0.001)
    keeper = Keeper(Ledger(tmp_path / "state.sqlite"), lambda: AT, lambda acknowledged, suspended: None)
    keeper.ledger.close()
    for number in range(3):
        keeper.touched(touched(number, f"{number}" * 20))
    keeper.start()
    keeper.stop()
    assert keeper.find("0" * 20, "d0") == touched(0, "0" * 20)
    with pytest.raises(StoreError):
        keeper.find("2" * 20, "d2")
    assert caplog.text.count("cannot be used") == 1
