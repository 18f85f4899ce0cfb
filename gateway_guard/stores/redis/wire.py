"""Connections to the server by redis-py: one server, Sentinel or Cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redis.asyncio import Redis, RedisCluster
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError, NoScriptError, RedisError, ResponseError

from gateway_guard.errors import StoreError
from gateway_guard.stores.redis.ledger import DIGEST, SCRIPT

Client = Callable[[], "Redis"]


class RedisWire:
    """The ledger script on a redis-py client, which is made by `client` when it is first needed: it belongs to the event loop that serves.

    Batches have a connection of their own: since only one is under way at a time, nothing has to be taken out of a pool and put back, which is a third
    of what a call costs.
    """

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self._make = client
        self._client: Redis | None = None
        self._connection: AbstractConnection | None = None

    @property
    def client(self) -> Redis:
        """The client itself."""
        if self._client is None:
            self._client = self._make()
        return self._client

    async def call(self, keys: Sequence[str], payload: bytes) -> list[bytes]:
        """Run the ledger script; StoreError when the server refuses."""
        rest = [str(len(keys)).encode(), *(key.encode() for key in keys), payload]
        try:
            try:
                return await self._run(packed(b"EVALSHA", DIGEST.encode(), *rest))
            except NoScriptError:
                # A server that was restarted, failed over to or flushed has forgotten the script.
                return await self._run(packed(b"EVAL", SCRIPT, *rest))
        except RedisError as error:
            raise StoreError(str(error), retryable=True) from error

    async def close(self) -> None:
        """Disconnect."""
        await self._drop()
        if self._client is not None:
            await self._client.aclose()
            # Those who know the leader have connections of their own.
            manager = getattr(self._client.connection_pool, "sentinel_manager", None)
            for sentinel in manager.sentinels if manager is not None else ():
                await sentinel.aclose()

    async def _run(self, command: bytes) -> list[bytes]:
        if self._connection is not None:
            try:
                return await self._said(self._connection, command)
            except (ConnectionError, OSError):
                # The server may have closed a connection that was idle. A batch that is sent twice counts once.
                await self._drop()
        self._connection = await self.client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        return await self._said(self._connection, command)

    async def _said(self, connection: AbstractConnection, command: bytes) -> list[bytes]:
        try:
            await connection.send_packed_command(command)
            reply: list[bytes] = await connection.read_response(disable_decoding=True)
        except ResponseError:
            raise
        except BaseException:
            # Whatever is still to come on this connection is no answer to the next command.
            await self._drop()
            raise
        return reply

    async def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)
            await self.client.connection_pool.release(connection)


class ClusterWire:
    """The ledger script on a Redis Cluster: redis-py finds the node that has the slot."""

    def __init__(self, client: Callable[[], RedisCluster], name: str) -> None:
        self.name = name
        self._make = client
        self._client: RedisCluster | None = None

    @property
    def client(self) -> RedisCluster:
        """The client itself."""
        if self._client is None:
            self._client = self._make()
        return self._client

    async def call(self, keys: Sequence[str], payload: bytes) -> list[bytes]:
        """Run the ledger script; StoreError when the cluster refuses."""
        rest: list[str | bytes | int] = [len(keys), *keys, payload]
        try:
            try:
                found: list[bytes] = await self.client.execute_command("EVALSHA", DIGEST, *rest)
            except NoScriptError:
                found = await self.client.execute_command("EVAL", SCRIPT, *rest)
        except RedisError as error:
            raise StoreError(str(error), retryable=True) from error
        return found

    async def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await self._client.aclose()


def packed(*words: bytes) -> bytes:
    """A command in the server's protocol (RESP)."""
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in words)
