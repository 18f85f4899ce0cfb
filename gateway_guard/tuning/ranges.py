"""What an outcome may be, as people write it: `100%`, `>= 95%`, `1% to 5%`; `0`, `>= 10`, `3 to 5`."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from pydantic import BeforeValidator, WithJsonSchema

from gateway_guard.policy import units

_RANGE = re.compile(r"(?P<sign><=|>=|<|>)? ?(?P<one>[0-9.,_]+ ?%?)(?: ?to ?(?P<two>[0-9.,_]+ ?%?))?", re.ASCII)
_LONGEST = 40  # characters; nothing longer is looked at
# Shares are counted, then divided: half a millionth is no difference.
SPECK = 5e-7


class Range(msgspec.Struct, frozen=True):
    """From `least` to `most`, both included; `said` as the file has it."""

    least: float
    most: float
    said: str

    def __contains__(self, value: float) -> bool:
        return self.least - SPECK <= value <= self.most + SPECK


def share_range(value: object) -> Range:
    """A range of shares: `100%`, `>= 95%`, `1% to 5%`, 0."""
    return _range(value, units.share, 1.0, ("100%", ">= 95%", "1% to 5%"))


def count_range(value: object) -> Range:
    """A range of counts: `0`, `>= 10`, `3 to 5`."""
    return _range(value, _count, float("inf"), ("0", ">= 10", "3 to 5"))


def _range(value: object, read: Callable[[object], float], most: float, examples: tuple[str, ...]) -> Range:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(f"write for example {', '.join(f'`{one}`' for one in examples)}")
    said = " ".join(str(value).split())
    found = _RANGE.fullmatch(said) if len(said) <= _LONGEST else None
    if found is None or (found["sign"] and found["two"]):
        raise ValueError(f"`{said[:_LONGEST]}` is not understood; write for example {', '.join(f'`{one}`' for one in examples)}")
    one = read(found["one"])
    if found["two"]:
        return _ordered(Range(one, read(found["two"]), said))
    # The narrow signs leave out their bound itself.
    return {
        "": Range(one, one, said),
        ">=": Range(one, most, said),
        "<=": Range(0.0, one, said),
        ">": Range(one + 2 * SPECK, most, said),
        "<": Range(0.0, one - 2 * SPECK, said),
    }[found["sign"] or ""]


def _ordered(found: Range) -> Range:
    if found.least > found.most:
        raise ValueError(f"`{found.said}` has its larger end first")
    return found


def _count(text: object) -> float:
    digits = str(text).strip().replace(",", "").replace("_", "")
    if not digits.isdigit():
        raise ValueError(f"`{text}` is no count; write for example `0`, `>= 10`, `3 to 5`")
    return float(digits)


_TEXT: dict[str, Any] = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string"}]}
ShareRange = Annotated[Range, BeforeValidator(share_range), WithJsonSchema({"description": "Such as 100%, >= 95%, 1% to 5%.", **_TEXT})]
CountRange = Annotated[Range, BeforeValidator(count_range), WithJsonSchema({"description": "Such as 0, >= 10, 3 to 5.", **_TEXT})]
