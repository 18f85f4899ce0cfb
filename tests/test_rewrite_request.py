"""A degraded request asks for less, in each dialect's own words, and for nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from gateway_guard.policy.profile import Hint, Profile, Sampling
from gateway_guard.rewrite.request import degrade

PLAIN = Profile(max_tokens=100, effort="low", strip=["logprobs", "choices", "reasoning", "usage"])
THOUGHT = [{"role": "assistant", "content": [{"type": "thinking", "thinking": "t", "signature": "s"}]}]
EXTRAS = ["reasoning.encrypted_content", "message.output_text.logprobs"]
CLEARING = {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}, {"type": "clear_tool_uses_20250919"}]}
LOW, ADAPTIVE = {"effort": "low"}, {"type": "adaptive"}
ENABLED = {"type": "enabled", "budget_tokens": 9000}


@pytest.mark.parametrize(
    ("dialect", "body", "expected", "changes"),
    [
        ("openai.chat", {}, {"max_completion_tokens": 100}, ("max_tokens=100",)),
        ("openai.chat", {"max_tokens": 50}, {"max_tokens": 50}, ()),
        ("openai.chat", {"max_tokens": 50, "max_completion_tokens": 900}, {"max_tokens": 50, "max_completion_tokens": 100}, ("max_tokens=100",)),
        ("openai.chat", {"max_tokens": 9, "logprobs": True, "top_logprobs": 5, "n": 8}, {"max_tokens": 9}, ("logprobs", "n")),
        ("openai.chat", {"max_tokens": 9, "reasoning_effort": "high"}, {"max_tokens": 9, "reasoning_effort": "low"}, ("reasoning_effort=low",)),
        ("openai.chat", {"max_tokens": 9, "reasoning_effort": "minimal"}, {"max_tokens": 9, "reasoning_effort": "minimal"}, ()),
        ("openai.chat", {"max_tokens": 9, "reasoning_effort": "utmost"}, {"max_tokens": 9, "reasoning_effort": "low"}, ("reasoning_effort=low",)),
        (
            "openai.chat",
            {"max_tokens": 9, "reasoning": {"max_tokens": 5000}, "include_reasoning": True},
            {"max_tokens": 9, "reasoning": {"effort": "low", "exclude": True}, "include_reasoning": False},
            ("reasoning_effort=low", "reasoning"),
        ),
        ("openai.completions", {"max_tokens": 9, "best_of": 4, "logprobs": 0}, {"max_tokens": 9}, ("logprobs", "n")),
        (
            "openai.responses",
            {"max_output_tokens": 9, "reasoning": {"effort": "high", "summary": "detailed"}, "include": [*EXTRAS, "x"], "top_logprobs": 3},
            {"max_output_tokens": 9, "reasoning": {"effort": "low"}, "include": ["reasoning.encrypted_content", "x"]},
            ("reasoning_effort=low", "logprobs", "reasoning"),
        ),
        ("openai.responses", {"max_output_tokens": 9, "reasoning": {}}, {"max_output_tokens": 9, "reasoning": {"effort": "low"}}, ("reasoning_effort=low",)),
        ("openai.embeddings", {"input": "x"}, {"input": "x"}, ()),
        (
            "anthropic.messages",
            {"max_tokens": 20000, "thinking": ENABLED},
            {"max_tokens": 1124, "thinking": {"type": "enabled", "budget_tokens": 1024}},
            ("budget_tokens=1024", "max_tokens=1124"),
        ),
        ("anthropic.messages", {"max_tokens": 9, "output_config": {"effort": "max"}}, {"max_tokens": 9, "output_config": LOW}, ("reasoning_effort=low",)),
        ("anthropic.messages", {"max_tokens": 500, "thinking": ADAPTIVE}, {"max_tokens": 100, "thinking": ADAPTIVE}, ("max_tokens=100",)),
    ],
)  # fmt: skip
def test_less_is_asked(dialect: str, body: dict[str, Any], expected: dict[str, Any], changes: tuple[str, ...]) -> None:
    before = repr(body)
    got = degrade(dialect, body, PLAIN)
    assert (got.body, got.changes) == (expected, changes)
    assert repr(body) == before, "the caller's body is left as it is"


@pytest.mark.parametrize(
    ("dialect", "profile", "body", "expected", "changes"),
    [
        ("anthropic.messages", Profile(effort="none"), {"thinking": ENABLED, "context_management": CLEARING},
         {"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}}, ("thinking=off",)),
        ("anthropic.messages", Profile(effort="none"), {"thinking": ENABLED, "messages": THOUGHT},
         {"thinking": {"type": "enabled", "budget_tokens": 1024}, "messages": THOUGHT}, ("budget_tokens=1024",)),
        ("anthropic.messages", Profile(summary=True), {"thinking": ENABLED}, {"thinking": {**ENABLED, "display": "summarized"}}, ("reasoning=display",)),
        ("anthropic.messages", Profile(summary=True), {"thinking": {"type": "disabled"}}, {"thinking": {"type": "disabled"}}, ()),
        ("openai.responses", Profile(summary=True), {"reasoning": {"summary": "detailed"}}, {"reasoning": {"summary": "auto"}}, ("reasoning=summary",)),
        ("openai.responses", Profile(summary=True), {"reasoning": {"summary": "concise"}}, {"reasoning": {"summary": "concise"}}, ()),
        ("openai.chat", Profile(summary=True), {"reasoning_effort": "high"}, {"reasoning_effort": "high"}, ()),
        ("openai.chat", Profile(models={"small": "small", "large-*": "small"}), {"model": "large-2"}, {"model": "small"}, ("model=small",)),
        ("openai.chat", Profile(models={"small": "small", "*": "large"}), {"model": "small"}, {"model": "small"}, ()),
        ("openai.chat", Profile(sampling=Sampling(remove=["seed", "logit_bias"], temperature=0.7)), {"seed": 1, "temperature": 0},
         {"temperature": 0.7}, ("seed=default", "temperature=0.7")),
        ("openai.responses", Profile(sampling=Sampling(top_k=40, top_p=0.9)), {}, {"top_p": 0.9}, ("top_p=0.9",)),
        ("openai.embeddings", Profile(sampling=Sampling(top_p=0.9), max_tokens=5), {}, {}, ()),
        ("openai.chat", Profile(hint=Hint(header="x-mark", value="on")), {"logprobs": True, "n": 3}, {"logprobs": True, "n": 3}, ()),
    ],
)  # fmt: skip
def test_each_way_of_being_poorer(dialect: str, profile: Profile, body: dict[str, Any], expected: dict[str, Any], changes: tuple[str, ...]) -> None:
    assert degrade(dialect, body, profile) == (expected, changes)
