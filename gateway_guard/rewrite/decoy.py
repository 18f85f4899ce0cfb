"""Calls of a decoy tool, taken out of answers: a client never sees a tool that it has not declared.

The model is told never to call it. Where it does and says nothing else, there would be no answer left, and a conversation with an empty turn cannot go on in
every API: a sentence in brackets, the guard's own, takes its place.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway_guard.rewrite.shape import Event, Step, dict_at, dicts, number_at, text_at

ENDED = "[The answer ended here. Ask again to go on.]"


class DecoyInChoices:
    """Chat completions: of each choice, the calls that are left move up."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._taken: dict[int, set[int]] = {}
        self._left: set[int] = set()
        self._said: set[int] = set()

    def answer(self, body: Event) -> None:
        """A whole answer, in place."""
        for choice in dicts(body.get("choices")):
            message = dict_at(choice, "message")
            calls = message.get("tool_calls")
            kept = [call for call in calls if not self._is_decoy(call)] if isinstance(calls, list) else []
            if not isinstance(calls, list) or len(kept) == len(calls):
                continue
            message["tool_calls"] = kept
            if not kept:
                del message["tool_calls"]
                message["content"] = message.get("content") or ENDED
                _ended(choice)

    def event(self, event: Event) -> list[Event] | None:
        """One chunk."""
        changed, kept = False, []
        for choice in dicts(event.get("choices")):
            touched = self._chunk(choice)
            changed = changed or touched
            if not touched or choice.get("finish_reason") is not None or any(dict_at(choice, "delta").values()):
                kept.append(choice)
        if not changed:
            return None
        event["choices"] = kept
        return [event] if kept or event.get("usage") else []

    def _chunk(self, choice: Event) -> bool:
        """Change one choice of a chunk. False when it is left as it was."""
        index, delta = number_at(choice, "index"), dict_at(choice, "delta")
        if delta.get("content"):
            self._said.add(index)
        touched = self._without(index, delta)
        if choice.get("finish_reason") is not None and self._taken.get(index) and index not in self._left:
            if index not in self._said:
                choice["delta"] = {**delta, "content": ENDED}
            _ended(choice)
            return True
        return touched

    def _without(self, index: int, delta: Event) -> bool:
        calls, taken = delta.get("tool_calls"), self._taken.setdefault(index, set())
        if not isinstance(calls, list):
            return False
        taken |= {number_at(call, "index") for call in dicts(calls) if self._is_decoy(call)}
        if not taken:
            self._left.add(index)
            return False
        kept = [{**call, "index": place - sum(t < place for t in taken)} for call in dicts(calls) for place in [number_at(call, "index")] if place not in taken]
        if kept:
            self._left.add(index)
            delta["tool_calls"] = kept
        else:
            del delta["tool_calls"]
        return True

    def _is_decoy(self, call: Any) -> bool:
        return isinstance(call, dict) and dict_at(call, "function").get("name") == self._name


def _ended(choice: Event) -> None:
    if choice.get("finish_reason") in {"tool_calls", "function_call"}:
        choice["finish_reason"] = "stop"


