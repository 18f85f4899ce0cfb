"""Connections to the server by redis-py: one server, Sentinel or Cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from redis.asyncio import Redis
from redis.exceptions import NoScriptError, RedisError

from gateway_guard.errors import StoreError
from gateway_guard.stores.redis.ledger import DIGEST, SCRIPT

Client = Callable[[], "Redis"]


class RedisWire:
    """The ledger script on a redis-py client, which is made by `client` when it is first needed: it belongs to the event loop that serves."""

    def __init__(self, client: Client, name: str) -> None:
        self.name = name
        self._make = client
        self._client: Redis | None = None

    @property
    def client(self) -> Redis:
        """The client itself."""
        if self._client is None:
            self._client = self._make()
        return self._client

    async def call(self, keys: Sequence[str], payload: bytes) -> bytes:
        """Run the ledger script; StoreError when the server refuses."""
        try:
            try:
                return await self._run("EVALSHA", DIGEST, keys, payload)
            except NoScriptError:
                # A server that was restarted, failed over to or flushed has forgotten the script.
                return await self._run("EVAL", SCRIPT, keys, payload)
        except RedisError as error:
            raise StoreError(str(error), retryable=True) from error

    async def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            await self._client.aclose()
            # Those who know the leader have connections of their own.
            manager = getattr(self._client.connection_pool, "sentinel_manager", None)
            for sentinel in manager.sentinels if manager is not None else ():
                await sentinel.aclose()

    async def _run(self, command: str, script: str | bytes, keys: Sequence[str], payload: bytes) -> bytes:
        reply: bytes = await self.client.execute_command(command, script, len(keys), *keys, payload)  # type: ignore[no-untyped-call]
        return reply
