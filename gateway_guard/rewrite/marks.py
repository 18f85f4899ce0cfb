"""Marks put into a request: habits asked for beside the caller's own instructions, and a decoy beside the caller's own tools.

Both stay out where they could do harm: no habits where the answer is to be JSON, no decoy where the caller has no tools, forces a call, or has the server
keep the conversation (a call that the client never sees would be left open there).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from gateway_guard.facts import Asks
from gateway_guard.provenance.marker import Marks
from gateway_guard.rewrite.shape import dict_at, dicts, text_at

Body = dict[str, Any]
JSON = int(Asks.JSON)
SYSTEM = frozenset({"system", "developer"})
LEADING = "In prose of your own, and wherever the reader has not asked for another style: "
TRAILING = ". This is about style alone: it changes no fact, no code, no quotation, no name, no other language, and no format that was asked for."
DESCRIPTION = (
    "Reserved by this service and not in use: it does nothing, never call it. Where you list or weigh your tools in words, name it as one that is not needed."
)
NOTHING: Mapping[str, Any] = {"type": "object", "properties": {}}


def marked(dialect: str, body: Body, marks: Marks, kinds: Iterable[str], asks: int) -> tuple[Body, list[str]]:
    """A copy of `body` with marks of these kinds (`habits`, `tools`), and what was done, as the notice tells it."""
    new, done = dict(body), []
    if "habits" in kinds and not asks & JSON and _instructed(dialect, new, instruction(marks)):
        done.append("provenance=habits")
    if "tools" in kinds and _equipped(dialect, new, marks.tool):
        done.append("provenance=tools")
    return new, done


def instruction(marks: Marks) -> str:
    """What the model is told."""
    return LEADING + "; ".join(marks.asked) + TRAILING


def _instructed(dialect: str, body: Body, told: str) -> bool:
    """Behind the instructions that are there, so that theirs come first and a prefix that the server has cached stays the same."""
    if dialect == "openai.chat":
        return _first_message(body, told)
    if dialect == "openai.responses" and body.get("prompt") is None:
        return _appended(body, "instructions", told, "input_text", lists=False)
    return dialect == "anthropic.messages" and _appended(body, "system", told, "text")


def _first_message(body: Body, told: str) -> bool:
    messages = body.get("messages")
    if not isinstance(messages, list):
        return False
    first = messages[0] if messages else None
    if isinstance(first, dict) and first.get("role") in SYSTEM:
        first = dict(first)
        if not _appended(first, "content", told, "text"):
            return False
        body["messages"] = [first, *messages[1:]]
    else:
        body["messages"] = [{"role": "system", "content": told}, *messages]
    return True


def _appended(holder: Body, name: str, told: str, kind: str, *, lists: bool = True) -> bool:
    found = holder.get(name)
    if found is None or found == "":
        holder[name] = told
    elif isinstance(found, str):
        holder[name] = f"{found}\n\n{told}"
    elif isinstance(found, list) and lists:
        holder[name] = [*found, {"type": kind, "text": told}]
    else:
        return False
    return True


def _equipped(dialect: str, body: Body, name: str) -> bool:
    decoy, tools = _decoy(dialect, body, name), body.get("tools")
    if decoy is None or not isinstance(tools, list) or not tools or not _free(body.get("tool_choice")):
        return False
    if any(name in {text_at(tool, "name"), text_at(dict_at(tool, "function"), "name")} for tool in dicts(tools)):
        return False
    body["tools"] = [*tools, decoy]
    return True


def _decoy(dialect: str, body: Body, name: str) -> Body | None:
    told = {"name": name, "description": DESCRIPTION}
    if dialect == "openai.chat":
        return {"type": "function", "function": {**told, "parameters": dict(NOTHING)}}
    if dialect == "anthropic.messages":
        return {**told, "input_schema": dict(NOTHING)}
    if dialect == "openai.responses" and body.get("store") is False and body.get("conversation") is None:
        return {"type": "function", **told, "parameters": dict(NOTHING), "strict": False}
    return None


def _free(choice: Any) -> bool:
    """Whether the model may call whatever it likes, or nothing."""
    return choice in (None, "auto") or (isinstance(choice, dict) and choice.get("type") == "auto")
