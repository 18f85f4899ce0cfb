"""`gateway-guard check`: judge policy files, and try the cases beside them, before they are used."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_guard.errors import GuardError, PolicyError, UsageError

if TYPE_CHECKING:
    from gateway_guard.policy.load import Loaded

SUFFIXES = (".yaml", ".yml")
CASES = ".cases.yaml"
_POLICY = re.compile(r"^version\s*:", re.MULTILINE)


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command()(check)


def check(
    paths: Annotated[list[Path], typer.Argument(help="Policy files, or folders of them.", show_default=False)],
    strict: Annotated[bool, typer.Option("--strict", help="Count warnings as problems.")] = False,
    cases: Annotated[bool, typer.Option(help="Try the cases beside each policy (NAME.cases.yaml).")] = True,
) -> None:
    """Check policy files, and play the cases beside them.

    Every problem is told on a line of its own, with file and line; then the cases are tried: given traffic, expected outcomes.
    A file NAME.cases.yaml can be given by itself, too. In a folder, files without a `version` are parts for others to include, and are left out.
    Exit code: 0 all good, 1 problems, 2 nothing to check.
    """
    today = datetime.datetime.now(datetime.UTC).date()
    found = _policies(paths)
    good = [_judge(path, today, strict=strict) for path in found if not _is_cases(path)]
    if cases:
        good += [_try(path) for path in _cases(found)]
    raise typer.Exit(0 if all(good) else 1)


def _judge(path: Path, today: datetime.date, *, strict: bool) -> bool:
    from gateway_guard.policy.lists import load_lists  # noqa: PLC0415 - help must not wait for pydantic
    from gateway_guard.policy.load import load  # noqa: PLC0415

    try:
        loaded = load(path, today=today)
        load_lists(path.parent / name for name in loaded.policy.lists)
        beside = _candidate(loaded, path, today)
    except PolicyError as error:
        for problem in error.problems:
            typer.echo(problem)
        return False
    warnings = [*loaded.warnings, *beside]
    for warning in warnings:
        typer.echo(warning)
    if strict and warnings:
        return False
    typer.echo(f"ok {path} {loaded.digest} {_summary(loaded)}")
    return True


def _candidate(loaded: Loaded, path: Path, today: datetime.date) -> tuple[str, ...]:
    """What to know of the policy's candidate, which is judged with it."""
    if loaded.policy.candidate is None:
        return ()
    from gateway_guard.assembly import candidate_of  # noqa: PLC0415
    from gateway_guard.identity.pseudonyms import Pseudonyms  # noqa: PLC0415

    # Whose hashes exemptions stand for plays no part in judging.
    found = candidate_of(loaded.policy, path, Pseudonyms(b"only to judge a candidate"), today=today)
    return found.warnings if found is not None else ()


def _is_cases(path: Path) -> bool:
    return path.name.endswith(CASES)


def _cases(found: list[Path]) -> list[Path]:
    """The files of cases that were named, and those beside policies that were."""
    beside = [path if _is_cases(path) else path.with_name(path.stem + CASES) for path in found]
    return list(dict.fromkeys(path for path in beside if _is_cases(path) and path.exists()))


def _try(path: Path) -> bool:
    from gateway_guard.tuning.case_load import load_cases  # noqa: PLC0415 - help must not wait for numpy
    from gateway_guard.tuning.verdict import tried  # noqa: PLC0415

    try:
        loaded = load_cases(path)
        failures = tried(loaded)
    except GuardError as error:
        typer.echo(str(error))
        return False
    for failure in failures:
        typer.echo(failure)
    count = len(loaded.cases)
    typer.echo(f"{'failed' if failures else 'ok'} {path} ({count} case{'' if count == 1 else 's'})")
    return not failures


def _summary(loaded: Loaded) -> str:
    policy = loaded.policy
    counts = {
        "plan": len(policy.plans),
        "quota": len(policy.quotas),
        "signal": len(policy.signals),
        "rung": len(policy.ladder),
        "exemption": len(policy.exemptions),
    }
    told = ", ".join(f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items() if count)
    return f"({policy.name}, {policy.mode}{f': {told}' if told else ''})"


def _policies(paths: list[Path]) -> list[Path]:
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            found += _inside(path)
        elif path.exists():
            found.append(path)
        else:
            raise UsageError(f"{path}: no such file or folder")
    return list(dict.fromkeys(found))


def _inside(folder: Path) -> list[Path]:
    files = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
    policies = [path for path in files if _is_cases(path) or _POLICY.search(path.read_text("utf-8", errors="replace"))]
    if not policies:
        raise UsageError(f"{folder}: no policy in this folder (a policy is a .yaml file with `version: 1`)")
    return policies
