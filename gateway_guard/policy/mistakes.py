"""What the types find wrong, as sentences for the person who wrote the file: what is wrong; what was probably meant."""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pydantic_core import ErrorDetails

from gateway_guard.policy import model
from gateway_guard.policy.tree import Problem, Steps, Tree

# What other products call it -> what it is called here. Used for keys and for values, where the answer is allowed.
_ELSEWHERE: Mapping[str, tuple[str, ...]] = {
    "rate": ("limit",), "action": ("do",), "then": ("do",), "response": ("do",), "threshold": ("at",), "score": ("at",), "min_score": ("at",),
    "expires": ("until",), "expiry": ("until",), "scope": ("per",), "key": ("per",), "unit": ("limit",), "amount": ("limit",), "rungs": ("ladder",),
    "thresholds": ("ladder",), "limits": ("quotas",), "budgets": ("quotas",), "tiers": ("plans",), "exceptions": ("exemptions",), "allowlist": ("exemptions",),
    "multiplier": ("scale",), "factor": ("scale",), "because": ("reason",), "comment": ("reason",), "max": ("ceiling",), "cap": ("ceiling",),
    "dry-run": ("shadow",), "dry_run": ("shadow",), "log": ("shadow",), "observe": ("shadow",), "monitor": ("shadow",), "simulate": ("shadow",),
    "on": ("enforce", "accept"), "true": ("enforce", "accept"), "yes": ("enforce", "accept"), "active": ("enforce",), "disabled": ("off", "shadow"),
    "false": ("off", "refuse"), "no": ("off", "refuse"), "off": ("shadow", "refuse"), "reject": ("refuse", "deny"), "block": ("deny", "refuse"),
    "ban": ("deny",), "slow": ("throttle",), "delay": ("throttle",), "pass": ("allow",), "user": ("account",), "ip": ("network",), "address": ("network",),
    "tenant": ("org",), "organisation": ("org",), "organization": ("org",), "team": ("org",), "max_tokens": ("asked",),
}  # fmt: skip

_TRY = {
    "version": "version: 1", "name": "name: production", "limit": "limit: 60/min", "id": "id: tight", "at": "at: 2.0", "do": "do: throttle",
    "until": "until: 2027-03-31", "reason": "reason: agreed load test", "start": "start: 20%", "over": "over: 14d", "input": "input: $3",
    "issuer": "issuer: https://login.example.com", "audience": "audience: llm-api", "algorithms": "algorithms: [RS256]", "account": "account: x-account",
}  # fmt: skip

_ASIDE = {"cluster": "; what a cluster shares is listed in `clusters.share`"}

_KINDS = {dict: "a mapping", list: "a list", str: "a text", bool: "true or false", int: "a number", float: "a number", type(None): "empty"}
_BOUNDS = {"gt": "more than {}", "ge": "{} or more", "lt": "less than {}", "le": "{} or less"}


