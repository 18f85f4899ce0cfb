"""What all importers share: exchanges out of loosely typed records, in the order of time."""

from __future__ import annotations

import datetime
import heapq
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from gateway_guard.trace.exchanges import Exchange, Response, TokenCounts

# Logs are written when a request ends: so many requests may have to be put back in the order in which they began.
WINDOW = 10_000
CHAT = "/v1/chat/completions"
EMBEDDINGS = "/v1/embeddings"
DAY_MS = 86_400_000.0


class Broken(ValueError):
    """A record that cannot be an exchange; its text says why."""


def moment(value: Any) -> float:
    """A time as seconds since 1970: a number of seconds, or a date in ISO 8601 (UTC where it has no zone)."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    text = str(value)
    try:
        return float(text)
    except ValueError:
        pass
    try:
        # Some write seven digits of a second, more than Python reads.
        head, dot, rest = text.partition(".")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        found = datetime.datetime.fromisoformat(f"{head}{dot}{digits[:6]}{rest[len(digits) :]}")
    except ValueError:
        raise Broken(f"{text[:40]!r} is not a time") from None
    return (found if found.tzinfo is not None else found.replace(tzinfo=datetime.UTC)).timestamp()


def whole(value: Any) -> int | None:
    """A count, None when it is not there."""
    if value in (None, "", "-"):
        return None
    try:
        return max(0, int(float(value)))
    except (TypeError, ValueError):
        raise Broken(f"{str(value)[:40]!r} is not a number") from None


def text(value: Any) -> str:
    """A text, empty when it is not there."""
    return "" if value in (None, "-") else str(value)


def bearer(account: Any) -> list[tuple[str, str]]:
    """The header by which an account is known. Without an account there is none: nobody is invented."""
    return [("authorization", f"Bearer {text(account)}")] if text(account) else []


def body(model: Any, **more: Any) -> msgspec.Raw:
    """A request's body, of what is known of it."""
    known = {"model": text(model), **{name: value for name, value in more.items() if value is not None}}
    return msgspec.Raw(msgspec.json.encode(known))


def response(began: float, ended: float | None, *, status: int | None = 200, input_tokens: int | None = None, output_tokens: int | None = None) -> Response:
    """How an exchange went, as far as it is known."""
    latency = None if ended is None else min(DAY_MS, max(0.0, round((ended - began) * 1000.0, 3)))
    usage = None if output_tokens is None else TokenCounts(input_tokens, output_tokens)
    return Response(status=status, latency_ms=latency, usage=usage)


def dig(record: Mapping[str, Any], *path: str) -> Any:
    """A value inside nested objects, None where there is none."""
    found: Any = record
    for name in path:
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def first(record: Mapping[str, Any], *names: str) -> Any:
    """The value of the first of some names that has one."""
    return next((record[name] for name in names if record.get(name) not in (None, "", "-")), None)


def ordered(exchanges: Iterable[Exchange]) -> Iterator[Exchange]:
    """By time, as far as a window of ten thousand reaches."""
    waiting: list[tuple[float, int, Exchange]] = []
    for number, exchange in enumerate(exchanges):
        heapq.heappush(waiting, (exchange.ts, number, exchange))
        if len(waiting) > WINDOW:
            yield heapq.heappop(waiting)[2]
    while waiting:
        yield heapq.heappop(waiting)[2]
