"""Typed looks at the fields that the guard decides on. What it does not decide on is the server's business and passes as it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from gateway_guard.dialects.words import Path, Words

# A larger maximum means "as many as there are" in no API; servers hold it in 32 bits.
MOST_TOKENS = 2**31 - 1
# Choices of one request: `n` and `best_of` in the APIs' own bounds.
MOST_CHOICES = 128

# Estimates of what one part that is not text costs, in model tokens: a picture of about a megapixel, a minute of speech, a few pages.
IMAGE_TOKENS = 1000
AUDIO_TOKENS = 600
FILE_TOKENS = 3000
BYTES_PER_TOKEN = 4


def text(body: Mapping[str, Any], key: str, words: Words) -> str:
    """A string that must be there."""
    value = body.get(key)
    if type(value) is str:
        return value
    raise words.missing((key,)) if value is None else words.wrong_type((key,), "string", value)


def array(body: Mapping[str, Any], key: str, words: Words, expected: str = "array of objects") -> list[Any]:
    """A list that must be there."""
    value = body.get(key)
    if type(value) is list:
        return value
    raise words.missing((key,)) if value is None else words.wrong_type((key,), expected, value)


def optional_array(body: Mapping[str, Any], key: str, words: Words) -> list[Any]:
    """A list; null and absent are empty."""
    value = body.get(key)
    if value is None:
        return []
    if type(value) is list:
        return value
    raise words.wrong_type((key,), "array of objects", value)


def flag(body: Mapping[str, Any], key: str, words: Words) -> bool:
    """A boolean; null and absent are False."""
    value = body.get(key)
    if value is None:
        return False
    if type(value) is bool:
        return value
    raise words.wrong_type((key,), "boolean", value)


def whole(body: Mapping[str, Any], key: str, words: Words, *, least: int = 0, most: int = MOST_TOKENS) -> int:
    """A whole number; null and absent are 0. JSON has one kind of number, so 100.0 is taken for 100 and 1e300 is not."""
    value = body.get(key)
    if value is None:
        return 0
    if type(value) is not int and not (type(value) is float and value.is_integer()):
        raise words.wrong_type((key,), "integer", value)
    if value < least:
        raise words.too_small((key,), least, value)
    if value > most:
        raise words.too_large((key,), most, value)
    return int(value)


def spelling(keys: Iterable[str], known: frozenset[str], words: Words, path: Path = ()) -> None:
    """Refuse a key that differs from a known one by case alone.

    Servers in Go and .NET match names without regard to case, and there the last one wins: `"Model"` after `"model"` would show the guard
    one model and have another answer.
    """
    for key in keys:
        if key not in known and (meant := key.casefold()) in known:
            raise words.unknown((*path, key), meant)


def octets(value: str) -> int:
    """Length in UTF-8."""
    return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))


def weight(value: Any) -> int:
    """About the bytes of `value` written as JSON, for a value of any shape."""
    try:
        return len(orjson.dumps(value))
    except orjson.JSONEncodeError:
        return sum(octets(leaf) for leaf in _strings(value))


def _strings(value: Any) -> Iterable[str]:
    """Every string in a value that is nested too deeply for a recursive walk."""
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            waiting.extend(value)
            waiting.extend(value.values())
