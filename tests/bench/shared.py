"""What sharing debts costs: the store in memory, leased and exact on a server, and what one would otherwise ask the same server with."""

from __future__ import annotations

import asyncio
import datetime
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from limits import parse
from limits.aio.storage import RedisStorage
from limits.aio.strategies import MovingWindowRateLimiter
from redis.asyncio import Redis
from throttled.asyncio import RateLimiterType, RedisStore, Throttled, rate_limiter

from gateway_guard.assembly import assemble
from gateway_guard.facts import Identity, RequestFacts, Usage
from gateway_guard.gate import Gate
from gateway_guard.ports import Store
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.stores.redis import Link, Naming, SharedStore, Terms
from gateway_guard.stores.redis.wire import RedisWire
from tests.bench.contenders import KEY, POLICY
from tests.servers import Server, running

ACCOUNTS = 1_000
REQUESTS = 3_000
SECONDS = 3.0
KNOWN = 100_000
TODAY = datetime.date(2026, 1, 1)
Ask = Callable[[int], Awaitable[object]]


@contextmanager
def server() -> Iterator[Server]:
    """The newest server there is, on a unix socket."""
    with tempfile.TemporaryDirectory() as folder, running("valkey 9.1", Path(folder)) as started:
        yield started


def shared(url: str, lease: float, name: str = "bench") -> SharedStore:
    """A worker's store."""
    link = Link(RedisWire(lambda: Redis.from_url(url), url), Naming("bench"), sender=f"{name}.{time.time_ns()}", timeout=5.0)
    return SharedStore(link, Terms(lease))


def decided(store: Store) -> Ask:
    """A request under balanced.yaml, six quotas of its account: decided, and settled after its answer."""
    gate = Gate(assemble(POLICY, KEY, today=TODAY).rules, store)
    identities = [Identity(account=f"{number:020x}", plan="enterprise") for number in range(ACCOUNTS)]

    async def ask(number: int) -> None:
        at = time.time()
        decision = await gate.decide(
            RequestFacts(id=f"{number:x}.{at}", at=at, identity=identities[number % ACCOUNTS], dialect="openai.chat", model="m", input_tokens=20)
        )
        await gate.settle(decision, Usage(input=20, output=10), at)

    return ask


async def medians(url: str) -> dict[str, tuple[float, float]]:
    """For each contender the median time of a request and its mean CPU in this process, in µs. Rounds are interleaved."""
    leased, exact = shared(url, 0.02), shared(url, 0.0, "exact")
    moving = MovingWindowRateLimiter(RedisStorage(f"redis+{url}", implementation="redispy"))
    item = parse("10000/minute")
    gcra = Throttled(using=RateLimiterType.GCRA.value, quota=rate_limiter.per_min(10_000), store=RedisStore(server=url))
    contenders: dict[str, Ask] = {
        "memory, 6 quotas": decided(MemoryStore()),
        "leased, 6 quotas": decided(leased),
        "exact, 6 quotas": decided(exact),
        "limits, 1 quota": lambda number: moving.hit(item, str(number % ACCOUNTS)),
        "throttled-py, 1 quota": lambda number: gcra.limit(str(number % ACCOUNTS)),
    }
    times: dict[str, list[float]] = {name: [] for name in contenders}
    spent = dict.fromkeys(contenders, 0.0)
    for turn in range(6):
        for name, ask in contenders.items():
            before = time.process_time()
            for number in range(REQUESTS // 6):
                began = time.perf_counter()
                await ask(number)
                if turn:
                    times[name].append(time.perf_counter() - began)
                # As between the requests of a server: other work, such as reports, has its turn.
                await asyncio.sleep(0)
            for store in (leased, exact):
                await store.link.drain()
            if turn:
                spent[name] += time.process_time() - before
    await leased.close()
    await exact.close()
    return {name: (statistics.median(found) * 1e6, spent[name] / len(found) * 1e6) for name, found in times.items()}


def throughput(url: str, lease: float, workers: int) -> float:
    """Requests a second of so many worker processes against one server, each with 32 requests under way."""
    command = [sys.executable, "-m", "tests.bench.shared", url, str(lease)]
    crew = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(workers)]
    for worker in crew:
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
    total = 0.0
    for worker in crew:
        assert worker.stdin is not None
        worker.stdin.write("go\n")
        worker.stdin.flush()
    for worker in crew:
        total += float(worker.communicate()[0])
    return total


async def flood(url: str, lease: float) -> None:
    """One such process."""
    store = shared(url, lease, "flood")
    ask = decided(store)
    await ask(0)
    print("ready", flush=True)
    sys.stdin.readline()
    until, done = time.monotonic() + SECONDS, 0

    async def client(first: int) -> None:
        nonlocal done
        number = first
        while time.monotonic() < until:
            await ask(number)
            number += 32
            done += 1
            await asyncio.sleep(0)

    await asyncio.gather(*(client(first) for first in range(32)))
    await store.close()
    print(done / SECONDS)


async def bytes_an_account(url: str, known: int = KNOWN) -> float:
    """What the server keeps for an account that has made one request under balanced.yaml, answered and settled."""
    store = shared(url, 1.0, "memory")
    gate = Gate(assemble(POLICY, KEY, today=TODAY).rules, store)
    async with Redis.from_url(url) as client:
        before = (await client.info("memory"))["used_memory"]
        for number in range(known):
            at = time.time()
            facts = RequestFacts(
                id=f"{number:x}", at=at, identity=Identity(account=f"{number:020x}", plan="pro"), dialect="openai.chat", model="m", input_tokens=200
            )
            await gate.settle(await gate.decide(facts), Usage(input=200, output=100), at)
            if number % 100 == 0:
                await store.link.drain()
        await store.link.drain()
        used = (await client.info("memory"))["used_memory"] - before
    await store.close()
    return float(used) / known


if __name__ == "__main__":
    asyncio.run(flood(sys.argv[1], float(sys.argv[2])))
