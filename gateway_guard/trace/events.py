"""Traces (`*.ggt`): the events of an hour or a month without any text, made to be played fast and often.

A file is a mark, then blocks: four bytes of length (big-endian) and one zstd frame with a checksum. The first block holds the header, each of the
others a MessagePack list of `Seen`, `Done`, `Cut` and `Adopted`, which is decoded in one call.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec
import zstandard

from gateway_guard.errors import TrafficError
from gateway_guard.facts import Adopted, Cut, Done, Event, Seen
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


_EVENTS = msgspec.msgpack.Decoder(list[Seen | Done | Cut | Adopted])
_HEADER = msgspec.msgpack.Decoder(Header)


class TraceWriter:
    """Writes a trace to an output; `key` names the key of its hashes. A writer is a `Sink`."""

    def __init__(self, output: Output, *, key: str = "") -> None:
        self._output = output
        self._encode = msgspec.msgpack.Encoder().encode
        self._compress = zstandard.ZstdCompressor(level=3, write_checksum=True).compress
        self._events: list[Event] = []
        self._output.write(MARK)
        self._block(self._encode(Header(key=key)))

    def __call__(self, event: Event) -> None:
        """Add one event."""
        self._events.append(event)
        if len(self._events) >= BLOCK:
            self._flush()

    def finish(self) -> None:
        """Hand over what is not yet written; the output is then to be committed."""
        self._flush()

    def _flush(self) -> None:
        if self._events:
            self._block(self._encode(self._events))
            self._events = []

    def _block(self, data: bytes) -> None:
        packed = self._compress(data)
        self._output.write(len(packed).to_bytes(4, "big") + packed)


class Trace:
    """Iterates over the events of a trace. `position` of `size` bytes have been read."""

    def __init__(self, path: str | Path, *, stream: BinaryIO | None = None) -> None:
        self.name = "standard input" if str(path) == "-" else str(path)
        self.size = 0
        self._stream = stream if stream is not None else _opened(path)
        self._decompressor = zstandard.ZstdDecompressor()
        self.position = 0
        if self._stream.seekable():
            self.size = self._stream.seek(0, io.SEEK_END)
            self._stream.seek(0)
        if self._take(len(MARK)) != MARK:
            raise TrafficError(f"{self.name}: is not a trace")
        self.header = self._header()

    def close(self) -> None:
        """Let go of the file; standard input stays open."""
        if self._stream is not sys.stdin.buffer:
            self._stream.close()

    def __iter__(self) -> Iterator[Event]:
        try:
            while (block := self._block()) is not None:
                yield from self._decoded(block)
        finally:
            self.close()

    def _decoded(self, block: bytes) -> list[Seen | Done | Cut | Adopted]:
        try:
            return _EVENTS.decode(block)
        except (msgspec.DecodeError, RecursionError) as error:
            raise TrafficError(f"{self.name}: a block near byte {self.position:,} holds no events: {error}") from None

    def _header(self) -> Header:
        try:
            header = _HEADER.decode(self._block() or b"")
        except msgspec.DecodeError:
            raise TrafficError(f"{self.name}: its header cannot be read") from None
        if header.v > VERSION:
            raise TrafficError(f"{self.name}: format version {header.v}, but this gateway-guard reads version {VERSION}: use a newer one")
        return header

    def _block(self) -> bytes | None:
        length = self._take(4)
        if not length:
            return None
        size = int.from_bytes(length, "big")
        packed = self._take(size) if len(length) == 4 and size <= PACKED_CAP else b""
        if not packed or len(packed) < size:
            raise TrafficError(f"{self.name}: stops short or is damaged near byte {self.position:,}")
        return self._unpacked(packed)

    def _unpacked(self, packed: bytes) -> bytes:
        try:
            if not 0 <= zstandard.frame_content_size(packed) <= PLAIN_CAP:
                raise zstandard.ZstdError("a block of this size is not written by gateway-guard")
            return self._decompressor.decompress(packed)
        except zstandard.ZstdError as error:
            raise TrafficError(f"{self.name}: damaged near byte {self.position:,}: {error}") from None

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


def is_trace(path: str | Path) -> bool:
    """Whether a file, or what waits on standard input (`-`), is a trace: told by its first bytes."""
    try:
        if str(path) == "-":
            return isinstance(sys.stdin.buffer, io.BufferedReader) and sys.stdin.buffer.peek(1)[:1] == MARK[:1]
        with open(path, "rb") as stream:
            return stream.read(len(MARK)) == MARK
    except OSError:
        return False
