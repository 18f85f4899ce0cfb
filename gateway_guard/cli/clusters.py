"""`gateway-guard clusters`: the accounts that act as one, as a replay found them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway_guard.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(clusters)


def clusters(
    report: Annotated[Path, typer.Argument(help="A report that `gateway-guard replay --report` wrote.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the clusters of a replay: how large, how sure, what their traffic looks like, and what speaks for it.

    Coordination and harvest are told relative to what the calibration allows: above 0 on both is the ladder's business; a cluster below shares its quotas.
    """
    import msgspec  # noqa: PLC0415 - help must not wait for all of this

    from gateway_guard.cli.replay import console  # noqa: PLC0415
    from gateway_guard.replay.clusters import table  # noqa: PLC0415
    from gateway_guard.replay.report import Report  # noqa: PLC0415

    try:
        read = msgspec.json.decode(report.read_bytes(), type=Report)
    except OSError as error:
        raise UsageError(f"{report}: cannot be read ({error.strerror})") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{report}: is not a report of `gateway-guard replay --report` ({error})") from None
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(read.clusters), indent=2).decode())
    elif read.clusters:
        console(err=False).print(table(read.clusters, calibrated=bool(read.calibrated)))
    else:
        typer.echo("no accounts were found to act as one")
