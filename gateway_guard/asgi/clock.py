"""The edge's clock: the only place where a served request gets its time from."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

MICRO = 1_000_000


class Clock:
    """Seconds since the Unix epoch, in whole microseconds, each reading later than the one before.

    Strictly rising readings give every decision and every settling a place of its own in one order, which a log written with six
    decimals restores exactly. A wall clock that is set back stands still here until it has caught up.
    """

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._last = 0

    def __call__(self) -> float:
        now = math.floor(self._now() * MICRO)
        last = self._last = now if now > self._last else self._last + 1
        return last / MICRO