class DecoyInMessages:
    """The Messages API: the blocks behind move up."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._taken: set[int] = set()
        self._blocks = 0
        self._calls = self._texts = False

    def answer(self, body: Event) -> None:
        """A whole answer, in place."""
        content = body.get("content")
        kept = [block for block in content if not self._is_decoy(block)] if isinstance(content, list) else []
        if not isinstance(content, list) or len(kept) == len(content):
            return
        if not any(block.get("type") in {"text", "tool_use"} for block in dicts(kept)):
            kept.append({"type": "text", "text": ENDED})
        body["content"] = kept
        if not any(block.get("type") == "tool_use" for block in dicts(kept)):
            _turned(body)

    def event(self, event: Event) -> list[Event] | None:
        """One event of a stream."""
        kind = event.get("type")
        if kind == "content_block_start":
            block = dict_at(event, "content_block")
            if self._is_decoy(block):
                self._taken.add(number_at(event, "index"))
                return []
            self._blocks += 1
            self._calls = self._calls or block.get("type") == "tool_use"
            self._texts = self._texts or block.get("type") == "text"
        if not self._taken:
            return None
        if kind in {"content_block_start", "content_block_delta", "content_block_stop"}:
            place = number_at(event, "index")
            return [] if place in self._taken else [{**event, "index": place - sum(taken < place for taken in self._taken)}]
        if kind == "message_delta" and not self._calls:
            _turned(dict_at(event, "delta"))
            return [*([] if self._texts else self._ending()), event]
        return None

    def _ending(self) -> list[Event]:
        place = self._blocks
        start = {"type": "content_block_start", "index": place, "content_block": {"type": "text", "text": ""}}
        delta = {"type": "content_block_delta", "index": place, "delta": {"type": "text_delta", "text": ENDED}}
        return [start, delta, {"type": "content_block_stop", "index": place}]

    def _is_decoy(self, block: Any) -> bool:
        return isinstance(block, dict) and block.get("type") == "tool_use" and block.get("name") == self._name


def _turned(holder: Event) -> None:
    if holder.get("stop_reason") == "tool_use":
        holder["stop_reason"] = "end_turn"


class DecoyInResponses:
    """The Responses API: the items behind move up."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._taken: set[int] = set()
        self._items = 0
        self._spoke = False

    def answer(self, body: Event) -> None:
        """A whole answer, in place."""
        output = body.get("output")
        kept = [item for item in output if not self._is_decoy(item)] if isinstance(output, list) else []
        if not isinstance(output, list) or len(kept) == len(output):
            return
        if not any(item.get("type") != "reasoning" for item in dicts(kept)):
            kept.append(_message())
        body["output"] = kept

    def event(self, event: Event) -> list[Event] | None:
        """One event of a stream."""
        kind, item, place = text_at(event, "type"), dict_at(event, "item"), number_at(event, "output_index")
        if kind == "response.output_item.added":
            if self._is_decoy(item):
                self._taken.add(place)
                return []
            self._items += 1
            self._spoke = self._spoke or item.get("type") != "reasoning"
        if not self._taken:
            return None
        if "output_index" in event:
            return [] if place in self._taken else [{**event, "output_index": place - sum(taken < place for taken in self._taken)}]
        if isinstance(event.get("response"), dict):
            self.answer(event["response"])
            ends = kind in {"response.completed", "response.incomplete"}
            return [*(_said(self._items, event) if ends and not self._spoke else []), event]
        return None

    def _is_decoy(self, item: Any) -> bool:
        return isinstance(item, dict) and item.get("type") == "function_call" and item.get("name") == self._name


def _message(text: str = ENDED, status: str = "completed") -> Event:
    return {"id": "msg_ended", "type": "message", "role": "assistant", "status": status, "content": [_part(text)] if text else []}


def _part(text: str) -> Event:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def _said(place: int, last: Event) -> list[Event]:
    """The events of a message, in front of the one that ends the stream."""
    where: Event = {"sequence_number": number_at(last, "sequence_number"), "output_index": place}
    inside: Event = {**where, "item_id": "msg_ended", "content_index": 0}
    return [
        {"type": "response.output_item.added", **where, "item": _message("", "in_progress")},
        {"type": "response.content_part.added", **inside, "part": _part("")},
        {"type": "response.output_text.delta", **inside, "delta": ENDED, "logprobs": []},
        {"type": "response.output_text.done", **inside, "text": ENDED, "logprobs": []},
        {"type": "response.content_part.done", **inside, "part": _part(ENDED)},
        {"type": "response.output_item.done", **where, "item": _message()},
    ]


DECOYS: Mapping[str, Callable[[str], Step]] = {"openai.chat": DecoyInChoices, "openai.responses": DecoyInResponses, "anthropic.messages": DecoyInMessages}
