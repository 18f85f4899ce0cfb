"""Traces (`*.ggt`): the events of an hour or a month without any text, made to be played fast and often.

A file is a mark, then blocks: four bytes of length (big-endian) and one zstd frame with a checksum. The first block holds the header. Each of the others is a
MessagePack array of the identities that occur in it and of its events, which refer to them by number: a block stands by itself, is decoded in one
call, and an identity that a thousand events share is one object.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Annotated, BinaryIO

import msgspec
import zstandard

from gateway_guard.errors import TrafficError
from gateway_guard.facts import BLANK, Adopted, Cut, Done, Ending, Event, Fingerprint, Identity, RequestFacts, Seen, Usage
from gateway_guard.trace.output import Output

MARK = b"GGTRACE\n"
VERSION = 1
BLOCK = 4096
# A block from outside may not cost more memory than this, packed or unpacked.
PACKED_CAP = 64 * 2**20
PLAIN_CAP = 256 * 2**20


class Header(msgspec.Struct, frozen=True):
    """`v` format version · `key` tells apart the keys that identifiers were hashed with, without telling the key."""

    v: int = VERSION
    key: str = ""


class _SeenRow(msgspec.Struct, array_like=True, tag=0, gc=False):
    id: str
    at: float
    who: Annotated[int, msgspec.Meta(ge=0)]
    dialect: str
    model: str
    fingerprint: msgspec.Raw  # decoded only if asked for: it is most of the work
    network: int
    input_tokens: int
    ask_tokens: int
    asks: int
    turns: int
    passes: tuple[str, ...]
    action: str
    cluster: str
    state: int = 0


class _DoneRow(msgspec.Struct, array_like=True, tag=1, gc=False):
    id: str
    at: float
    account: str
    input: int
    output: int
    reasoning: int
    estimated: bool
    status: int
    ending: Ending


class _CutRow(msgspec.Struct, array_like=True, tag=2, gc=False):
    at: float
    view: int


class _AdoptedRow(msgspec.Struct, array_like=True, tag=3, gc=False):
    at: float
    view: int


_Row = _SeenRow | _DoneRow | _CutRow | _AdoptedRow


class _Block(msgspec.Struct, array_like=True):
    people: list[Identity]
    rows: list[_Row]


_BLOCK = msgspec.msgpack.Decoder(_Block)
_HEADER = msgspec.msgpack.Decoder(Header)
_FINGERPRINT = msgspec.msgpack.Decoder(Fingerprint)
_ENCODER = msgspec.msgpack.Encoder()


class TraceWriter:
    """Writes a trace to an output; `key` names the key of its hashes. A writer is a `Sink`."""

    def __init__(self, output: Output, *, key: str = "") -> None:
        self._output = output
        self._compress = zstandard.ZstdCompressor(level=3, write_checksum=True).compress
        self._people: dict[str, int] = {}
        self._block = _Block([], [])
        self._output.write(MARK)
        self._put(Header(key=key))

    def __call__(self, event: Event) -> None:
        """Add one event."""
        self._block.rows.append(self._row(event))
        if len(self._block.rows) >= BLOCK:
            self.finish()

    def finish(self) -> None:
        """Hand over what is not yet written; the output is then to be committed."""
        if self._block.rows:
            self._put(self._block)
            self._people = {}
            self._block = _Block([], [])

    def _put(self, block: Header | _Block) -> None:
        packed = self._compress(_ENCODER.encode(block))
        self._output.write(len(packed).to_bytes(4, "big") + packed)

    def _row(self, event: Event) -> _Row:
        if isinstance(event, Seen):
            return self._seen(event)
        if isinstance(event, Done):
            usage = event.usage
            return _DoneRow(event.id, event.at, event.account, usage.input, usage.output, usage.reasoning, usage.estimated, event.status, event.ending)
        return _CutRow(event.at, event.view) if isinstance(event, Cut) else _AdoptedRow(event.at, event.view)

    def _seen(self, event: Seen) -> _SeenRow:
        f = event.facts
        fingerprint = msgspec.Raw(_ENCODER.encode(f.fingerprint))
        return _SeenRow(
            f.id, f.at, self._who(f.identity), f.dialect, f.model, fingerprint, f.network,
            f.input_tokens, f.ask_tokens, f.asks, f.turns, f.passes, event.action, event.cluster, f.state,
        )  # fmt: skip

    def _who(self, identity: Identity) -> int:
        """The number of an identity in this block. One account may change under way (a plan, say): then it is another entry."""
        number = self._people.get(identity.account)
        if number is None or self._block.people[number] != identity:
            number = self._people[identity.account] = len(self._block.people)
            self._block.people.append(identity)
        return number


class Trace:
    """Iterates over the events of a trace. `position` of `size` bytes have been read. Without `fingerprints` they are left blank, which doubles the speed."""

    def __init__(self, path: str | Path, *, stream: BinaryIO | None = None, fingerprints: bool = True) -> None:
        self.name = "standard input" if str(path) == "-" else str(path)
        self.position = 0
        self.fingerprints = fingerprints
        self._stream = stream if stream is not None else _opened(path)
        self._decompressor = zstandard.ZstdDecompressor()
        self.size = _size(self._stream)
        if self._take(len(MARK)) != MARK:
            raise TrafficError(f"{self.name}: is not a trace")
        self.header = self._header()

    def close(self) -> None:
        """Let go of the file; standard input stays open."""
        if self._stream is not sys.stdin.buffer:
            self._stream.close()

    def __iter__(self) -> Iterator[Event]:
        return chain.from_iterable(self._blocks())

    def _blocks(self) -> Iterator[list[Event]]:
        """The events, block by block: a generator that hands on each of them would cost as much as making it."""
        try:
            while (data := self._unpacked()) is not None:
                try:
                    events = self._events(_BLOCK.decode(data))
                except (msgspec.DecodeError, IndexError, RecursionError) as error:
                    raise TrafficError(f"{self.name}: the block before byte {self.position:,} holds no events: {error}") from None
                yield events
        finally:
            self.close()

    def _events(self, block: _Block) -> list[Event]:
        people, decode = block.people, _FINGERPRINT.decode if self.fingerprints else None
        events: list[Event] = []
        for r in block.rows:
            if isinstance(r, _SeenRow):
                fingerprint = BLANK if decode is None else decode(r.fingerprint)
                facts = RequestFacts(
                    r.id, r.at, people[r.who], r.dialect, r.model, fingerprint, r.network, r.input_tokens, r.ask_tokens, r.asks, r.turns, r.passes, r.state
                )  # fmt: skip
                events.append(Seen(facts, r.action, r.cluster))
            elif isinstance(r, _DoneRow):
                events.append(Done(r.id, r.at, r.account, Usage(r.input, r.output, r.reasoning, r.estimated), r.status, r.ending))
            else:
                events.append(Cut(r.at, r.view) if isinstance(r, _CutRow) else Adopted(r.at, r.view))
        return events

    def _header(self) -> Header:
        try:
            header = _HEADER.decode(self._unpacked() or b"")
        except msgspec.DecodeError:
            raise TrafficError(f"{self.name}: its header cannot be read") from None
        if header.v > VERSION:
            raise TrafficError(f"{self.name}: format version {header.v}, but this gateway-guard reads version {VERSION}: use a newer one")
        return header

    def _unpacked(self) -> bytes | None:
        packed = self._packed()
        if packed is None:
            return None
        try:
            if not 0 <= zstandard.frame_content_size(packed) <= PLAIN_CAP:
                raise zstandard.ZstdError("no block of this size was ever written")
            return self._decompressor.decompress(packed)
        except zstandard.ZstdError as error:
            raise TrafficError(f"{self.name}: damaged before byte {self.position:,}: {error}") from None

    def _packed(self) -> bytes | None:
        length = self._take(4)
        if not length:
            return None
        size = int.from_bytes(length, "big")
        packed = self._take(size) if len(length) == 4 and size <= PACKED_CAP else b""
        if not packed or len(packed) < size:
            raise TrafficError(f"{self.name}: stops short or is damaged near byte {self.position:,}")
        return packed

    def _take(self, count: int) -> bytes:
        try:
            data = self._stream.read(count)
        except OSError as error:
            raise TrafficError(f"{self.name}: cannot be read to the end: {error.strerror}") from None
        self.position += len(data)
        return data


def _opened(path: str | Path) -> BinaryIO:
    if str(path) == "-":
        return sys.stdin.buffer
    try:
        return open(path, "rb")
    except OSError as error:
        raise TrafficError(f"{path}: cannot be opened: {error.strerror}") from None


def _size(stream: BinaryIO) -> int:
    """Bytes of a file; 0 for a pipe."""
    if not stream.seekable():
        return 0
    size = stream.seek(0, io.SEEK_END)
    stream.seek(0)
    return size


def is_trace(path: str | Path) -> bool:
    """Whether a file, or what waits on standard input (`-`), is a trace: told by its first bytes. A named pipe is left alone, what is read there is gone."""
    if str(path) == "-":
        return isinstance(sys.stdin.buffer, io.BufferedReader) and sys.stdin.buffer.peek(1)[:1] == MARK[:1]
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        with open(path, "rb") as stream:
            return stream.read(len(MARK)) == MARK
    except OSError:
        return False
