"""A row of numbered files that a recorder appends to: rotated by size, the oldest dropped, nothing ever overwritten.

`traffic.jsonl.zst` becomes `traffic.000001.jsonl.zst`, `traffic.000002.jsonl.zst` and so on; a restart goes on with the next number. What is appended is
whole lines, for `.zst` one whole frame of them at a time, so that a file is readable while it grows and after a crash. Several processes may share a
row: numbers are taken by exclusive creation, and a lock on each open file keeps the others from dropping it.
"""

from __future__ import annotations

import fcntl
import os
import re
from contextlib import suppress
from pathlib import Path

import zstandard

from gateway_guard.errors import UsageError

SUFFIXES = (".jsonl", ".jsonl.zst")
ATTEMPTS = 100


class RotatingFile:
    """Appends blocks of lines. Raises OSError when the disk refuses; what was appended before stays whole. `keep` 0: every file."""

    def __init__(self, path: str | Path, *, rotate: int, keep: int) -> None:
        self._folder = Path(path).parent
        self._stem, self._suffix = _split(Path(path).name)
        self._pattern = re.compile(rf"{re.escape(self._stem)}\.(\d{{6,12}}){re.escape(self._suffix)}")
        self._compress = zstandard.ZstdCompressor(level=3, write_checksum=True).compress if self._suffix.endswith(".zst") else None
        self.rotate = rotate
        self._keep = keep
        self._descriptor = -1
        self._size = 0
        self.path: Path | None = None

    def append(self, lines: bytes) -> int:
        """Add whole lines; returns the bytes that they took on the disk."""
        data = self._compress(lines) if self._compress is not None else lines
        if self.due(len(data)):
            self.begin()
        self._put(data)
        self._size += len(data)
        return len(data)

    def due(self, size: int) -> bool:
        """Whether `size` more bytes go to the next file: there is none yet, the open one would be too large, or somebody has removed it."""
        return self._descriptor < 0 or bool(self._size and self._size + size > self.rotate) or self._is_gone()

    def sync(self) -> None:
        """Return when what was appended is on the disk."""
        if self._descriptor >= 0:
            os.fsync(self._descriptor)

    def known(self) -> list[Path]:
        """The files of the row, oldest first."""
        return [path for _, path in self._known()] if self._folder.is_dir() else []

    def close(self) -> None:
        """Let go of the open file."""
        if self._descriptor >= 0:
            with suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1

    def _put(self, data: bytes) -> None:
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError:
            # Half a frame would make the whole rest of the file unreadable.
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise

    def _is_gone(self) -> bool:
        """Somebody has removed the open file: what is written to it would be lost."""
        return os.fstat(self._descriptor).st_nlink == 0

    def begin(self) -> None:
        """Go on with the next file."""
        self.close()
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        known = self._known()
        if self._keep:
            for path in [path for _, path in known][: len(known) + 1 - self._keep]:
                _drop(path)
        number = known[-1][0] + 1 if known else 1
        self._descriptor = self._created(number)
        self._size = 0
        with suppress(OSError):  # a file system without locks: the row is then this process's own
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _known(self) -> list[tuple[int, Path]]:
        found = ((self._pattern.fullmatch(name), name) for name in os.listdir(self._folder))
        return sorted((int(match[1]), self._folder / name) for match, name in found if match)

    def _created(self, number: int) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        for candidate in range(number, number + ATTEMPTS):
            path = self._folder / f"{self._stem}.{candidate:06d}{self._suffix}"
            with suppress(FileExistsError):
                descriptor = os.open(path, flags, 0o600)
                self.path = path
                return descriptor
        raise FileExistsError(f"no free number near {number} in {self._folder}")


def _split(name: str) -> tuple[str, str]:
    for suffix in reversed(SUFFIXES):
        if name.endswith(suffix) and len(name) > len(suffix):
            return name[: -len(suffix)], suffix
    raise UsageError(f"{name}: a recording is written as NAME.jsonl or NAME.jsonl.zst")


def _drop(path: Path) -> None:
    """Remove a file unless another process still writes to it."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
        finally:
            os.close(descriptor)
