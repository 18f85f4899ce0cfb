"""The stretch of history that is looked at, and how much of an event is left at its end."""

from __future__ import annotations

from dataclasses import dataclass

from gateway_guard.analysis.profile import HOUR

# What a fade is counted in.
GRAIN = 1 << 20
# Seconds in slots: the table of fades stays small, however long the window.
SLOTS = 1 << 16


@dataclass(frozen=True, slots=True)
class Window:
    """From `since` to `at`, seconds since the epoch · `width` seconds of a slot, all events of which fade alike · `half_life` seconds."""

    since: float
    at: float
    width: float
    half_life: float

    @property
    def base(self) -> float:
        """The hour that hours count from."""
        return self.since // HOUR * HOUR

    def fades(self) -> tuple[list[int], list[int]]:
        """Slots with what is left of one of their events, in parts of `GRAIN`: as online, an event begins to fade when its slot is concluded on."""
        slots = list(range(int(self.since // self.width), int(self.at // self.width) + 1))
        ends = (min((slot + 1) * self.width, self.at) for slot in slots)
        return slots, [round(GRAIN * 0.5 ** ((self.at - end) / self.half_life)) for end in ends]


def window(first: float, last: float, *, length: float, half_life: float, refresh: float) -> Window:
    """The last `length` seconds of a history from `first` to `last`, as an analyst that concludes every `refresh` seconds sees it."""
    since = max(first, last - length)
    return Window(since, last, max(refresh, (last - since) / SLOTS), half_life)
