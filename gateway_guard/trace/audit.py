"""The audit log: what was done to whom, by whom and why. Append-only, sealed entry by entry, written off the requests' way.

Theory of operation. `note` and `deed` append to a bounded queue and go on; a thread takes what has come, twice a second, seals it and writes it as one
block, and has the disk confirm it (fsync) before it tells `written` how far the log goes. So a crash loses at most the last half second, and what
was written stays whole: a start begins a new file, whose first entry names the last whole entry of the file before and the bytes of a torn line after it.

What happens at every request (denials, degraded answers) is counted and written once a minute, an entry for each account and rung.
When the disk refuses, entries wait and are tried again; past the queue's bound they are lost, and the log says how many.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway_guard.trace.rotation import RotatingFile
from gateway_guard.trace.seal import EXTRA, Sealer

log = logging.getLogger("gateway_guard")

Entry = dict[str, Any]
# Told after the disk has confirmed: the file's name, the number of its last entry, and that entry's seal.
Written = Callable[[str, int, str], None]

TICK = 0.5
DEEDS = 120  # ticks between two reports of what was counted
QUEUE = 65_536
COUNTED = 10_000
ROTATE = 64 * 2**20
TAIL = 256 * 2**10
OTHERS = "(others)"


class Tail(NamedTuple):
    """How a file ends: its last whole entry, and the bytes after it that are none."""

    file: str
    n: int
    seal: str
    torn: int


class AuditLog:
    """One process' log. `note` and `deed` may be called from any thread; nothing is written before `start`, or `close`."""

    def __init__(self, path: str | Path, key: bytes, *, rotate: int = ROTATE, written: Written = lambda file, n, seal: None) -> None:
        self._file = RotatingFile(path, rotate=rotate, keep=0)
        self._sealer = Sealer(key)
        self._written = written
        self._queue: deque[Entry] = deque()
        self._deeds: dict[tuple[str, ...], Entry] = {}
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._lost = 0
        self._n, self._prev = 0, ""
        self._at = 0.0
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False

    def note(self, at: float, kind: str, **body: Any) -> None:
        """Something happened at `at` (seconds, UTC epoch)."""
        with self._lock:
            if len(self._queue) >= QUEUE:
                self._lost += 1
                return
            self._queue.append({"at": at, "kind": kind, **body})

    def deed(self, at: float, kind: str, account: str, *, cluster: str = "", rung: str = "", decision: str = "") -> None:
        """Something was done to a request: counted, and reported with others of its kind."""
        with self._lock:
            key = (kind, account, cluster, rung)
            found = self._deeds.get(key)
            if found is None and len(self._deeds) >= COUNTED:
                key = (kind, OTHERS, "", "")
                account, cluster, rung, found = OTHERS, "", "", self._deeds.get(key)
            if found is None:
                found = self._deeds[key] = {"at": at, "kind": kind, "account": account, "cluster": cluster, "rung": rung, "count": 0, "first": at}
                found["decision"] = decision
            found["at"] = at
            found["count"] += 1

    def write(self, entries: Sequence[Entry]) -> None:
        """Write entries (`at`, `kind` and what they say) at once, after what came before. Raises OSError; then nothing of them is written."""
        self._flush()
        with self._writing:
            self._append(list(entries))

    def start(self) -> None:
        """Begin to write, if it has not begun. A server that forks its workers does so before the first request."""
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name="gateway-guard-audit", daemon=True)
            self._thread.start()

    def close(self, timeout: float = 5.0) -> bool:
        """Write what is left and the closing entry; False when that took longer than `timeout` seconds."""
        if self._closing:
            return True
        self._closing = True
        self._wake.set()
        if self._thread is None:
            self._last()
            return True
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        ticks = 0
        while not self._closing:
            self._wake.wait(TICK)
            ticks += 1
            if ticks >= DEEDS:
                ticks = 0
                self._report()
            self._flush()
        self._last()

    def _last(self) -> None:
        self._report()
        if self._n or self._queue:
            self._flush()
            self.note(self._at, "closed")
            self._flush()
        self._file.close()

    def _report(self) -> None:
        with self._lock:
            deeds, self._deeds = self._deeds, {}
            self._queue.extend(deeds.values())

    def _flush(self) -> None:
        with self._lock:
            entries = list(self._queue)
            self._queue.clear()
            lost, self._lost = self._lost, 0
        if lost:
            entries.append({"at": self._at, "kind": "lost", "count": lost})
        if not entries:
            return
        try:
            with self._writing:
                self._append(entries)
        except OSError as error:
            log.error("the audit log cannot be written, entries wait: %s", error)
            with self._lock:
                self._queue.extendleft(reversed(entries))

    def _append(self, entries: list[Entry]) -> None:
        self._at = max(self._at, *(entry["at"] for entry in entries))
        # An upper bound, so that a file is never begun in the middle of a block.
        lines, n, prev = self._lined(entries)
        if self._file.due(sum(len(line) + EXTRA for line in lines)):
            self._open()
            lines, n, prev = self._lined(entries)
        self._put(lines, n, prev)

    def _lined(self, entries: list[Entry]) -> tuple[list[bytes], int, str]:
        n, prev, lines = self._n, self._prev, []
        for entry in entries:
            n += 1
            line, prev = self._sealer.line({"n": n, **entry}, prev)
            lines.append(line)
        return lines, n, prev

    def _open(self) -> None:
        """Begin a file with an entry that says which one it continues, and where."""
        before = self._before()
        self._file.begin()
        after = {"file": before.file, "entry": before.n, "torn": before.torn} if before is not None else None
        prev = before.seal if before is not None and before.n else self._sealer.anchor
        line, seal = self._sealer.line({"n": 1, "at": self._at, "kind": "opened", "after": after}, prev)
        self._put([line], 1, seal)
        if self._file.path is not None:
            _sync_folder(self._file.path.parent)

    def _before(self) -> Tail | None:
        """What this process wrote last; at its start, what the newest file ends with."""
        if self._n and self._file.path is not None:
            return Tail(self._file.path.name, self._n, self._prev, 0)
        known = self._file.known()
        return tail(known[-1], self._sealer) if known else None

    def _put(self, lines: list[bytes], n: int, prev: str) -> None:
        self._file.append(b"".join(lines))
        self._n, self._prev = n, prev
        try:
            self._file.sync()
        except OSError as error:
            # It is written, and sealed over: written again it would be there twice.
            log.error("the disk does not confirm the audit log: %s", error)
            return
        if self._file.path is not None:
            self._written(self._file.path.name, n, prev)


def tail(path: Path, sealer: Sealer) -> Tail:
    """How a file ends. A last entry that does not hold counts as none: the log then goes on from the anchor, and verifying says so."""
    with path.open("rb") as opened:
        opened.seek(max(0, path.stat().st_size - TAIL))
        whole, _, rest = opened.read().rpartition(b"\n")
    found = sealer.read(whole.rpartition(b"\n")[2])
    if isinstance(found, str):
        return Tail(path.name, 0, "", len(rest))
    return Tail(path.name, int(found.entry["n"]), found.seal, len(rest))


def _sync_folder(folder: Path) -> None:
    """A new file is there after a crash only when its folder is on the disk too."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
