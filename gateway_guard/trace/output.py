"""Files that appear whole or not at all, compressed by their name.

A regular file is written beside its place with mode 0600 and renamed by `commit`; `set_aside` keeps what there is as `NAME.partial`, so that
half a result is never taken for a whole one. Standard output (`-`), pipes and devices are written through at once, uncompressed: whoever reads
there may be waiting for each line.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO, Protocol, Self

import zstandard

from gateway_guard.errors import TrafficError, UsageError

BLOCK = 2**18


class Compressor(Protocol):
    """Takes bytes, gives fewer; `flush` ends the stream."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Plain:
    def compress(self, data: bytes, /) -> bytes:
        return data

    def flush(self) -> bytes:
        return b""


def compressor(name: str) -> Compressor:
    """What the ending of `name` asks for."""
    if name.endswith(".zst"):
        return zstandard.ZstdCompressor(level=3, write_checksum=True).compressobj()
    if name.endswith(".gz"):
        return zlib.compressobj(6, wbits=31)
    return _Plain()


class Output:
    """One file to be. As a context manager it commits at a clean end and is set aside otherwise."""

    def __init__(self, path: str | Path) -> None:
        self.name = str(path)
        self.direct = self.name == "-" or _special(self.name)
        self._place = Path(os.path.realpath(path))
        self._temporary = ""
        with _refused(self.name):
            self._file = self._open()
        self._compressor = _Plain() if self.direct else compressor(self.name)
        self._block: list[bytes] = []
        self._held = 0
        self._empty = True
        self._ended = False
        self.aside = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.set_aside()

    def write(self, data: bytes) -> None:
        """Add to the file."""
        self._empty = False
        self._block.append(data)
        self._held += len(data)
        if self.direct or self._held >= BLOCK:
            self._flush()

    def commit(self) -> None:
        """The file is complete: give it its name."""
        self._end(self._place)

    def set_aside(self) -> None:
        """The file is not complete: what there is of it is kept as `NAME.partial`, and `aside` says so."""
        if self._empty:
            self._ended = True
            self._drop()
            return
        aside = Path(f"{self._place}.partial")
        if self._end(aside):
            self.aside = str(aside)

    def _open(self) -> BinaryIO | FileIO:
        if self.name == "-":
            return sys.stdout.buffer
        if self.direct:
            return open(self.name, "wb", buffering=0)
        descriptor, self._temporary = tempfile.mkstemp(dir=self._place.parent, prefix=f".{self._place.name}.", suffix=".tmp")
        return open(descriptor, "wb", buffering=0)

    def _flush(self) -> None:
        data, self._block, self._held = b"".join(self._block), [], 0
        with _failing(self.name):
            self._put(self._compressor.compress(data))

    def _put(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            rest = rest[self._file.write(rest) :]
        self._file.flush()

    def _end(self, place: Path) -> bool:
        if self._ended:
            return False
        self._ended = True
        try:
            with _failing(self.name):
                self._close()
                if self._temporary:
                    os.replace(self._temporary, place)
        except TrafficError:
            self._drop()
            raise
        return bool(self._temporary)

    def _close(self) -> None:
        self._flush()
        self._put(self._compressor.flush())
        if self._temporary:
            os.fsync(self._file.fileno())
        if self.name != "-":
            self._file.close()

    def _drop(self) -> None:
        if self.name != "-":
            with suppress(OSError):
                self._file.close()
        if self._temporary:
            Path(self._temporary).unlink(missing_ok=True)


def _special(name: str) -> bool:
    """A pipe or a device: renaming over it would take it from whoever reads there."""
    try:
        return not stat.S_ISREG(os.stat(name).st_mode)
    except OSError:
        return False


@contextmanager
def _refused(name: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{name}: cannot be written: {error.strerror}") from None


@contextmanager
def _failing(name: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:  # the reader has left: not an error of ours, and the caller knows what to do
        raise
    except OSError as error:
        raise TrafficError(f"{name}: cannot be written: {error.strerror}") from None
