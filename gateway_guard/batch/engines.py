"""The engines that reduce a history: DuckDB in this process, or Spark, on this machine or a cluster. Both take the same expressions.

Ibis puts the expressions into each engine's SQL; tables go in and come out as Arrow, by the engine's own functions.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import ibis

ROWS = 100_000
# A thread of DuckDB's wants this much: with less memory there are fewer of them.
THREAD = 256 * 2**20
EVENTS = "events"


class Engine(Protocol):
    """Reads Parquet, keeps what was worked out, and hands over what is left of it."""

    def read(self, paths: Sequence[str]) -> ibis.Table:
        """The rows of all files."""

    def given(self, name: str, table: Any) -> ibis.Table:
        """A small table of Arrow's, for the engine to look things up in."""

    def kept(self, name: str, table: ibis.Table) -> ibis.Table:
        """The same table, worked out once. It is let go of at the end, or when another is kept under its name."""

    def batches(self, table: ibis.Table) -> Iterator[Any]:
        """What the table holds, in Arrow's record batches."""

    def close(self) -> None:
        """Let go of everything."""


class DuckDB:
    """In this process, in `memory` bytes: what does not fit goes to files under `folder`."""

    def __init__(self, folder: Path, memory: int) -> None:
        threads = max(1, min(os.cpu_count() or 1, memory // THREAD))
        settings = {"memory_limit": f"{memory}B", "temp_directory": str(folder), "threads": threads, "preserve_insertion_order": False}
        self._ibis = ibis.duckdb.connect(**settings)
        self._own = self._ibis.con

    def read(self, paths: Sequence[str]) -> ibis.Table:
        return self._ibis.read_parquet(list(paths), table_name=EVENTS, hive_partitioning=False, union_by_name=True)

    def given(self, name: str, table: Any) -> ibis.Table:
        self._own.register(name, table)
        return self._ibis.table(name)

    def kept(self, name: str, table: ibis.Table) -> ibis.Table:
        self._own.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS {self._ibis.compile(table)}")
        return self._ibis.table(name)

    def batches(self, table: ibis.Table) -> Iterator[Any]:
        yield from self._own.execute(self._ibis.compile(table)).to_arrow_reader(ROWS)

    def close(self) -> None:
        self._ibis.disconnect()


class Spark:
    """A session at `master`. Its driver, which is all of it on one machine, has `memory` bytes; what does not fit goes to files under `folder`.

    `options` of Spark's own, beside its `spark-defaults.conf`.
    """

    def __init__(self, folder: Path, memory: int, master: str, options: Mapping[str, str] = MappingProxyType({})) -> None:
        from pyspark.sql import SparkSession  # noqa: PLC0415 - half a gigabyte, of an extra of its own

        heap = f"{max(memory >> 20, 512)}m"
        builder = SparkSession.builder.master(master).appName("gateway-guard analyse")
        own = {"spark.driver.memory": heap, "spark.driver.maxResultSize": heap, "spark.local.dir": str(folder)}
        for name, value in {**_SPARK, **own, **options}.items():
            builder = builder.config(name, value)
        self._own = builder.getOrCreate()
        self._ibis = ibis.pyspark.connect(self._own)

    def read(self, paths: Sequence[str]) -> ibis.Table:
        return self._named(EVENTS, self._own.read.option("mergeSchema", "true").parquet(*paths))

    def given(self, name: str, table: Any) -> ibis.Table:
        return self._named(name, self._own.createDataFrame(table))

    def kept(self, name: str, table: ibis.Table) -> ibis.Table:
        return self._named(name, self._own.sql(self._ibis.compile(table)).persist())

    def batches(self, table: ibis.Table) -> Iterator[Any]:
        yield from self._own.sql(self._ibis.compile(table)).toArrow().to_batches(ROWS)

    def close(self) -> None:
        self._own.stop()

    def _named(self, name: str, frame: Any) -> ibis.Table:
        frame.createOrReplaceTempView(name)
        return self._ibis.table(name)


_SPARK = {
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.session.timeZone": "UTC",
}


def errors(engine: str) -> tuple[type[Exception], ...]:
    """What an engine raises when it cannot go on."""
    if engine == "duckdb":
        from duckdb import Error  # noqa: PLC0415 - each engine is there only where it was installed

        return (Error,)
    from py4j.protocol import Py4JError  # noqa: PLC0415
    from pyspark.errors import PySparkException  # noqa: PLC0415

    return PySparkException, Py4JError
