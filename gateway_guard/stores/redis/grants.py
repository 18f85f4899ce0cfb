"""Step-ups that were met, known to all workers: a key each, which ends by itself."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from redis.exceptions import RedisError

from gateway_guard.ports import Grants
from gateway_guard.stores.redis.ledger import Naming

if TYPE_CHECKING:
    from gateway_guard.stores.redis.wire import ClusterWire, RedisWire

log = logging.getLogger("gateway_guard")


class RedisGrants:
    """`ports.Grants` on a server, and on `own`, which knows what this process was told even when the server is down. `timeout` in seconds."""

    def __init__(self, wire: RedisWire | ClusterWire, naming: Naming, own: Grants, *, timeout: float) -> None:
        self._wire = wire
        self._naming = naming
        self._own = own
        self._timeout = timeout

    async def grant(self, holder: str, until: float, at: float) -> None:
        """See `ports.Grants.grant`. Without the server, only this process knows."""
        await self._own.grant(holder, until, at)
        try:
            async with asyncio.timeout(self._timeout):
                await self._wire.client.set(self._key(holder), b"1", px=max(1, int((until - at) * 1000)))
        except (RedisError, OSError, TimeoutError) as error:
            log.warning(
                "the store at %s did not take a step-up (%s): until it is met again, only this process knows", self._wire.name, error or "no answer in time"
            )

    async def granted(self, holder: str, at: float) -> bool:
        """See `ports.Grants.granted`. Without the server, what this process knows."""
        if await self._own.granted(holder, at):
            return True
        try:
            async with asyncio.timeout(self._timeout):
                return bool(await self._wire.client.exists(self._key(holder)))
        except (RedisError, OSError, TimeoutError):
            return False

    def _key(self, holder: str) -> str:
        return self._naming.of("met", holder)
