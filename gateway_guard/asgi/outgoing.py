"""The way out of an answer that is rewritten or slowed down. Others do not come by here.

Theory of operation. A whole answer is held until it is complete, its beginning too, so that its length is told rightly and an application that fails half way
leaves an error and no half of an answer. A stream begins at once and goes out event by event. While it waits for its pace nothing is read from the
application, which is therefore slowed down too; a client that leaves ends the waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from aiolimiter import AsyncLimiter
from starlette.types import Message, Send

from gateway_guard.asgi.departure import ClientLeft, Departure
from gateway_guard.rewrite.answer import Rewriter
from gateway_guard.rewrite.blocks import Blocks

RawHeaders = list[tuple[bytes, bytes]]
# They describe the bytes that the application sent.
STALE = frozenset((b"content-length", b"content-encoding", b"etag", b"content-md5", b"digest", b"content-digest", b"repr-digest", b"accept-ranges"))


class Pace:
    """`rate` events a second, steadily. Ends with ClientLeft when the client has left."""

    def __init__(self, rate: float, departure: Departure) -> None:
        self._limiter = AsyncLimiter(1, 1.0 / rate)
        self._departure = departure

    async def wait(self) -> None:
        """Return when the next event may go."""
        turn = asyncio.ensure_future(self._limiter.acquire())
        try:
            if await self._departure.before(turn):
                raise ClientLeft("the client left a slowed answer")
        finally:
            turn.cancel()


class Outgoing:
    """Takes the application's messages of one answer. `rewriter` None: only the pace changes; `pace` None: only the answer."""

    __slots__ = ("_blocks", "_held", "_pace", "_rewriter", "_send")

    def __init__(self, send: Send, rewriter: Rewriter | None, pace: Pace | None) -> None:
        self._send = send
        self._rewriter = rewriter
        self._pace = pace
        self._blocks = Blocks() if rewriter is None else None
        self._held: Message | None = None

    async def start(self, message: Message) -> None:
        """The answer's beginning."""
        if self._rewriter is None:
            await self._send(message)
            return
        headers: RawHeaders = [(name, value) for name, value in message["headers"] if name.lower() not in STALE]
        message = {**message, "headers": headers}
        if self._rewriter.streams:
            await self._send(message)
        else:
            self._held = message

    async def body(self, message: Message) -> None:
        """Part of it."""
        chunk, more = bytes(message.get("body", b"")), bool(message.get("more_body", False))
        parts = self._parts(chunk, more=more)
        if self._held is not None and (parts or not more):
            held, self._held = self._held, None
            length = [] if more else [(b"content-length", str(sum(map(len, parts))).encode())]
            await self._send({**held, "headers": [*held["headers"], *length]})
        if self._pace is None:
            parts = [b"".join(parts)] if parts else []
        if not parts and not more:
            parts = [b""]
        for number, part in enumerate(parts, start=1):
            if self._pace is not None:
                await self._pace.wait()
            await self._send({"type": "http.response.body", "body": part, "more_body": more or number < len(parts)})

    def _parts(self, chunk: bytes, *, more: bool) -> Sequence[bytes]:
        if self._rewriter is not None:
            return [*self._rewriter.feed(chunk), *([] if more else self._rewriter.finish())]
        assert self._blocks is not None  # noqa: S101 - for the type checker: there is one where there is no rewriter
        parts = [block.raw for block in self._blocks.feed(chunk)]
        rest = None if more else self._blocks.rest()
        return [*parts, rest.raw] if rest is not None else parts
