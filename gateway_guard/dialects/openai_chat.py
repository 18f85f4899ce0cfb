"""POST /v1/chat/completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway_guard.dialects import asks
from gateway_guard.dialects.conversation import Conversation
from gateway_guard.dialects.fields import MOST_CHOICES, array, flag, optional_array, text, whole
from gateway_guard.dialects.meter import Grammar
from gateway_guard.dialects.openai import OpenAI
from gateway_guard.dialects.tally import Tally, speech, tell_openai
from gateway_guard.dialects.words import OPENAI
from gateway_guard.reading import Reading

DECIDED = ("model", "messages", "tools", "functions", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n")
KNOWN = asks.fields(
    DECIDED,
    {
        "stream": asks.stream,
        "stream_options": asks.stream_options,
        "tools": asks.tools,
        "functions": asks.tools,
        "logprobs": asks.logprobs,
        "top_logprobs": asks.top_logprobs,
        "reasoning_effort": asks.effort,
        "reasoning": asks.reasoning,
        "thinking": asks.thinking,
        "response_format": asks.output_format,
        "modalities": asks.modalities,
    },
)


class Called(msgspec.Struct, gc=False):
    """A piece of a tool call."""

    name: str | None = None
    arguments: str | None = None


class Call(msgspec.Struct, gc=False):
    """A tool call."""

    function: Called | None = None


class Delta(msgspec.Struct, gc=False):
    """What a chunk adds to one choice. Some servers give `content` in parts, and reasoning under either name."""

    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Called | None = None


class Choice(msgspec.Struct, gc=False):
    """One of the answers."""

    delta: Delta | None = None


class Chunk(msgspec.Struct, gc=False):
    """One event of a stream."""

    choices: list[Choice] | None = None
    usage: dict[str, Any] | None = None


class Answer(msgspec.Struct, gc=False):
    """A whole answer; what was said is parsed when it is needed."""

    usage: Any = None
    choices: msgspec.Raw = msgspec.Raw()
    error: Any = None


chunk_of = msgspec.json.Decoder(Chunk).decode
answer_of = msgspec.json.Decoder(Answer).decode


def event(data: bytes, tally: Tally) -> None:
    """One chunk."""
    chunk = chunk_of(data)
    for choice in chunk.choices or ():
        delta = choice.delta
        if delta is None:
            continue
        tally.say(delta.content)
        if delta.reasoning_content or delta.reasoning or delta.tool_calls or delta.refusal or delta.function_call:
            _beside(delta, tally)
    if chunk.usage:
        tell_openai(chunk.usage, tally)


def _beside(delta: Delta, tally: Tally) -> None:
    """What a delta may hold beside its content."""
    tally.think(delta.reasoning_content or delta.reasoning)
    tally.say(delta.refusal)
    for called in [call.function for call in delta.tool_calls or ()] + [delta.function_call]:
        if called is not None:
            tally.say(called.name)
            tally.say(called.arguments)


def answer(body: bytes, tally: Tally) -> None:
    """A whole answer: its usage, or else what its choices say."""
    told = answer_of(body)
    tell_openai(told.usage, tally)
    if tally.output < 0 and told.choices:
        tally.said = speech(msgspec.json.decode(told.choices))
    tally.void = told.error is not None and not told.choices


class OpenAIChat(OpenAI):
    """Chat completions, and the many servers that speak like them."""

    name = "openai.chat"
    path = "/v1/chat/completions"
    grammar = Grammar(event, answer, tell_openai)

    def read(self, body: Mapping[str, Any]) -> Reading:
        """The body, understood."""
        bits = asks.asked(body, KNOWN, OPENAI)
        model = text(body, "model", OPENAI)
        talk = Conversation(OPENAI)
        talk.messages(array(body, "messages", OPENAI), "messages")
        most = whole(body, "max_tokens", OPENAI)
        if "max_completion_tokens" in body:  # the newer name; where both are given a server obeys either
            most = max(most, whole(body, "max_completion_tokens", OPENAI))
        if "n" in body:
            most *= whole(body, "n", OPENAI, least=1, most=MOST_CHOICES) or 1
        return talk.reading(
            body,
            model=model,
            tools=optional_array(body, "tools", OPENAI) or optional_array(body, "functions", OPENAI) if bits & asks.TOOLS else None,
            bits=bits,
            ask_tokens=most,
            streaming=flag(body, "stream", OPENAI),
        )
