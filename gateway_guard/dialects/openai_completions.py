"""POST /v1/completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway_guard.dialects import asks
from gateway_guard.dialects.conversation import Conversation
from gateway_guard.dialects.fields import MOST_CHOICES, flag, octets, text, whole
from gateway_guard.dialects.meter import Grammar
from gateway_guard.dialects.openai import OpenAI
from gateway_guard.dialects.plain import prompts
from gateway_guard.dialects.tally import Tally, tell_openai
from gateway_guard.dialects.words import OPENAI
from gateway_guard.reading import Reading

DECIDED = ("model", "prompt", "suffix", "stream", "stream_options", "max_tokens", "n", "best_of")
KNOWN = asks.fields(DECIDED, {"stream": asks.stream, "stream_options": asks.stream_options, "logprobs": asks.logprobs, "response_format": asks.output_format})


class Choice(msgspec.Struct, gc=False):
    """One of the answers, or what a chunk adds to it."""

    text: str | None = None


class Answer(msgspec.Struct, gc=False):
    """A whole answer or a chunk: they have the same shape."""

    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None
    error: Any = None


answer_of = msgspec.json.Decoder(Answer).decode


def event(data: bytes, tally: Tally) -> None:
    """A chunk."""
    told = answer_of(data)
    for choice in told.choices or ():
        tally.say(choice.text)
    if told.usage:
        tell_openai(told.usage, tally)
    tally.void = told.error is not None and not told.choices and not tally.said


class OpenAICompletions(OpenAI):
    """Completions of plain text. Without a prompt the model begins a document of its own."""

    name = "openai.completions"
    path = "/v1/completions"
    grammar = Grammar(event, event, tell_openai)

    def read(self, body: Mapping[str, Any]) -> Reading:
        """The body, understood."""
        bits = asks.asked(body, KNOWN, OPENAI)
        model = text(body, "model", OPENAI)
        talk = Conversation(OPENAI)
        answers = prompts(body, "prompt", talk) if body.get("prompt") is not None else 1
        if body.get("suffix") is not None:
            talk.octets += octets(text(body, "suffix", OPENAI))
        choices = max(1, whole(body, "n", OPENAI, least=1, most=MOST_CHOICES), whole(body, "best_of", OPENAI, least=1, most=MOST_CHOICES))
        return talk.reading(
            body,
            model=model,
            tools=None,
            bits=bits,
            ask_tokens=whole(body, "max_tokens", OPENAI) * choices * answers,
            streaming=flag(body, "stream", OPENAI),
        )
