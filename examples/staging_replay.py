"""Sends a recorded log to a staging deployment, in the recorded rhythm: `python -m examples.staging_replay LOG URL KEY [SPEED]`.

`gateway-guard replay` answers what a policy decides. This answers how a whole deployment (the guard, the servers behind it, their time-outs) bears the traffic.
Every request is sent under the one staging KEY, since a recording keeps no secrets.
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

import httpx
from aiolimiter import AsyncLimiter

from gateway_guard.trace.exchanges import Exchange, read

AT_MOST = 200.0  # requests a second, whatever the recording says
KEPT = ("content-type", "user-agent", "anthropic-version", "anthropic-beta")


async def send_all(log: str, url: str, key: str, speed: float) -> Counter[int]:
    """Send every exchange of `log`, `speed` times as fast as recorded. How often each status came back; 0 for no answer."""
    statuses: Counter[int] = Counter()
    pace = AsyncLimiter(AT_MOST, 1)
    loop = asyncio.get_running_loop()
    async with httpx.AsyncClient(base_url=url, timeout=600) as client, asyncio.TaskGroup() as group:
        began, first = loop.time(), None
        for exchange in read(log):
            first = exchange.ts if first is None else first
            await asyncio.sleep(began + (exchange.ts - first) / speed - loop.time())
            async with pace:
                group.create_task(_send(client, exchange, key, statuses))
    return statuses


async def _send(client: httpx.AsyncClient, exchange: Exchange, key: str, statuses: Counter[int]) -> None:
    headers = [(name, value) for name, value in exchange.headers if name in KEPT]
    credential = ("x-api-key", key) if exchange.path.endswith("/messages") else ("authorization", f"Bearer {key}")
    try:
        answer = await client.request(exchange.method, exchange.path, headers=[*headers, credential], content=bytes(exchange.body))
        statuses[answer.status_code] += 1
    except httpx.TransportError:
        statuses[0] += 1


if __name__ == "__main__":
    counts = asyncio.run(send_all(sys.argv[1], sys.argv[2], sys.argv[3], float(sys.argv[4]) if len(sys.argv) > 4 else 1.0))
    for status, count in sorted(counts.items()):
        print(f"{status or 'no answer'}: {count}")
