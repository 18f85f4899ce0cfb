"""`gateway-guard explain`: why one request was decided as it was, or why an account stands where it does."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_guard.cli.present import IsLive, account_of, live
from gateway_guard.cli.replay import console, open_parts, open_stage
from gateway_guard.cli.state import StateFile, heed
from gateway_guard.errors import UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from gateway_guard.replay.standing import Page


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(explain)


def explain(
    policy: Annotated[Path, typer.Option(envvar="GATEWAY_GUARD_POLICY", help="The policy file.", show_default=False)],
    traffic: Annotated[
        str, typer.Argument(help="The exchange log or trace that holds the request, or what `analyse` wrote; - for standard input.", show_default=False)
    ] = "",
    is_live: IsLive = False,
    ident: Annotated[str, typer.Option("--id", help="One request: its `id` in the logs, x-gateway-guard-decision in the answer.", show_default=False)] = "",
    account: Annotated[str, typer.Option(help="One account, by name or hash: where it stands at the end of the traffic.", show_default=False)] = "",
    cluster: Annotated[str, typer.Option(help="One cluster, by its id: what it is at the end of the traffic.", show_default=False)] = "",
    accounts: Annotated[Path | None, typer.Option(envvar="GATEWAY_GUARD_DIRECTORY", help="The account directory (accounts.csv).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON, for programs.")] = False,
    enforce: Annotated[bool | None, typer.Option("--enforce/--shadow", help="Instead of the policy's own mode.", show_default=False)] = None,
    state: StateFile = None,
) -> None:
    """Explain one decision, one account, or one cluster.

    A decision: who asked, which quotas applied, what was left in each, what refused, and when it would have fitted. An account or a cluster: with
    whom it acts as one, what speaks for that, what it costs now, and what ends it. The traffic is replayed up to there; of an analysis, its end is shown;
    with --live there is none, and an account or a cluster stands where the running guard has it.
    """
    import msgspec  # noqa: PLC0415 - help must not wait for all of this

    from gateway_guard.batch.file import is_analysis  # noqa: PLC0415
    from gateway_guard.replay import explain as decisions  # noqa: PLC0415
    from gateway_guard.replay import standing as standings  # noqa: PLC0415

    if sum(map(bool, (ident, account, cluster))) != 1:
        raise UsageError("give one of --id, --account and --cluster")
    if is_live == bool(traffic):
        raise UsageError("give the recorded traffic, or --live")
    if is_live:
        found = _in_force(policy, accounts, ident=ident, account=account, cluster=cluster)
        _show(msgspec.json.encode(found), standings.page(found), as_json=as_json)
        return
    if is_analysis(traffic):
        found = _in_analysis(traffic, policy, accounts, state, ident=ident, account=account, cluster=cluster)
        _show(msgspec.json.encode(found), standings.page(found), as_json=as_json)
        return
    stage = open_stage(traffic, policy, accounts, enforce=enforce, fingerprints=True)
    heed(stage.gate, state, policy)
    if ident:
        decision = decisions.explain(stage, ident)
        _show(msgspec.json.encode(decision), decisions.page(decision), as_json=as_json)
    else:
        found = standings.of_account(stage, account) if account else standings.of_cluster(stage, cluster)
        _show(msgspec.json.encode(found), standings.page(found), as_json=as_json)


def _in_force(policy: Path, accounts: Path | None, *, ident: str, account: str, cluster: str) -> Page:
    from gateway_guard.replay.standing import account_page, cluster_page  # noqa: PLC0415

    if ident:
        raise UsageError("--id: a decision is explained from the recorded traffic; --live knows where accounts and clusters stand")
    guard = live(policy, accounts)
    typer.echo(guard.said, err=True)
    if cluster:
        return cluster_page(guard.ground, cluster)
    wanted = account_of(guard, account)
    return account_page(guard.ground, wanted, (wanted,), "is known")


def _in_analysis(path: str, policy: Path, accounts: Path | None, state: Path | None, *, ident: str, account: str, cluster: str) -> Page:
    from gateway_guard.batch.file import ground, read  # noqa: PLC0415
    from gateway_guard.replay.standing import account_page, cluster_page  # noqa: PLC0415

    if ident:
        raise UsageError(f"{path}: an analysis holds no requests: give --account or --cluster, or the trace that the request is in")
    found = read(path)
    where = ground(path, found, open_parts(policy, accounts))
    heed(where.gate, state, policy)
    return account_page(where, account, found.view.standings, "is in a cluster of it") if account else cluster_page(where, cluster)


def _show(values: bytes, page: RenderableType, *, as_json: bool) -> None:
    if not as_json:
        console(err=False).print(page)
        return
    import msgspec  # noqa: PLC0415

    typer.echo(msgspec.json.format(values, indent=2).decode())
