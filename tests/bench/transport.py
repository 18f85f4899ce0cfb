"""CPU that the proxy's way to the model server takes, beside httpx's own transport."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import httpx
import uvicorn
import uvloop

from gateway_guard.proxy import UpstreamTransport
from tests.bench.contenders import bare
from tests.served import served

REQUESTS = 1_600
TRANSPORTS: dict[str, Callable[[], httpx.AsyncBaseTransport]] = {
    "httpx's own": lambda: httpx.AsyncHTTPTransport(limits=httpx.Limits(max_connections=100)),
    "the proxy's": lambda: UpstreamTransport(100),
}


def compare() -> dict[tuple[str, int], float]:
    """Microseconds of CPU on the client's side for a request of 1 KB, by transport and number of requests at once."""
    # Longer than a slow contender leaves a connection idle: a server that closes one as it is used again would spoil the run.
    with served(uvicorn.Config(bare, log_level="critical", timeout_keep_alive=300)) as port:
        return {(name, lanes): _measured(make, port, lanes) for name, make in TRANSPORTS.items() for lanes in (1, 16, 64)}


def _measured(make: Callable[[], httpx.AsyncBaseTransport], port: int, lanes: int) -> float:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_requests(make(), port, lanes))


async def _requests(transport: httpx.AsyncBaseTransport, port: int, lanes: int) -> float:
    async with transport:
        await asyncio.gather(*(_lane(transport, port, 2) for _ in range(lanes)))
        began = time.thread_time()
        await asyncio.gather(*(_lane(transport, port, REQUESTS // lanes) for _ in range(lanes)))
        return (time.thread_time() - began) / REQUESTS * 1e6


async def _lane(transport: httpx.AsyncBaseTransport, port: int, count: int) -> None:
    timeouts = {"timeout": {"connect": 5.0, "read": 60.0, "write": 30.0, "pool": 5.0}}
    for _ in range(count):
        response = await transport.handle_async_request(httpx.Request("POST", f"http://127.0.0.1:{port}/x", content=b"x" * 1024, extensions=timeouts))
        await response.aread()
        await response.aclose()
