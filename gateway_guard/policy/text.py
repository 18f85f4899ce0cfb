"""YAML text as a tree, read strictly.

A policy decides who is served, so nothing in its file may mean anything else than it seems to: a key twice is a mistake, only `true` and
`false` are booleans (`no` and `off` are texts), numbers are decimal, tags and merge keys are refused, anchors are bounded. Mistakes are
collected, so that one run shows them all; only a text that is not YAML ends the reading.
"""

from __future__ import annotations

import re
from typing import Any, NoReturn

import yaml

from gateway_guard.policy.tree import Place, Problem, Tree

DEEPEST = 20  # mappings and lists within each other; a policy has five
MOST_VALUES = 50_000  # a policy with a thousand quotas has ten thousand
MOST_ALIASES = 100

# Without libyaml PyYAML reads the same, slower.
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_WHOLE = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,2}(?:_[0-9]{3}){1,5}|[1-9][0-9]{0,17})", re.ASCII)
_DECIMAL = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{0,18})?|\.[0-9]{1,18})(?:[eE][-+]?[0-9]{1,3})?", re.ASCII)
_OCTAL = re.compile(r"[-+]?0[0-9_]{1,20}", re.ASCII)

# What libyaml says, and what it mostly means.
_HINTS = (
    ("mapping values are not allowed", "a line is indented too far, or a text that holds `: ` needs quotes"),
    ("cannot start any token", "indent with spaces, never tabs; a text that starts with `@`, `%` or a backquote needs quotes"),
    ("undefined alias", "a text that starts with `*` needs quotes"),
    ("did not find expected ',' or", "a bracket is not closed, or a comma is missing"),
    ("did not find expected node content", "a bracket is not closed"),
    ("unexpected end of stream", "a quote is not closed"),
    ("could not find expected ':'", "a `:` is missing after a key"),
    ("did not find expected", "the indentation does not match the lines above"),
    ("another document", "a policy is one document: take the `---` out"),
    ("control characters", "save the file as plain UTF-8 text"),
)


class Unreadable(Exception):
    """The text is not YAML, or more than is read; carries the one problem."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


def read(text: str, name: str, problems: list[Problem]) -> Tree:
    """The tree of `text`. Adds mistakes to `problems`, with `name` as their file; raises Unreadable when there is no tree."""
    reader = _Reader(name, problems)
    try:
        reader.bound(text)
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        raise Unreadable(_broken(error, text, name)) from None
    if not isinstance(node, yaml.MappingNode):
        reader.stop(node.start_mark if node else None, "a policy is a mapping; it starts with `version: 1` and `name: ...`")
    return Tree(reader.mapping(node, depth=1), (name, 1))


class _Reader:
    def __init__(self, name: str, problems: list[Problem]) -> None:
        self.name = name
        self.problems = problems
        self.values = 0

    def bound(self, text: str) -> None:
        """Refuse bombs before they are built, and tags, which nodes no longer tell from what was resolved."""
        depth = aliases = 0
        for event in yaml.parse(text, Loader=_LOADER):
            depth += isinstance(event, yaml.CollectionStartEvent)
            depth -= isinstance(event, yaml.CollectionEndEvent)
            aliases += isinstance(event, yaml.AliasEvent)
            if depth > DEEPEST:
                self.stop(event.start_mark, f"more than {DEEPEST} mappings and lists within each other; a policy needs five")
            if aliases > MOST_ALIASES:
                self.stop(event.start_mark, f"more than {MOST_ALIASES} aliases (`*name`); write the values out, or use `include`")
            if getattr(event, "tag", None):
                self.note(self.place(event.start_mark), f"the tag `{event.tag}` is not used here; write the plain value")  # type: ignore[attr-defined]

    def tree(self, node: Any, depth: int, at: Place | None = None) -> Tree:
        self.values += 1
        if depth > DEEPEST:
            self.stop(node.start_mark, "an alias (`*name`) holds itself; write the value out")
        if self.values > MOST_VALUES:
            self.stop(node.start_mark, f"more than {MOST_VALUES} values; write the policy with fewer aliases")
        at = at or self.place(node.start_mark)
        if isinstance(node, yaml.MappingNode):
            return Tree(self.mapping(node, depth + 1), at)
        if isinstance(node, yaml.SequenceNode):
            return Tree([self.tree(child, depth + 1) for child in node.value], at)
        return Tree(node.value if node.style else self.scalar(node.value, at), at)

    def mapping(self, node: yaml.MappingNode, depth: int) -> dict[str, Tree]:
        entries: dict[str, Tree] = {}
        for key_node, value_node in node.value:
            key, at = key_node.value, self.place(key_node.start_mark)
            if not isinstance(key, str) or not key:
                self.note(at, "a key must be a text")
            elif ("{" in key or "[" in key) and not key_node.style:
                self.note(at, f"`{key.split('{')[0].split('[')[0].strip()}` lacks its `:`; write `key: {{...}}`")
            elif key == "<<" and not key_node.style:
                self.note(at, "`<<` is not used here; build on another file with `include`")
            elif key in entries:
                self.note(at, f"`{key}` stands here a second time, the first is in line {entries[key].at[1]}; keep one of them")
            else:
                entries[key] = self.tree(value_node, depth, at)
        return entries

    def scalar(self, text: str, at: Place) -> Any:
        """What a text without quotes stands for."""
        if text in ("", "~", "null"):
            return None
        if text in ("true", "false"):
            return text == "true"
        if _WHOLE.fullmatch(text):
            return int(text)
        if _DECIMAL.fullmatch(text):
            return float(text)
        if _OCTAL.fullmatch(text):
            self.note(at, f"`{text}` starts with a 0, which is read in different ways; write `{text.lstrip('+-0_') or '0'}`, or put a text in quotes")
        return text

    def place(self, mark: Any) -> Place:
        return (self.name, int(mark.line) + 1)

    def note(self, at: Place, says: str) -> None:
        self.problems.append(Problem(at, says))

    def stop(self, mark: Any, says: str) -> NoReturn:
        raise Unreadable(Problem(self.place(mark) if mark else (self.name, 1), says))


def _broken(error: yaml.YAMLError, text: str, name: str) -> Problem:
    mark = getattr(error, "problem_mark", None)
    line = int(mark.line) if mark else text[: int(getattr(error, "position", 0))].count("\n")
    said = str(getattr(error, "problem", None) or getattr(error, "reason", None) or "cannot be read")
    hint = next((f"; {hint}" for sign, hint in _HINTS if sign in said), "")
    return Problem((name, min(line, text.count("\n")) + 1), f"not YAML: {said}{hint}")
