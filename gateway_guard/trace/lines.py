"""Lines of a log that may be plain, zstd or gzip, a file or a pipe: streamed, bounded, told apart by content and not by name.

A log comes from outside, so nothing in it may cost unbounded memory: compressed bytes are fed in small pieces (a piece of zstd can grow
by a factor of 32,000), and a line past the cap is skipped, not held. A pipe is read as its bytes come, so that a generator which waits
for the decision on its last line is not kept waiting.
"""

from __future__ import annotations

import io
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import zstandard

from gateway_guard.errors import TrafficError

LINE_CAP = 64 * 2**20
CHUNK = 2**16
PIECE = 2**10  # 1 KiB of zstd inflates to 32 MiB at the worst
GROWTH = 2**20
WINDOW = 2**27

_ZSTD = b"\x28\xb5\x2f\xfd"
_GZIP = b"\x1f\x8b"


class Lines:
    """Iterates over the lines of `path` (`-` for standard input), without their ends; None stands for a line past `cap`.

    `position` of `size` bytes have been read (`size` is 0 when unknown).
    """

    def __init__(self, path: str | Path, *, stream: BinaryIO | None = None, cap: int = LINE_CAP) -> None:
        self.name = "standard input" if str(path) == "-" else str(path)
        self.position = 0
        self._cap = cap
        self._stream = stream if stream is not None else _opened(path, self.name)
        self.size = _size(self._stream)

    def __iter__(self) -> Iterator[bytes | None]:
        try:
            yield from split(inflate(self._chunks()), self._cap)
        except (OSError, EOFError, zlib.error, zstandard.ZstdError) as error:
            raise TrafficError(f"{self.name}: cannot be read to the end: {_said(error)}") from None
        finally:
            self.close()

    def close(self) -> None:
        """Let go of the file; standard input stays open."""
        if self._stream is not sys.stdin.buffer:
            self._stream.close()

    def _chunks(self) -> Iterator[bytes]:
        # read1 returns what a pipe holds now; read would wait until the chunk is full.
        read = self._stream.read1 if isinstance(self._stream, io.BufferedReader) else self._stream.read
        while chunk := read(CHUNK):
            self.position += len(chunk)
            yield chunk


def _opened(path: str | Path, name: str) -> BinaryIO:
    if str(path) == "-":
        return sys.stdin.buffer
    try:
        return open(path, "rb")
    except OSError as error:
        raise TrafficError(f"{name}: cannot be opened: {_said(error)}") from None


def _size(stream: BinaryIO) -> int:
    try:
        if not stream.seekable():
            return 0
        start = stream.tell()
        size = stream.seek(0, io.SEEK_END)
        stream.seek(start)
    except OSError:
        return 0
    return size


def _said(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__


def inflate(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """The plain bytes of a stream that is compressed or not; EOFError when a compressed stream stops short."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= len(_ZSTD):
            break
    whole = _chain(head, chunks)
    if head.startswith(_ZSTD) or _skippable(head):
        return _unzstd(whole)
    if head.startswith(_GZIP):
        return _gunzip(whole)
    return whole


def _chain(head: bytes, chunks: Iterator[bytes]) -> Iterator[bytes]:
    if head:
        yield head
    yield from chunks


def _skippable(head: bytes) -> bool:
    return head[1:4] == b"\x2a\x4d\x18" and 0x50 <= head[0] <= 0x5F


def _pieces(chunks: Iterator[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        for start in range(0, len(chunk), PIECE):
            yield chunk[start : start + PIECE]


def _unzstd(chunks: Iterator[bytes]) -> Iterator[bytes]:
    decompressor = zstandard.ZstdDecompressor(max_window_size=WINDOW)
    frame, begun = decompressor.decompressobj(), False
    for piece in _pieces(chunks):
        rest = piece
        while rest:
            if plain := frame.decompress(rest):
                yield plain
            begun, rest = True, b""
            if frame.eof:
                rest = frame.unused_data
                frame, begun = decompressor.decompressobj(), False
    if begun:
        raise EOFError("the last zstd frame stops short (a copy that was cut off?)")


def _gunzip(chunks: Iterator[bytes]) -> Iterator[bytes]:
    member, begun = zlib.decompressobj(31), False
    for chunk in chunks:
        rest = chunk
        while rest:
            begun = True
            yield from _grown(member, rest)
            rest = member.unused_data
            if member.eof:
                member, begun = zlib.decompressobj(31), False
    if begun:
        raise EOFError("the last gzip member stops short (a copy that was cut off?)")


def _grown(member: zlib._Decompress, data: bytes) -> Iterator[bytes]:
    while True:
        plain = member.decompress(data, GROWTH)
        yield plain
        data = member.unconsumed_tail
        if member.eof or (not data and len(plain) < GROWTH):
            return


def split(chunks: Iterator[bytes], cap: int) -> Iterator[bytes | None]:
    """The lines of a stream, None for each that is longer than `cap`."""
    start, over = bytearray(), False
    for chunk in chunks:
        first, *whole = chunk.split(b"\n")
        if not over:
            start += first
        if len(start) > cap:
            start, over = bytearray(), True
        if not whole:
            continue
        yield None if over else bytes(start)
        *middle, rest = whole
        for line in middle:
            yield line if len(line) <= cap else None
        start, over = bytearray(rest), False
    if start or over:
        yield None if over or len(start) > cap else bytes(start)
