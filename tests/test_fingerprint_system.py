"""System prompts and tools: what a harness sends is not the caller's own."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_guard.fingerprint import content, system, text
from gateway_guard.fingerprint.harness import Harness
from gateway_guard.fingerprint.keyed import Keyed

KEYED = Keyed(b"0123456789abcdef")
PROMPT = "You are Hammer, the coding assistant of the terminal.\nBe brief, the output is shown in a narrow window.\nNever guess an address."
HARNESS = Harness([PROMPT], ["env"], ["Shell", "ReadFile"])
OWN = "Our house style is tabs, never spaces.\nAll texts are in British spelling."


def mark(prompt: str) -> system.SystemMark:
    return system.mark(prompt, HARNESS, KEYED)


@pytest.mark.parametrize(
    "prompt",
    [
        "",
        "   \n\n",
        "Be nice.",
        PROMPT,
        PROMPT.upper(),
        f"# Hammer 2.1\n{PROMPT}\n<env>\nWorking directory: /home/ada/projects/engine\nPlatform: linux\n</env>",
        "Never guess an address. Be brief, the output is shown in a narrow window.",
    ],
)
def test_nothing_of_ones_own(prompt: str) -> None:
    assert mark(prompt) == system.NOTHING


def test_own_lines_are_left_of_a_known_prompt() -> None:
    alone, both = mark(OWN), mark(f"{PROMPT}\n\n{OWN}\n<env>Platform: darwin</env>")
    assert alone.system == both.system != 0
    assert alone.rules == both.rules
    assert len(alone.rules) == 2


@pytest.mark.parametrize(
    "other",
    [
        "Today is 24 December 2026. You answer for Bergmann & Sons, a family business of roofers. Be kind.",
        "Today is Dec 3, 2025. You answer for Vandelay Industries, a family business of roofers. Be kind.",
        "Today is 2026-11-25. You answer for Initech, a family business of roofers. BE KIND.",
        "Today is Friday, 2026-11-27. You answer for Initech, a family business of roofers.\n\nBe kind!",
    ],
)
def test_dates_names_and_layout_do_not_make_another_prompt(other: str) -> None:
    assert mark("Today is 1 May 2026. You answer for Acme, a family business of roofers. Be kind.").system == mark(other).system != 0


def test_another_rule_makes_another_prompt() -> None:
    assert mark("You answer for a family business of roofers. Be kind.").system != mark("You answer for a family business of roofers. Be strict.").system


def test_paths_do_not_count() -> None:
    assert (
        mark("The sources are in /home/ada/engine and the tests beside them.").system == mark("The sources are in ~/code/x.y and the tests beside them.").system
    )


def test_an_instruction_is_the_same_sentence_in_the_system_prompt_and_in_the_turn() -> None:
    head, _ = text.edges("What is the tallest tree? Our house style is tabs, never spaces.")
    assert set(mark(OWN).rules) & set(content.templates(head, HARNESS, KEYED))


def test_a_context_that_changes_leaves_the_rules_alone() -> None:
    """Retrieved passages in the system prompt: another prompt each time, with the same first sentences."""
    one, other = (
        mark(f"{OWN}\nPassage: {passage}")
        for passage in ("The crane is a wading bird of the northern marshes.", "A crane lifts loads by ropes and sheaves on a tower.")
    )
    assert one.system != other.system
    assert set(mark(OWN).rules) <= set(one.rules) & set(other.rules)


def openai(name: str, *parameters: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "description": "x", "parameters": {"type": "object", "properties": {p: {} for p in parameters}}}}


def responses(name: str, *parameters: str) -> dict[str, Any]:
    return {"type": "function", "name": name, "parameters": {"type": "object", "properties": {p: {} for p in parameters}}}


def anthropic(name: str, *parameters: str) -> dict[str, Any]:
    return {"name": name, "input_schema": {"type": "object", "properties": {p: {} for p in parameters}}}


@pytest.mark.parametrize(
    "tools", [None, [], (), "tools", 7, {"name": "x"}, [1, None, "x"], [{}], [{"name": 3}], [openai("Shell", "command"), anthropic("ReadFile")]]
)
def test_no_tools_of_ones_own(tools: Any) -> None:
    assert system.tools(tools, HARNESS, KEYED) == 0


@pytest.mark.parametrize("form", [openai, responses, anthropic])
def test_tools_are_the_same_in_any_dialect_and_order(form: Any) -> None:
    one = [openai("find_order", "number", "mail"), openai("refund", "number")]
    other = [form("refund", "number"), form("Shell", "command"), form("find_order", "mail", "number")]
    assert system.tools(one, HARNESS, KEYED) == system.tools(other, HARNESS, KEYED) != 0


@pytest.mark.parametrize("other", [[openai("find_order", "number")], [openai("find_order", "number", "name")], [openai("find_orders", "number", "mail")]])
def test_other_tools(other: list[Any]) -> None:
    assert system.tools([openai("find_order", "number", "mail")], HARNESS, KEYED) != system.tools(other, HARNESS, KEYED)


def test_tools_of_the_server_count_by_their_type() -> None:
    assert system.tools([{"type": "web_search_preview"}], HARNESS, KEYED) != 0


@pytest.mark.parametrize("spec", [{"properties": ["a"]}, {"properties": None}, "text", 5])
def test_odd_schemas_are_no_mistake(spec: Any) -> None:
    assert system.tools([{"name": "find_order", "parameters": spec}], HARNESS, KEYED) == system.tools([{"name": "find_order"}], HARNESS, KEYED)
