"""What the four OpenAI dialects share: error bodies, rate limit headers, meters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, ClassVar

from gateway_guard.dialects.limits import Headers, headers, limit_names, seconds
from gateway_guard.dialects.meter import Grammar, meter
from gateway_guard.dialects.refusal import written
from gateway_guard.ports import LimitNames, LimitShown, Meter
from gateway_guard.quota import Unit

TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
FAMILIES: dict[Unit, str] = {"requests": "requests", "tokens": "tokens", "input_tokens": "tokens", "output_tokens": "tokens"}


class OpenAI:
    """Everything but `read`."""

    request_id_header = b"x-request-id"
    limit_names: Mapping[Unit, LimitNames] = {unit: limit_names("x-ratelimit-{what}-{family}", family) for unit, family in FAMILIES.items()}
    grammar: ClassVar[Grammar]

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
        """{"error": {"message", "type", "param", "code"}}; the request's id travels in a header, and here when it is known."""
        error: dict[str, Any] = {"message": message, "type": type or error_type(status), "param": param, "code": code}
        if details:
            error["gateway_guard"] = dict(details)
        return written({"error": error, "request_id": request_id} if request_id else {"error": error})

    def limit_headers(self, limits: Sequence[LimitShown], at: float) -> Headers:
        """x-ratelimit-{limit,remaining,reset}-{requests,tokens}. Resets are durations, so `at` says nothing here."""
        return headers(self.limit_names, self.reset, limits, at)

    def reset(self, at: float, wait: float) -> bytes:
        """A duration."""
        return duration(wait)


def error_type(status: int) -> str:
    """`error.type` of a status."""
    if status >= 500:
        return "server_error"
    return TYPES.get(status, "invalid_request_error")


def duration(wait: float) -> bytes:
    """6m0s, 1h0m0s, 8.64s, 17ms: rounded up, to the millisecond below a minute."""
    if wait > 59.999:
        return _long(seconds(wait))
    return _short(seconds(wait * 1000.0))


@lru_cache(maxsize=4096)
def _short(milliseconds: int) -> bytes:
    return b"%gs" % (milliseconds / 1000) if milliseconds >= 1000 else b"%dms" % milliseconds


@lru_cache(maxsize=1024)
def _long(whole_seconds: int) -> bytes:
    minutes, rest = divmod(whole_seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return b"%dh%dm%ds" % (hours, minutes, rest) if hours else b"%dm%ds" % (minutes, rest)
