"""A policy from a file: read, judged and named by its digest; or refused with every mistake at once."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
from pydantic import ValidationError

from gateway_guard.errors import PolicyError
from gateway_guard.policy import mistakes
from gateway_guard.policy.files import Files
from gateway_guard.policy.lint import lint
from gateway_guard.policy.model import Policy
from gateway_guard.policy.tree import Problem, Tree

if TYPE_CHECKING:
    import datetime

MOST_TOLD = 100  # problems; who has more begins with these

# What stands in for a part that the types refuse while the other parts are still linted.
_BARE: dict[str, Any] = {"version": 1, "name": "unnamed"}


class Loaded(msgspec.Struct, frozen=True):
    """A policy that holds. `digest` is the same for the same meaning, whatever the layout; `files` is all that was read; `warnings` what is merely odd."""

    policy: Policy
    digest: str
    path: Path
    files: tuple[Path, ...] = ()
    warnings: tuple[str, ...] = ()


def load(path: Path, *, today: datetime.date | None = None) -> Loaded:
    """The policy in `path` and the files that it includes. With `today`, exemptions past their date are refused."""
    files = Files()
    tree = files.read(path)
    return _judged(tree, files, path, today)


def load_candidate(path: Path, *, today: datetime.date | None = None) -> Loaded:
    """The policy in `path`, to run beside the one that names it. One that it has from a file that it includes is not its own; its own is refused."""
    files = Files()
    tree = files.read(path)
    if files.whole and "candidate" in tree.value:
        own = tree.value.pop("candidate")
        if own.at[0] == str(path) and own.value is not None:
            files.problems.append(Problem(own.at, "a candidate has no candidate of its own; take the line out"))
    return _judged(tree, files, path, today)


def loads(text: str, name: str = "policy", *, today: datetime.date | None = None) -> Loaded:
    """The policy in `text`; `name` stands for the file in messages. It cannot include files: a text lies in no folder."""
    files = Files()
    tree = files.parse(text, name)
    if "include" in tree.value:
        files.problems.append(Problem(tree.value.pop("include").at, "`include` works in files only; write the included policy here"))
        files.whole = False
    return _judged(tree, files, Path(name), today)


def digest(policy: Policy) -> str:
    """Sixteen hex digits that are equal for policies that mean the same."""
    plain = policy.model_dump(mode="json")
    # What runs beside a policy changes nothing in it.
    del plain["candidate"]
    # The one mapping whose order has a meaning: the first price that fits is taken.
    plain["prices"] = list(plain["prices"].items())
    return hashlib.sha256(orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


def _judged(tree: Tree, files: Files, path: Path, today: datetime.date | None) -> Loaded:
    if not files.whole:
        raise _refused(files)
    policy, broken = _typed(tree, files)
    odd: list[Problem] = []
    for finding in lint(policy, at=today, broken=broken) if policy is not None else ():
        at = tree.find(finding.steps).at
        if finding.severe:
            files.problems.append(Problem(at, finding.says))
        else:
            odd.append(Problem(at, f"warning: {finding.says}"))
    if files.problems or policy is None:
        raise _refused(files)
    return Loaded(policy, digest(policy), path, tuple(files.files), tuple(map(str, _sorted(odd, files))))


def _typed(tree: Tree, files: Files) -> tuple[Policy | None, set[str]]:
    """The policy as types, as far as it goes, and the sections that do not hold."""
    plain = tree.plain()
    try:
        return Policy.model_validate(plain), set()
    except ValidationError as error:
        found = error.errors(include_url=False)[: MOST_TOLD + 1]
    files.problems.extend(mistakes.explain(one, tree) for one in found)
    named = {str(one["loc"][0]) for one in found}
    # A section whose name is misspelt is as good as broken: what refers to it is not wrong for that.
    broken = named | {mistakes.meant(name, Policy.model_fields) for name in named}
    return _rest(plain, broken), broken


def _rest(plain: dict[str, Any], broken: Collection[str]) -> Policy | None:
    """The policy without its broken sections, for lint to look at the others."""
    try:
        return Policy.model_validate(_BARE | {key: value for key, value in plain.items() if key not in broken})
    except ValidationError:
        return None


def _refused(files: Files) -> PolicyError:
    told = [str(problem) for problem in _sorted(files.problems, files)]
    return PolicyError(told if len(told) <= MOST_TOLD else [*told[:MOST_TOLD], "and more; begin with these"])


def _sorted(problems: Sequence[Problem], files: Files) -> list[Problem]:
    """In the order of reading, without repetitions."""
    order = {str(path): index for index, path in enumerate(files.files)}
    return sorted(dict.fromkeys(problems), key=lambda problem: (order.get(problem.at[0], len(order)), problem.at[1]))
