"""Holding a request's body, and handing it on unchanged.

Theory of operation. The guard must know the whole body before it decides, so it takes messages from `receive` until the last part, or until the cap
is passed, or until the client leaves. What was taken is later played back to the application, part for part, and then `receive` itself goes on, so that the
application sees the client leave just as it would without the guard. Nothing is copied unless the body came in several parts.
"""

from __future__ import annotations

from typing import Literal

from starlette.types import Message, Receive

from gateway_guard.asgi.departure import Departure

End = Literal["complete", "too_large", "left"]


class HeldBody:
    """The messages taken so far. `end` tells why taking stopped."""

    __slots__ = ("_messages", "_receive", "end", "size")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        # The first comes last, where it is taken from.
        self._messages: list[Message] = []
        self.size = 0
        self.end: End = "complete"

    async def take(self, limit: int) -> None:
        """Take messages until the body is complete, longer than `limit` bytes, or the client has left."""
        messages = self._messages
        while True:
            message = await self._receive()
            messages.append(message)
            if message["type"] != "http.request":
                self.end = "left"
                break
            self.size += len(message.get("body", b""))
            if self.size > limit:
                self.end = "too_large"
                break
            if not message.get("more_body", False):
                break
        messages.reverse()

    def raw(self) -> bytes:
        """All bytes taken."""
        if len(self._messages) == 1:
            body: bytes = self._messages[0].get("body", b"")
            return body
        return b"".join(m.get("body", b"") for m in reversed(self._messages) if m["type"] == "http.request")

    def departure(self) -> Departure:
        """From now on whoever asks for the client's leaving is told of the same one."""
        departure = Departure(self._receive)
        self._receive = departure.message
        return departure

    def replace(self, body: bytes) -> None:
        """Hand on `body` instead of what came."""
        self._messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_live(self) -> Message:
        """The next message of the connection itself; with the body complete that is only ever the client leaving."""
        return await self._receive()

    async def receive(self) -> Message:
        """The application's `receive`: what was taken, then the live rest."""
        return self._messages.pop() if self._messages else await self._receive()
