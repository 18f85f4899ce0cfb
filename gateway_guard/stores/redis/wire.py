"""Connections to the server by redis-py: one server, Sentinel or Cluster."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from redis.asyncio import Redis, RedisCluster
from redis.exceptions import NoScriptError, RedisError

from gateway_guard.errors import StoreError
from gateway_guard.stores.redis.ledger import DIGEST, SCRIPT
from gateway_guard.stores.redis.line import Line

Client = Callable[[], "Redis"]
# Is told the script's reply, or why there is none.
Done = Callable[[object], None]


class RedisWire:
    """The ledger script on a redis-py client, which is made by `client` when it is first needed: it belongs to the event loop that serves.

    Batches have a connection of their own. redis-py opens it, logs in and finds Sentinel's leader; from then on it is spoken to without a task for
    each call, which is half of what a call costs.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self._make = client
        self._client: Redis | None = None
        self._line: Line | None = None
        self._turn = 0
        self._opening: asyncio.Task[None] | None = None

    @property
    def client(self) -> Redis:
        """The client itself."""
        if self._client is None:
            self._client = self._make()
        return self._client

    def send(self, keys: Sequence[str], payload: bytes, done: Done) -> None:
        """See `link.Wire.send`. What was sent before is answered no more."""
        self._turn += 1
        rest = [str(len(keys)).encode(), *map(str.encode, keys), payload]
        command = packed(b"EVALSHA", DIGEST.encode(), *rest)
        if self._line is not None and self._line.is_open:
            self._ask(self._line, command, rest, done, again=True)
        else:
            self._open(command, rest, done)

    def drop(self) -> None:
        """See `link.Wire.drop`."""
        self._turn += 1
        if self._opening is not None:
            self._opening.cancel()
        if self._line is not None:
            self._line.close()
            self._line = None

    async def close(self) -> None:
        """Disconnect."""
        self.drop()
        if self._opening is not None:
            await asyncio.wait((self._opening,))
        if self._client is not None:
            await self._client.aclose()
            # Those who know the leader have connections of their own.
            manager = getattr(self._client.connection_pool, "sentinel_manager", None)
            for sentinel in manager.sentinels if manager is not None else ():
                await sentinel.aclose()

    def _ask(self, line: Line, command: bytes, rest: Sequence[bytes], done: Done, *, again: bool) -> None:
        turn = self._turn

        def heard(reply: object) -> None:
            if turn != self._turn:
                return
            if isinstance(reply, ConnectionError) and again:
                # The server may have closed a connection that was idle. A batch that is sent twice counts once.
                self._open(command, rest, done)
            elif isinstance(reply, Exception) and str(reply).startswith("NOSCRIPT"):
                # A server that was restarted, failed over to or flushed has forgotten the script.
                line.ask(packed(b"EVAL", SCRIPT, *rest), heard)
            elif isinstance(reply, Exception):
                # A server that has become a replica, say, is looked for anew.
                self.drop()
                done(StoreError(str(reply), retryable=True))
            else:
                done(reply)

        line.ask(command, heard)

    def _open(self, command: bytes, rest: Sequence[bytes], done: Done) -> None:
        before, turn = self._opening, self._turn

        async def opened() -> None:
            if before is not None and not before.done():
                await asyncio.wait((before,))
            try:
                line = await Line.opened(self.client.connection_pool.make_connection())  # type: ignore[no-untyped-call]
            except (RedisError, OSError) as error:
                if turn == self._turn:
                    done(StoreError(str(error), retryable=True))
                return
            if turn != self._turn:
                line.close()
                return
            self._line = line
            self._ask(line, command, rest, done, again=False)

        self._opening = asyncio.get_running_loop().create_task(opened())


class ClusterWire:
    """The ledger script on a Redis Cluster: redis-py finds the node that has the slot."""

    def __init__(self, client: Callable[[], RedisCluster], name: str) -> None:
        self.name = name
        self._make = client
        self._client: RedisCluster | None = None
        self._calls: set[asyncio.Task[None]] = set()

    @property
    def client(self) -> RedisCluster:
        """The client itself."""
        if self._client is None:
            self._client = self._make()
        return self._client

    def send(self, keys: Sequence[str], payload: bytes, done: Done) -> None:
        """See `link.Wire.send`. All shelves send on the same wire, each one batch at a time."""

        async def called() -> None:
            try:
                done(await self._call(keys, payload))
            except (RedisError, OSError) as error:
                done(StoreError(str(error), retryable=True))

        call = asyncio.get_running_loop().create_task(called())
        self._calls.add(call)
        call.add_done_callback(self._calls.discard)

    def drop(self) -> None:
        """See `link.Wire.drop`. The nodes' connections are redis-py's, and so are their timeouts."""

    async def close(self) -> None:
        """Disconnect."""
        for call in list(self._calls):
            call.cancel()
        if self._client is not None:
            await self._client.aclose()

    async def _call(self, keys: Sequence[str], payload: bytes) -> list[bytes]:
        rest: list[str | bytes | int] = [len(keys), *keys, payload]
        try:
            found: list[bytes] = await self.client.execute_command("EVALSHA", DIGEST, *rest)
        except NoScriptError:
            found = await self.client.execute_command("EVAL", SCRIPT, *rest)
        return found


def packed(*words: bytes) -> bytes:
    """A command in the server's protocol (RESP)."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])
