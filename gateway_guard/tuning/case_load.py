"""A file of policy cases: read as strictly as a policy, every mistake at once, with file and line."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from pydantic import ValidationError

from gateway_guard.errors import PolicyError
from gateway_guard.makers.model import MAKERS
from gateway_guard.policy import mistakes, text
from gateway_guard.policy.mistakes import Keys, meant
from gateway_guard.policy.strict import Rules
from gateway_guard.policy.tree import Place, Problem, Steps, Tree
from gateway_guard.tuning.case_model import ALL, CaseFile, CaseRules, LogSource, Outcomes, Source

SUFFIX = ".cases.yaml"
LARGEST = 2**20  # bytes in a file
_MAPPING = "a file of cases is a mapping; it starts with `version: 1` and `cases:`"

T = TypeVar("T", bound=Rules)


class Case(msgspec.Struct, frozen=True):
    """One case. `place` is where it stands, `places` where each expectation does: by part and field, or by part, `reasons` and code."""

    id: str
    says: str
    traffic: Mapping[str, Source]
    calibrated: bool
    expect: Mapping[str, Outcomes]
    place: Place
    places: Tree


class Cases(msgspec.Struct, frozen=True):
    """All cases of a file. `benign`: the made traffic that the analyst is calibrated on, empty for none."""

    path: Path
    policy: Path
    file: CaseFile
    benign: Mapping[str, Source]
    cases: tuple[Case, ...]


def beside(policy: Path) -> Path:
    """Where the cases of a policy are, if it has any."""
    return policy.with_name(policy.stem + SUFFIX)


def load_cases(path: Path) -> Cases:
    """The cases in a file, or PolicyError."""
    reader = _Reader(path)
    tree = reader.tree()
    file = reader.typed(CaseFile, tree, (), _keys(CaseFile)) if tree is not None else None
    if tree is None or file is None:
        raise reader.refused()
    benign = reader.parts(file.calibration.traffic, tree, ("calibration", "traffic"), logs=False) if file.calibration else {}
    cases = [reader.case(rules, tree, number) for number, rules in enumerate(file.cases)]
    reader.once(cases)
    if file.calibration is None:
        reader.problems += [Problem(case.place, f"case `{case.id}` is calibrated, and the file has no `calibration`") for case in cases if case.calibrated]
    if reader.problems:
        raise reader.refused()
    policy = path.with_name(file.policy or path.name.removesuffix(SUFFIX) + ".yaml")
    return Cases(path, policy, file, benign, tuple(cases))


class _Reader:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []

    def refused(self) -> PolicyError:
        return PolicyError(list(dict.fromkeys(str(problem) for problem in sorted(self.problems, key=lambda problem: problem.at[1]))))

    def tree(self) -> Tree | None:
        try:
            with self.path.open("rb") as stream:
                raw = stream.read(LARGEST + 1)
            if len(raw) > LARGEST:
                self.wrong((str(self.path), 0), f"larger than {LARGEST // 2**20} MiB")
                return None
            return text.read(raw.decode("utf-8-sig"), str(self.path), self.problems)
        except OSError as error:
            self.wrong((str(self.path), 0), f"cannot be read: {(error.strerror or str(error)).lower()}")
        except UnicodeDecodeError:
            self.wrong((str(self.path), 0), "not UTF-8; save the file as UTF-8 text")
        except text.Unreadable as error:
            # The reader of policies calls whatever it reads a policy.
            says = error.problem.says
            self.wrong(error.problem.at, _MAPPING if says.startswith("a policy is a mapping") else says)
        return None

    def wrong(self, at: Place, says: str) -> None:
        self.problems.append(Problem(at, says))

    def typed(self, kind: type[T], tree: Tree, under: Steps, keys: Keys) -> T | None:
        """The part of the file `under` these steps as `kind`; None when it does not hold."""
        try:
            return kind.model_validate(tree.find(under).plain())
        except ValidationError as error:
            self.problems.extend(mistakes.explain(one, tree, keys, under) for one in error.errors(include_url=False)[:100])
            return None

    def case(self, rules: CaseRules, tree: Tree, number: int) -> Case:
        steps = ("cases", number)
        here = tree.find(steps)
        traffic = self.parts(rules.traffic, tree, (*steps, "traffic"), logs=True)
        for name in rules.expect:
            if name != ALL and name not in rules.traffic:
                near = meant(name, rules.traffic)
                hint = f"; did you mean `{near}`?" if near else f"; there is {', '.join(f'`{known}`' for known in (*rules.traffic, ALL))}"
                self.wrong(tree.find((*steps, "expect", name)).at, f"case `{rules.id}` has no traffic `{name}`{hint}")
        return Case(rules.id, rules.says, traffic, rules.calibrated, rules.expect, here.at, here.find(("expect",)))

    def parts(self, parts: Mapping[str, Any], tree: Tree, steps: Steps, *, logs: bool) -> dict[str, Source]:
        found = {name: self.source(tree, (*steps, name), logs=logs) for name in parts}
        if ALL in found:
            self.wrong(tree.find((*steps, ALL)).at, f"`{ALL}` stands for all traffic together; give this part another name")
        logged = [name for name, source in found.items() if isinstance(source, LogSource)]
        if logged and len(found) > 1:
            self.wrong(tree.find((*steps, logged[0])).at, "a log is played by itself: its times are its own; put made traffic into another case")
        return {name: source for name, source in found.items() if source is not None}

    def source(self, tree: Tree, steps: Steps, *, logs: bool) -> Source | None:
        here = tree.find(steps)
        maker = here.value.get("maker") if isinstance(here.value, dict) else None
        if logs and maker is None and isinstance(here.value, dict) and "log" in here.value:
            return self.typed(LogSource, tree, steps, _keys(LogSource, steps))
        kind = MAKERS.get(maker.value) if maker is not None and isinstance(maker.value, str) else None
        if kind is None:
            said = f"`{maker.value}`" if maker is not None else "nothing"
            near = meant(str(maker.value), MAKERS) if maker is not None else ""
            hint = f"did you mean `{near}`?" if near else f"it must be one of {', '.join(MAKERS)}"
            self.wrong(maker.at if maker is not None else here.at, f"`{tree.name(steps)}.maker` is {said}; {hint}")
            return None
        return self.typed(kind, tree, steps, _keys(kind, steps))

    def once(self, cases: list[Case]) -> None:
        seen: dict[str, int] = {}
        for case in cases:
            if case.id in seen:
                self.wrong(case.place, f"a case `{case.id}` is already in line {seen[case.id]}; give each an id of its own")
            seen.setdefault(case.id, case.place[1])


@functools.cache
def _schema(kind: type[Rules]) -> dict[str, Any]:
    return kind.model_json_schema(mode="validation")


def _keys(kind: type[Rules], under: Steps = ()) -> Keys:
    return Keys(_schema(kind), under)
