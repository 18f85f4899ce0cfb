"""Headers in the ASGI form: pairs of bytes, names in lower case, in the order received."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Headers = Sequence[tuple[bytes, bytes]]
Pairs = list[tuple[bytes, bytes]]


def values(headers: Headers, name: bytes) -> list[bytes]:
    """Every value of `name`, in the order received."""
    return [value for held, value in headers if held == name]


def without(headers: Headers, names: Iterable[bytes]) -> Pairs:
    """The headers without `names`."""
    unwanted = frozenset(names)
    return [pair for pair in headers if pair[0] not in unwanted]
