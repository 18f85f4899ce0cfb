"""A worker as a process of its own: takes schedules of spends on standard input and answers with the sum of what was admitted."""

from __future__ import annotations

import asyncio
import sys
import time

import msgspec
from redis.asyncio import Redis

from gateway_guard.quota import Charge, Quota
from gateway_guard.stores.redis import Link, Naming, SharedStore, Terms
from gateway_guard.stores.redis.wire import RedisWire


class Round(msgspec.Struct):
    """`steps`: for each spend the milliseconds before it (0: only let others run) and its cost. `prefix` keeps rounds apart."""

    prefix: str
    lease: float
    burst: float
    steps: list[tuple[int, float]]
    rate: float = 1e-6
    hold: bool = False


async def served(wire: RedisWire, name: str, task: Round) -> float:
    """The sum of the costs that were admitted."""
    store = SharedStore(Link(wire, Naming(task.prefix), sender=f"{name}.{time.time_ns()}", timeout=10.0), Terms(task.lease))
    quota = Quota("q", rate=task.rate, burst=task.burst, unit="tokens")
    total = 0.0
    for number, (gap, cost) in enumerate(task.steps):
        await asyncio.sleep(gap / 1000)
        at = time.time()
        hold = f"{name}.{number}" if task.hold else ""
        found = await store.spend([Charge("a", quota, cost, held=cost if hold else 0.0)], at, hold=hold, until=at + 600.0)
        total += cost if found.ok else 0.0
    await store.link.drain()
    return total


def main(url: str, name: str) -> None:
    """Until standard input ends."""
    with asyncio.Runner() as runner:
        wire = RedisWire(lambda: Redis.from_url(url), url)
        for line in sys.stdin.buffer:
            total = runner.run(served(wire, name, msgspec.json.decode(line, type=Round)))
            sys.stdout.buffer.write(msgspec.json.encode(total) + b"\n")
            sys.stdout.buffer.flush()
        runner.run(wire.close())


if __name__ == "__main__":
    main(*sys.argv[1:])
