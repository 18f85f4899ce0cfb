"""The documents name what exists, and all that exists is in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from gateway_guard.cli.app import app
from gateway_guard.policy.model import schema

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "SECURITY.md", ROOT / "policies" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)


def _commands(command: Any, name: str = "") -> Iterator[tuple[str, set[str]]]:
    yield name, {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for verb, part in getattr(command, "commands", {}).items():
        yield from _commands(part, f"{name} {verb}".strip())


COMMANDS = dict(_commands(typer.main.get_command(app)))
TEXT = "\n".join(path.read_text() for path in DOCUMENTS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_and_option_that_a_document_shows_exists(document: Path) -> None:
    wrong = []
    for call in re.findall(r"gateway-guard ([a-z]+\b[^\n`|#]*)", document.read_text()):
        words = call.split()
        name = " ".join(words[:2]) if " ".join(words[:2]) in COMMANDS else words[0]
        wrong += [call for option in re.findall(r"(?<!\S)\[?(--[a-z-]+)", call) if option not in COMMANDS.get(name, set())]
        wrong += [call] if name not in COMMANDS else []
    assert wrong == []


@pytest.mark.parametrize("name", sorted(COMMANDS.keys() - {""}))
def test_every_command_and_its_options_are_documented(name: str) -> None:
    assert re.search(rf"\b{name.rsplit(maxsplit=1)[-1]}\b", TEXT)
    assert [option for option in COMMANDS[name] if option.startswith("--") and option not in {"--help", "--cases"} and option not in TEXT] == []


def test_every_key_of_a_policy_is_in_the_reference() -> None:
    whole = schema()
    keys = {key for part in (whole, *whole["$defs"].values()) for key in part.get("properties", {})}
    reference = FENCED.sub("", (ROOT / "policies" / "README.md").read_text())
    named = {word for code in re.findall(r"`([^`\n]+)`", reference) for word in re.split(r"[^a-z_]+", code)}
    assert len(keys) > 100
    assert keys - named == set()
