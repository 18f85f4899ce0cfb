"""Checks an audit log: every seal, every number, and that files continue each other and reach as far as the guard had written."""

from __future__ import annotations

import hmac
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from gateway_guard.errors import TrafficError
from gateway_guard.trace.seal import Sealed, Sealer

LONGEST = 2**20
TOLD = 100  # mistakes for each file: after the first, many may follow from it


class Head(NamedTuple):
    """How far a file was written, as the guard noted elsewhere."""

    file: str
    entry: int
    seal: str


class Mistake(NamedTuple):
    """`line` counts from 1; 0 is the file as a whole."""

    file: str
    line: int
    says: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.says}" if self.line else f"{self.file}: {self.says}"


class Checked(NamedTuple):
    """`mistakes` are signs of tampering or loss; `notes` are not."""

    files: int
    entries: int
    mistakes: list[Mistake]
    notes: list[str]


class _Bond(NamedTuple):
    """Somebody vouches that `entry` of a file has this seal; `torn` bytes may follow it, None when nothing is known of what follows."""

    entry: int
    seal: str
    by: str
    torn: int | None


def verify(paths: Sequence[Path], sealer: Sealer, *, heads: Iterable[Head] = (), whole: bool = False) -> Checked:
    """Check files, oldest first. `heads`: what the guard noted elsewhere of how far it had written · `whole`: these are all the files that there are."""
    bonds: defaultdict[str, list[_Bond]] = defaultdict(list)
    missing: list[str] = []
    names = {path.name for path in paths}
    mistakes: list[Mistake] = []
    for head in heads:
        bonds[head.file].append(_Bond(head.entry, head.seal, "the guard's own note", None))
        if whole and head.file not in names:
            mistakes.append(Mistake(head.file, 0, f"is missing: it had {head.entry} entries"))
    for path in paths:
        after = _after(path, sealer)
        if after is None:
            continue
        bond = _Bond(int(after[0]["entry"]), after[1], path.name, int(after[0]["torn"]))
        bonds[str(after[0]["file"])].append(bond)
        if after[0]["file"] not in names:
            missing.append(f"{path.name} continues {after[0]['file']}, which is not among these files")
    if whole:
        mistakes += [Mistake(note.split(" ", 1)[0], 1, note.split(" ", 1)[1]) for note in missing]
    files = [_File(path, sealer, bonds[path.name]) for path in paths]
    for file in files:
        file.check()
        mistakes += file.mistakes
    open_ones = [f"{file.path.name} has no closing entry: its process still runs, or was killed" for file in files if not file.closed and not file.mistakes]
    return Checked(len(files), sum(file.n for file in files), mistakes, [*(() if whole else missing), *open_ones])


def entries(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number, line without its end); a line that is too long is cut."""
    try:
        with path.open("rb") as opened:
            yield from _lines(opened)
    except OSError as error:
        raise TrafficError(f"{path}: cannot be read ({error.strerror})") from None


def _lines(opened: BinaryIO) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := opened.readline(LONGEST):
        number += 1
        yield number, line


def _after(path: Path, sealer: Sealer) -> tuple[Mapping[str, Any], str] | None:
    """Which file this one continues, and the seal that it had there. A first line that does not hold is told when the file is checked."""
    for _, line in entries(path):
        found = sealer.read(line.removesuffix(b"\n"))
        if isinstance(found, str) or found.entry.get("kind") != "opened" or not found.entry.get("after"):
            return None
        return found.entry["after"], found.entry["prev"]
    return None


class _File:
    """One file under check."""

    def __init__(self, path: Path, sealer: Sealer, bonds: Sequence[_Bond]) -> None:
        self.path = path
        self.mistakes: list[Mistake] = []
        self.closed = False
        self.n = 0
        self._sealer = sealer
        self._bonds: defaultdict[int, list[_Bond]] = defaultdict(list)
        for bond in bonds:
            self._bonds[bond.entry].append(bond)
        self._torn = {bond.torn for bond in bonds if bond.torn}
        self._prev = ""

    def check(self) -> None:
        number = 0
        for number, line in entries(self.path):
            self._line(number, line)
            if len(self.mistakes) >= TOLD:
                self._tell(0, "and more; begin with these")
                return
        if not number:
            self._tell(0, "is empty")
        most = max((bond for bonds in self._bonds.values() for bond in bonds), key=lambda bond: bond.entry, default=None)
        if most is not None and most.entry > self.n:
            self._tell(number, f"ends after entry {self.n}, and had {most.entry} ({most.by}): it was cut off")

    def _line(self, number: int, line: bytes) -> None:
        if not line.endswith(b"\n"):
            if len(line) not in self._torn:
                self._tell(number, "has no end: the line was cut off, or is being written")
            return
        found = self._sealer.read(line[:-1])
        if isinstance(found, str):
            self._tell(number, found)
            return
        self._follow(number, found)

    def _follow(self, number: int, found: Sealed) -> None:
        entry, n = found.entry, int(found.entry["n"])
        if n != self.n + 1:
            self._tell(
                number, f"entry {n} follows entry {self.n}: " + ("entries are missing" if n > self.n else "the order was changed, or an entry is here twice")
            )
        elif n > 1 and not hmac.compare_digest(str(entry["prev"]), self._prev):
            self._tell(number, f"entry {n} does not continue the entry before it")
        elif n == 1:
            self._first(number, entry)
        for bond in self._bonds.get(n, ()):
            if not hmac.compare_digest(bond.seal, found.seal):
                self._tell(number, f"entry {n} is not the one that was there before ({bond.by})")
        self.n, self._prev = n, found.seal
        self.closed = entry["kind"] == "closed"

    def _first(self, number: int, entry: Mapping[str, Any]) -> None:
        if entry["kind"] != "opened":
            self._tell(number, "the file does not begin with its opening entry")
        elif not entry["after"] and not hmac.compare_digest(str(entry["prev"]), self._sealer.anchor):
            self._tell(number, "the first entry hangs on no anchor")

    def _tell(self, line: int, says: str) -> None:
        self.mistakes.append(Mistake(str(self.path), line, says))
