"""`gateway-guard clusters`: the accounts that act as one, as a replay or an analysis found them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_guard.cli.present import IsLive, live
from gateway_guard.errors import UsageError

if TYPE_CHECKING:
    from gateway_guard.replay.clusters import Found


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(clusters)


def clusters(
    report: Annotated[
        Path | None, typer.Argument(help="A report of `gateway-guard replay`, or what `gateway-guard analyse` wrote.", show_default=False)
    ] = None,
    is_live: IsLive = False,
    policy: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_POLICY", help="The running guard's policy, for --live.", show_default=False)] = None,
    accounts: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_DIRECTORY", help="The account directory, for names with --live.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """List the clusters of a replay, an analysis or a running guard: how large, how sure, what their traffic looks like, and what speaks for it.

    Coordination and harvest are told relative to what the calibration allows: above 0 on both is the ladder's business; a cluster below shares its quotas.
    """
    import msgspec  # noqa: PLC0415 - help must not wait for all of this

    from gateway_guard.cli.replay import console  # noqa: PLC0415
    from gateway_guard.replay.clusters import table  # noqa: PLC0415

    if is_live == (report is not None):
        raise UsageError("give a report, or --live")
    found, calibrated = _read(report) if report is not None else _present(policy, accounts)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    elif found:
        console(err=False).print(table(found, calibrated=bool(calibrated)))
    else:
        typer.echo("no accounts were found to act as one")


def _present(policy: Path | None, accounts: Path | None) -> tuple[list[Found], str]:
    from gateway_guard.replay.clusters import found  # noqa: PLC0415

    guard = live(policy, accounts)
    typer.echo(guard.said, err=True)
    gate = guard.ground.gate
    return found(gate.view, guard.ground.name, gate.acknowledged), gate.view.calibrated


def _read(path: Path) -> tuple[list[Found], str]:
    """The clusters in a file, and the calibration that they were judged by."""
    import msgspec  # noqa: PLC0415

    from gateway_guard.batch import file  # noqa: PLC0415
    from gateway_guard.replay.report import Report  # noqa: PLC0415

    if file.is_analysis(path):
        analysis = file.read(path)
        return analysis.clusters, analysis.calibrated
    try:
        read = msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: is not a report of `gateway-guard replay --report`, nor an analysis ({error})") from None
    return read.clusters, read.calibrated
