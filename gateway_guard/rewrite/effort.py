"""How much a model is asked to reason, and how much of that it is asked to show.

What a conversation already carries stays: an API that is sent a tool's result wants the thinking that led to the call, whole and signed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

Body = dict[str, Any]

LEVELS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
# Thinking budgets in tokens; 1024 is the least that the Messages API takes.
BUDGETS: Mapping[str, int] = {"none": 1024, "minimal": 1024, "low": 1024, "medium": 4096}
THOUGHT = frozenset({"thinking", "redacted_thinking"})


def lowered(dialect: str, body: Body, most: str) -> Iterable[str]:
    """At most this effort, where the request chose one: a model that does not reason refuses the field."""
    if dialect == "anthropic.messages":
        yield from _thinking(body, most)
        yield from _nested(body, "output_config", "low" if most in {"none", "minimal"} else most)
    elif dialect in {"openai.chat", "openai.completions"}:
        asked = body.get("reasoning_effort")
        if _above(asked, most):
            body["reasoning_effort"] = most
            yield f"reasoning_effort={most}"
        yield from _nested(body, "reasoning", most, "max_tokens")
    elif dialect == "openai.responses":
        yield from _nested(body, "reasoning", most, missing=True)


def hidden(dialect: str, body: Body) -> Iterable[str]:
    """Show none of the reasoning. Encrypted reasoning is still asked for: without it a conversation that is not stored cannot go on."""
    reasoning = body.get("reasoning")
    if dialect == "openai.responses" and isinstance(reasoning, dict):
        shown = [name for name in ("summary", "generate_summary") if reasoning.get(name) is not None]
        if shown:
            body["reasoning"] = {name: value for name, value in reasoning.items() if name not in shown}
            yield "reasoning"
    if dialect == "openai.chat":
        if isinstance(reasoning, dict) and reasoning.get("exclude") is not True:
            body["reasoning"] = {**reasoning, "exclude": True}
            yield "reasoning"
        if body.get("include_reasoning") is True:
            body["include_reasoning"] = False
            yield "reasoning"


def summarised(dialect: str, body: Body) -> Iterable[str]:
    """Ask for a summary where reasoning is asked for and the API has one."""
    name, field, value = ("reasoning", "summary", "auto") if dialect == "openai.responses" else ("thinking", "display", "summarized")
    asked = body.get(name)
    if dialect not in {"openai.responses", "anthropic.messages"} or not isinstance(asked, dict) or asked.get("type") == "disabled":
        return
    if asked.get(field) not in {value, "concise", "omitted"}:
        body[name] = {**asked, field: value}
        yield f"reasoning={field}"


def budget(body: Mapping[str, Any]) -> int:
    """Tokens that a Messages request sets aside for thinking."""
    thinking = body.get("thinking")
    tokens = thinking.get("budget_tokens") if isinstance(thinking, dict) and thinking.get("type") == "enabled" else 0
    return tokens if isinstance(tokens, int) else 0


def _thinking(body: Body, most: str) -> Iterable[str]:
    thinking = body.get("thinking")
    if not isinstance(thinking, dict) or thinking.get("type") == "disabled":
        return
    if most == "none" and not _carries_thinking(body):
        del body["thinking"]
        _forget_clearing(body)
        yield "thinking=off"
    elif budget(body) > BUDGETS[most]:
        body["thinking"] = {**thinking, "budget_tokens": BUDGETS[most]}
        yield f"budget_tokens={BUDGETS[most]}"


def _forget_clearing(body: Body) -> None:
    """Clearing old thinking is refused where there is to be no thinking."""
    management = body.get("context_management")
    edits = management.get("edits") if isinstance(management, dict) else None
    if isinstance(management, dict) and isinstance(edits, list):
        kept = [edit for edit in edits if not (isinstance(edit, dict) and str(edit.get("type")).startswith("clear_thinking"))]
        body["context_management"] = {**management, "edits": kept}


def _nested(body: Body, name: str, most: str, *beside: str, missing: bool = False) -> Iterable[str]:
    """`effort` inside an object; what says the same `beside` it goes."""
    inner = body.get(name)
    if not isinstance(inner, dict):
        return
    asked = inner.get("effort")
    stated = [other for other in beside if inner.get(other) is not None]
    if _above(asked, most) or stated or (missing and asked is None):
        body[name] = {**{key: value for key, value in inner.items() if key not in stated}, "effort": asked if asked and not _above(asked, most) else most}
        yield f"reasoning_effort={body[name]['effort']}"


def _above(asked: Any, most: str) -> bool:
    """A level that is not known may be a higher one."""
    return isinstance(asked, str) and (asked not in LEVELS or LEVELS.index(asked) > LEVELS.index(most))


def _carries_thinking(body: Body) -> bool:
    messages = body.get("messages")
    contents = [m.get("content") for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    return any(isinstance(b, dict) and b.get("type") in THOUGHT for content in contents if isinstance(content, list) for b in content)
