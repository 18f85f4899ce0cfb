"""The marks of a cluster, worked out from a key and the cluster's id: there is no table of them, and without the key nobody tells them from chance.

Theory of operation. A keyed hash of the cluster's id draws one of two ways for each habit, another the name of its decoy tool. So the marks last as long as
the cluster's id does, are the same on every host, and whoever knows one cluster's marks learns nothing of another's.
"""

from __future__ import annotations

import base64
from hashlib import blake2b
from typing import NamedTuple

from gateway_guard.provenance.habits import HABITS

# What a decoy is called: this, and 40 bits that only the key tells.
STEM = "reserved_"
NAME_BITS = 40


class Marks(NamedTuple):
    """`ways` of the habits: 1 the first, -1 the second · `tool` the name of the decoy."""

    ways: tuple[int, ...]
    tool: str

    @property
    def asked(self) -> list[str]:
        """What the model is asked for, habit by habit."""
        return [habit.asks[way < 0] for habit, way in zip(HABITS, self.ways, strict=True)]


class Marker:
    """Draws marks under one key of at most 64 bytes."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        self._key = key

    def of(self, cluster: str) -> Marks:
        """The marks of a cluster."""
        drawn = int.from_bytes(self._digest("habits", cluster), "big")
        ways = tuple(1 if drawn >> place & 1 else -1 for place in range(len(HABITS)))
        name = base64.b32encode(self._digest("tool", cluster)[: NAME_BITS // 8]).decode().lower()
        return Marks(ways, STEM + name)

    def seed(self) -> int:
        """For the control keys of a check: the same check says the same twice."""
        return int.from_bytes(self._digest("controls", ""), "big")

    def _digest(self, purpose: str, name: str) -> bytes:
        return blake2b(name.encode(), key=self._key, person=f"gg-mark-{purpose}".encode()[:16], digest_size=16).digest()
