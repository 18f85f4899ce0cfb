"""`gateway-guard export`: decision logs and traces as Parquet, for whatever reads that."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gateway_guard.cli.replay import INTERRUPTED, check_places, progress
from gateway_guard.errors import UsageError

if TYPE_CHECKING:
    from gateway_guard.trace.export import Row, Source

EVERY = 4096


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(export)


def export(
    sources: Annotated[list[str], typer.Argument(help="Decision logs (.jsonl, also .zst or .gz; .parquet) and traces (.ggt).", show_default=False)],
    out: Annotated[str, typer.Option(help="Where to: a file NAME.parquet, or with --partition a folder.", show_default=False)],
    partition: Annotated[Literal["none", "day"], typer.Option(help="One file, or files by day (UTC) under OUT/decisions and OUT/events.")] = "none",
    policy: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_POLICY", help="The policy beside which the key lies.", show_default=False)] = None,
) -> None:
    """Write decisions and events as Parquet: a row group in memory at a time, accounts as keyed hashes, no text.

    An exchange log holds prompts and is not exported: `gateway-guard replay LOG --policy FILE --trace NAME.ggt` makes its events. Exit code: 0 done, 1 a
    source could not be used, 2 called wrongly, 130 interrupted (days that are complete stay).
    """
    from gateway_guard.trace.export import Source  # noqa: PLC0415 - help must not wait for all of this
    from gateway_guard.trace.parquet import pyarrow  # noqa: PLC0415

    pyarrow(out)
    for source in sources:
        check_places(source, out)
    found = [Source(source, _hashed(policy)) for source in sources]
    try:
        told = _by_day(found, Path(out)) if partition == "day" else _one_file(found, out)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for one in found:
            one.close()
    typer.echo(f"{out}: {told}", err=True)


def _one_file(sources: list[Source], out: str) -> str:
    from gateway_guard.trace.output import Output  # noqa: PLC0415
    from gateway_guard.trace.parquet import Sheet  # noqa: PLC0415

    if not out.endswith(".parquet"):
        raise UsageError(f"{out}: name a file NAME.parquet, or give --partition day for a folder")
    if len({(one.table, *one.about.items()) for one in sources}) > 1:
        raise UsageError(f"{out}: one file holds one table of one key; export decisions and events apart, or with --partition day")
    rows = 0
    with Output(out) as output:
        sheet = Sheet(output, sources[0].columns, sources[0].about)
        try:
            for source in sources:
                for _, cells in _shown(source):
                    sheet.add(cells)
                    rows += 1
        except BaseException:
            sheet.salvage()
            output.set_aside()
            _say_kept([output.aside])
            raise
        sheet.finish()
    return f"{rows:,} {sources[0].table}"


def _by_day(sources: list[Source], out: Path) -> str:
    from gateway_guard.trace.dataset import Dataset  # noqa: PLC0415

    rows, files = Counter[str](), 0
    for source in sources:
        dataset = Dataset(out / source.table, source.stem, source.columns, source.about)
        try:
            for at, cells in _shown(source):
                dataset.add(at, cells)
                rows[source.table] += 1
        except BaseException:
            _say_kept(dataset.set_aside())
            raise
        dataset.finish()
        files += dataset.files
    return " and ".join(f"{count:,} {table}" for table, count in rows.items()) + f" in {files:,} file(s)"


def _shown(source: Source) -> Iterator[Row]:
    """The rows, with a bar."""
    with progress(source) as tick:
        for number, row in enumerate(source):
            yield row
            if not number % EVERY:
                tick()


def _say_kept(names: list[str]) -> None:
    for name in filter(None, names):
        typer.echo(f"kept as far as it goes: {name}", err=True)


def _hashed(policy: Path | None) -> Callable[[str], str]:
    """The keyed hash of an account's name. The installation's key is looked for when a name is met."""
    from gateway_guard.identity.pseudonyms import Pseudonyms, load_key  # noqa: PLC0415

    @cache
    def pseudonyms() -> Pseudonyms:
        return Pseudonyms(load_key(os.environ, policy.with_name(".gateway-guard.key") if policy is not None else None))

    return lambda name: pseudonyms().text("account", name)
