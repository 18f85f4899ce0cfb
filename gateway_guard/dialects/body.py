"""A request body, read so that the guard and the server behind it cannot read two different requests.

Theory of operation. JSON leaves room for two readers to disagree, and a caller who finds such a room shows the guard one request and the
server another: a key given twice (first or last wins), a number that one rounds and another refuses, NaN, a lone surrogate, a byte order
mark. So whatever readers are known to treat differently is refused here, before anything is decided.

Finding duplicate keys costs a second parse in general; nearly always it need not. A body whose re-serialised form is the same bytes has no
duplicates, because a parsed object has none. Failing that, every key brings one colon, and colons in strings are the same in both forms
unless one is escaped: as many colons before as after means that no key was dropped. Only what is left is parsed again, pair by pair.

What is decoded here is what must be forwarded: of two gzip members some servers read only the first.
"""

from __future__ import annotations

import json
import zlib
from typing import Any, Literal

import msgspec
import orjson

from gateway_guard.dialects.words import printable
from gateway_guard.errors import BodyTooLarge, UnreadableBody

# Above this length counting colons twice costs more than parsing again.
COUNTED = 8 * 1024
# Honest clients send one member; each costs a decompressor and a copy of what follows it.
MEMBERS = 16
GZIP = 31  # zlib's window bits for a gzip header and nothing else

Duplicates = Literal["refuse", "rewrite"]


class Parsed(msgspec.Struct, frozen=True, gc=False):
    """`body` the JSON object; `raw` the bytes to forward, which every reader reads as `body`."""

    body: dict[str, Any]
    raw: bytes


def parse(raw: bytes, *, duplicates: Duplicates = "refuse") -> Parsed:
    """The JSON object in `raw`. With `rewrite`, a body with duplicate keys is not refused: its `raw` becomes what was read (the last one wins)."""
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise _unreadable(raw, error) from None
    if type(body) is not dict:
        raise UnreadableBody(f"The request body must be a JSON object, but it is {_kind(body)}.")
    try:
        written = orjson.dumps(body)
    except orjson.JSONEncodeError:  # it reads 1,024 levels and writes 254
        raise UnreadableBody("The request body is nested too deeply: at most 254 levels are read.") from None
    if written == raw:
        return Parsed(body, raw)
    if len(raw) <= COUNTED and raw.count(b":") == written.count(b":") and b"\\u003" not in raw:
        return Parsed(body, raw)
    key = _duplicate(raw)
    if key is None:
        return Parsed(body, raw)
    if duplicates == "rewrite":
        return Parsed(body, written)
    raise UnreadableBody(f"The request body has the key '{printable(key)}' more than once in one object. Send each key once.")


def decoded(raw: bytes, encoding: str, limit: int) -> bytes:
    """`raw` without its Content-Encoding, at most `limit` bytes."""
    name = encoding.strip().lower()
    if name in {"gzip", "x-gzip"}:
        return gunzip(raw, limit)
    if name not in {"", "identity"}:
        raise UnreadableBody(f"The Content-Encoding '{printable(name)}' is not supported. Send the body as it is, or with gzip.")
    if len(raw) > limit:
        raise _too_large(limit)
    return raw


def gunzip(raw: bytes, limit: int) -> bytes:
    """The decompressed bytes, never more than `limit` of them in memory; what follows the last member is refused."""
    parts: list[bytes] = []
    room = limit
    rest = raw
    for _ in range(MEMBERS):
        part, rest = _member(rest, room + 1)
        room -= len(part)
        if room < 0:
            raise _too_large(limit)
        parts.append(part)
        if not rest:
            return b"".join(parts)
    raise UnreadableBody(f"The request body has more than {MEMBERS} gzip members. Send it as one.")


def _member(raw: bytes, most: int) -> tuple[bytes, bytes]:
    """One gzip member, cut at `most` bytes, and what follows it."""
    stream = zlib.decompressobj(GZIP)
    try:
        part = stream.decompress(raw, most)
    except zlib.error:
        raise UnreadableBody("The request body is not valid gzip, although its Content-Encoding says so.") from None
    if not stream.eof and len(part) < most:
        raise UnreadableBody("The request body ends in the middle of its gzip data.")
    return part, stream.unused_data


def _unreadable(raw: bytes, error: orjson.JSONDecodeError) -> UnreadableBody:
    return UnreadableBody(f"The request body is not valid JSON: {error}." if raw else "The request body is empty. Send a JSON object.")


class _DuplicateKey(Exception):
    pass


def _pairs(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) == len(pairs):
        return
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise _DuplicateKey(key)
        seen.add(key)


def _duplicate(raw: bytes) -> str | None:
    """The first key that an object of this valid JSON has twice."""
    try:
        json.loads(raw.decode(), object_pairs_hook=_pairs, parse_int=str, parse_float=str)
    except _DuplicateKey as found:
        return str(found)
    except RecursionError:  # the caller's own stack was nearly full
        raise UnreadableBody("The request body is nested too deeply to be read here.") from None
    return None


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body is longer than {limit} bytes once decoded. Send a shorter one.")


def _kind(value: Any) -> str:
    names = {list: "an array", str: "a string", int: "a number", float: "a number", bool: "a boolean", type(None): "null"}
    return names[type(value)]
