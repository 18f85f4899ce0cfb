"""One exchange as the edge saw it, and the line of the log that it becomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from gateway_guard.facts import Ending, Identity, Usage
from gateway_guard.trace.exchanges import Exchange, Response, TokenCounts, latency_ms

Headers = Sequence[tuple[bytes, bytes]]
Hide = Callable[[Headers], Headers]

DAY_MS = 86_400_000.0
_UNBROKEN = bytes.maketrans(b"\r\n", b"  ")


class Recording(NamedTuple):
    """What `Recorder.exchange` takes.

    `ticket` from `Recorder.opened` · `body` with its content coding taken off · `held` seconds that the guard meant to hold it · `first` when the
    answer began, 0 for never · `status` 0 for none · `met` rungs whose challenge the account had met.
    """

    ticket: int
    id: str
    at: float
    ended: float
    client: str
    method: str
    path: str
    headers: Headers
    body: bytes
    identity: Identity
    status: int = 0
    first: float = 0.0
    usage: Usage | None = None
    finish_reason: str | None = None
    ending: Ending = "done"
    held: float = 0.0
    met: tuple[str, ...] = ()


def exchange_of(recording: Recording, hide: Hide) -> Exchange:
    """The exchange with its secrets hidden. Its times restore the recorded ones to the microsecond."""
    return Exchange(
        id=recording.id,
        ts=round(recording.at, 6),
        client=recording.client,
        method=recording.method,
        path=recording.path,
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in hide(recording.headers)],
        body=_json(recording.body),
        response=_response(recording),
        identity=recording.identity,
        met=recording.met,
    )


def _response(recording: Recording) -> Response:
    usage = recording.usage
    return Response(
        status=recording.status or None,
        latency_ms=min(latency_ms(recording.at, recording.ended), DAY_MS),
        ttft_ms=min(latency_ms(recording.at, recording.first), DAY_MS) if recording.first else None,
        usage=TokenCounts(usage.input, usage.output, usage.reasoning or None, usage.estimated) if usage is not None else None,
        finish_reason=recording.finish_reason,
        ending=recording.ending,
        held_ms=round(recording.held * 1000.0, 3) or None,
    )


def _json(body: bytes) -> msgspec.Raw:
    """A JSON object as it came, on one line; anything else as a JSON string, so that it spoils no line and is refused again on replay."""
    if body.lstrip()[:1] == b"{" and _is_json(body):
        # JSON strings hold no raw line ends, so these stand between tokens.
        return msgspec.Raw(body.translate(_UNBROKEN))
    return msgspec.Raw(msgspec.json.encode(body.decode("latin-1")))


def _is_json(body: bytes) -> bool:
    try:
        body.decode()
        msgspec.json.decode(body, type=msgspec.Raw)
    except (UnicodeDecodeError, msgspec.DecodeError, RecursionError):
        return False
    return True
