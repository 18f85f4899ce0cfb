"""Problem details (RFC 9457): how the guard's own endpoints tell what went wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

TYPE = "urn:gateway-guard:problem:"
MEDIA = b"application/problem+json"


def problem(status: int, code: str, title: str, detail: str, **more: Any) -> bytes:
    """The JSON of one problem; `code` names its kind, `more` are further members."""
    return orjson.dumps({"type": TYPE + code, "title": title, "status": status, "detail": detail, **more})


def headers_of(body: bytes, more: Sequence[tuple[bytes, bytes]] = ()) -> list[tuple[bytes, bytes]]:
    """The headers of an answer that is a problem."""
    return [(b"content-type", MEDIA), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store"), *more]
