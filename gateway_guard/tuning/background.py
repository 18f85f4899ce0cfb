"""The operator's own traffic as the background of a campaign: bounded, and what campaigns copy from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import takewhile

from gateway_guard.facts import Done, Event, RequestFacts, Seen
from gateway_guard.makers.make import moment

# Requests that are kept: whole organisations are left out beyond it.
MOST = 300_000
DONORS = 4_000
_WHOLE = 1 << 32


class Background:
    """Events in order of time. `share` of the organisations is kept (1: all), chosen by their hashes."""

    def __init__(self, most: int = MOST) -> None:
        self.events: list[Event] = []
        self.requests = 0
        self._most = most
        self._below = _WHOLE
        self._units: dict[str, int] = {}

    @property
    def share(self) -> float:
        """How much of the organisations is kept."""
        return self._below / _WHOLE

    @property
    def accounts(self) -> int:
        """How many accounts are kept."""
        return sum(place < self._below for place in self._units.values())

    def take(self, events: Iterable[Event]) -> None:
        """Add traffic; when it becomes too much, half of the organisations go."""
        for event in events:
            if self._kept(event):
                self.events.append(event)
                self.requests += isinstance(event, Seen)
            if self.requests > self._most:
                self._halve()

    def _kept(self, event: Event) -> bool:
        if isinstance(event, Seen):
            identity = event.facts.identity
            place = self._units.get(identity.account)
            if place is None:
                place = self._units[identity.account] = int.from_bytes(blake2b((identity.org or identity.account).encode(), digest_size=4).digest())
            return place < self._below
        return isinstance(event, Done) and self._units.get(event.account, _WHOLE) < self._below

    def _halve(self) -> None:
        self._below //= 2
        self.events = [event for event in self.events if self._kept(event)]
        self.requests = sum(isinstance(event, Seen) for event in self.events)

    def donors(self, until: float) -> list[RequestFacts]:
        """Requests that campaigns take their looks from: those before `until`, evenly chosen."""
        early = [event.facts for event in takewhile(lambda event: moment(event) < until, self.events) if isinstance(event, Seen)]
        return early[:: -(-len(early) // DONORS)] if early else []

    def between(self, first: float, last: float) -> Iterator[Event]:
        """The events from `first` on, up to `last`."""
        return (event for event in self.events if first <= moment(event) < last)
