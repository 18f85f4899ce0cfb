"""The reverse proxy as an ASGI application: every request goes to one server, as it came, and the answer comes back as it comes in.

Theory of operation. Nothing is buffered beyond the part in hand: the request's parts are pulled by the connection to the server, the answer's parts are pushed
to the client. Whoever leaves first ends the other side at once: a client that has left cancels the request to the server, and an answer that breaks off
half way breaks off for the client too, since ending it properly would pass a part off as the whole.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from typing import Any

import httpx
import orjson
from starlette.types import Receive, Scope, Send

from gateway_guard.asgi.departure import ClientLeft
from gateway_guard.asgi.respond import answer as answer_whole
from gateway_guard.errors import GuardError, UsageError
from gateway_guard.identity.address import Addresses
from gateway_guard.policy.model import UpstreamRules
from gateway_guard.ports import Dialect
from gateway_guard.proxy.headers import to_client, to_upstream
from gateway_guard.proxy.upstream import UpstreamTransport

logger = logging.getLogger("gateway_guard.proxy")
ADDRESSES = 512


class UpstreamLost(GuardError):
    """The server broke off in the middle of an answer: the client's connection has to end abnormally."""


class Proxy:
    """Passes every request on to `upstream`. `paths` gives the dialect in which errors are told; `trusted` are the proxies in front of this one."""

    def __init__(
        self,
        upstream: str,
        rules: UpstreamRules,
        *,
        paths: Mapping[str, Dialect] | None = None,
        trusted: Iterable[str] = (),
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._upstream = checked_upstream(upstream)
        # Parsing an address costs more than the rest of a request's preparation, and callers use few.
        self._address = functools.lru_cache(ADDRESSES)(lambda target: self._upstream.copy_with(raw_path=target))
        self._base = self._upstream.raw_path.rstrip(b"/")
        self._origin = f"{self._upstream.scheme}://".encode() + self._upstream.netloc
        self._paths = paths or {}
        self._addresses = Addresses(trusted)
        self._timeouts = {"connect": rules.connect_timeout, "read": rules.read_timeout, "write": rules.write_timeout, "pool": rules.pool_timeout}
        self._connections = rules.connections
        self._transport = transport

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._exchange(scope, receive, send)
            case "websocket":
                await send({"type": "websocket.close", "code": 1003, "reason": "this proxy passes HTTP only"})
            case "lifespan":
                await self._live(receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.shutdown" and self._transport is not None:
                await self._transport.aclose()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        target = _target(scope, self._base)
        if target is None:
            await self._tell(scope, send, 400, "invalid_request_target", "The path has to begin with / and to hold no . or .. segment.")
            return
        upload = _Upload(receive)
        request = httpx.Request(
            scope["method"],
            self._address(target),
            headers=to_upstream(scope, self._upstream.netloc, trusted=self._addresses.trusts(scope["client"][0] if scope.get("client") else "")),
            content=await upload.content(),
            extensions={"timeout": self._timeouts},
        )
        await _unless(upload.left(), self._relay(request, upload, scope, send))

    async def _relay(self, request: httpx.Request, upload: _Upload, scope: Scope, send: Send) -> None:
        if self._transport is None:
            self._transport = UpstreamTransport(self._connections)
        try:
            response = await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            if upload.gone:
                raise ClientLeft("the client left") from error
            logger.warning("%s %r: %s: %s", scope["method"], scope["path"], type(error).__name__, error)
            await self._tell(scope, send, *_failure(error))
            return
        assert isinstance(response.stream, httpx.AsyncByteStream)  # noqa: S101 - an async transport gives nothing else
        try:
            headers = to_client(response.status_code, response.headers.raw, self._origin + self._base)
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            async for part in response.stream:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except httpx.TransportError as error:
            raise UpstreamLost(f"{scope['method']} {scope['path']!r}: the answer broke off: {error}") from error
        finally:
            await response.stream.aclose()

    async def _tell(self, scope: Scope, send: Send, status: int, code: str, message: str) -> None:
        """An answer of our own, in the caller's dialect where the path has one."""
        dialect = self._paths.get(scope["path"])
        body = dialect.error(status, code, message) if dialect else orjson.dumps({"error": {"code": code, "message": message}})
        await answer_whole(send, status, body, [(b"retry-after", b"1")] if status == 503 else [])


class _Upload:
    """The request's body as it comes in."""

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._complete = asyncio.Event()
        self.gone = False

    async def content(self) -> bytes | AsyncIterator[bytes]:
        """The whole body when it is there in one part, as behind the guard; else its parts."""
        first = await self._part()
        return self._parts(first) if not self._complete.is_set() else first

    async def left(self) -> None:
        """Ends, with ClientLeft, when the client has left."""
        await self._complete.wait()
        while True:
            await self._part()

    async def _parts(self, first: bytes) -> AsyncIterator[bytes]:
        yield first
        while not self._complete.is_set():
            yield await self._part()

    async def _part(self) -> bytes:
        message = await self._receive()
        if message["type"] == "http.disconnect":
            self.gone = True
            self._complete.set()
            raise ClientLeft("the client left")
        if not message.get("more_body", False):
            self._complete.set()
        body: bytes = message.get("body", b"")
        return body


def checked_upstream(text: str) -> httpx.URL:
    """The server's address, or UsageError."""
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise UsageError(f"upstream {text!r}: {error}") from error
    if url.scheme not in ("http", "https") or not url.host or url.userinfo or url.query or url.fragment or (url.port or 1) > 65535:
        raise UsageError(f"upstream {text!r}: give the model server's address such as http://127.0.0.1:8000, without user, query or fragment")
    return url


def _target(scope: Scope, base: bytes) -> bytes | None:
    """Path and query for the server. None for what is no path on it: an absolute URL, `*`, or a way out of `base`."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    # The decoded path is looked at, so that %2e does not hide a dot.
    if not raw.startswith(b"/") or {".", ".."} & set(scope["path"].split("/")):
        return None
    query: bytes = scope["query_string"]
    return base + raw + (b"?" + query if query else b"")


async def _unless(left: Coroutine[Any, Any, None], relay: Coroutine[Any, Any, None]) -> None:
    """Carry `relay` to its end, unless the client leaves before: then it is stopped, and ClientLeft raised."""
    work, watch = asyncio.ensure_future(relay), asyncio.ensure_future(left)
    try:
        await asyncio.wait((work, watch), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            work.cancel()
    finally:
        watch.cancel()
        work.cancel()
        await asyncio.gather(work, watch, return_exceptions=True)
    if work.cancelled():
        raise ClientLeft("the client left")
    work.result()


def _failure(error: httpx.TransportError) -> tuple[int, str, str]:
    match error:
        case httpx.PoolTimeout():
            return 503, "server_busy", "Every connection to the model server is in use. Try again."
        case httpx.TimeoutException():
            return 504, "server_timeout", "The model server did not answer in time."
        case _:
            return 502, "server_unreachable", "The model server could not be reached or gave no valid answer."
