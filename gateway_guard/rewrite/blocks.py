"""A stream cut into whole events, each with the very bytes that it came in: what is not changed goes out as it came."""

from __future__ import annotations

import re
from typing import NamedTuple

# A carriage return alone ends a line too, unless its line feed follows.
_BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r(?!\n))")
_LINES = re.compile(rb"\r\n|\n|\r")
# An event that grows beyond this goes out as it is: it is held no longer.
CAP = 16 * 1024 * 1024


class Block(NamedTuple):
    """`raw` as it came · `data` of its lines, joined; empty where there is none · `name` of its `event` line."""

    raw: bytes
    data: bytes
    name: bytes


class Blocks:
    """Takes bytes, split anywhere; gives each event when it is whole."""

    __slots__ = ("_cap", "_held", "_looked", "_passing")

    def __init__(self, cap: int = CAP) -> None:
        self._cap = cap
        self._held = bytearray()
        self._looked = 0
        self._passing = False  # in the middle of an event that was too long

    def feed(self, chunk: bytes) -> list[Block]:
        """The events that `chunk` completes."""
        held = self._held
        held += chunk
        # The line feed of a last carriage return may be the next byte.
        end = len(held) - held.endswith(b"\r")
        blocks: list[Block] = []
        done = 0
        for found in _BLANK.finditer(held, self._looked, end):
            blocks.append(self._block(bytes(held[done : found.end()])))
            done = found.end()
        if len(held) - done > self._cap:
            blocks.append(Block(bytes(held[done:end]), b"", b""))
            done, self._passing = end, True
        del held[:done]
        # Each byte is looked at once: a blank line that is under way begins in the last three.
        self._looked = max(0, len(held) - 3)
        return blocks

    def rest(self) -> Block | None:
        """What has begun and not ended."""
        raw = bytes(self._held)
        self._held.clear()
        return self._block(raw) if raw else None

    def _block(self, raw: bytes) -> Block:
        if self._passing:
            self._passing = False
            return Block(raw, b"", b"")
        data, name = [], b""
        for line in _LINES.split(raw):
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif line.startswith(b"event:"):
                name = line[6:].strip()
        return Block(raw, b"\n".join(data), name)
