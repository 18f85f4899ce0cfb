"""The seams: what the core asks of stores, signals, dialects, directories and sinks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import msgspec

from gateway_guard.evidence import Evidence
from gateway_guard.facts import Event, Identity, RequestFacts, Usage
from gateway_guard.quota import Charges, Heir, Spend, Unit
from gateway_guard.reading import Reading
from gateway_guard.view import Standing, View


class Store(Protocol):
    """Debts, events and views. `at` is data: a store reads no clock to decide."""

    async def spend(self, charges: Charges, at: float, *, patience: float = 0.0, hold: str = "", until: float = 0.0) -> Spend:
        """All of `charges` or none, atomically. With `hold`, what the charges hold is given back at `until` unless settled before."""
        ...

    async def adjust(self, charges: Charges, at: float, *, hold: str = "") -> None:
        """Add costs (negative ones give back) without refusing, and end `hold`. A hold that is no longer known is not an error."""
        ...

    async def inherit(self, heirs: Sequence[Heir], at: float, *, version: int) -> None:
        """Move debts to `heirs`, all at once, by what everybody owed before; once for each `version`, which grows, however many workers ask for it."""
        ...

    async def peek(self, charges: Charges, at: float) -> tuple[float, ...]:
        """What each bucket owes, without spending."""
        ...

    def forecast(self, account: str) -> float:
        """Decayed mean of the account's output tokens; 0 when nothing is known. Local to the process: a forecast is no debt."""
        ...

    def observe(self, account: str, output: float) -> None:
        """Learn what a request really used."""
        ...


class Signal(Protocol):
    """A detector: pure, bounded, silent (None) when it has nothing to say."""

    def __call__(self, facts: RequestFacts, standing: Standing | None, view: View) -> Evidence | None: ...


class Directory(Protocol):
    """What the operator's sign-up and billing systems know of a credential or an account name."""

    def find(self, credential: str) -> Identity | None:
        """The identity behind an API key (raw or already hashed) or an account name; None when unknown."""
        ...


class Grants(Protocol):
    """Which holders (keyed hashes of account, cluster and rung) have met a challenge with the operator. May forget one early, never late."""

    async def grant(self, holder: str, until: float, at: float) -> None:
        """`holder` has met it, until then."""
        ...

    async def granted(self, holder: str, at: float) -> bool:
        """Whether `holder` has met it, and it still counts."""
        ...


class Sink(Protocol):
    """Takes events as they happen. Must not raise and must not wait."""

    def __call__(self, event: Event, /) -> None: ...


class Meter(Protocol):
    """Reads the usage of one answer as its bytes pass: never holds them back, never raises."""

    def feed(self, chunk: bytes) -> None:
        """The next bytes of the body, split anywhere."""
        ...

    def usage(self) -> Usage:
        """What was used so far; estimated where the server did not tell. May be asked at any time, and again."""
        ...


class LimitShown(msgspec.Struct, frozen=True, gc=False):
    """A bucket as a caller may see it. `reset_seconds` until it is full again (inf: never by itself) · `window_seconds` of the quota, 0 = none."""

    name: str
    unit: Unit
    limit: float
    remaining: float
    reset_seconds: float = 0.0
    window_seconds: float = 0.0


# The headers that show a limit, what remains of it, and when it is reset.
LimitNames = tuple[bytes, bytes, bytes]


class Dialect(Protocol):
    """One API's way to say things.

    `name` as policies call it · `path` where the API has it · `request_id_header` the answer's header that its clients read the request id from ·
    `limit_names` the headers for each unit that the API shows; units may share them.
    """

    name: str
    path: str
    request_id_header: bytes
    limit_names: Mapping[Unit, LimitNames]

    def read(self, body: Mapping[str, Any]) -> Reading:
        """A `Reading` of the body, or UnreadableBody. Nothing else is raised, whatever the JSON."""
        ...

    def meter(self, content_type: str, *, content_encoding: str = "", input_tokens: int = 0, streaming: bool = False) -> Meter:
        """A meter for an answer of this content type and encoding; `input_tokens` and `streaming` as the reading has them."""
        ...

    def error(
        self,
        status: int,
        code: str,
        message: str,
        *,
        type: str | None = None,
        param: str | None = None,
        details: Mapping[str, Any] | None = None,
        request_id: str = "",
    ) -> bytes:
        """The JSON body of a refusal. `type` unless the status tells; `details` go where SDKs keep them: the error's member `gateway_guard`."""
        ...

    def limit_headers(self, limits: Sequence[LimitShown], at: float) -> list[tuple[bytes, bytes]]:
        """The API's own rate limit headers; of several buckets for one name the tightest."""
        ...

    def reset(self, at: float, wait: float) -> bytes:
        """How the reset header says that a limit is whole again `wait` seconds after `at`."""
        ...
