"""Quantities as people write them (`60/min`, `2M tokens/day`, `$50/month`, `14d`, `8 MiB`, `5%`), and their JSON Schemas.

Each reader takes a text or a number, and raises ValueError with what was understood to be wrong and two examples. Digits may be grouped
(`1_000`, `2,000,000`); k, M and B are thousand, million and billion. A month is thirty days: budgets drain steadily, not by the calendar.
"""

from __future__ import annotations

import contextlib
import datetime as _datetime
import difflib
import re
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec

_T = TypeVar("_T")

_NUMBER = r"\d{1,18}(?:\.\d{1,12})?|\d{1,3}(?:[,_]\d{3}){1,5}(?:\.\d{1,12})?"
_MEASURE = re.compile(rf"({_NUMBER}) ?([A-Za-z]{{0,12}})", re.ASCII)
_COUNT = re.compile(rf"(\$?) ?({_NUMBER})([kKMB]?)", re.ASCII)
_LIMIT = re.compile(
    rf"(?P<dollar>\$?) ?(?P<number>{_NUMBER}) ?(?:(?P<many>[kKMB])(?![A-Za-z]))?(?: ?(?!per )(?P<unit>[A-Za-z][A-Za-z_ -]{{0,30}}?))?"
    r"(?: ?(?:/|per ) ?(?:(?P<times>\d{1,6}) ?)?(?P<window>[A-Za-z]{1,12}))?",
    re.ASCII,
)
_SHARE = re.compile(rf"({_NUMBER}) ?(%?)", re.ASCII)
_LONGEST = 64  # characters; nothing longer is looked at
_LARGEST = 1e18

_WINDOWS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
    **dict.fromkeys(("month", "months"), 2592000.0),
}
_SHORT = {1.0: "s", 60.0: "min", 3600.0: "hour", 86400.0: "day", 604800.0: "week", 2592000.0: "month"}
_DURATIONS = {"": 1.0, "ms": 0.001, **_WINDOWS}
_SIZES = {"": 1, "B": 1, "bytes": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_MANY = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "B": 1e9}
_UNITS = {
    **dict.fromkeys(("", "request", "requests"), "requests"),
    **dict.fromkeys(("token", "tokens"), "tokens"),
    **dict.fromkeys(("input token", "input tokens"), "input_tokens"),
    **dict.fromkeys(("output token", "output tokens"), "output_tokens"),
    **dict.fromkeys(("reasoning token", "reasoning tokens"), "reasoning_tokens"),
    "in flight": "in_flight",
}
# The shorthands of other gateways, and what they are here.
_ELSEWHERE = {
    "rps": "requests/s", "qps": "requests/s", "rpm": "requests/min", "rph": "requests/hour", "rpd": "requests/day", "tpm": "tokens/min", "tpd": "tokens/day",
    "itpm": "input tokens/min", "otpm": "output tokens/min", "concurrent": "in flight", "parallel": "in flight", "concurrent requests": "in flight",
}  # fmt: skip

_DIGITS = r"[0-9][0-9_,]*(\.[0-9]+)?"
DURATION_SCHEMA: dict[str, Any] = {
    "description": "Seconds, or a text such as 500ms, 30s, 10m, 2h, 14d, 1w.",
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": f"^{_DIGITS} ?[a-z]*$"}],
}
SIZE_SCHEMA: dict[str, Any] = {
    "description": "Bytes, or a text such as 512 KiB, 8 MiB, 8MB.",
    "anyOf": [{"type": "integer", "minimum": 1}, {"type": "string", "pattern": f"^{_DIGITS} ?[A-Za-z]*$"}],
}
LIMIT_SCHEMA: dict[str, Any] = {
    "description": "An amount in a time, or at once: 60/min, 2M tokens/day, 10k output tokens/min, $50/month, 8 in flight.",
    "type": "string",
    "pattern": rf"^\$? ?{_DIGITS} ?[kKMB]?( ?[a-z][a-z_ -]*)?( ?(/|per ) ?[0-9]* ?[a-z]+)?$",
    "examples": ["60/min", "2M tokens/day", "10k output tokens/min", "$50/month", "8 in flight"],
}
AMOUNT_SCHEMA: dict[str, Any] = {
    "description": "A number, or a text such as 200k, 2M, $5.",
    "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"type": "string", "pattern": rf"^\$? ?{_DIGITS}[kKMB]?$"}],
}
PRICE_SCHEMA: dict[str, Any] = {
    "description": "Money for a million tokens: a number, or a text such as $3, $0.25.",
    "anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": rf"^\$? ?{_DIGITS}[kKMB]?$"}],
}
SHARE_SCHEMA: dict[str, Any] = {
    "description": "A part of the whole: 0 to 1, or a percentage such as 5%.",
    "anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string", "pattern": f"^{_DIGITS} ?%?$"}],
}
DAY_SCHEMA: dict[str, Any] = {"description": "A day, such as 2027-03-31.", "type": "string", "format": "date"}


