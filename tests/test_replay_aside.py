"""A log that a second process reads comes to the same, byte for byte, whatever is in it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway_guard.errors import TrafficError
from gateway_guard.replay import aside
from gateway_guard.replay.run import Reading
from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import set_up
from gateway_guard.trace.exchanges import ExchangeLog, line
from tests import logs
from tests.fakes import KEY, policy_file

POLICY = "quotas: {hour: {limit: 40/hour}}\nidentity: {unknown_keys: refuse, directory: accounts.csv}\nanalysis: {refresh: 1m}\n"


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "accounts.csv").write_text("key,account\n" + "".join(f"sk-{n},a{n}\n" for n in range(4)))
    return tmp_path / "log.jsonl", policy_file(tmp_path, POLICY)


def many(count: int = 700) -> list[bytes]:
    """Requests of known and unknown keys, one that goes back in time, one that is not guarded."""
    odd: dict[int, dict[str, Any]] = {300: {"after": 1.0}, 301: {"key": "sk-nobody"}}
    made = [logs.exchange(n, **{"key": f"sk-{n % 4}", "after": n / 2, **odd.get(n, {})}) for n in range(count)]
    made[302] = msgspec.structs.replace(made[302], path="/health")
    return [line(one) for one in made]


def played(files: tuple[Path, Path], folder: str) -> tuple[bytes, bytes, object]:
    log, policy = files
    stage = set_up(str(log), policy, KEY, fingerprints=True)
    session = Session(stage)
    out = Outputs(str(log.with_name(f"{folder}.d.jsonl")), str(log.with_name(f"{folder}.ggt")))
    session.run(out, lambda: None)
    return Path(out.decisions).read_bytes(), Path(out.trace).read_bytes(), msgspec.structs.replace(session.report(0.0), run=None)


def test_a_second_process_changes_nothing(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    lines = many()
    files[0].write_bytes(b"".join([*lines[:400], b"broken\n", *lines[400:]]))
    alone = played(files, "alone")
    asked: list[aside.Order] = []
    read = aside.read_aside
    monkeypatch.setattr("gateway_guard.replay.stage.worth", lambda traffic: True)

    def reads(log: ExchangeLog, order: aside.Order) -> Iterator[Reading]:
        asked.append(order)
        return read(log, order)

    monkeypatch.setattr("gateway_guard.replay.stage.read_aside", reads)
    assert played(files, "beside") == alone
    assert len(asked) == 1
    traffic = alone[2].traffic  # type: ignore[attr-defined]
    assert (traffic.requests, traffic.broken, traffic.backwards) == (700, 1, 1)
    assert set(traffic.undecided) == {"unguarded", "invalid_credentials"}
    assert traffic.problems[0].startswith(f"{files[0]}:401: ")


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda lines: [*lines[:500], *[b"broken\n"] * 20], "20 of 520 lines are broken"),
        (lambda lines: [*lines[:200], b'{"v": 2}\n'], r"log.jsonl:201: format version 2"),
    ],
)
def test_errors_come_in_their_place_with_their_line(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, spoil: object, says: str) -> None:
    files[0].write_bytes(b"".join(spoil(many())))  # type: ignore[operator]
    monkeypatch.setattr("gateway_guard.replay.stage.worth", lambda traffic: True)
    stage = set_up(str(files[0]), files[1], KEY)
    session = Session(stage)
    with pytest.raises(TrafficError, match=says):
        session.run(Outputs(), lambda: None)
    assert session.tally.requests + session.tally.undecided.total() in (200, 500)
    assert not session.report(0.0).complete


def test_a_reader_that_dies_is_told_and_one_that_nobody_listens_to_ends(files: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    files[0].write_bytes(b"".join(many() * 8))
    children: list[subprocess.Popen[bytes]] = []
    start = subprocess.Popen

    def started(*words: object, **more: object) -> subprocess.Popen[bytes]:
        children.append(start(*words, **more))  # type: ignore[call-overload]
        return children[-1]

    monkeypatch.setattr("gateway_guard.replay.stage.worth", lambda traffic: True)
    monkeypatch.setattr(subprocess, "Popen", started)
    stage = set_up(str(files[0]), files[1], KEY)
    next(stage.steps)
    children[0].kill()
    with pytest.raises(TrafficError, match="died before its end"):
        Session(stage).run(Outputs(), lambda: None)
    left = set_up(str(files[0]), files[1], KEY)
    next(left.steps)
    left.steps.close()  # type: ignore[attr-defined]
    left.source.close()
    assert all(child.poll() is not None for child in children)


@pytest.mark.parametrize(
    ("size", "traffic", "expected"), [(10, "log.jsonl", False), (aside.WORTH, "log.jsonl", True), (aside.WORTH, "-", False), (0, "none.jsonl", False)]
)
def test_it_is_worth_a_process_for_large_files_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, traffic: str, expected: bool) -> None:
    monkeypatch.chdir(tmp_path)
    with open("log.jsonl", "wb") as file:
        file.truncate(size)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1}, raising=False)
    assert aside.worth(traffic) == expected
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0}, raising=False)
    assert not aside.worth(traffic)


def test_an_interrupted_replay_leaves_no_reader_behind(files: tuple[Path, Path]) -> None:
    log, policy = files
    log.write_bytes(b"".join(many() * 60))
    code = "import sys; from gateway_guard.replay import stage; stage.worth = lambda traffic: True; from gateway_guard.__main__ import main; sys.exit(main())"
    words = [sys.executable, "-c", code, "replay", str(log), "--policy", str(policy), "--decisions", str(log.with_name("d.jsonl"))]
    child = subprocess.Popen(
        words, env={**os.environ, "PYTHONPATH": ":".join(sys.path), "GATEWAY_GUARD_KEY": KEY.decode()}, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    deadline = time.monotonic() + 60
    while not _children(child.pid) and time.monotonic() < deadline and child.poll() is None:
        os.sched_yield()
    [reader] = _children(child.pid)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert b"Traceback" not in err
    assert child.returncode == 130, out
    while Path(f"/proc/{reader}").exists() and time.monotonic() < deadline:
        os.sched_yield()
    assert not Path(f"/proc/{reader}").exists()


def _children(pid: int) -> list[int]:
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []
