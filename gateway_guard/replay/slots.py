"""Time cut into equal slots, and what many accounts did in each: bounded, however long the traffic is."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

SLOTS = 256
NARROWEST = 60.0

_ROWS = 64
_MOST = np.iinfo(np.uint16).max


class Slots:
    """At most 256 slots from the first request on, the `number` of the one that it is now, and when it `ends`. When they no longer suffice,
    neighbours are joined and all are twice as wide.
    """

    __slots__ = ("ends", "number", "start", "width")

    def __init__(self) -> None:
        self.start = 0.0
        self.width = NARROWEST
        self.number = 0
        self.ends = -math.inf

    def turn(self, at: float) -> int:
        """Go on to the slot that holds `at`. Returns how many times neighbours were joined for that."""
        joined = 0
        self.start = self.start or at - at % NARROWEST
        while at >= self.start + SLOTS * self.width:
            self.width *= 2.0
            joined += 1
        self.number = int((at - self.start) // self.width)
        self.ends = self.start + (self.number + 1) * self.width
        return joined


class Activity:
    """How many requests each row had in each slot. `pending` holds the row of each request of the slot that it is now; counts stop at 65,535."""

    __slots__ = ("_counts", "pending")

    def __init__(self) -> None:
        self._counts = np.zeros((_ROWS, SLOTS), np.uint16)
        self.pending: list[int] = []

    def flush(self, slot: int) -> None:
        """Add what is pending to `slot`."""
        if not self.pending:
            return
        rows, counts = np.unique(np.array(self.pending, np.int64), return_counts=True)
        self.pending.clear()
        self._reach(int(rows[-1]))
        self._counts[rows, slot] = np.minimum(self._counts[rows, slot] + counts, _MOST)

    def join(self) -> None:
        """Join neighbours: what is pending is flushed before."""
        half = SLOTS // 2
        self._counts[:, :half] = np.minimum(self._counts[:, ::2].astype(np.uint32) + self._counts[:, 1::2], _MOST)
        self._counts[:, half:] = 0

    def of(self, rows: Sequence[int]) -> list[list[int]]:
        """The counts of each of some rows, by slot; of a row that is not known (-1), zeros."""
        return [self._counts[row].tolist() if 0 <= row < len(self._counts) else [0] * SLOTS for row in rows]

    def total(self, rows: Sequence[int]) -> list[int]:
        """The counts of some rows together, by slot."""
        known = np.array(rows, np.int64)
        reached = known[(known >= 0) & (known < len(self._counts))]
        return [int(count) for count in self._counts[reached].sum(axis=0, dtype=np.int64)]

    def _reach(self, row: int) -> None:
        if row >= len(self._counts):
            more = np.zeros((max(row + 1, 2 * len(self._counts)) - len(self._counts), SLOTS), np.uint16)
            self._counts = np.vstack([self._counts, more])
