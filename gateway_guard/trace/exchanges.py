"""The exchange log: one request, with its response when known, on each line (format version 1).

Lines are taken in the order of the file. `ts` should not fall from one line to the next; where it does, the line is counted in `backwards` and is
taken all the same, and whoever plays the log lets its clock stand still rather than go back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, BinaryIO, Self

import msgspec

from gateway_guard.errors import TrafficError
from gateway_guard.facts import Ending, Identity
from gateway_guard.trace.lines import LINE_CAP, Lines
from gateway_guard.trace.output import Output

VERSION = 1
KEPT = 5
TOLERATED = 0.01

# The year 2100: a log whose times are milliseconds is told so, rather than played a thousand times too slowly.
Time = Annotated[float, msgspec.Meta(ge=0, le=4_102_444_800)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=86_400_000)]
Tokens = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class TokenCounts(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the server said was used. `output_tokens` includes `reasoning_tokens`; `estimated`: counted by the guard, not told by the server."""

    input_tokens: Tokens | None = None
    output_tokens: Tokens | None = None
    reasoning_tokens: Tokens | None = None
    estimated: bool = False


class Response(msgspec.Struct, frozen=True, omit_defaults=True):
    """How the exchange went.

    `ending`: `refused` by the guard, the client `left`, the server `raised`, or `done` · `held_ms` what of the latency was the recording guard's delay.
    """

    status: int | None = None
    latency_ms: Milliseconds | None = None
    ttft_ms: Milliseconds | None = None
    usage: TokenCounts | None = None
    finish_reason: str | None = None
    ending: Ending = "done"
    held_ms: Milliseconds | None = None


