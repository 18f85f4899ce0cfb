"""A worker as a process of its own that keeps the books: it orders, is felt, and writes to the audit log, a round for each line on standard input."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from redis import Redis

from gateway_guard.appeals.keeper import Keeper
from gateway_guard.appeals.ledger import Ledger
from gateway_guard.appeals.shared_ledger import SharedLedger
from gateway_guard.appeals.state import State
from gateway_guard.appeals.values import Touched
from gateway_guard.policy.acknowledged import Suspension
from gateway_guard.trace.audit import AuditLog
from tests.fakes import KEY

# Small, so that files end while others are written.
ROTATE = 6000


def ledger_in(folder: Path, url: str) -> State:
    """The state: on the server, if there is one, else in a file."""
    return SharedLedger(lambda: Redis.from_url(url), url, "t", "here") if url else Ledger(folder / "state.sqlite")


def main(folder: Path, name: str, url: str) -> None:
    """Until standard input ends."""
    # All of them come upon a file that is not there yet.
    sys.stdin.readline()
    ledger = ledger_in(folder, url)

    def written(file: str, entry: int, seal: str) -> None:
        keeper.reached(file, entry, seal)

    log = AuditLog(folder / "audit.jsonl", KEY, rotate=ROTATE, written=written)
    keeper = Keeper(ledger, time.time, lambda acknowledged, suspended: None, log)
    for number, _ in enumerate(sys.stdin):
        at = time.time()
        ledger.suspend(Suspension(0, "account", f"{name}{number}", ("a" * 20,), "a test", at, at + 60.0), at, name)
        log.write([{"at": at, "kind": "test", "by": name, "number": number}])
        keeper.touched(Touched(f"{name}{number}", f"{name:>020}", at, "deny", "shut", "c-1", ("content",), ("rung.shut",)))
        keeper._turn()
        print(number, flush=True)
    keeper.stop()
    log.close()
    keeper.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
