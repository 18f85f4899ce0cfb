"""Which header fields cross a proxy, and which it writes itself (RFC 9110 section 7.6, RFC 7239)."""

from __future__ import annotations

from collections.abc import Iterable

from starlette.types import Scope

RawHeaders = list[tuple[bytes, bytes]]

NAME = b"1.1 gateway-guard"
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    )
)
# Naming one of these in `Connection` would make the server behind read another request than the guard has judged.
NEVER_HOP_BY_HOP = frozenset((b"host", b"authorization", b"x-api-key", b"api-key", b"cookie", b"content-type", b"content-length", b"content-encoding"))
# Written anew for the server behind. `expect` is met here: the body has been received.
REWRITTEN = frozenset((b"host", b"expect", b"via", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"))
NO_BODY = frozenset((204, 304))


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaders:
    """The fields that are meant for the far end, names in lower case, order and duplicates kept."""
    lower = [(name.lower(), value) for name, value in headers]
    listed = {option.strip().lower() for name, value in lower if name == b"connection" for option in value.split(b",")}
    dropped = HOP_BY_HOP | (listed - NEVER_HOP_BY_HOP)
    return [(name, value) for name, value in lower if name not in dropped]


def to_upstream(scope: Scope, host: bytes, *, trusted: bool) -> RawHeaders:
    """The request's fields for the server `host`. A peer that is not `trusted` cannot say which scheme or host its client used."""
    given: dict[bytes, list[bytes]] = {}
    for name, value in scope["headers"]:
        given.setdefault(name, []).append(value)
    asked_host = b", ".join(given.get(b"host", []))
    peer = scope["client"][0] if scope.get("client") else ""
    scheme: bytes = scope["scheme"].encode()
    kept = [(name, value) for name, value in end_to_end(scope["headers"]) if name not in REWRITTEN]
    return [
        (b"host", host),
        *kept,
        (b"via", _appended(given.get(b"via"), NAME)),
        (b"forwarded", _appended(given.get(b"forwarded"), _forwarded(peer, asked_host, scheme))),
        (b"x-forwarded-for", _appended(given.get(b"x-forwarded-for"), peer.encode() or b"unknown")),
        (b"x-forwarded-proto", given[b"x-forwarded-proto"][0] if trusted and b"x-forwarded-proto" in given else scheme),
        (b"x-forwarded-host", given[b"x-forwarded-host"][0] if trusted and b"x-forwarded-host" in given else asked_host),
    ]


def to_client(status: int, headers: Iterable[tuple[bytes, bytes]], base: bytes) -> RawHeaders:
    """The answer's fields. A redirect into the server at `base` becomes one to this proxy."""
    fields = list(headers)
    unsized = status in NO_BODY or any(name.lower() == b"transfer-encoding" for name, _ in fields)
    return [
        (name, value.removeprefix(base) if name == b"location" and value.startswith(base + b"/") else value)
        for name, value in end_to_end(fields)
        if not (unsized and name == b"content-length")
    ]


def _appended(before: list[bytes] | None, own: bytes) -> bytes:
    return b", ".join([*(before or ()), own])


def _forwarded(peer: str, host: bytes, scheme: bytes) -> bytes:
    """One element of `Forwarded`; what a client wrote is quoted so that it cannot add elements of its own."""
    node = f'"[{peer}]"' if ":" in peer else peer or "unknown"
    quoted = host.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
    return b'for=%s;host="%s";proto=%s' % (node.encode(), quoted, scheme)
