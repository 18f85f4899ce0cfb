"""`gateway-guard appeals`: what accounts ask to be looked at, and the operator's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from gateway_guard.cli.state import AsJson, PolicyFile, Reason, Until, checked_reason, end_of, lead, now, open_ledger, read_policy, when, who
from gateway_guard.errors import UsageError

if TYPE_CHECKING:
    from gateway_guard.appeals.values import Appeal
    from gateway_guard.policy.model import Policy
    from gateway_guard.view import View

RELEASED_DAYS = 30
appeals = typer.Typer(help="Answer appeals: list, show, release, confirm.", no_args_is_help=True)
Ident = Annotated[str, typer.Argument(metavar="APPEAL", help="The id of an appeal, or of its decision.", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(appeals, name="appeals")


@appeals.command("list")
def list_(policy: PolicyFile, every: Annotated[bool, typer.Option("--all", help="Also the answered ones.")] = False, as_json: AsJson = False) -> None:
    """List the appeals that are open, the oldest first."""
    import msgspec  # noqa: PLC0415 - help must not wait for all of this

    found = open_ledger(policy).appeals(None if every else "open")
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    for one in found:
        typer.echo(f"{one.id}  {when(one.at)}  {one.status:9}  {one.decision.action:9}  account {one.decision.account}  {one.reason[:60]}")
    if not found:
        typer.echo("no appeals" if every else "no open appeals")


@appeals.command()
def show(ident: Ident, policy: PolicyFile, as_json: AsJson = False) -> None:
    """Show an appeal, the decision that it is about, and what the decision rested on."""
    import msgspec  # noqa: PLC0415

    ledger = open_ledger(policy)
    found = ledger.appeal(ident)
    if found is None:
        raise UsageError(f"there is no appeal {ident}: `gateway-guard appeals list` shows them")
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    typer.echo("\n".join([page(found), *standing(found.decision.account, ledger.view(), read_policy(policy))]))


@appeals.command()
def release(ident: Ident, policy: PolicyFile, reason: Reason, until: Until = "") -> None:
    """Grant an appeal: the evidence that its decision rested on does not count for this account, for 30 days or `--until` a date.

    Within a second or so the running guard knows. Evidence of another kind counts as before. The answer reaches the account with the reason given here.
    """
    from gateway_guard.policy.acknowledged import Acknowledgement, families_named  # noqa: PLC0415

    answer, end = checked_reason(reason), end_of(until, days=RELEASED_DAYS)
    ledger, at = open_ledger(policy), now()
    found = ledger.appeal(ident)
    if found is None:
        raise UsageError(f"there is no appeal {ident}: `gateway-guard appeals list` shows them")
    decision = found.decision
    if any(reason.startswith("suspended.") for reason in decision.reasons):
        raise UsageError(
            f"appeal {found.id} is about an operator's own order ({decision.reasons[0]}): end that with `gateway-guard lift`, and answer with `confirm`"
        )
    if not decision.families:
        raise UsageError(
            f"appeal {found.id} is about a quota of the account's own ({', '.join(decision.reasons)}), and no evidence that could be acknowledged: "
            "give the account another plan or an exemption in the policy, and answer with `confirm`"
        )
    families = families_named(",".join(decision.families))
    relief = Acknowledgement(0, "account", decision.account, (decision.account,), families, answer, at + lead(), end, appeal=found.id)
    released = ledger.answer(ident, "released", at, by=who(), answer=answer, relief=relief)
    typer.echo(f"released {released.id}: {', '.join(families)} evidence does not count for account {decision.account} until {when(end)}")


@appeals.command()
def confirm(ident: Ident, policy: PolicyFile, reason: Reason) -> None:
    """Turn an appeal down: the decision stands until it expires.

    The answer reaches the account with the reason given here.
    """
    confirmed = open_ledger(policy).answer(ident, "confirmed", now(), by=who(), answer=checked_reason(reason))
    typer.echo(f"confirmed {confirmed.id}: the decision stands")


def standing(account: str, view: View, policy: Policy) -> list[str]:
    """Where the account stands by the last conclusion that the guard has kept, and when what follows from it ends."""
    from gateway_guard.policy.tenure import ends  # noqa: PLC0415

    found = view.standings.get(account)
    cluster = view.clusters.get(found.cluster) if found is not None else None
    if found is None or cluster is None:
        return [f"today      in no cluster (conclusion {view.id})" if view.id else "today      nothing is concluded yet"]
    lines = [f"today      acts as one with {cluster.size - 1:,} others ({cluster.id}); new evidence last {when(found.seen)}"]
    lines += [f"           {evidence.says}" for evidence in cluster.evidence]
    reached = [rung for rung in policy.ladder if rung.id in cluster.reached and rung.do != "allow"]
    return lines + [f"ends       rung {rung.id} ({rung.do}): {when(ends(rung, found))} without new evidence" for rung in reached if found.seen]


def page(appeal: Appeal) -> str:
    """For the terminal. What the account wrote is escaped already."""
    one = appeal.decision
    lines = [
        f"appeal     {appeal.id}, {appeal.status}, filed {when(appeal.at)}",
        f"reason     {appeal.reason or '(none given)'}",
        f"decision   {one.id}, {when(one.at)}: {one.action}{f', rung {one.rung}' if one.rung else ''}",
        f"account    {one.account}{f', in cluster {one.cluster}' if one.cluster else ''}",
        f"rested on  {', '.join(one.reasons)}",
    ]
    if one.families:
        lines.append(f"evidence   {', '.join(one.families)}")
    if appeal.status != "open":
        lines.append(f"answer     {appeal.answer} ({appeal.by}, {when(appeal.answered)})")
    return "\n".join(lines)
