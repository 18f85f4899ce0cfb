"""From a request to its facts: which dialect it speaks, who asks, what its shape is. The text ends here.

One object serves a live edge and a replay; what differs is only where the identity comes from.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Mapping, Sequence

import msgspec
from msgspec import structs

from gateway_guard.dialects import DIALECTS
from gateway_guard.dialects.body import Duplicates, decoded, parse
from gateway_guard.errors import BodyTooLarge, RequestError, UnreadableBody
from gateway_guard.facts import BLANK, Identity, RequestFacts
from gateway_guard.fingerprint.take import Fingerprinter
from gateway_guard.identity.address import prefix
from gateway_guard.identity.identify import Identifier
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.policy.model import Policy
from gateway_guard.ports import Dialect
from gateway_guard.provenance.marker import Marker
from gateway_guard.reading import Reading
from gateway_guard.rewrite.custody import Custody
from gateway_guard.rewrite.seal import Seals

Headers = Sequence[tuple[bytes, bytes]]
# The caller's pass for challenges that it has met.
PASS = b"x-gateway-guard-pass"
Passes = Callable[[RequestError], bool]


class Understood(msgspec.Struct, frozen=True, gc=False):
    """A body's reading, and the bytes that say exactly that to whoever reads them next."""

    reading: Reading
    raw: bytes


class Intake:
    """Reads requests under one policy."""

    def __init__(self, policy: Policy, identifier: Identifier, pseudonyms: Pseudonyms, fingerprinter: Fingerprinter, marker: Marker | None = None) -> None:
        self.marker = marker or Marker(pseudonyms.subkey("gg-provenance"))
        self.custody = Custody(policy.binding, Seals(pseudonyms.subkey("gg-state")))
        self.rules = policy.guard
        self._duplicates: Duplicates = "rewrite" if policy.guard.unreadable == "pass" else "refuse"
        self.identifier = identifier
        self._pseudonyms = pseudonyms
        self._strangers = policy.identity.anonymous_plan
        self._fingerprinter = fingerprinter
        # The headers that are read at all: an edge may leave out the others when it asks.
        self.telling = identifier.names | {b"content-encoding", b"content-length", PASS}
        self._paths: Mapping[str, Dialect] = {path: DIALECTS[name] for path, name in policy.guard.paths.items()}

    def dialect(self, method: str, path: str) -> Dialect | None:
        """The dialect of a guarded request, None when it is not guarded.

        A path that a server behind could normalise to a guarded one is guarded too: `//v1/messages`, `/v1/x/../messages`, a trailing slash.
        """
        found = self._paths.get(path)
        if found is None and (path.endswith("/") or "//" in path or "/." in path):
            found = self._paths.get("/" + posixpath.normpath(path).lstrip("/"))
        return found if method == "POST" else None

    def read(self, dialect: Dialect, headers: Headers, raw: bytes) -> Understood:
        """What the body says, or UnreadableBody, or BodyTooLarge."""
        coding = content_coding(headers)
        if coding:
            raw = decoded(raw, coding, self.rules.body_limit)
        parsed = parse(raw, duplicates=self._duplicates)
        return Understood(dialect.read(parsed.body), parsed.raw)

    def stranger(self, client: str) -> Identity:
        """Somebody who could not be identified and goes on all the same: known by the network."""
        return Identity(self._pseudonyms.text("network", prefix(client)), plan=self._strangers, anonymous=True)

    def facts(self, ident: str, at: float, identity: Identity, network: int, dialect: Dialect, reading: Reading, passes: tuple[str, ...] = ()) -> RequestFacts:  # noqa: PLR0917 - one call, on the request's way
        """The facts without the fingerprint, which costs more than all the rest and is taken off the request's way."""
        return RequestFacts(
            id=ident,
            at=at,
            identity=identity,
            dialect=dialect.name,
            model=reading.model,
            network=network,
            input_tokens=reading.input_tokens,
            ask_tokens=reading.ask_tokens,
            asks=reading.asks,
            turns=len(reading.turns),
            passes=passes,
            state=self.custody.judge(identity, reading) if reading.blobs else 0,
        )

    def fingerprinted(self, facts: RequestFacts, reading: Reading, headers: Headers) -> RequestFacts:
        """The facts with the request's fingerprint."""
        if facts.fingerprint is not BLANK:
            return facts
        return structs.replace(facts, fingerprint=self._fingerprinter.take(reading, headers))

    def recorded(  # noqa: PLR0917 - the fields of an exchange, in the order of its log
        self,
        ident: str,
        at: float,
        method: str,
        path: str,
        headers: Headers,
        client: str,
        raw: bytes,
        identity: Identity | None = None,
        *,
        passes: Passes = lambda error: False,
    ) -> RequestFacts:
        """The whole facts of a recorded exchange, whose body has its content coding taken off.

        Raises RequestError for what a live guard would refuse; `passes` says of such an error whether the request goes on all the same.
        UnreadableBody for a path that is not guarded.
        """
        dialect = self.dialect(method, path)
        if dialect is None:
            raise UnreadableBody(f"{method} {path} is not a guarded path")
        reading = self._recorded_reading(dialect, raw, passes)
        who = self._recorded_identity(headers, client, at, passes) if identity is None else identity
        facts = self.facts(ident, at, who, self.identifier.network(client), dialect, reading)
        return self.fingerprinted(facts, reading, headers)

    def _recorded_reading(self, dialect: Dialect, raw: bytes, passes: Passes) -> Reading:
        try:
            if len(raw) > self.rules.body_limit:
                raise BodyTooLarge(f"The request body is longer than {self.rules.body_limit} bytes.")
            return self.read(dialect, (), raw).reading
        except RequestError as error:
            if not passes(error):
                raise
            return by_size(raw)

    def _recorded_identity(self, headers: Headers, client: str, at: float, passes: Passes) -> Identity:
        try:
            return self.identifier.recorded(headers, client, at)
        except RequestError as error:
            if not passes(error):
                raise
            return self.stranger(client)


def by_size(raw: bytes) -> Reading:
    """The reading of a body that passes although it cannot be read: being unreadable is no way around a quota."""
    return Reading(model="", input_tokens=len(raw) // 4)


def content_coding(headers: Headers) -> str:
    """The request's content coding, empty for none; several headers or codings are joined and so refused later."""
    found = [value.strip() for name, value in headers if name == b"content-encoding"]
    if not found:
        return ""
    coding = b",".join(found).lower()
    return "" if coding in (b"", b"identity") else coding.decode("latin-1")
