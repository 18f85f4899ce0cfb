"""Careful looks into answers: a server may send anything, and what has not the documented shape is left as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Protocol

import orjson

Event = dict[str, Any]


class Step(Protocol):
    """Rewrites the answers of one API: a whole one in place, or the events of a stream one by one.

    `event` gives what goes out instead, None for the event as it came (the very bytes), and nothing for an event that does not go out. It may change its
    argument only when it returns it.
    """

    def answer(self, body: Event) -> None: ...

    def event(self, event: Event) -> list[Event] | None: ...


def loaded(data: bytes) -> Any:
    """JSON as a value; ValueError or RecursionError for what is none. Half a surrogate pair (servers split them between events) is taken as it is."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return json.loads(data)


def written(value: Any) -> bytes:
    """A value as JSON, whatever `loaded` has read."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return json.dumps(value, separators=(",", ":")).encode()


def dicts(value: Any) -> Iterator[Event]:
    """The objects in a list."""
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield item


def dict_at(holder: Event, name: str) -> Event:
    """The object under `name`, or an empty one."""
    found = holder.get(name)
    return found if isinstance(found, dict) else {}


def number_at(holder: Event, name: str) -> int:
    """The index under `name`, 0 when there is none."""
    found = holder.get(name)
    return found if type(found) is int else 0


def text_at(holder: Event, name: str) -> str:
    """The text under `name`, empty when there is none."""
    found = holder.get(name)
    return found if isinstance(found, str) else ""
