"""Answers of chat completions and of completions, made poorer."""

from __future__ import annotations

from typing import Any

from gateway_guard.rewrite import counts
from gateway_guard.rewrite.loss import Loss
from gateway_guard.rewrite.shape import Event, dict_at, dicts, number_at, text_at
from gateway_guard.rewrite.text import Text

# Under these names servers put their reasoning beside the content.
REASONING = ("reasoning_content", "reasoning", "reasoning_text", "thinking", "thinking_blocks")
THOUGHT_PARTS = frozenset({"thinking", "reasoning", "reasoning_text"})
# What OpenRouter calls the parts of `reasoning_details`: a summary is not the trace, and encrypted state is needed to go on.
DETAILS = {True: frozenset({"reasoning.encrypted"}), False: frozenset({"reasoning.encrypted", "reasoning.summary"})}
LOGPROBS = ("logprobs", "prompt_logprobs", "token_ids", "prompt_token_ids")


class Choices:
    """Each choice is a text of its own; `reasoning_content` and its like go, tool calls stay as they are."""

    def __init__(self, loss: Loss) -> None:
        self._loss = loss
        self._texts: dict[int, Text] = {}
        self._begun: set[int] = set()

    def answer(self, body: Event) -> None:
        """A whole answer, in place."""
        for choice in dicts(body.get("choices")):
            holder = choice if "text" in choice else dict_at(choice, "message")
            text = Text(self._loss)
            taken = self._unreasoned(holder)
            for name in ("text", "content"):
                _rewritten(holder, name, text.whole)
            self._unweighed(choice, taken or text.changed)
            _finished(choice, text)
        self._around(body)

    def event(self, event: Event) -> list[Event] | None:
        """One chunk."""
        chosen = event.get("choices")
        if isinstance(chosen, list) and chosen:
            event["choices"] = [choice for choice in chosen if not isinstance(choice, dict) or self._chunk(choice)]
            if not event["choices"] and not event.get("usage"):
                return []
        self._around(event)
        return [event]

    def _chunk(self, choice: Event) -> bool:
        """Change one choice of a chunk. False when nothing is left of it."""
        index = number_at(choice, "index")
        text = self._texts.setdefault(index, Text(self._loss))
        holder = choice if "text" in choice else dict_at(choice, "delta")
        taken = self._unreasoned(holder)
        for name in ("text", "content"):
            before = holder.get(name)
            _rewritten(holder, name, text.feed)
            taken = taken or holder.get(name) != before
        ended = choice.get("finish_reason") is not None
        rest = text.end() if ended else ""
        if rest:
            name = "text" if "text" in choice else "content"
            holder[name] = text_at(holder, name) + rest
        self._unweighed(choice, taken)
        _finished(choice, text)
        if taken and not ended and not self._says(index, holder):
            return False
        self._begun.add(index)
        return True

    def _says(self, index: int, holder: Event) -> bool:
        """Whether what is left is worth a chunk: something said, or the role for the first time."""
        said = ("text", "content", "tool_calls", "function_call", "refusal", "audio", "reasoning_details")
        return any(holder.get(name) for name in said) or (index not in self._begun and "role" in holder)

    def _unreasoned(self, holder: Event) -> bool:
        """Take the reasoning out of a message or a delta."""
        if not self._loss.trace:
            return False
        taken = [name for name in REASONING if holder.pop(name, None)]
        details = holder.get("reasoning_details")
        if isinstance(details, list):
            kept = [detail for detail in dicts(details) if detail.get("type") in DETAILS[self._loss.hide]]
            taken += ["reasoning_details"] * (len(kept) < len(details))
            holder["reasoning_details"] = kept
        parts = holder.get("content")
        if isinstance(parts, list):
            holder["content"] = [part for part in parts if not (isinstance(part, dict) and part.get("type") in THOUGHT_PARTS)]
            taken += ["content"] * (len(holder["content"]) < len(parts))
        return bool(taken)

    def _unweighed(self, choice: Event, changed: bool) -> None:
        """Log-probabilities spell out each token of the text: where text is taken away they go with it."""
        if self._loss.logprobs or changed:
            _without_logprobs(choice)

    def _around(self, body: Event) -> None:
        """What stands beside the choices."""
        if self._loss.logprobs:
            _without_logprobs(body)
        if self._loss.usage:
            counts.poorer(body.get("usage"), self._loss)


def _rewritten(holder: Event, name: str, through: Any) -> None:
    """Content is a text, or a list of parts that have one each."""
    found = holder.get(name)
    if isinstance(found, str) and found:
        holder[name] = through(found)
    for part in dicts(found):
        if isinstance(part.get("text"), str):
            part["text"] = through(part["text"])


def _finished(choice: Event, text: Text) -> None:
    """A text that was ended early ended for its length; a tool call is still to be made."""
    if text.cut and choice.get("finish_reason") == "stop":
        choice["finish_reason"] = "length"


def _without_logprobs(holder: Event) -> None:
    for name in LOGPROBS:
        if holder.get(name) is not None:
            holder[name] = None
