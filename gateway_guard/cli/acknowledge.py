"""`gateway-guard acknowledge`, `acknowledgements`, `withdraw`: evidence that is known and not held against somebody.

And `suspend`, `suspensions`, `lift`: an operator's own denial.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_guard.cli.state import AsJson, PolicyFile, Reason, Until, checked_reason, end_of, lead, now, open_ledger, read_key, read_policy, when, who
from gateway_guard.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from gateway_guard.identity.pseudonyms import Pseudonyms
    from gateway_guard.policy.acknowledged import Acknowledgement, Kind, Suspension

CLUSTER = re.compile(r"c-[0-9a-f]{12}")
HASHED = re.compile(r"[0-9a-f]{20}")

Subject = Annotated[str, typer.Argument(metavar="ACCOUNT|CLUSTER|ORG", help="An account (name, key or hash), a cluster's id, or with --org a name.")]
IsOrg = Annotated[bool, typer.Option("--org", help="It is an organisation.")]
Every = Annotated[bool, typer.Option("--all", help="Also those past or withdrawn.")]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(acknowledge)
    app.command()(acknowledgements)
    app.command()(withdraw)
    app.command()(suspend)
    app.command()(suspensions)
    app.command()(lift)


def acknowledge(
    subject: Subject,
    policy: PolicyFile,
    reason: Reason,
    until: Until,
    org: IsOrg = False,
    families: Annotated[str, typer.Option(help="Kinds of evidence, such as content,network.")] = "content,conversation,rhythm,network,client,identity",
) -> None:
    """Acknowledge evidence: it is explained, and is not held against an account, a cluster or an organisation until a day.

    However much more evidence of these kinds comes, it counts for nothing there; evidence of another kind counts as before. The running guard knows within
    a second or so. Whoever joins an acknowledged cluster is acknowledged with it.
    """
    from gateway_guard.policy.acknowledged import Acknowledgement, families_named  # noqa: PLC0415 - help must not wait for all of this

    try:
        kinds = families_named(families)
    except ValueError as error:
        raise UsageError(f"--families: {error}") from None
    kind, name, subjects = named(subject, policy, org=org)
    at = now()
    given = Acknowledgement(0, kind, name, subjects, kinds, checked_reason(reason), at + lead(), end_of(until))
    kept = open_ledger(policy).acknowledge(given, at, who())
    typer.echo(f"acknowledged as {kept.number}: {', '.join(kinds)} evidence does not count for {kind} {name} until {when(kept.until)}")


def acknowledgements(policy: PolicyFile, every: Every = False, as_json: AsJson = False) -> None:
    """List what is acknowledged."""
    _listed(open_ledger(policy).acknowledgements(), "nothing is acknowledged", every=every, as_json=as_json)


def withdraw(number: Annotated[int, typer.Argument(help="The acknowledgement's number.")], policy: PolicyFile, reason: Reason) -> None:
    """Take an acknowledgement back: its evidence counts again."""
    taken = open_ledger(policy).withdraw(number, now(), by=who(), reason=checked_reason(reason))
    typer.echo(f"withdrawn {number}: evidence counts again for {taken.kind} {taken.name}")


def suspend(subject: Subject, policy: PolicyFile, reason: Reason, until: Until, org: IsOrg = False) -> None:
    """Deny an account, a cluster or an organisation by hand, until a day.

    It needs no evidence, can be appealed against, and is for the rare case. The running guard knows within a second or so.
    Policies in shadow only record it, and exemptions come first.
    """
    from gateway_guard.policy.acknowledged import Suspension  # noqa: PLC0415

    kind, name, subjects = named(subject, policy, org=org)
    at, ledger = now(), open_ledger(policy)
    kept = ledger.suspend(Suspension(0, kind, name, subjects, checked_reason(reason), at + lead(), end_of(until)), at, who())
    typer.echo(f"suspended as {kept.number}: {kind} {name} is denied until {when(kept.until)}")


def suspensions(policy: PolicyFile, every: Every = False, as_json: AsJson = False) -> None:
    """List who is suspended by hand."""
    _listed(open_ledger(policy).suspensions(), "nobody is suspended", every=every, as_json=as_json)


def lift(number: Annotated[int, typer.Argument(help="The suspension's number.")], policy: PolicyFile, reason: Reason) -> None:
    """End a suspension before its day."""
    lifted = open_ledger(policy).lift(number, now(), by=who(), reason=checked_reason(reason))
    typer.echo(f"lifted {number}: {lifted.kind} {lifted.name} is served again")


def named(subject: str, policy: Path, *, org: bool) -> tuple[Kind, str, tuple[str, ...]]:
    """What kind of thing it is, how it is shown, and the keyed hashes that it may stand for. What may be an API key is shown as its hash."""
    from gateway_guard.identity.pseudonyms import Pseudonyms  # noqa: PLC0415

    if CLUSTER.fullmatch(subject) and not org:
        return "cluster", subject, (subject,)
    hashes = Pseudonyms(read_key(policy))
    literal = (subject,) if HASHED.fullmatch(subject) else ()
    if org:
        return "org", subject, (*literal, hashes.text("org", subject))
    return ("account", subject, literal) if literal else _account(subject, policy, hashes)


def _account(subject: str, policy: Path, hashes: Pseudonyms) -> tuple[Kind, str, tuple[str, ...]]:
    """The account behind a name or a key, where a directory tells; else either reading."""
    from gateway_guard.identity.directory import CsvDirectory  # noqa: PLC0415

    by_name, by_key = hashes.text("account", subject), hashes.text("credential", subject)
    table = read_policy(policy).identity.directory
    directory = CsvDirectory.load(policy.parent / table, hashes) if table is not None else None
    found = (directory.account(by_name) or directory.find(by_key)) if directory is not None else None
    if directory is None or found is None:
        return "account", f"{by_name}/{by_key}", (by_name, by_key)
    return "account", directory.name(found.account), (found.account,)


def _listed(found: Sequence[Acknowledgement | Suspension], nothing: str, *, every: bool, as_json: bool) -> None:
    import msgspec  # noqa: PLC0415

    at = now()
    shown = [one for one in found if every or at < min(one.until, one.withdrawn)]
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(shown), indent=2).decode())
        return
    for one in shown:
        typer.echo(line(one, at))
    if not shown:
        typer.echo(nothing)


def line(one: Acknowledgement | Suspension, at: float) -> str:
    """One of them for the terminal."""
    state = "withdrawn" if one.withdrawn <= at else "past" if one.until <= at else f"until {when(one.until)}"
    families = f"  {', '.join(families)}" if (families := getattr(one, "families", ())) else ""
    appeal = f" (appeal {found})" if (found := getattr(one, "appeal", "")) else ""
    return f"{one.number}  {one.kind} {one.name}{families}  {state}  {one.reason}{appeal}"
