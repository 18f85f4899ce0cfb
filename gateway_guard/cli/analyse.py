"""`gateway-guard analyse`: the accounts that act as one in a history of any length, by a query engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from gateway_guard.cli.replay import check_places, console, open_parts, tell
from gateway_guard.errors import TrafficError, UsageError

if TYPE_CHECKING:
    from gateway_guard.assembly import Parts
    from gateway_guard.batch.engines import Engine
    from gateway_guard.batch.file import Analysis
    from gateway_guard.batch.sources import History

# Less than this and an engine has no room to sort in.
LEAST_MEMORY = 64 * 2**20
EXTRAS = {"duckdb": "batch", "spark": "spark"}


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(analyse)


def analyse(
    traces: Annotated[list[str], typer.Argument(help="Traces (.ggt), Parquet files and folders that `export` made; s3://... as the engine reads it.")],
    policy: Annotated[Path, typer.Option(envvar="GATEWAY_GUARD_POLICY", help="The policy file: its `analysis` and its calibration.", show_default=False)],
    accounts: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_DIRECTORY", help="The account directory (accounts.csv), for names.")] = None,
    out: Annotated[str, typer.Option(help="Write what was found here (.json), for `clusters` and `explain`.")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="The clusters as JSON, for programs.")] = False,
    window: Annotated[str, typer.Option(help="How far back to look, such as 90d. Empty: the policy's `analysis.window`.")] = "",
    engine: Annotated[Literal["duckdb", "spark"], typer.Option(help="What reduces the history. Both give the same clusters.")] = "duckdb",
    master: Annotated[str, typer.Option(help="Spark's master; local[*] is this machine.")] = "local[*]",
    memory_limit: Annotated[str, typer.Option(help="What the engine may hold in memory; the rest goes to files.")] = "1 GiB",
    scratch: Annotated[Path | None, typer.Option(help="A folder for such files. Empty: the system's own for temporary files.", show_default=False)] = None,
) -> None:
    """Find the accounts that act as one in a history that is too large for one machine's memory.

    The engine reduces the events to what the analyst keeps of each account; the analyst concludes on that by the same code as beside live traffic. Needs
    the extra `batch`, and `spark` for --engine spark. Exit code: 0 done, 1 the history could not be used, 2 called wrongly, 130 interrupted.
    """
    _installed(engine)
    for trace in traces:
        check_places(trace, out)
    from gateway_guard.batch.job import Terms, analysis  # noqa: PLC0415 - help must not wait for all of this
    from gateway_guard.batch.sources import history  # noqa: PLC0415

    # What may be wrong is found out before hours are spent on the history.
    memory, parts = _memory(memory_limit), open_parts(policy, accounts)
    terms = Terms.of(parts, _length(window))
    with _writing(out) as write, _folder(scratch) as folder, _failing(engine):
        past = history(traces, folder)
        tell(_notes(past, parts))
        with closing(_engine(engine, folder, memory, master)) as opened:
            found = analysis(opened, past.paths, terms)
        write(found)
    _show(found, as_json=as_json, err=out == "-")


def _installed(engine: str) -> None:
    from importlib.util import find_spec  # noqa: PLC0415

    missing = [name for name in ("pyarrow", "ibis", "duckdb" if engine == "duckdb" else "pyspark") if find_spec(name) is None]
    if missing:
        raise UsageError(f"--engine {engine}: needs {', '.join(missing)}: pip install 'gateway-guard[{EXTRAS[engine]}]'")


def _length(text: str) -> float:
    """Seconds, 0 for the policy's own."""
    from gateway_guard.policy.units import duration  # noqa: PLC0415

    try:
        return duration(text) if text else 0.0
    except ValueError as error:
        raise UsageError(f"--window: {error}") from None


def _memory(text: str) -> int:
    from gateway_guard.policy.units import size  # noqa: PLC0415

    try:
        memory = size(text)
    except ValueError as error:
        raise UsageError(f"--memory-limit: {error}") from None
    if memory < LEAST_MEMORY:
        raise UsageError(f"--memory-limit {text}: an engine needs 64 MiB or more")
    return memory


@contextmanager
def _folder(scratch: Path | None) -> Iterator[Path]:
    """A folder of our own, for its owner alone, that is gone afterwards."""
    import signal  # noqa: PLC0415
    import tempfile  # noqa: PLC0415

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        own = tempfile.TemporaryDirectory(prefix="gateway-guard-", dir=scratch)
    except OSError as error:
        raise UsageError(f"--scratch {scratch}: no folder can be made there: {error.strerror}") from None
    with own as name:
        yield Path(name)


@contextmanager
def _failing(engine: str) -> Iterator[None]:
    """An engine's error in a line: it stops for want of memory, of files, or of what it was to read."""
    from gateway_guard.batch.engines import errors  # noqa: PLC0415

    try:
        yield
    except errors(engine) as error:
        line = str(error).strip().splitlines()[0][:300]
        raise TrafficError(f"--engine {engine} gave up: {line} (more --memory-limit, more room in --scratch, or a shorter --window may help)") from None


def _notes(past: History, parts: Parts) -> list[str]:
    if past.key in ("", parts.pseudonyms.text("trace", "key")):
        return []
    return ["the history was made with another key: its accounts keep their hashes"]


def _engine(name: str, folder: Path, memory: int, master: str) -> Engine:
    from gateway_guard.batch.engines import DuckDB, Spark  # noqa: PLC0415

    return DuckDB(folder, memory) if name == "duckdb" else Spark(folder, memory, master)


@contextmanager
def _writing(out: str) -> Iterator[Callable[[Analysis], None]]:
    """What writes the file, if one is wanted; it is opened at once and appears at a clean end."""
    from gateway_guard.batch.file import encode  # noqa: PLC0415
    from gateway_guard.trace.output import Output  # noqa: PLC0415

    if not out:
        yield lambda found: None
        return
    with Output(out) as output:
        yield lambda found: output.write(encode(found))


def _show(found: Analysis, *, as_json: bool, err: bool) -> None:
    import msgspec  # noqa: PLC0415

    from gateway_guard.replay.clusters import table  # noqa: PLC0415

    typer.echo(f"{found.history.requests:,} requests of {found.history.accounts:,} accounts", err=True)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found.clusters), indent=2).decode(), err=err)
    elif found.clusters:
        console(err=err).print(table(found.clusters, calibrated=bool(found.calibrated)))
    else:
        typer.echo("no accounts were found to act as one", err=err)
