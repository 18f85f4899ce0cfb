"""POST /v1/responses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway_guard.dialects import asks
from gateway_guard.dialects.conversation import Conversation, found
from gateway_guard.dialects.fields import flag, optional_array, spelling, text, weight, whole
from gateway_guard.dialects.meter import Grammar
from gateway_guard.dialects.openai import OpenAI
from gateway_guard.dialects.tally import Tally, speech, tell_openai
from gateway_guard.dialects.words import OPENAI
from gateway_guard.reading import Reading

DECIDED = ("model", "input", "instructions", "prompt", "tools", "stream", "max_output_tokens")
ITEM_KEYS = frozenset({"type", "role", "content", "encrypted_content"})
KNOWN = asks.fields(
    DECIDED,
    {
        "stream": asks.stream,
        "tools": asks.tools,
        "top_logprobs": asks.top_logprobs,
        "reasoning": asks.reasoning,
        "text": asks.nested_format,
        "include": asks.include,
    },
)
# Deltas of these kinds are not the model's words: sound in base64, and what its tools printed.
UNSAID = frozenset({"response.audio.delta", "response.shell_call_output_content.delta"})
THOUGHT = frozenset({"response.reasoning_text.delta", "response.reasoning_summary_text.delta"})
LAST = frozenset({"response.completed", "response.incomplete", "response.failed"})


class Event(msgspec.Struct, gc=False):
    """One event of a stream."""

    type: str = ""
    delta: Any = None
    response: msgspec.Raw = msgspec.Raw()


class Answer(msgspec.Struct, gc=False):
    """A whole answer; what was said is parsed when it is needed."""

    usage: Any = None
    output: msgspec.Raw = msgspec.Raw()
    error: Any = None


event_of = msgspec.json.Decoder(Event).decode
answer_of = msgspec.json.Decoder(Answer).decode


def event(data: bytes, tally: Tally) -> None:
    """A delta, or the answer as a whole at the end."""
    happened = event_of(data)
    if happened.type in LAST:
        if happened.response:
            _tell(answer_of(happened.response), tally)
    elif happened.type in THOUGHT:
        tally.think(happened.delta)
    elif happened.type not in UNSAID:
        tally.say(happened.delta)


def answer(body: bytes, tally: Tally) -> None:
    """A whole answer: its usage, or else what its items say."""
    told = answer_of(body)
    _tell(told, tally)
    tally.void = told.error is not None and not told.output


def _tell(told: Answer, tally: Tally) -> None:
    tell_openai(told.usage, tally)
    if tally.output < 0 and not tally.said and told.output:
        tally.said = speech(msgspec.json.decode(told.output))


class OpenAIResponses(OpenAI):
    """Responses. What an earlier answer or a stored conversation brings in is not in the body, and not in the estimate."""

    name = "openai.responses"
    path = "/v1/responses"
    grammar = Grammar(event, answer, tell_openai)

    def read(self, body: Mapping[str, Any]) -> Reading:
        """The body, understood."""
        bits = asks.asked(body, KNOWN, OPENAI)
        model = text(body, "model", OPENAI)
        talk = Conversation(OPENAI)
        if body.get("instructions") is not None:
            talk.say("system", text(body, "instructions", OPENAI))
        if "prompt" in body:
            _prompt(body["prompt"], talk)
        _input(body.get("input"), talk)
        return talk.reading(
            body,
            model=model,
            tools=optional_array(body, "tools", OPENAI) if bits & asks.TOOLS else None,
            bits=bits,
            ask_tokens=whole(body, "max_output_tokens", OPENAI),
            streaming=flag(body, "stream", OPENAI),
        )


def _input(given: Any, talk: Conversation) -> None:
    if given is None:  # a stored prompt, or an earlier answer, may be all there is
        return
    if type(given) is str:
        talk.say("user", given)
        return
    if type(given) is not list:
        raise OPENAI.wrong_type(("input",), "string or array of objects", given)
    for index, item in enumerate(given):
        if type(item) is not dict:
            raise OPENAI.wrong_type(("input", index), "object", item)
        _item(item, talk, index)


def _item(item: dict[str, Any], talk: Conversation, index: int) -> None:
    """A message, or one of the many things that a model and its tools leave behind."""
    if len(item) != 2 or "role" not in item or "content" not in item:
        spelling(item, ITEM_KEYS, OPENAI, ("input", index))
    role, kind = item.get("role"), item.get("type")
    if type(role) is str:
        talk.say(role, *talk.content(item.get("content"), ("input", index, "content")))
        return
    if role is not None:
        raise OPENAI.wrong_type(("input", index, "role"), "string", role)
    if type(kind) is not str:
        raise OPENAI.missing(("input", index, "type")) if kind is None else OPENAI.wrong_type(("input", index, "type"), "string", kind)
    if kind.endswith("_output"):
        found(talk, item.get("output"))
        talk.say("tool", "", 1)
        return
    blob = item.get("encrypted_content")
    if type(blob) is str and blob:
        talk.blobs.append(blob)
    if kind == "image_generation_call":
        found(talk, {"type": "image"})
    else:
        talk.octets += weight(item)
    if kind.endswith("_call"):
        talk.say("assistant", "", 1)


def _prompt(prompt: Any, talk: Conversation) -> None:
    """A stored prompt's variables are the caller's words."""
    variables = prompt.get("variables") if isinstance(prompt, dict) else None
    if not isinstance(variables, dict):
        return
    said = [value for value in variables.values() if type(value) is str]
    parts = [value for value in variables.values() if type(value) is dict]
    inside, other = talk.content(parts, ("prompt", "variables"))
    talk.say("user", "\n".join([*said, inside] if inside else said), other)