class Exchange(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One line.

    `body` is kept as it was written, for the dialect to read; one that was no JSON object is a string of its bytes (in Latin-1) · `identity` is who
    the recording guard took the caller for · `met` rungs whose challenge it had met.
    """

    v: int = msgspec.field(default_factory=lambda: VERSION)  # a factory, so that it is written out although it is the default
    id: str
    ts: Time
    client: str = ""
    method: str = "POST"
    path: str
    headers: list[tuple[str, str]] = []
    body: msgspec.Raw = msgspec.field(default_factory=lambda: msgspec.Raw(b"null"))
    response: Response | None = None
    identity: Identity | None = None
    met: tuple[str, ...] = ()

    @property
    def ends(self) -> float:
        """When the exchange was over; its own `ts` when that is not known."""
        waited = self.response.latency_ms if self.response is not None else None
        return end(self.ts, waited or 0.0)

    @property
    def octets(self) -> bytes:
        """The body's bytes, as they were sent."""
        body = bytes(self.body)
        if body[:1] == b'"':
            return _octets(msgspec.json.decode(body, type=str))
        return b"" if body == b"null" else body


class _Versioned(msgspec.Struct):
    v: int = VERSION


def end(at: float, latency_ms: float) -> float:
    """The moment `latency_ms` after `at`, in whole microseconds."""
    return round(at + latency_ms / 1000.0, 6)


def latency_ms(at: float, ended: float) -> float:
    """From `at` to `ended`, such that `end(at, latency_ms(at, ended))` is `ended` again (both in whole microseconds)."""
    return round((ended - at) * 1000.0, 3)


def asgi_headers(headers: list[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    """The headers as ASGI hands them over."""
    return [(name.lower().encode("latin-1", "replace"), _octets(value)) for name, value in headers]


def _octets(value: str) -> bytes:
    try:
        return value.encode("latin-1")
    except UnicodeEncodeError:  # a log that was not written by this guard
        return value.encode("utf-8", "surrogatepass")


class Progress(msgspec.Struct, frozen=True, array_like=True):
    """How far a log was read, and what was wrong with it up to there."""

    position: int = 0
    taken: int = 0
    broken: int = 0
    backwards: int = 0
    problems: list[str] = []


class ExchangeLog:
    """Iterates over the exchanges of a log (`-` for standard input).

    `taken` lines were read well, `broken` ones not: those are skipped, and the first five are told in `problems`. When more than one line in a
    hundred is broken, the end of the iteration raises TrafficError: statistics of such a log would mislead.
    """

    def __init__(self, path: str | Path, *, stream: BinaryIO | None = None, line_cap: int = LINE_CAP) -> None:
        self._lines = Lines(path, stream=stream, cap=line_cap)
        self._decode = msgspec.json.Decoder(Exchange).decode
        self.name = self._lines.name
        self.taken = 0
        self.broken = 0
        self.backwards = 0
        self.problems: list[str] = []

    @property
    def size(self) -> int:
        """Bytes of the log as stored; 0 when unknown."""
        return self._lines.size

    @property
    def position(self) -> int:
        """Bytes of it read so far."""
        return self._lines.position

    @property
    def progress(self) -> Progress:
        """All of that as a value."""
        return Progress(self.position, self.taken, self.broken, self.backwards, list(self.problems))

    def follow(self, progress: Progress) -> None:
        """Somebody else reads the same log: take over how far that is."""
        self._lines.position = progress.position
        self.taken, self.broken, self.backwards = progress.taken, progress.broken, progress.backwards
        self.problems = list(progress.problems)

    def close(self) -> None:
        """Let go of the file."""
        self._lines.close()

    def __iter__(self) -> Iterator[Exchange]:
        latest = 0.0
        for number, line in enumerate(self._lines, 1):
            exchange = self._exchange(number, line)
            if exchange is None:
                continue
            self.taken += 1
            if exchange.ts < latest:
                self.backwards += 1
            latest = max(latest, exchange.ts)
            yield exchange
        self._judge()

    def _exchange(self, number: int, line: bytes | None) -> Exchange | None:
        if line is None:
            self._skip(number, "longer than a line may be")
            return None
        if not line or line.isspace():
            return None
        try:
            exchange = self._decode(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            self._refuse_later(number, line)
            self._skip(number, _told(error))
            return None
        if exchange.v > VERSION:
            raise self._later(number, exchange.v)
        return exchange

    def _skip(self, number: int, why: str) -> None:
        self.broken += 1
        if len(self.problems) < KEPT:
            self.problems.append(f"{self.name}:{number}: {why}")

    def _refuse_later(self, number: int, line: bytes) -> None:
        """A line of a later format may not fit the types at all; say that it is later, not that it is broken."""
        try:
            version = msgspec.json.decode(line, type=_Versioned).v
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return
        if version > VERSION:
            raise self._later(number, version)

    def _later(self, number: int, version: int) -> TrafficError:
        return TrafficError(f"{self.name}:{number}: format version {version}, but this gateway-guard reads version {VERSION}: use a newer one")

    def _judge(self) -> None:
        lines = self.taken + self.broken
        if self.broken > TOLERATED * lines:
            first = self.problems[0]
            raise TrafficError(f"{self.name}: {self.broken:,} of {lines:,} lines are broken, and more than 1 % is no log to judge by; the first: {first}")


def _told(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    hint = " (seconds since 1970 are meant, not milliseconds)" if "4102444800" in str(error) else ""
    return str(error) + hint


def read(path: str | Path, *, stream: BinaryIO | None = None) -> ExchangeLog:
    """The exchanges of a log: plain, zstd or gzip, told by its content; `-` is standard input."""
    return ExchangeLog(path, stream=stream)


_ENCODER = msgspec.json.Encoder()


def line(exchange: Exchange) -> bytes:
    """One line of an exchange log."""
    return _ENCODER.encode(exchange) + b"\n"


class ExchangeWriter:
    """Writes an exchange log, compressed by its name; it appears when complete."""

    def __init__(self, path: str | Path) -> None:
        self._output = Output(path)

    def __enter__(self) -> Self:
        self._output.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self._output.__exit__(kind, *rest)

    def write(self, exchange: Exchange) -> None:
        """Add one exchange; give them in the order of `ts`."""
        self._output.write(line(exchange))
