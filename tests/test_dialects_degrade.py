"""A degraded request asks for less, in each dialect's own words, and for nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_guard.dialects.degrade import degrade

ALL = ("logprobs", "choices", "reasoning")
THOUGHT = [{"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"}]}]
EXTRAS = ["reasoning.encrypted_content", "message.output_text.logprobs"]
CARRIES_THOUGHT: dict[str, Any] = {"max_tokens": 9, "thinking": {"type": "enabled"}, "messages": THOUGHT}


@pytest.mark.parametrize(
    ("dialect", "body", "expected", "changes"),
    [
        ("openai.chat", {}, {"max_completion_tokens": 100}, ("max_tokens=100",)),
        ("openai.chat", {"max_tokens": 50}, {"max_tokens": 50}, ()),
        ("openai.chat", {"max_tokens": 500}, {"max_tokens": 100}, ("max_tokens=100",)),
        ("openai.chat", {"max_tokens": 9, "logprobs": True, "top_logprobs": 5, "n": 8}, {"max_tokens": 9}, ("logprobs", "n")),
        ("openai.chat", {"max_tokens": 9, "reasoning_effort": "high"}, {"max_tokens": 9, "reasoning_effort": "low"}, ("reasoning_effort=low",)),
        ("openai.completions", {"max_tokens": 9, "best_of": 4, "logprobs": 3}, {"max_tokens": 9}, ("logprobs", "n")),
        (
            "openai.responses",
            {"max_output_tokens": 9, "reasoning": {"effort": "high", "summary": "detailed"}, "include": [*EXTRAS, "x"]},
            {"max_output_tokens": 9, "reasoning": {"effort": "low"}, "include": ["x"]},
            ("logprobs", "reasoning_effort=low", "reasoning"),
        ),
        ("openai.embeddings", {"input": "x"}, {"input": "x"}, ()),
        ("anthropic.messages", {"max_tokens": 9, "thinking": {"type": "enabled", "budget_tokens": 1024}}, {"max_tokens": 9}, ("thinking=off",)),
        ("anthropic.messages", CARRIES_THOUGHT, CARRIES_THOUGHT, ()),
    ],
)  # fmt: skip
def test_less_is_asked(dialect: str, body: dict[str, Any], expected: dict[str, Any], changes: tuple[str, ...]) -> None:
    before = repr(body)
    got = degrade(dialect, body, max_tokens=100, strip=ALL)
    assert (got.body, got.changes) == (expected, changes)
    assert repr(body) == before, "the caller's body is left as it is"


def test_nothing_is_taken_that_the_profile_does_not_name() -> None:
    body = {"logprobs": True, "n": 3, "reasoning_effort": "high", "max_tokens": 9000}
    assert degrade("openai.chat", body, max_tokens=None, strip=()).body == body
