"""Where throttled requests wait."""

from __future__ import annotations

import asyncio

from aiolimiter import AsyncLimiter

from gateway_guard.policy.units import Limit


class Lane:
    """Holds requests for the time that the gate decided, then lets them go at a steady pace.

    The pace (aiolimiter's leaky bucket) keeps requests whose waits end together from reaching the model server together.
    A limiter belongs to one event loop; a guard that is served by another loop (as in tests) gets a new one.
    """

    def __init__(self, pace: Limit) -> None:
        self._pace = pace
        self._limiter: AsyncLimiter | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def hold(self, seconds: float) -> None:
        """Return after `seconds` and when the pace allows."""
        loop = asyncio.get_running_loop()
        if self._limiter is None or self._loop is not loop:
            self._limiter, self._loop = AsyncLimiter(self._pace.amount, self._pace.window), loop
        await asyncio.sleep(seconds)
        await self._limiter.acquire()
