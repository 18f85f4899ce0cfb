"""Several workers of one host keep one state file and one audit log, each with files of its own in it; one of them is killed."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from redis import Redis

from gateway_guard.appeals.keeper import Keeper
from gateway_guard.trace.audit import AuditLog
from gateway_guard.trace.seal import Sealer
from gateway_guard.trace.verify import Head, verify
from tests.bookkeeper import ledger_in
from tests.fakes import KEY
from tests.servers import running

ROOT = Path(__file__).parent.parent
NAMES, ROUNDS = "abcd", 30


def started(folder: Path, name: str, url: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.bookkeeper", str(folder), name, url]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(worker: subprocess.Popen[str], rounds: int) -> None:
    """Have it do its rounds, with all that it takes in between."""
    assert worker.stdin is not None
    worker.stdin.write("\n" * rounds)
    worker.stdin.flush()


@pytest.mark.parametrize("kind", ["a file", "valkey 9.1"])
def test_four_processes_keep_one_truth_though_one_is_killed(kind: str, tmp_path: Path) -> None:
    with ExitStack() as stack:
        url = "" if kind == "a file" else stack.enter_context(running(kind, tmp_path / "server")).url
        one_truth(tmp_path, url)


def one_truth(tmp_path: Path, url: str) -> None:
    workers = {name: started(tmp_path, name, url) for name in NAMES}
    for worker in workers.values():
        said(worker, 1 + ROUNDS)
    killed = workers.pop("a")
    assert killed.stdout is not None
    done = 0
    while done < ROUNDS // 3:
        done = int(killed.stdout.readline())
    killed.kill()
    killed.communicate()
    for worker in workers.values():
        worker.communicate()
        assert worker.returncode == 0
    ledger = ledger_in(tmp_path, url)
    if url:
        # The one that was killed may have been at it: its time is over.
        with Redis.from_url(url) as client:
            client.delete("t:{gg:state}:taking")
    last = AuditLog(tmp_path / "audit.jsonl", KEY)
    Keeper(ledger, lambda: 0.0, lambda acknowledged, suspended: None, last)._turn()
    last.close()
    files = sorted(tmp_path.glob("audit.*.jsonl"))
    checked = verify(files, Sealer(KEY), heads=[Head(*head) for head in ledger.heads()], whole=True)
    assert checked.mistakes == []
    # Of files that were full, and of the process that was killed.
    assert all("has no closing entry" in note for note in checked.notes)
    assert checked.files > len(NAMES)
    entries = [msgspec.json.decode(line) for path in files for line in path.read_bytes().splitlines() if line.endswith(b"}")]
    written = Counter((entry["by"], entry["number"]) for entry in entries if entry["kind"] == "test")
    assert set(written.values()) == {1}
    assert {(name, number) for name in workers for number in range(ROUNDS)} <= set(written)
    acts = Counter(entry["act"] for entry in entries if entry["kind"] == "suspended")
    orders = {order.number for order in ledger.suspensions()}
    assert len(orders) >= (len(NAMES) - 1) * ROUNDS + done
    assert set(acts) == orders, "whatever was ordered is in the log"
    # Handed over again only what the one that was killed had taken.
    assert sum(count - 1 for count in acts.values()) <= len(NAMES)
    assert all(ledger.decision(f"{name}{ROUNDS - 1}") is not None for name in workers)
