"""POST /v1/messages of the Anthropic API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import msgspec

from gateway_guard.dialects import asks
from gateway_guard.dialects.conversation import Conversation
from gateway_guard.dialects.fields import array, flag, optional_array, text, whole
from gateway_guard.dialects.limits import Headers, headers, limit_names, seconds
from gateway_guard.dialects.meter import Grammar, meter
from gateway_guard.dialects.refusal import written
from gateway_guard.dialects.tally import Tally, speech, tell_anthropic
from gateway_guard.dialects.words import ANTHROPIC
from gateway_guard.ports import LimitNames, LimitShown, Meter
from gateway_guard.quota import Unit
from gateway_guard.reading import Reading

DECIDED = ("model", "messages", "system", "tools", "stream", "max_tokens")
KNOWN = asks.fields(
    DECIDED,
    {
        "stream": asks.stream,
        "tools": asks.tools,
        "thinking": asks.thinking,
        "output_config": asks.nested_format,
        "output_format": asks.output_format,
    },
)
TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
FAMILIES: dict[Unit, str] = {"requests": "requests", "tokens": "tokens", "input_tokens": "input-tokens", "output_tokens": "output-tokens"}
LATEST = 253_402_300_799  # the last second of the year 9999


class Delta(msgspec.Struct, gc=False):
    """What an event adds to a block."""

    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None


class Event(msgspec.Struct, gc=False):
    """One event of a stream."""

    type: str = ""
    delta: Delta | None = None
    usage: dict[str, Any] | None = None
    message: msgspec.Raw = msgspec.Raw()


class Answer(msgspec.Struct, gc=False):
    """A whole answer; what was said is parsed when it is needed."""

    usage: Any = None
    content: msgspec.Raw = msgspec.Raw()
    error: Any = None


event_of = msgspec.json.Decoder(Event).decode
answer_of = msgspec.json.Decoder(Answer).decode


def event(data: bytes, tally: Tally) -> None:
    """A delta; or, at the start and the end, the usage."""
    happened = event_of(data)
    delta = happened.delta
    if delta is not None:
        if delta.thinking:
            tally.think(delta.thinking)
        else:
            tally.say(delta.text or delta.partial_json)
    if happened.usage:
        tell_anthropic(happened.usage, tally)
    elif happened.message and happened.type == "message_start":
        tell_anthropic(answer_of(happened.message).usage, tally, final=False)


def answer(body: bytes, tally: Tally) -> None:
    """A whole answer: its usage, or else what its blocks say."""
    told = answer_of(body)
    tell_anthropic(told.usage, tally)
    if tally.output < 0 and told.content:
        tally.said = speech(msgspec.json.decode(told.content))
    tally.void = told.error is not None and not told.content


class AnthropicMessages:
    """Messages."""

    name = "anthropic.messages"
    path = "/v1/messages"
    request_id_header = b"request-id"
    limit_names: Mapping[Unit, LimitNames] = {unit: limit_names("anthropic-ratelimit-{family}-{what}", family) for unit, family in FAMILIES.items()}
    grammar = Grammar(event, answer, tell_anthropic)

    def read(self, body: Mapping[str, Any]) -> Reading:
        """The body, understood."""
        bits = asks.asked(body, KNOWN, ANTHROPIC)
        model = text(body, "model", ANTHROPIC)
        talk = Conversation(ANTHROPIC)
        if body.get("system") is not None:
            talk.say("system", talk.content(body["system"], ("system",))[0])
        talk.messages(array(body, "messages", ANTHROPIC), "messages")
        return talk.reading(
            body,
            model=model,
            tools=optional_array(body, "tools", ANTHROPIC) if bits & asks.TOOLS else None,
            bits=bits,
            ask_tokens=whole(body, "max_tokens", ANTHROPIC),
            streaming=flag(body, "stream", ANTHROPIC),
        )

    def meter(self, content_type: str, *, content_encoding: str = "", input_tokens: int = 0, streaming: bool = False) -> Meter:
        """A meter for an answer of this type."""
        return meter(self.grammar, content_type, content_encoding=content_encoding, input_tokens=input_tokens, streaming=streaming)

    def error(
        self,
        status: int,
        code: str,
        message: str,
        *,
        type: str | None = None,
        param: str | None = None,
        details: Mapping[str, Any] | None = None,
        request_id: str = "",
    ) -> bytes:
        """{"type": "error", "error": {"type", "message", "details": {"error_code"}}, "request_id"}."""
        named = {"error_code": code} if param is None else {"error_code": code, "param": param}
        error: dict[str, Any] = {"type": type or error_type(status), "message": message, "details": named}
        if details:
            error["gateway_guard"] = dict(details)
        return written({"type": "error", "error": error, "request_id": request_id or None})

    def limit_headers(self, limits: Sequence[LimitShown], at: float) -> Headers:
        """anthropic-ratelimit-{requests,tokens,input-tokens,output-tokens}-{limit,remaining,reset}; resets are moments."""
        return headers(self.limit_names, self.reset, limits, at)

    def reset(self, at: float, wait: float) -> bytes:
        """A moment."""
        return moment(seconds(at + wait))


def error_type(status: int) -> str:
    """`error.type` of a status."""
    return TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")


@lru_cache(maxsize=4096)
def moment(second: int) -> bytes:
    """RFC 3339 in UTC. Answers of one second share their resets, so few are ever written."""
    return datetime.fromtimestamp(min(second, LATEST), UTC).strftime("%Y-%m-%dT%H:%M:%SZ").encode()
