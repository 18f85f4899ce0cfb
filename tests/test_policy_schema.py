"""The JSON Schema agrees with the loader about every good file."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway_guard.policy import text
from gateway_guard.policy.model import Policy, schema

ROOT = Path(__file__).parent
FILES = [*ROOT.glob("policies/good/*.yaml"), *(path for path in (ROOT.parent / "policies").glob("*.yaml") if not path.name.endswith(".cases.yaml"))]
SCHEMA = schema()
TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "integer": (int,), "number": (int, float), "null": (type(None),), "boolean": (bool,),
}  # fmt: skip
KNOWN = {
    "$defs", "$ref", "$schema", "additionalProperties", "anyOf", "const", "default", "description", "enum", "examples", "exclusiveMinimum",
    "format", "items", "maximum", "minItems", "minLength", "minimum", "pattern", "properties", "required", "title", "type",
}  # fmt: skip


def plain(path: Path) -> Any:
    return text.read(path.read_text(), path.name, []).plain()


def wrong(value: Any, part: Mapping[str, Any], at: str = "$") -> Iterator[str]:
    """What does not fit, for the part of JSON Schema that is used."""
    assert set(part) <= KNOWN, set(part) - KNOWN
    if "$ref" in part:
        yield from wrong(value, SCHEMA["$defs"][part["$ref"].rpartition("/")[2]], at)
    if "anyOf" in part and all(list(wrong(value, option, at)) for option in part["anyOf"]):
        yield f"{at}: none of the alternatives"
    if "type" in part and (not isinstance(value, TYPES[part["type"]]) or (isinstance(value, bool) and part["type"] != "boolean")):
        yield f"{at}: not {part['type']}"
        return
    if value not in part.get("enum", [value]) or value != part.get("const", value):
        yield f"{at}: not an allowed value"
    if isinstance(value, str) and not re.search(part.get("pattern", ""), value):
        yield f"{at}: {value} does not match {part['pattern']}"
    if isinstance(value, int | float) and not (
        part.get("minimum", value) <= value <= part.get("maximum", value) and value > part.get("exclusiveMinimum", value - 1)
    ):
        yield f"{at}: out of bounds"
    if isinstance(value, list) and "items" in part:
        for index, item in enumerate(value):
            yield from wrong(item, part["items"], f"{at}[{index}]")
    if isinstance(value, dict):
        yield from wrong_entries(value, part, at)


def wrong_entries(value: dict[str, Any], part: Mapping[str, Any], at: str) -> Iterator[str]:
    yield from (f"{at}: lacks {key}" for key in part.get("required", ()) if key not in value)
    for key, item in value.items():
        inside = part.get("properties", {}).get(key, part.get("additionalProperties", {}))
        if inside is False:
            yield f"{at}: unknown {key}"
        else:
            yield from wrong(item, inside, f"{at}.{key}")


@pytest.mark.parametrize("path", [path for path in FILES if "version" in plain(path)], ids=lambda path: path.stem)
def test_good_files_fit(path: Path) -> None:
    assert list(wrong(plain(path), SCHEMA)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"mode": "on"},
        {"colour": "red"},
        {"version": 2},
        {"quotas": {"a": {}}},
        {"quotas": {"a": {"limit": 60}}},
        {"quotas": {"a": {"limit": "abc"}}},
        {"accounts": 0},
    ],
)
def test_mistakes_do_not_fit(change: dict[str, Any]) -> None:
    assert list(wrong({"version": 1, "name": "test", **change}, SCHEMA))


def test_defaults_fit_their_own_schema() -> None:
    """An editor that fills in a default must not be told that it is wrong."""
    for part in (SCHEMA, *SCHEMA["$defs"].values()):
        for key, inside in part["properties"].items():
            if "default" in inside:
                assert list(wrong(inside["default"], {k: v for k, v in inside.items() if k != "default"}, key)) == []


def test_a_policy_written_out_is_the_same_policy() -> None:
    policy = Policy.model_validate({"version": 1, "name": "test", "quotas": {"a": {"limit": "2M tokens/day", "burst": "200k"}}})
    assert Policy.model_validate_json(policy.model_dump_json()) == policy
    assert list(wrong(policy.model_dump(mode="json"), SCHEMA)) == []


def test_it_names_its_dialect_and_every_key() -> None:
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert set(SCHEMA["properties"]) == {*Policy.model_fields, "include"}
