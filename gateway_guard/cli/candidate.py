"""`gateway-guard candidate`: what the policy that runs beside the active one would have done otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway_guard.cli.replay import console
from gateway_guard.errors import TrafficError


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(candidate)


def candidate(
    decisions: Annotated[list[Path], typer.Argument(help="Decision logs (.jsonl, also .zst or .gz; .parquet), in their order.", show_default=False)],
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
) -> None:
    """Show whom the policy's candidate would have treated otherwise, worse and better, the most affected first.

    Reads the decision log of a guard, or of a replay, whose policy names a `candidate`. Exit code: 0 done, 1 a log could not be used, 2 called wrongly.
    """
    from itertools import chain  # noqa: PLC0415 - help must not wait for all of this

    from gateway_guard.replay.candidate import differing, encode  # noqa: PLC0415
    from gateway_guard.trace.decisions import read_decisions  # noqa: PLC0415

    found = differing(chain.from_iterable(read_decisions(path) for path in decisions))
    if not found.requests:
        raise TrafficError(f"{decisions[0]}: no candidate has decided on any request: name one in the policy (`candidate: proposed.yaml`)")
    if as_json:
        typer.echo(encode(found).decode(), nl=False)
        return
    from gateway_guard.replay.compare_page import differing_page  # noqa: PLC0415

    console(err=False).print(differing_page(found))