class Limit(msgspec.Struct, frozen=True):
    """`amount` of `unit` in each `window` seconds; with a window of 0, so much at once."""

    amount: float
    unit: str
    window: float

    def __str__(self) -> str:
        if self.unit == "in_flight":
            return f"{_plain(self.amount)} in flight"
        amount = f"${_plain(self.amount)}" if self.unit == "money" else f"{_plain(self.amount)} {self.unit.replace('_', ' ')}"
        window = _SHORT.get(self.window)
        return f"{amount}/{window}" if window else f"{amount}/{_plain(self.window)} s"


def duration(value: object) -> float:
    """Seconds: `30s`, `10m`, `2h`, `14d`, `1w`, `500ms`, or a number."""
    examples = ("30s", "14d")
    if (number := _number(value, examples)) is not None:
        return number
    found = _match(_MEASURE, value, examples)
    return _digits(found[1]) * _choose(_DURATIONS, found[2], value, examples, what="unit of time")


def size(value: object) -> int:
    """Bytes: `8 MiB`, `8MB`, or a whole number."""
    examples = ("8 MiB", "512 KiB")
    number = _number(value, examples)
    if number is None:
        found = _match(_MEASURE, value, examples)
        number = _digits(found[1]) * _choose(_SIZES, found[2], value, examples, what="unit of size")
    if number < 1 or number != int(number):
        raise _wrong(value, "is not a whole number of bytes", examples)
    return int(number)


def limit(value: object) -> Limit:
    """`60/min`, `2M tokens/day`, `10k output tokens/min`, `$50/month`, `8 in flight`; a Limit passes through."""
    examples = ("60/min", "2M tokens/day")
    if isinstance(value, Limit):
        return value
    if _number(value, examples) is not None:
        raise _wrong(value, "says neither of what nor in which time", examples)
    found = _match(_LIMIT, value, examples)
    amount = _digits(found["number"]) * _MANY[found["many"] or ""]
    if not 0 < amount < _LARGEST:
        raise _wrong(value, "is out of range" if amount else "lets nothing through, ever", examples)
    unit = _unit(found, value)
    return Limit(amount, unit, _window(found, unit, value))


def amount(value: object) -> float:
    """`200k`, `2M`, `$5`, or a number; more than 0."""
    examples = ("200k", "30")
    number = _count(value, examples)
    if number <= 0:
        raise _wrong(value, "must be more than 0", examples)
    return number


def price(value: object) -> float:
    """Money for a million tokens: `$3`, or a number."""
    return _count(value, ("$3", "$0.25"))


def share(value: object) -> float:
    """A part of the whole: `5%`, or a number between 0 and 1."""
    examples = ("5%", "0.05")
    number = _number(value, examples)
    if number is None:
        found = _match(_SHARE, value, examples)
        number = _digits(found[1]) / (100 if found[2] else 1)
    if number > 1:
        raise _wrong(value, "is more than the whole", examples)
    return number


