"""A connection that is spoken to without a task for each call.

Theory of operation. redis-py connects, with TLS, logs in and selects the database, by asyncio's streams. Then its transport is handed over to a protocol of
our own, which writes a command and hands the reply on as it comes in: no task, no stream and no timer of its own for what is asked thousands of times a second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import hiredis
from redis.asyncio.connection import AbstractConnection

# What the parser says when a reply is not there as a whole. (False and None are replies.)
MORE = object()
Heard = Callable[[object], None]


class Line(asyncio.Protocol):
    """One command at a time. `opened` makes it."""

    def __init__(self, connection: AbstractConnection, transport: asyncio.Transport) -> None:
        # Kept for as long as the line: it closes its transport when it is forgotten.
        self._connection = connection
        self._transport = transport
        self._reader = hiredis.Reader(notEnoughData=MORE)
        self._heard: Heard | None = None
        self._closing: asyncio.Task[None] | None = None
        transport.set_protocol(self)

    @classmethod
    async def opened(cls, connection: AbstractConnection) -> Line:
        """Connect. Raises RedisError or OSError."""
        await connection.connect()  # type: ignore[no-untyped-call]
        # redis-py has no public way to its transport.
        writer = connection._writer
        if writer is None:
            raise ConnectionError("the connection was closed while it was made")
        return cls(connection, writer.transport)  # type: ignore[arg-type]

    @property
    def is_open(self) -> bool:
        """Whether a command may be sent."""
        return not self._transport.is_closing()

    def ask(self, command: bytes, heard: Heard) -> None:
        """Send a packed command. `heard` is told the reply: an exception when the server refused, ConnectionError when the connection was lost."""
        self._heard = heard
        self._transport.write(command)

    def close(self) -> None:
        """Hang up; whoever waits is told nothing."""
        self._heard = None
        if self._closing is None:
            self._transport.abort()
            self._closing = asyncio.get_running_loop().create_task(self._connection.disconnect(nowait=True))

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        try:
            self._reader.feed(data)
            reply = self._reader.gets()
            while isinstance(reply, hiredis.PushNotification):
                reply = self._reader.gets()
        except hiredis.ProtocolError as error:
            self._tell(ConnectionError(str(error)))
            self.close()
            return
        if reply is not MORE:
            self._tell(reply)

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        self._tell(ConnectionError(str(error or "the server closed the connection")))
        self.close()

    def _tell(self, reply: object) -> None:
        heard, self._heard = self._heard, None
        if heard is not None:
            heard(reply)
