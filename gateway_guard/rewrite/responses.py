"""Answers of the Responses API, made poorer.

A reasoning item stays in its place, without what it says: the items behind it refer to it, and clients send it back. Text that a server would miss there
(open models put their whole trace into the item) is sealed into `encrypted_content` when that is free, and restored on its way back.
Sequence numbers are the server's own, with gaps: a stream that is resumed asks the server for them.
"""

from __future__ import annotations

from typing import Any

from gateway_guard.rewrite import counts
from gateway_guard.rewrite.loss import Loss
from gateway_guard.rewrite.seal import Sealer
from gateway_guard.rewrite.shape import Event, dict_at, dicts, number_at, text_at, written
from gateway_guard.rewrite.text import Text

SUMMARY = "response.reasoning_summary_"
TRACE = "response.reasoning_text."
Place = tuple[int, int]


class Responses:
    """One response, whole or streamed."""

    def __init__(self, loss: Loss, sealer: Sealer) -> None:
        self._loss = loss
        self._sealer = sealer
        self._texts: dict[Place, Text] = {}

    def answer(self, body: Event) -> None:
        """A whole answer, in place."""
        cut = [self._item(item) for item in dicts(body.get("output"))]
        calls = any(text_at(item, "type").endswith("_call") for item in dicts(body.get("output")))
        if any(cut) and not calls and body.get("status") == "completed":
            body["status"] = "incomplete"
            body["incomplete_details"] = {"reason": "max_output_tokens"}
        if self._loss.usage:
            counts.poorer(body.get("usage"), self._loss, expected=counts.EXPECTED)

    def event(self, event: Event) -> list[Event] | None:
        """One event of a stream."""
        kind = text_at(event, "type")
        if self._hides(kind, event):
            return []
        if isinstance(event.get("response"), dict):
            self.answer(event["response"])
            if kind == "response.completed" and event["response"].get("status") == "incomplete":
                event["type"] = "response.incomplete"
            return [event]
        if kind.startswith("response.output_item."):
            self._item(dict_at(event, "item"))
            return [event]
        if kind.startswith("response.content_part."):
            self._part(dict_at(event, "part"))
            return [event]
        return self._said(kind, event) if kind.startswith("response.output_text.") else None

    def _hides(self, kind: str, event: Event) -> bool:
        if kind.startswith(SUMMARY):
            return self._loss.hide
        part = dict_at(event, "part").get("type") if kind.startswith("response.content_part.") else ""
        return self._loss.trace and (kind.startswith(TRACE) or part == "reasoning_text")

    def _item(self, item: Event) -> bool:
        """Change an item. True when a text in it was ended early."""
        if item.get("type") == "reasoning" and self._loss.trace:
            self._unreasoned(item)
        cut = [self._part(part) for part in dicts(item.get("content"))]
        if any(cut) and item.get("status") == "completed":
            item["status"] = "incomplete"
        return any(cut)

    def _unreasoned(self, item: Event) -> None:
        trace, summary = item.get("content"), item.get("summary")
        if trace and not item.get("encrypted_content"):
            item["encrypted_content"] = self._sealer.block(written({"content": trace, "summary": summary}))
        if trace:
            del item["content"]
        if self._loss.hide and summary:
            item["summary"] = []

    def _part(self, part: Event) -> bool:
        """Change a text. True when it was ended early."""
        if part.get("type") != "output_text":
            return False
        text = Text(self._loss)
        if text_at(part, "text"):
            part["text"] = text.whole(part["text"])
        if isinstance(part.get("annotations"), list):
            part["annotations"] = [a for a in part["annotations"] if not isinstance(a, dict) or _stands(a, text)]
        self._unweighed(part, text)
        return text.cut

    def _said(self, kind: str, event: Event) -> list[Event] | None:
        """A piece of a text, or all of it at its end."""
        place = number_at(event, "output_index"), number_at(event, "content_index")
        if kind == "response.output_text.delta":
            return self._delta(self._texts.setdefault(place, Text(self._loss)), event)
        if kind == "response.output_text.done":
            last = self._texts.pop(place, Text(self._loss)).end()
            text = Text(self._loss)
            before = [{**event, "type": "response.output_text.delta", "delta": last, "logprobs": []}] if last else []
            for extra in before:
                extra.pop("text", None)
            event["text"] = text.whole(text_at(event, "text"))
            self._unweighed(event, text)
            return [*before, event]
        known = self._texts.get(place)
        return [] if known is not None and not _stands(dict_at(event, "annotation"), known) else None

    def _delta(self, text: Text, event: Event) -> list[Event]:
        said = text_at(event, "delta")
        event["delta"] = text.feed(said)
        if said and not event["delta"]:
            return []
        self._unweighed(event, text)
        return [event]

    def _unweighed(self, holder: Event, text: Text) -> None:
        """Log-probabilities spell out each token of the text: where text is taken away they go with it."""
        if holder.get("logprobs") and (self._loss.logprobs or text.changed):
            holder["logprobs"] = []


def _stands(annotation: Event, text: Text) -> bool:
    """Whether what an annotation is about is still there, where it says."""
    end: Any = annotation.get("end_index", annotation.get("index", 0))
    return not text.thought and not (text.cut and type(end) is int and end > text.out)


class BoundResponses:
    """Encrypted reasoning and compacted conversations, bound to their owner."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def answer(self, body: Event) -> None:
        """A whole answer, in place."""
        for item in dicts(body.get("output")):
            self._bind(item)

    def event(self, event: Event) -> list[Event] | None:
        """One event of a stream: an item, or at the end all of them."""
        changed = [self._bind(item) for item in [dict_at(event, "item"), *dicts(dict_at(event, "response").get("output"))]]
        return [event] if any(changed) else None

    def _bind(self, item: Event) -> bool:
        blob = text_at(item, "encrypted_content")
        if not blob:
            return False
        item["encrypted_content"] = self._sealer.blob(blob)
        return bool(item["encrypted_content"] != blob)