class Keys:
    """The keys that a kind of file may have, from its JSON Schema. `under`: the steps from the top of the file to the part that the schema describes."""

    def __init__(self, schema: Mapping[str, Any], under: Steps = ()) -> None:
        self._whole = schema
        self._under = len(under)

    def known(self, steps: Steps) -> list[str]:
        """Those of the mapping at `steps`."""
        part = self._plain(self._whole)
        for step in steps[self._under :]:
            part = self._plain(self._inside(part, step))
        return list(part.get("properties", ()))

    def homes(self, name: str) -> list[str]:
        """The paths of all mappings that have the key `name`."""
        return [home for key, home in self._all(self._whole, "") if key == name]

    def _all(self, part: Mapping[str, Any], path: str) -> Iterator[tuple[str, str]]:
        """Every key of the schema with the path of the mapping that it belongs to."""
        part = self._plain(part)
        for name, child in part.get("properties", {}).items():
            yield name, path
            yield from self._all(child, f"{path}.{name}" if path else name)
        for key in ("additionalProperties", "items"):
            if isinstance(part.get(key), dict):
                yield from self._all(part[key], f"{path}.*" if key != "items" else f"{path}[]")

    def _plain(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        """A part of the schema with its reference followed; of alternatives, the one that is a mapping."""
        for option in (part, *part.get("anyOf", ())):
            if "$ref" in option:
                return self._plain(self._whole["$defs"][option["$ref"].rpartition("/")[2]])
        return part

    def _inside(self, part: Mapping[str, Any], step: str | int) -> Mapping[str, Any]:
        for child in (part.get("properties", {}).get(step), part.get("additionalProperties"), part.get("items")):
            if isinstance(child, dict):
                return child
        return {}


@functools.cache
def policy_keys() -> Keys:
    """The keys of a policy."""
    return Keys(model.schema())


def explain(error: ErrorDetails, tree: Tree, keys: Keys | None = None, under: Steps = ()) -> Problem:
    """One finding of pydantic as a problem in the file; it looked at what lies `under` these steps, and `keys` says what could stand there."""
    steps: Steps = (*under, *error["loc"])
    at = tree.find(steps[:-1] if error["type"] == "missing" else steps).at
    return Problem(at, _sentence(error, steps, tree, keys or policy_keys()))


def meant(word: str, known: Iterable[str]) -> str:
    """The known word that `word` probably stands for, else nothing."""
    choices = {name.lower(): name for name in known}
    lower = word.lower().replace("-", "_")
    for other in (lower, *_ELSEWHERE.get(word.lower(), ())):
        if other in choices:
            return choices[other]
    near = difflib.get_close_matches(lower, choices, 1)
    return choices[near[0]] if near else ""


def _sentence(error: ErrorDetails, steps: Steps, tree: Tree, keys: Keys) -> str:
    kind, value, name = error["type"], error["input"], tree.name(steps)
    context: Mapping[str, Any] = error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown_key(steps, tree, keys)
    if kind == "missing":
        return f"`{name}` is missing; add for example `{_TRY.get(str(steps[-1]), f'{steps[-1]}: ...')}`"
    if kind == "value_error":
        return f"`{name}`: {context['error']}"
    return f"`{name}` {_state(kind, value, context) or 'is not accepted: ' + error['msg']}"


def _state(kind: str, value: object, context: Mapping[str, Any]) -> str:
    """What the value is, and what it must be."""
    if value is None:
        return "is empty; give it a value, or take the line out"
    if kind == "literal_error":
        return _not_among(value, context["expected"])
    if kind.endswith("_type") or kind == "int_from_float":
        return f"must be {_expected(kind, value)}"
    if kind == "finite_number":
        return "must be a finite number"
    if kind in ("too_short", "string_too_short"):
        return f"is too short; it needs at least {context['min_length']} {'item(s)' if kind == 'too_short' else 'characters'}"
    return next((f"is {value} and must be {said.format(f'{context[key]:g}')}" for key, said in _BOUNDS.items() if key in context), "")


def _unknown_key(steps: Steps, tree: Tree, keys: Keys) -> str:
    key, above = str(steps[-1]), steps[:-1]
    where = f" in `{tree.name(above)}`" if above else ""
    known = keys.known(above)
    if near := meant(key, known):
        return f"unknown key `{key}`{where}; did you mean `{near}`?"
    homes = keys.homes(key)
    if homes:
        at_home = " or ".join(f"under `{home}`" if home else "at the left margin" for home in homes)
        return f"unknown key `{key}`{where}; it belongs {at_home}"
    return f"unknown key `{key}`{where}; known here: {', '.join(known)}"


def _not_among(value: object, expected: str) -> str:
    allowed = re.findall(r"'([^']+)'", expected) or re.findall(r"\d+", expected)
    said = str(value).lower() if isinstance(value, bool) else str(value)
    if said in allowed:
        return "is a text and must be a number; take the quotes off"
    near = meant(said, allowed) if isinstance(value, str | bool) else ""
    listed = f"it must be {'one of ' if len(allowed) > 1 else ''}{', '.join(allowed)}"
    shown = f"`{said}`" if not isinstance(value, dict | list) else _KINDS[type(value)]
    return f"is {shown}; " + (f"did you mean `{near}`? ({listed})" if near else listed + _ASIDE.get(said, ""))


def _expected(kind: str, value: object) -> str:
    have = _KINDS.get(type(value), "something else")
    wanted = {
        "string": "a text",
        "list": "a list",
        "dict": "a mapping (`key: value`, indented)",
        "model": "a mapping (`key: value`, indented)",
        "int": "a whole number",
        "bool": "true or false",
    }
    text = f"{wanted.get(kind.partition('_')[0], 'a number')}, not {value if isinstance(value, float) else have}"
    if kind == "string_type" and not isinstance(value, dict | list):
        return f'{text}; put it in quotes: "{str(value).lower() if isinstance(value, bool) else value}"'
    if kind == "list_type" and not isinstance(value, dict):
        return f"{text}; write `[{value}]`"
    if isinstance(value, str) and re.fullmatch(r"-?[0-9.]{1,20}", value):
        return f"{text}; take the quotes off"
    return text
