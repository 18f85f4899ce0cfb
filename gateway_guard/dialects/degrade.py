"""Asking the model server for less than the caller did: a shorter answer, without what only a trainer needs. Poorer, never wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

# For each dialect: where an answer's length is capped (the first that is set, else the first), and what is taken away or lowered.
CAPS = {
    "openai.chat": ("max_completion_tokens", "max_tokens"),
    "openai.responses": ("max_output_tokens",),
    "openai.completions": ("max_tokens",),
    "openai.embeddings": (),
    "anthropic.messages": ("max_tokens",),
}
LOGPROBS = ("logprobs", "top_logprobs")
CHOICES = ("n", "best_of")
ENCRYPTED = "reasoning.encrypted_content"


class Degraded(NamedTuple):
    """The body to send instead, and what was changed, as the notice tells it."""

    body: dict[str, Any]
    changes: tuple[str, ...]


def degrade(dialect: str, body: dict[str, Any], *, max_tokens: int | None, strip: Iterable[str]) -> Degraded:
    """`body` is left as it is; a request that asks for nothing of the kind comes back unchanged."""
    new, changes = dict(body), list[str]()
    if max_tokens is not None:
        _cap(dialect, new, max_tokens, changes)
    for what in strip:
        if what == "logprobs":
            _drop(new, LOGPROBS, "logprobs", changes)
            _include(new, lambda item: "logprobs" not in item, "logprobs", changes)
        elif what == "choices":
            _drop(new, CHOICES, "n", changes)
        else:
            _reasoning(dialect, new, changes)
    return Degraded(new, tuple(dict.fromkeys(changes)))


def _cap(dialect: str, body: dict[str, Any], most: int, changes: list[str]) -> None:
    names = CAPS[dialect]
    if not names:
        return
    name = next((name for name in names if name in body), names[0])
    asked = body.get(name)
    if not isinstance(asked, int | float) or asked > most:
        body[name] = most
        changes.append(f"max_tokens={most}")


def _drop(body: dict[str, Any], names: Iterable[str], change: str, changes: list[str]) -> None:
    for name in names:
        if body.get(name):
            del body[name]
            changes.append(change)


def _include(body: dict[str, Any], keep: Any, change: str, changes: list[str]) -> None:
    """The Responses API asks for extras by name."""
    listed = body.get("include")
    if isinstance(listed, list):
        kept = [item for item in listed if not isinstance(item, str) or keep(item)]
        if len(kept) < len(listed):
            body["include"] = kept
            changes.append(change)


def _reasoning(dialect: str, body: dict[str, Any], changes: list[str]) -> None:
    """The least effort, and none of it shown. Thinking that a conversation already carries stays: its signatures must come back whole."""
    if dialect == "openai.chat" and body.get("reasoning_effort") not in {None, "low", "minimal", "none"}:
        body["reasoning_effort"] = "low"
        changes.append("reasoning_effort=low")
    if dialect == "openai.responses":
        reasoning = body.get("reasoning")
        if isinstance(reasoning, dict):
            body["reasoning"] = {"effort": "low"}
            changes.append("reasoning_effort=low")
        _include(body, lambda item: item != ENCRYPTED, "reasoning", changes)
    if dialect == "anthropic.messages" and isinstance(body.get("thinking"), dict) and not _has_thinking(body):
        del body["thinking"]
        changes.append("thinking=off")


def _has_thinking(body: dict[str, Any]) -> bool:
    messages = body.get("messages")
    blocks = [m.get("content") for m in messages if isinstance(m, dict)] if isinstance(messages, list) else []
    return any(isinstance(b, dict) and b.get("type") in {"thinking", "redacted_thinking"} for c in blocks if isinstance(c, list) for b in c)
