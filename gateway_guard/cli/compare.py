"""`gateway-guard compare`: two policies on the same recorded traffic, and who is treated differently."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_guard.cli.replay import INTERRUPTED, check_places, console, play, read_labels, tell
from gateway_guard.errors import GuardError

if TYPE_CHECKING:
    from gateway_guard.replay.compare import Comparison


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(compare)


def compare(
    one: Annotated[Path, typer.Argument(help="The policy that is in force.", metavar="A.yaml", show_default=False)],
    two: Annotated[Path, typer.Argument(help="The policy that may replace it.", metavar="B.yaml", show_default=False)],
    traffic: Annotated[str, typer.Argument(help="An exchange log or a trace; - for standard input.", show_default=False)],
    accounts: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_DIRECTORY", help="The account directory (accounts.csv).")] = None,
    report: Annotated[list[str] | None, typer.Option(help="Write the comparison here, as a page (.html) or as JSON (.json). May be given twice.")] = None,
    labels: Annotated[Path | None, typer.Option(help="Who really was an actor (CSV: account, kind, actor): for the report alone, no decision sees it.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Play traffic through two policies in one pass: who fares worse under B, who better, the most affected first.

    Both are played as if enforced, whatever their `mode`, each with quotas and an analyst of its own. Exit code: 0 done, 1 the log could not be used, 2 called
    wrongly, 130 interrupted (what there was is kept, marked as partial).
    """
    from gateway_guard.identity.pseudonyms import load_key  # noqa: PLC0415 - help must not wait for all of this
    from gateway_guard.replay.compare import Contest  # noqa: PLC0415
    from gateway_guard.replay.stage import set_up_pair  # noqa: PLC0415
    from gateway_guard.trace.output import Output  # noqa: PLC0415

    reports = report or []
    check_places(traffic, *reports)
    known = read_labels(labels)
    stages = set_up_pair(traffic, (one, two), load_key(os.environ, one.with_name(".gateway-guard.key")), accounts=accounts, mode="enforce")
    tell(dict.fromkeys(note for stage in stages for note in stage.notes))
    contest = Contest(stages, known)
    with ExitStack() as stack:
        stack.callback(stages[0].source.close)
        files = [stack.enter_context(Output(name)) for name in reports]
        ended, seconds = play(stages[0].source, contest.run)
        if isinstance(ended, GuardError) and not contest.sides[0].tally.first:
            raise ended  # before anything was played there is nothing to tell
        found = contest.report(seconds)
        for file in files:
            file.write(_written(found, file.name))
    _show(found, as_json=as_json, err="-" in reports)
    if isinstance(ended, GuardError):
        raise ended
    raise typer.Exit(INTERRUPTED if ended else 0)


def _written(found: Comparison, name: str) -> bytes:
    if name.endswith((".html", ".htm")):
        from gateway_guard.replay.html.render import render_comparison  # noqa: PLC0415

        return render_comparison(found)
    from gateway_guard.replay.compare import encode  # noqa: PLC0415

    return encode(found)


def _show(found: Comparison, *, as_json: bool, err: bool) -> None:
    if as_json:
        typer.echo(_written(found, "-").decode(), nl=False, err=err)
        return
    from gateway_guard.replay.compare_page import page  # noqa: PLC0415

    console(err=err).print(page(found))
