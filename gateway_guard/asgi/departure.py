"""The client's leaving. ASGI tells it to whoever asks, in some servers once: here it is asked once and told to all."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.types import Message, Receive


class ClientLeft(OSError):
    """The client went away; what was done for it has been stopped."""


class Departure:
    """Shares the connection's last message between an application that waits for it and a guard that must know of it."""

    __slots__ = ("_receive", "_task")

    def __init__(self, receive: Receive) -> None:
        self._receive = receive
        self._task: asyncio.Task[Message] | None = None

    async def message(self) -> Message:
        """The connection's next message. With the request's body complete that is only ever the client leaving."""
        return await asyncio.shield(self._asked())

    async def before(self, other: asyncio.Future[Any]) -> bool:
        """Wait for `other`, or for the client to leave. True when it has left."""
        asked = self._asked()
        await asyncio.wait((asked, other), return_when=asyncio.FIRST_COMPLETED)
        return asked.done() and not asked.cancelled() and asked.exception() is None and asked.result()["type"] == "http.disconnect"

    def close(self) -> None:
        """Ask no longer."""
        if self._task is not None:
            self._task.cancel()

    def _asked(self) -> asyncio.Task[Message]:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._next())
        return self._task

    async def _next(self) -> Message:
        return await self._receive()
