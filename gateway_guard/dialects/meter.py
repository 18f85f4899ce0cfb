"""Meters: they read the usage of an answer off its bytes while these pass. They hold nothing back, keep a bounded amount, and never raise."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import orjson

from gateway_guard.dialects.sse import Events
from gateway_guard.dialects.tail import Tail
from gateway_guard.dialects.tally import Tally, speech, tokens
from gateway_guard.facts import Usage
from gateway_guard.ports import Meter

# An answer longer than this is not kept for parsing: its usage is looked for in its end.
CAP = 4 * 1024 * 1024
# A compressed answer that grows beyond this is not followed any further.
INFLATED = 64 * 1024 * 1024
PIECE = 64 * 1024
GZIP_OR_ZLIB = 47


class Grammar(NamedTuple):
    """How one API tells: `event` reads an event's data and `answer` a whole body into the tally (either may raise ValueError or
    RecursionError), `tell` its usage object. `speaks` is False where output is not counted in tokens. `cap` bounds the body that is kept.
    """

    event: Callable[[bytes, Tally], None]
    answer: Callable[[bytes, Tally], None]
    tell: Callable[[Any, Tally], None]
    speaks: bool = True
    cap: int = CAP


def meter(grammar: Grammar, content_type: str, *, content_encoding: str, input_tokens: int, streaming: bool) -> Meter:
    """The meter for an answer of this type and encoding. `streaming` decides where the type does not tell."""
    kind = _media_type(content_type)
    streams = kind == "text/event-stream" or (streaming and not kind)
    plain = EventMeter(grammar, input_tokens) if streams else BodyMeter(grammar, input_tokens)
    if not content_encoding:
        return plain
    name = content_encoding.strip().lower()
    if name in {"", "identity"}:
        return plain
    lengths = LengthMeter(grammar, input_tokens)
    return InflatingMeter(plain, lengths) if name in {"gzip", "x-gzip", "deflate"} else lengths


@lru_cache(maxsize=64)
def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


class EventMeter:
    """Of a stream of server-sent events."""

    __slots__ = ("_events", "_grammar", "_input", "_tally")

    def __init__(self, grammar: Grammar, input_tokens: int) -> None:
        self._grammar = grammar
        self._input = input_tokens
        self._tally = Tally(speaks=grammar.speaks)
        self._events = Events()

    def feed(self, chunk: bytes) -> None:
        """Read the events that `chunk` completes."""
        event, tally = self._grammar.event, self._tally
        if type(chunk) is not bytes:  # applications may send views
            chunk = bytes(chunk)
        for data in self._events.feed(chunk):
            try:
                event(data, tally)
            except (ValueError, RecursionError):
                self._loosely(data)
        if self._events.lost:
            self._salvage()

    def usage(self) -> Usage:
        """What was used so far, the event that is under way included when it is whole but for its end."""
        tally = self._tally
        pending = self._events.pending()
        if pending:
            tally = tally.copy()
            try:
                self._grammar.event(pending, tally)
            except (ValueError, RecursionError):
                tally = self._tally
        return tally.usage(self._input)

    def _loosely(self, data: bytes) -> None:
        """An event of a shape that the API does not document: count what it says."""
        try:
            event = orjson.loads(data)
        except orjson.JSONDecodeError:
            return  # [DONE], or noise
        if isinstance(event, dict):
            self._tally.said += speech(event)
            self._grammar.tell(event.get("usage"), self._tally)

    def _salvage(self) -> None:
        lost, self._events.lost = self._events.lost, []
        for tail in lost:
            usage = tail.usage()
            if isinstance(usage, dict):
                self._grammar.tell(usage, self._tally)
            else:
                self._tally.said += tail.size


class BodyMeter:
    """Of a JSON answer, kept up to the grammar's cap."""

    __slots__ = ("_body", "_grammar", "_input", "_tail")

    def __init__(self, grammar: Grammar, input_tokens: int) -> None:
        self._grammar = grammar
        self._input = input_tokens
        self._body = bytearray()
        self._tail: Tail | None = None

    def feed(self, chunk: bytes) -> None:
        """Keep `chunk`, or no more than the end of it all."""
        if self._tail is not None:
            self._tail.add(chunk)
        elif len(self._body) + len(chunk) <= self._grammar.cap:
            self._body += chunk
        else:
            self._tail = Tail(bytes(self._body), chunk)
            self._body.clear()

    def usage(self) -> Usage:
        """Read what was kept."""
        tally = Tally(speaks=self._grammar.speaks)
        if self._tail is not None:
            self._grammar.tell(self._tail.usage(), tally)
            tally.said = self._tail.size
        elif self._body:
            try:
                self._grammar.answer(bytes(self._body), tally)
            except (ValueError, RecursionError):
                tally.said = len(self._body)
        return tally.usage(self._input)


class LengthMeter:
    """Of an answer whose bytes cannot be read: their number is all there is."""

    __slots__ = ("_grammar", "_input", "_size")

    def __init__(self, grammar: Grammar, input_tokens: int) -> None:
        self._grammar = grammar
        self._input = input_tokens
        self._size = 0

    def feed(self, chunk: bytes) -> None:
        """Count."""
        self._size += len(chunk)

    def usage(self) -> Usage:
        """An estimate, and a rough one."""
        return Usage(self._input, tokens(self._size) if self._grammar.speaks else 0, estimated=True)


class InflatingMeter:
    """Of a gzip or deflate answer: inflated in small pieces for the meter inside; by length once that fails."""

    __slots__ = ("_inside", "_lengths", "_room", "_stream")

    def __init__(self, inside: Meter, lengths: Meter) -> None:
        self._inside = inside
        self._lengths = lengths
        self._stream = zlib.decompressobj(GZIP_OR_ZLIB)
        self._room = INFLATED

    def feed(self, chunk: bytes) -> None:
        """Inflate, at most `PIECE` bytes at a time."""
        self._lengths.feed(chunk)
        try:
            while chunk and self._room >= 0:
                piece = self._stream.decompress(chunk, PIECE)
                self._inside.feed(piece)
                self._room -= len(piece)
                chunk = self._stream.unconsumed_tail
        except zlib.error:
            self._room = -1

    def usage(self) -> Usage:
        """As the meter inside says."""
        return self._inside.usage() if self._room >= 0 else self._lengths.usage()