def day(value: object) -> _datetime.date:
    """`2027-03-31`; a date passes through."""
    if type(value) is _datetime.date:
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d", value, re.ASCII):
        with contextlib.suppress(ValueError):
            return _datetime.date.fromisoformat(value)
        raise _wrong(value, "is no day of the calendar", ("2027-03-31", "2027-12-31"))
    raise _wrong(value, "is not written as year-month-day", ("2027-03-31", "2027-12-31"))


def _unit(found: re.Match[str], value: object) -> str:
    words = re.sub(r"[_ -]+", " ", found["unit"] or "").strip()
    count = found["number"] + (found["many"] or "")
    if found["dollar"]:
        if words:
            raise _wrong(value, f"is both money and {words}", (f"${count}/month", f"{count} tokens/day"))
        return "money"
    if words.lower() in _ELSEWHERE:
        raise _wrong(value, f"says `{words}`, which is written out here", (f"{count} {_ELSEWHERE[words.lower()]}", "2M tokens/day"))
    if words == "m" or words.startswith("m "):
        raise _wrong(value, "has an unknown unit `m` (a million is `M`)", (f"{count}M{words[1:]}/day", "60/min"))
    return _choose(_UNITS, words, value, ("60/min", "2M tokens/day"), what="unit")


def _window(found: re.Match[str], unit: str, value: object) -> float:
    if unit == "in_flight":
        if found["window"]:
            raise _wrong(value, "counts what runs at once, so it takes no time", ("8 in flight", "60/min"))
        return 0.0
    if not found["window"]:
        text = str(value).strip()
        raise _wrong(value, "says no time", (f"{text}/month" if unit == "money" else f"{text}/min", f"{text}/day"))
    examples = ("60/min", "2M tokens/day")
    window = float(found["times"] or 1) * _choose(_WINDOWS, found["window"], value, examples, what="unit of time")
    if window <= 0:
        raise _wrong(value, "has a time of nothing", examples)
    return window


def _count(value: object, examples: tuple[str, str]) -> float:
    number = _number(value, examples)
    if number is not None:
        return number
    found = _match(_COUNT, value, examples)
    return _digits(found[2]) * _MANY[found[3]]


def _number(value: object, examples: tuple[str, str]) -> float | None:
    """A number as it is; None for a text, which is still to be read."""
    if isinstance(value, str):
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(value, "is neither a text nor a number", examples)
    if not 0 <= value < _LARGEST:
        raise _wrong(value, "is out of range", examples)
    return float(value)


def _match(pattern: re.Pattern[str], value: object, examples: tuple[str, str]) -> re.Match[str]:
    text = " ".join(str(value)[: _LONGEST + 1].split())
    found = pattern.fullmatch(text) if len(text) <= _LONGEST else None
    if found is None:
        raise _wrong(value, "is not understood", examples)
    return found


def _digits(text: str) -> float:
    return float(text.replace(",", "").replace("_", ""))


def _choose(table: dict[str, _T], word: str, value: object, examples: tuple[str, str], *, what: str) -> _T:
    if word in table:
        return table[word]
    near = _near(word, table)
    raise _wrong(value, f"has an unknown {what} `{word}`" + (f" (meant `{near}`?)" if near else ""), examples)


def _near(word: str, known: Iterable[str]) -> str:
    lower = {name.lower(): name for name in known}
    found = difflib.get_close_matches(word.lower(), lower, 1)
    return lower[found[0]] if found else ""


def _wrong(value: object, why: str, examples: tuple[str, str]) -> ValueError:
    return ValueError(f"{_shown(value)} {why}; write for example `{examples[0]}` or `{examples[1]}`")


def _shown(value: object) -> str:
    """The value as the file says it, cut short."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    if value is None or value == "":
        return "an empty value"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    return f"`{text[:_LONGEST]}...`" if len(text) > _LONGEST else f"`{text}`"


def _plain(number: float) -> str:
    """Digits without an exponent, as the readers take them."""
    return str(int(number)) if number == int(number) else f"{number:.12f}".rstrip("0").rstrip(".")
