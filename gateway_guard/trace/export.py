"""What can be exported: a decision log, or a trace. Row by row, as cells of the table that it fills."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from gateway_guard.errors import UsageError
from gateway_guard.trace.decisions import read_decisions, rows_in
from gateway_guard.trace.events import Trace, is_trace
from gateway_guard.trace.lines import Lines
from gateway_guard.trace.tables import TABLES, VERSION, decision_cells, event_cells

Row = tuple[float, tuple[Any, ...]]


class _Line(msgspec.Struct):
    action: str = ""
    path: str = ""


class Source:
    """One file, the `table` that it fills, and what is to be known `about` the rows. `position` of `size` bytes have been read (0: not known)."""

    def __init__(self, path: str, hashed: Callable[[str], str]) -> None:
        self.name = path
        self._hashed = hashed
        self._reader = _reader(path)
        self.table = "events" if isinstance(self._reader, Trace) else "decisions"
        self.columns = TABLES[self.table]
        key = {"key": self._reader.header.key} if isinstance(self._reader, Trace) else {}
        self.about = {"table": self.table, "version": VERSION, **key}

    @property
    def stem(self) -> str:
        """The file's name without what it ends in."""
        name = Path(self.name).name
        for ending in (".zst", ".gz", ".jsonl", ".ggt", ".parquet"):
            name = name.removesuffix(ending)
        return name

    @property
    def size(self) -> int:
        """Bytes of it."""
        return self._reader.size if self._reader is not None else 0

    @property
    def position(self) -> int:
        """Bytes of it that were read."""
        return self._reader.position if self._reader is not None else 0

    def __iter__(self) -> Iterator[Row]:
        reader = self._reader
        if isinstance(reader, Trace):
            for event in reader:
                cells = event_cells(event)
                yield cells[1], cells
            return
        for row in rows_in(reader) if reader is not None else read_decisions(self.name):
            yield row.ts, decision_cells(row, self._hashed)

    def close(self) -> None:
        """Let go of the file."""
        if self._reader is not None:
            self._reader.close()


def _reader(path: str) -> Trace | Lines | None:
    """None for a decision log in Parquet, which is read in another way."""
    if path == "-":
        raise UsageError("-: an export is named after its source: give files")
    if path.endswith(".parquet"):
        return None
    if is_trace(path):
        return Trace(path)
    if _holds_exchanges(path):
        trace = f"gateway-guard replay {path} --policy FILE --trace NAME.ggt"
        raise UsageError(f"{path}: is an exchange log, with prompts in it: make a trace of it (`{trace}`) and export that")
    return Lines(path)


def _holds_exchanges(path: str) -> bool:
    lines = Lines(path)
    try:
        found = msgspec.json.decode(next(iter(lines), b"") or b"", type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False  # whoever reads it says what is wrong with it
    finally:
        lines.close()
    return bool(found.path and not found.action)
