"""`gateway-guard acknowledge`, `acknowledgements`, `withdraw`: evidence that is known and not held against somebody."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_guard.cli.state import AsJson, PolicyFile, Reason, Until, checked_reason, end_of, now, open_ledger, read_key, read_policy, when, who
from gateway_guard.errors import UsageError

if TYPE_CHECKING:
    from gateway_guard.identity.pseudonyms import Pseudonyms
    from gateway_guard.policy.acknowledged import Acknowledgement, Kind

CLUSTER = re.compile(r"c-[0-9a-f]{12}")
HASHED = re.compile(r"[0-9a-f]{20}")


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(acknowledge)
    app.command()(acknowledgements)
    app.command()(withdraw)


def acknowledge(
    subject: Annotated[str, typer.Argument(metavar="ACCOUNT|CLUSTER|ORG", help="An account (name, key or hash), a cluster's id, or with --org a name.")],
    policy: PolicyFile,
    reason: Reason,
    until: Until,
    org: Annotated[bool, typer.Option("--org", help="It is an organisation.")] = False,
    families: Annotated[str, typer.Option(help="Kinds of evidence, such as content,network.")] = "content,conversation,rhythm,network,client,identity",
) -> None:
    """Acknowledge evidence: it is explained, and is not held against an account, a cluster or an organisation until a day.

    However much more evidence of these kinds comes, it counts for nothing there; evidence of another kind counts as before. The running guard knows within
    a second or so. Whoever joins an acknowledged cluster is acknowledged with it.
    """
    from gateway_guard.appeals.ledger import LEAD  # noqa: PLC0415 - help must not wait for all of this
    from gateway_guard.policy.acknowledged import Acknowledgement, families_named  # noqa: PLC0415

    try:
        kinds = families_named(families)
    except ValueError as error:
        raise UsageError(f"--families: {error}") from None
    kind, name, subjects = named(subject, policy, org=org)
    at = now()
    given = Acknowledgement(0, kind, name, subjects, kinds, checked_reason(reason), at + LEAD, end_of(until))
    kept = open_ledger(policy).acknowledge(given, at, who())
    typer.echo(f"acknowledged as {kept.number}: {', '.join(kinds)} evidence does not count for {kind} {name} until {when(kept.until)}")


def acknowledgements(
    policy: PolicyFile, every: Annotated[bool, typer.Option("--all", help="Also those past or withdrawn.")] = False, as_json: AsJson = False
) -> None:
    """List what is acknowledged."""
    import msgspec  # noqa: PLC0415

    at = now()
    found = [one for one in open_ledger(policy).acknowledgements() if every or at < min(one.until, one.withdrawn)]
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    for one in found:
        typer.echo(line(one, at))
    if not found:
        typer.echo("nothing is acknowledged")


def withdraw(number: Annotated[int, typer.Argument(help="The acknowledgement's number.")], policy: PolicyFile, reason: Reason) -> None:
    """Take an acknowledgement back: its evidence counts again."""
    taken = open_ledger(policy).withdraw(number, now(), by=who(), reason=checked_reason(reason))
    typer.echo(f"withdrawn {number}: evidence counts again for {taken.kind} {taken.name}")


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


def line(one: Acknowledgement, at: float) -> str:
    """One acknowledgement for the terminal."""
    state = "withdrawn" if one.withdrawn <= at else "past" if one.until <= at else f"until {when(one.until)}"
    appeal = f" (appeal {one.appeal})" if one.appeal else ""
    return f"{one.number}  {one.kind} {one.name}  {', '.join(one.families)}  {state}  {one.reason}{appeal}"
