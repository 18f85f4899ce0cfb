"""The live recorder: exchanges and decisions go to disk, and never hold up a request.

Theory of operation. The event loop appends to a bounded queue and goes on; a thread takes what has come, twice a second, hides the secrets,
encodes, compresses and writes. When the queue is full, because the disk is slow, full or gone, lines are dropped and counted; nothing waits and nothing raises.

An exchange is known when it ends, but a log is in the order of deciding, or a replay could not decide in the order that live did. So a request
is announced (`opened`) when it is decided, and its line is held until everything that was opened before it is written. What is held is
bounded too: past the bound the oldest lines go out without waiting, and an exchange that ends after that is written late and counted in `late`.

Whole accounts are sampled, not lines: half of an account's traffic can be neither replayed nor judged.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from pathlib import Path
from typing import NamedTuple

from gateway_guard.trace import decisions, exchanges
from gateway_guard.trace.decisions import DecisionRow
from gateway_guard.trace.recording import Hide, Recording, exchange_of
from gateway_guard.trace.rotation import RotatingFile

QUEUE_BYTES = 64 * 2**20
HELD_BYTES = 64 * 2**20
BLOCK = 2**20
TICK = 0.5
TICKS = 4  # a block that is not full is written after this many
WEIGHT = 1024  # what an entry weighs in the queue beside its body and headers
SCALE = float(2**63)


class Counts(NamedTuple):
    """Lines `written`, lines `dropped` (queue or disk), disk `errors`, lines written `late` (out of order), `bytes` on disk."""

    written: int = 0
    dropped: int = 0
    errors: int = 0
    late: int = 0
    bytes: int = 0


class Recorder:
    """Give it either path or both. `hide` replaces the secrets in headers; `number` is the keyed hash that samples. To be fed from one thread."""

    def __init__(
        self,
        *,
        exchanges: str | Path | None = None,
        decisions: str | Path | None = None,
        sample: float = 1.0,
        rotate: int = 256 * 2**20,
        keep: int = 8,
        hide: Hide,
        number: Callable[[str, str], int],
        queue_bytes: int = QUEUE_BYTES,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        self._exchanges = _Sheet(RotatingFile(exchanges, rotate=rotate, keep=keep)) if exchanges else None
        self._decisions = _Sheet(RotatingFile(decisions, rotate=rotate, keep=keep)) if decisions else None
        self._order = _Order(held_bytes)
        self._hide = hide
        self._number = number
        self._sample = sample
        self._queue_bytes = queue_bytes
        self._queue: deque[int | Recording | DecisionRow] = deque()
        self._given_up: deque[int] = deque()
        # Each counter has one writer, the loop or the thread, so none needs a lock.
        self._put = self._taken = 0
        self._tickets = self._dropped = self._spoiled = 0
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False

    @property
    def counts(self) -> Counts:
        """How it goes."""
        sheets = [sheet.counts for sheet in (self._exchanges, self._decisions) if sheet is not None]
        total = Counts(*(sum(column) for column in zip(*sheets, strict=True))) if sheets else Counts()
        return total._replace(dropped=total.dropped + self._dropped + self._spoiled, late=self._order.late)

    def opened(self, account: str) -> int:
        """A request is being decided: a ticket for its recording, 0 when it is not to be recorded."""
        if self._exchanges is None or not self._sampled(account) or not self._enqueue(self._tickets + 1):
            return 0
        self._tickets += 1
        return self._tickets

    def exchange(self, recording: Recording) -> None:
        """A request is over. Without a ticket nothing is recorded."""
        if recording.ticket and not self._enqueue(recording):
            self._given_up.append(recording.ticket)

    def decision(self, row: DecisionRow) -> None:
        """A request was decided. Decisions are not sampled: they are the account of what was done to whom."""
        if self._decisions is not None:
            self._enqueue(row)

    def close(self, timeout: float = 5.0) -> bool:
        """Write what is left; False when that took longer than `timeout` seconds (then the rest may be lost)."""
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout)
        return self._thread is None or not self._thread.is_alive()

    def _sampled(self, account: str) -> bool:
        return self._sample >= 1.0 or self._number("sample", account) < self._sample * SCALE

    def _enqueue(self, entry: int | Recording | DecisionRow) -> bool:
        weight = _weight(entry)
        waiting = self._put - self._taken + weight
        if self._closing or waiting > self._queue_bytes:
            self._dropped += 1
            return False
        if self._thread is None:
            # Started with the first line and not before, for servers that fork their workers after the application is made.
            self._thread = threading.Thread(target=self._run, name="gateway-guard-recorder", daemon=True)
            self._thread.start()
        self._queue.append(entry)
        self._put += weight
        if waiting > self._queue_bytes // 2:
            self._wake.set()
        return True

    def _run(self) -> None:
        ticks, closing = 0, False
        while not closing:
            self._wake.wait(TICK)
            self._wake.clear()
            closing = self._closing
            self._drain()
            ticks += 1
            if closing or ticks >= TICKS:
                ticks = 0
                self._flush(last=closing)

    def _drain(self) -> None:
        # Counted before the queue: what was given up by now was announced before, so its ticket is among what is taken next.
        given_up = len(self._given_up)
        for _ in range(len(self._queue)):
            entry = self._queue.popleft()
            self._taken += _weight(entry)
            try:
                self._take(entry)
            except Exception:  # one odd exchange must not end the recording of all others
                self._spoiled += 1
                if isinstance(entry, Recording):
                    self._order.give_up(entry.ticket)
        for _ in range(given_up):
            self._order.give_up(self._given_up.popleft())
        self._emit(self._order.ready())

    def _take(self, entry: int | Recording | DecisionRow) -> None:
        if isinstance(entry, int):
            self._order.open(entry)
        elif isinstance(entry, Recording):
            self._order.close(entry.ticket, exchanges.line(exchange_of(entry, self._hide)))
            self._emit(self._order.ready())
        elif self._decisions is not None:
            self._decisions.add(decisions.line(entry))

    def _emit(self, lines: list[bytes]) -> None:
        if self._exchanges is not None:
            for line in lines:
                self._exchanges.add(line)

    def _flush(self, *, last: bool) -> None:
        if last:
            self._emit(self._order.rest())
        for sheet in (self._exchanges, self._decisions):
            if sheet is not None:
                sheet.flush()
                if last:
                    sheet.file.close()


def _weight(entry: int | Recording | DecisionRow) -> int:
    if not isinstance(entry, Recording):
        return WEIGHT
    return WEIGHT + len(entry.body) + sum(len(name) + len(value) for name, value in entry.headers)


class _Order:
    """Gives lines back in the order of their tickets, once nothing earlier is open."""

    def __init__(self, cap: int) -> None:
        self.late = 0
        self._cap = cap
        self._open: set[int] = set()
        self._tickets: deque[int] = deque()
        self._held: list[tuple[int, bytes]] = []
        self._size = 0
        self._written = 0

    def open(self, ticket: int) -> None:
        self._open.add(ticket)
        self._tickets.append(ticket)

    def give_up(self, ticket: int) -> None:
        self._open.discard(ticket)

    def close(self, ticket: int, line: bytes) -> None:
        self._open.discard(ticket)
        self.late += ticket < self._written
        heappush(self._held, (ticket, line))
        self._size += len(line)

    def ready(self) -> list[bytes]:
        """The lines that may go out."""
        while self._tickets and self._tickets[0] not in self._open:
            self._tickets.popleft()
        out = []
        while self._held and (self._size > self._cap or not self._tickets or self._held[0][0] < self._tickets[0]):
            out.append(self._pop())
        return out

    def rest(self) -> list[bytes]:
        """All that is held, because this is the end."""
        return [self._pop() for _ in range(len(self._held))]

    def _pop(self) -> bytes:
        ticket, line = heappop(self._held)
        self._size -= len(line)
        self._written = max(self._written, ticket)
        return line


class _Sheet:
    """Lines on their way to one row of files."""

    def __init__(self, file: RotatingFile) -> None:
        self.file = file
        self.counts = Counts()
        self._lines: list[bytes] = []
        self._size = 0

    def add(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)
        if self._size >= min(BLOCK, self.file.rotate):
            self.flush()

    def flush(self) -> None:
        lines, self._lines, self._size = self._lines, [], 0
        if not lines:
            return
        counts = self.counts
        try:
            size = self.file.append(b"".join(lines))
        except OSError:
            self.counts = counts._replace(dropped=counts.dropped + len(lines), errors=counts.errors + 1)
            return
        self.counts = counts._replace(written=counts.written + len(lines), bytes=counts.bytes + size)
