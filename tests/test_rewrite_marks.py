"""Marks in requests: where they go, and where they stay out."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_guard.facts import Asks
from gateway_guard.provenance.marker import Marker
from gateway_guard.rewrite.marks import instruction, marked

MARKS = Marker(b"k" * 32).of("c1")
TOLD = instruction(MARKS)
BOTH = ("habits", "tools")
LOOK: dict[str, Any] = {"name": "look", "parameters": {}}
USER: dict[str, Any] = {"role": "user", "content": "Tea?"}
FUNCTION: dict[str, Any] = {"type": "function", "function": LOOK}
CASES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "no instructions yet": ("openai.chat", {"messages": [USER]}, {"messages": [{"role": "system", "content": TOLD}, USER]}),
    "behind the caller's own": (
        "openai.chat",
        {"messages": [{"role": "developer", "content": "Be brief."}, USER]},
        {"messages": [{"role": "developer", "content": f"Be brief.\n\n{TOLD}"}, USER]},
    ),
    "in parts": (
        "openai.chat",
        {"messages": [{"role": "system", "content": [{"type": "text", "text": "Be brief."}]}]},
        {"messages": [{"role": "system", "content": [{"type": "text", "text": "Be brief."}, {"type": "text", "text": TOLD}]}]},
    ),
    "responses": ("openai.responses", {"input": "Tea?", "instructions": "Be brief."}, {"input": "Tea?", "instructions": f"Be brief.\n\n{TOLD}"}),
    "a stored prompt has its own instructions": ("openai.responses", {"prompt": {"id": "p"}}, {"prompt": {"id": "p"}}),
    "messages": ("anthropic.messages", {"messages": [USER]}, {"messages": [USER], "system": TOLD}),
    "messages with a cached prefix": (
        "anthropic.messages",
        {"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}]},
        {"system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}, {"type": "text", "text": TOLD}]},
    ),
    "completions": ("openai.completions", {"prompt": "Tea"}, {"prompt": "Tea"}),
    "embeddings": ("openai.embeddings", {"input": "Tea"}, {"input": "Tea"}),
}


@pytest.mark.parametrize(("dialect", "body", "expected"), CASES.values(), ids=CASES)
def test_habits_are_asked_for_beside_the_callers_instructions(dialect: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    before = repr(body)
    new, done = marked(dialect, body, MARKS, BOTH, 0)
    assert (new, done) == (expected, ["provenance=habits"] if new != body else [])
    assert repr(body) == before, "the caller's body is left as it is"


def test_an_answer_in_json_has_no_habits() -> None:
    assert marked("openai.chat", {"messages": [USER]}, MARKS, BOTH, int(Asks.JSON)) == ({"messages": [USER]}, [])


EQUIPPED: dict[str, tuple[str, dict[str, Any], bool]] = {
    "chat": ("openai.chat", {"tools": [FUNCTION]}, True),
    "messages": ("anthropic.messages", {"tools": [LOOK], "tool_choice": {"type": "auto"}}, True),
    "responses that are not stored": ("openai.responses", {"tools": [LOOK], "store": False, "tool_choice": "auto"}, True),
    "responses that are": ("openai.responses", {"tools": [LOOK]}, False),
    "no tools": ("openai.chat", {"tools": []}, False),
    "a forced call": ("openai.chat", {"tools": [FUNCTION], "tool_choice": "required"}, False),
    "a certain call": ("anthropic.messages", {"tools": [LOOK], "tool_choice": {"type": "tool", "name": "look"}}, False),
    "no call": ("openai.chat", {"tools": [FUNCTION], "tool_choice": "none"}, False),
    "the name is taken": ("openai.chat", {"tools": [{"type": "function", "function": {"name": MARKS.tool}}]}, False),
    "completions": ("openai.completions", {"tools": [FUNCTION]}, False),
}


@pytest.mark.parametrize(("dialect", "body", "is_added"), EQUIPPED.values(), ids=EQUIPPED)
def test_a_decoy_comes_where_a_call_of_it_breaks_nothing(dialect: str, body: dict[str, Any], is_added: bool) -> None:
    new, done = marked(dialect, body, MARKS, ["tools"], 0)
    assert done == (["provenance=tools"] if is_added else [])
    assert new["tools"][: len(body["tools"])] == body["tools"]
    assert (MARKS.tool in str(new["tools"][len(body["tools"]) :])) == is_added
