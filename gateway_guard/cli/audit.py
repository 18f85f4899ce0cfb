"""`gateway-guard audit`: read and check the audit log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway_guard.cli.state import AsJson, is_kept, open_ledger, read_key, read_policy, when
from gateway_guard.errors import UsageError

if TYPE_CHECKING:
    from gateway_guard.trace.verify import Head

audit = typer.Typer(help="Verify or show the audit log.", no_args_is_help=True)
Files = Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="Files of the log; without any, all that the policy names.", show_default=False)]
PolicyFile = Annotated[
    Path | None, typer.Option("--policy", envvar="GATEWAY_GUARD_POLICY", help="The policy file: its log, its key, its state.", show_default=False)
]


def register(app: typer.Typer) -> None:
    """Add the verbs."""
    app.add_typer(audit, name="audit")


@audit.command()
def verify(files: Files = None, policy: PolicyFile = None) -> None:
    """Verify that nothing in the audit log was edited, removed, moved or cut off.

    Every entry is sealed under the installation's key (GATEWAY_GUARD_KEY, GATEWAY_GUARD_KEY_FILE, or beside the policy) over the one before it, and every file
    over the file before it. That the newest file was not cut off is checked against the state, when the policy keeps one.
    Exit code: 0 it holds, 1 it does not, 2 called wrongly.
    """
    from gateway_guard.trace.seal import Sealer  # noqa: PLC0415 - help must not wait for all of this
    from gateway_guard.trace.verify import verify as check  # noqa: PLC0415

    paths = chosen(files, policy)
    checked = check(paths, Sealer(read_key(policy or paths[0])), heads=_heads(policy), whole=not files)
    for note in checked.notes:
        typer.echo(f"note: {note}", err=True)
    for mistake in checked.mistakes:
        typer.echo(str(mistake))
    if checked.mistakes:
        raise typer.Exit(1)
    typer.echo(f"ok: {checked.entries:,} entries in {checked.files} file{'' if checked.files == 1 else 's'}, nothing changed, nothing missing")


@audit.command()
def show(
    files: Files = None,
    policy: PolicyFile = None,
    kind: Annotated[str, typer.Option(help="Only this kind, such as denied; `action` is every action.*.")] = "",
    about: Annotated[str, typer.Option(help="Only entries in which this account, cluster, decision or appeal occurs.")] = "",
    since: Annotated[str, typer.Option(help="Only from this day (UTC) on, such as 2027-03-31.")] = "",
    as_json: AsJson = False,
) -> None:
    """Show what the audit log says, the oldest first.

    It is not checked here: `audit verify` does that.
    """
    begin = _day(since)
    for entry, raw in read_entries(chosen(files, policy)):
        if entry["at"] < begin or (kind and entry["kind"] != kind and not entry["kind"].startswith(kind + ".")) or (about and not _mentions(entry, about)):
            continue
        typer.echo(raw if as_json else told(entry))


def chosen(files: list[Path] | None, policy: Path | None) -> list[Path]:
    """The files that are meant, oldest first."""
    if files:
        missing = [path for path in files if not path.exists()]
        if missing:
            raise UsageError(f"{missing[0]}: no such file")
        return sorted(files)
    if policy is None:
        raise UsageError("give a file of the audit log, or --policy for all that it names")
    name = read_policy(policy).record.audit
    if name is None:
        raise UsageError(f"{policy}: keeps no audit log: give it `record: {{audit: guard/audit.jsonl}}`")
    base = policy.parent / name
    pattern = re.compile(rf"{re.escape(base.stem)}\.\d{{6,12}}\.jsonl")
    found = sorted(path for path in base.parent.glob("*") if pattern.fullmatch(path.name))
    if not found:
        raise UsageError(f"{base}: nothing has been written yet")
    return found


def told(entry: dict[str, Any]) -> str:
    """One entry for the terminal."""
    rest = {key: value for key, value in entry.items() if key not in ("v", "n", "at", "kind", "prev", "seal") and value not in ("", [], None)}
    says = "  ".join(f"{key} {when(value) if key in ('until', 'first', 'applies', 'since') else _short(value)}" for key, value in rest.items())
    # What a log holds may come from somebody who means the terminal.
    return "".join(char if char.isprintable() else "?" for char in f"{when(entry['at'])}  {entry['kind']}  {says}".rstrip())


def _short(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value[:5])) + (f" and {len(value) - 5} more" if len(value) > 5 else "")
    return str(value)


def _heads(policy: Path | None) -> list[Head]:
    from gateway_guard.trace.verify import Head  # noqa: PLC0415

    return [Head(*row) for row in open_ledger(policy).heads()] if policy is not None and is_kept(policy) else []


def read_entries(paths: list[Path]) -> Iterator[tuple[dict[str, Any], str]]:
    """The entries of these files as values and as they stand there; what is none is told."""
    import msgspec  # noqa: PLC0415

    from gateway_guard.trace.verify import entries  # noqa: PLC0415

    for path in paths:
        for number, line in entries(path):
            try:
                entry = msgspec.json.decode(line)
                yield {"at": 0.0, "kind": "?", **entry}, line.decode().rstrip("\n")
            except (msgspec.DecodeError, UnicodeDecodeError, TypeError):
                typer.echo(f"{path}:{number}: is not an entry", err=True)


def _mentions(value: Any, about: str) -> bool:
    if isinstance(value, dict):
        return any(_mentions(inner, about) for inner in value.values())
    if isinstance(value, list):
        return any(_mentions(inner, about) for inner in value)
    return bool(value == about)


def _day(since: str) -> float:
    import datetime  # noqa: PLC0415

    from gateway_guard.policy.units import day  # noqa: PLC0415

    if not since:
        return 0.0
    try:
        return datetime.datetime.combine(day(since), datetime.time(), datetime.UTC).timestamp()
    except ValueError as error:
        raise UsageError(f"--since: {error}") from None
