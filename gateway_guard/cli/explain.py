"""`gateway-guard explain`: why one request was decided as it was."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from gateway_guard.cli.replay import console, open_stage


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(explain)


def explain(
    traffic: Annotated[str, typer.Argument(help="The exchange log or trace that holds the request; - for standard input.", show_default=False)],
    policy: Annotated[Path, typer.Option(envvar="GATEWAY_GUARD_POLICY", help="The policy file.", show_default=False)],
    ident: Annotated[str, typer.Option("--id", help="The exchange's id: `id` in the logs, x-request-id in the answer.", show_default=False)],
    accounts: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_DIRECTORY", help="The account directory (accounts.csv).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    enforce: Annotated[bool | None, typer.Option("--enforce/--shadow", help="Instead of the policy's own mode.", show_default=False)] = None,
) -> None:
    """Explain one decision: who asked, which quotas applied, what was left in each, what refused, and when it would have fitted.

    The traffic is replayed up to that request, so the page shows the state that it met.
    """
    import msgspec  # noqa: PLC0415 - help must not wait for all of this

    from gateway_guard.replay.explain import explain as explained  # noqa: PLC0415
    from gateway_guard.replay.explain import page  # noqa: PLC0415

    found = explained(open_stage(traffic, policy, accounts, enforce=enforce, fingerprints=True), ident)
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
    else:
        console(err=False).print(page(found))
