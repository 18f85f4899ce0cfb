"""Parquet files, written and read a row group at a time: memory does not grow with the log. pyarrow is an extra, and imported only where it is used."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from gateway_guard.errors import TrafficError, UsageError
from gateway_guard.trace.output import Output

# Rows of a row group: enough for an engine to read groups side by side, few enough to be held as Python's objects.
ROWS = 65_536
BATCH = 8_192

Kind = Literal["text", "number", "count", "hash", "flag", "texts", "hashes"]
# The columns of a table, by name. `hash`: a keyed 64-bit hash, or a set of bits.
Columns = Mapping[str, Kind]


class Sheet:
    """Rows on their way to one Parquet file; `finish` comes before the output's commit. `about` is kept in the file's own metadata."""

    def __init__(self, output: Output, columns: Columns, about: Mapping[str, str] | None = None) -> None:
        self._arrow, self._parquet = pyarrow(output.name)
        schema = schema_of(self._arrow, columns)
        self._schema = schema.with_metadata({f"gateway_guard.{name}": value for name, value in about.items()}) if about else schema
        self._output = output
        self._writer: Any = None
        self._rows: list[tuple[Any, ...]] = []

    def add(self, row: tuple[Any, ...]) -> None:
        """Add one row: its cells in the order of the columns."""
        self._rows.append(row)
        if len(self._rows) >= ROWS:
            self._flush()

    def finish(self) -> None:
        """Write what is left, and the file's end."""
        if self._rows:
            self._flush()
        self._begun().close()

    def salvage(self) -> None:
        """Finish a file that is to be set aside, so that it can be read as far as it goes; without a row in it there is nothing to keep."""
        if self._rows or self._writer is not None:
            self.finish()

    def _begun(self) -> Any:
        if self._writer is None:
            self._writer = self._parquet.ParquetWriter(_Pipe(self._output), self._schema, compression="zstd")
        return self._writer

    def _flush(self) -> None:
        rows, self._rows = self._rows, []
        arrays = [self._arrow.array(cells, field.type) for cells, field in zip(zip(*rows, strict=True), self._schema, strict=True)]
        self._begun().write_table(self._arrow.Table.from_arrays(arrays, schema=self._schema))


def schema_of(arrow: Any, columns: Columns) -> Any:
    """The columns as Arrow has them."""
    text, hashed = arrow.string(), arrow.uint64()
    kinds = {
        "text": text, "number": arrow.float64(), "count": arrow.int64(), "hash": hashed, "flag": arrow.bool_(),
        "texts": arrow.list_(text), "hashes": arrow.list_(hashed),
    }  # fmt: skip
    return arrow.schema([(name, kinds[kind]) for name, kind in columns.items()])


def rows_of(path: str | Path, what: str) -> Iterator[dict[str, Any]]:
    """The rows of a file, some thousands in memory at a time; `what` it should be, for the error when it is not."""
    arrow, parquet = pyarrow(path)
    try:
        for batch in parquet.ParquetFile(path).iter_batches(BATCH):
            yield from batch.to_pylist()
    except (OSError, arrow.ArrowException) as error:
        raise TrafficError(f"{path}: is not {what}: {error}") from None


def pyarrow(name: str | Path) -> tuple[Any, Any]:
    """Arrow and its Parquet, or UsageError that says what to install for `name`."""
    try:
        return importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise UsageError(f"{name}: Parquet needs the extra: pip install 'gateway-guard[parquet]' (or choose a name that ends in .jsonl.zst)") from None


class _Pipe:
    """An `Output` as the file object that pyarrow writes to."""

    closed = False

    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, data: bytes) -> int:
        self._output.write(bytes(data))
        return len(data)

    def flush(self) -> None: ...

    def close(self) -> None: ...
