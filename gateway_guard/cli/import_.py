"""`gateway-guard import`: other gateways' logs and published traces as exchange logs."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from gateway_guard.errors import TrafficError, UsageError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(name="import")(convert)


def convert(
    kind: Annotated[str, typer.Argument(help="litellm, envoy, nginx, har, otel, burstgpt, azure or mooncake.", show_default=False)],
    source: Annotated[str, typer.Argument(help="The file, also .zst or .gz; - for standard input.", show_default=False)],
    out: Annotated[str, typer.Option(help="Where to write the exchange log (.jsonl, .jsonl.zst, .jsonl.gz).", show_default=False)],
    account: Annotated[str, typer.Option(help="Charge requests of which no account is known to this one. Empty: they stay nobody's.")] = "",
    starts: Annotated[str, typer.Option(help="When a trace begins whose times count from its beginning (UTC).")] = "2000-01-01",
) -> None:
    """Make an exchange log of another format, for `replay`, `compare`, `calibrate`, `tune` and `power`.

    What the source does not have stays unknown, and is said; nothing is made up.
    """
    from gateway_guard.trace.exchanges import ExchangeWriter  # noqa: PLC0415 - help must not wait for all of this
    from gateway_guard.trace.importers.read import KINDS, Import  # noqa: PLC0415

    if kind not in KINDS:
        raise UsageError(f"{kind}: is not a format that is known; there are: {', '.join(KINDS)}")
    if source != "-" and Path(source).resolve() == Path(out).resolve():
        raise UsageError(f"{out}: is the source, and would be written over: choose another name")
    found, taken = Import(source, kind, starts=_seconds(starts), account=account), 0
    with ExchangeWriter(out) as writer:
        for exchange in found:
            writer.write(exchange)
            taken += 1
        if found.broken > taken:
            raise TrafficError(f"{source}: {found.broken:,} records are not {kind}'s, such as {found.problems[0]}")
    typer.echo(f"{out}: {taken:,} exchanges", err=True)
    lacks = (*KINDS[kind].lacks, *((f"times count from its beginning, taken as {starts}",) if KINDS[kind].relative else ()))
    for lack in lacks:
        typer.echo(f"note: {kind} has {lack}" if lack.startswith("no ") else f"note: {kind}: {lack}", err=True)
    for problem in found.problems:
        typer.echo(f"skipped: {problem}", err=True)


def _seconds(text: str) -> float:
    try:
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        raise UsageError(f"--starts {text}: is not a date, such as 2026-01-31 or 2026-01-31T12:00") from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)).timestamp()
