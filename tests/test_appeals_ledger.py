"""The state file. What it has in common with other places that keep the state is in `contracts`."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from gateway_guard.appeals.file import STEPS
from gateway_guard.appeals.keeper import Keeper
from gateway_guard.appeals.ledger import Ledger
from gateway_guard.appeals.state import LEAD
from gateway_guard.appeals.values import Appeal, Touched
from gateway_guard.errors import StoreError, UsageError
from gateway_guard.policy.acknowledged import Acknowledgement
from gateway_guard.view import EMPTY, View

AT = 1_795_000_000.0
GIVEN = Acknowledgement(0, "account", "alice", ("a" * 20,), ("content",), "known", AT + LEAD, AT + 86400)


def touched(number: int, account: str = "a" * 20, action: str = "deny", at: float = AT) -> Touched:
    return Touched(f"d{number}", account, at + number, action, "shut", "c-1", ("content", "network"), ("rung.shut",))


def appeal(number: int = 0) -> Appeal:
    return Appeal(f"a-{number}", AT + 60, "please", touched(number))


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
