"""Reads an exchange log in a second process, so that reading and deciding use a core each.

Theory of operation. Reading a log (inflating, parsing, identifying, fingerprinting) is most of a replay's work, and none of it depends on what the gate
decides. A child does it and hands over blocks of readings through a pipe; the parent plays them as if it had read them itself. Both run the very same functions
in the same order, so the result is the same to the byte. The pipe is the bound: when the parent is slower, the child waits.

What the log itself had to tell (broken lines, position, the error that ends it) travels with the blocks, in its place in the order. The child has a session
of its own: Ctrl-C is the parent's business, and the child ends with its pipe.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import msgspec

from gateway_guard.assembly import assemble
from gateway_guard.errors import GuardError, TrafficError
from gateway_guard.policy.model import Mode
from gateway_guard.replay.run import Reading, Terms, readings
from gateway_guard.trace.exchanges import ExchangeLog, Progress

BLOCK = 128
# Below this a second process takes longer to start than it saves.
WORTH = 4 * 2**20
# What is read is short-lived and has no cycles.
COLLECT_AFTER = 50_000
# The child finds the package where the parent did, whatever its paths are.
ROOT = Path(__file__).parents[2]
CODE = "import sys; sys.path.insert(0, sys.argv[1]); from gateway_guard.replay.aside import serve; serve()"


class Order(msgspec.Struct, frozen=True):
    """What the child is to read, and by whose rules."""

    traffic: str
    policy: str
    key: bytes
    terms: Terms
    accounts: str = ""
    mode: Mode | None = None


class Block(msgspec.Struct, frozen=True, array_like=True):
    """Some readings, how far the log was read with them, and the error that came after them, if one did."""

    readings: list[Reading]
    progress: Progress
    error: str = ""
    last: bool = False


_ENCODE = msgspec.msgpack.Encoder().encode
_DECODE = msgspec.msgpack.Decoder(Block).decode


def worth(traffic: str) -> bool:
    """Whether a second process would make reading this log faster."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return cores > 1 and traffic != "-" and Path(traffic).is_file() and Path(traffic).stat().st_size >= WORTH


def read_aside(log: ExchangeLog, order: Order) -> Iterator[Reading]:
    """The readings of a log, made by a child; `log` is told how far that is. The child ends when this is closed."""
    words = [sys.executable, "-c", CODE, str(ROOT)]
    child = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)  # noqa: S603 - our own program
    assert child.stdin is not None  # noqa: S101 - for the type checker
    assert child.stdout is not None  # noqa: S101
    try:
        # Not on the command line: the key would be there for all to see.
        with suppress(BrokenPipeError), child.stdin as pipe:
            pipe.write(_ENCODE(order))
        yield from _received(child.stdout, log)
    finally:
        child.stdout.close()
        child.terminate()
        child.wait()


def _received(pipe: IO[bytes], log: ExchangeLog) -> Iterator[Reading]:
    while True:
        head = pipe.read(4)
        data = pipe.read(int.from_bytes(head, "big")) if len(head) == 4 else b""
        try:
            block = _DECODE(data)
        except msgspec.DecodeError:
            raise TrafficError(f"{log.name}: the process that reads it died before its end (out of memory?)") from None
        log.follow(block.progress)
        yield from block.readings
        if block.error:
            raise TrafficError(block.error)
        if block.last:
            return


def serve() -> None:
    """The child: an order on standard input, blocks on standard output. Where nobody listens any more, it ends."""
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER)
    try:
        order = msgspec.msgpack.decode(sys.stdin.buffer.read(), type=Order)
    except msgspec.DecodeError:
        return  # the parent was interrupted before it could say what it wants
    out = sys.stdout.buffer
    try:
        for block in blocks(order):
            data = _ENCODE(block)
            out.write(len(data).to_bytes(4, "big") + data)
            out.flush()
    except BrokenPipeError:
        os._exit(0)  # an orderly exit would stumble over the closed pipe once more


def blocks(order: Order) -> Iterator[Block]:
    """All readings of a log, in blocks."""
    ready: list[Reading] = []
    progress: Callable[[], Progress] = Progress
    error = ""
    try:
        accounts = Path(order.accounts) if order.accounts else None
        parts = assemble(Path(order.policy), order.key, today=None, directory=accounts, mode=order.mode)
        log = ExchangeLog(order.traffic)
        progress = lambda: log.progress  # noqa: E731
        for reading in readings(log, parts.intake, order.terms):
            ready.append(reading)
            if len(ready) >= BLOCK:
                yield Block(ready, progress())
                ready = []
    except GuardError as found:
        error = str(found)
    yield Block(ready, progress(), error, last=True)
