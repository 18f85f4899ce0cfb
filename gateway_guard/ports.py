"""The seams: what the core asks of stores, signals, dialects, directories and sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from gateway_guard.evidence import Evidence
from gateway_guard.facts import Event, Identity, RequestFacts, Usage
from gateway_guard.quota import Balance, Charge, Spend
from gateway_guard.view import Standing, View


class Store(Protocol):
    """Debts, events and views. `at` is data: a store reads no clock to decide."""

    async def spend(self, charges: Sequence[Charge], at: float, *, patience: float = 0.0, hold: str = "", until: float = 0.0) -> Spend:
        """All of `charges` or none, atomically. With `hold`, what the charges hold is given back at `until` unless settled before."""
        ...

    async def adjust(self, charges: Sequence[Charge], at: float, *, hold: str = "") -> None:
        """Add costs (negative ones give back) without refusing, and end `hold`. A hold that is no longer known is not an error."""
        ...

    async def peek(self, charges: Sequence[Charge], at: float) -> tuple[Balance, ...]:
        """Where the buckets stand, without spending."""
        ...


class Signal(Protocol):
    """A detector: pure, bounded, silent (None) when it has nothing to say."""

    def __call__(self, facts: RequestFacts, standing: Standing | None, view: View) -> Evidence | None: ...


class Directory(Protocol):
    """What the operator's sign-up and billing systems know of a credential or an account name."""

    def find(self, credential: str) -> Identity | None:
        """The identity behind an API key (raw or already hashed) or an account name; None when unknown."""
        ...


class Sink(Protocol):
    """Takes events as they happen. Must not raise and must not wait."""

    def __call__(self, event: Event) -> None: ...


class Meter(Protocol):
    """Reads the usage of one answer as its bytes pass: never holds them back, never raises."""

    def feed(self, chunk: bytes) -> None: ...

    def usage(self) -> Usage:
        """What was used so far; estimated where the server did not tell."""
        ...


class Dialect(Protocol):
    """One API's way to say things."""

    name: str

    def read(self, body: Mapping[str, Any]) -> Any:
        """A `Reading` of the body, or UnreadableBody."""
        ...

    def meter(self, content_type: str) -> Meter:
        """A meter for an answer of this content type."""
        ...
