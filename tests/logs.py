"""Small logs, made by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from gateway_guard.facts import Identity
from gateway_guard.trace.exchanges import Exchange, ExchangeWriter, Response, TokenCounts

START = 1_800_000_000.0


def exchange(
    number: int, *, key: str = "sk-one", after: float | None = None, tokens: int | None = 10, identity: Identity | None = None, **body: Any
) -> Exchange:
    """Exchange `number` of a log, `number` seconds (or `after`) from its start; it takes half a second."""
    usage = TokenCounts(20, tokens) if tokens is not None else None
    request = {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}], **body}
    return Exchange(
        id=f"x{number}",
        ts=START + (number if after is None else after),
        client="192.0.2.7",
        path="/v1/chat/completions",
        headers=[("authorization", f"Bearer {key}"), ("content-type", "application/json")],
        body=msgspec.Raw(msgspec.json.encode(request)),
        response=Response(200, 500.0, usage=usage),
        identity=identity,
    )


def log(path: Path, exchanges: list[Exchange]) -> Path:
    """A log file."""
    with ExchangeWriter(path) as writer:
        for one in exchanges:
            writer.write(one)
    return path
