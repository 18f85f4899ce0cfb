"""The shared store when processes die, servers change places and networks are slow."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway_guard.asgi.sharing import wire
from gateway_guard.errors import StoreError
from gateway_guard.policy.model import SentinelRules, StoreRules
from gateway_guard.quota import Charge, Quota, billed
from gateway_guard.stores.redis import Link, Naming, SharedStore, Terms
from gateway_guard.stores.redis.ledger import Operation, Verb
from gateway_guard.stores.redis.wire import RedisWire
from tests.servers import Server, free_port, running

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parent.parent
STILL = Quota("still", rate=1e-6, burst=10.0)
RUNNING = Quota("running", rate=0.0, burst=2.0, unit="in_flight")
STREAMING = """
import asyncio, sys, time
from redis.asyncio import Redis
from gateway_guard.quota import Charge, Quota
from gateway_guard.stores.redis import Link, Naming, SharedStore, Terms
from gateway_guard.stores.redis.wire import RedisWire
async def main(url):
    store = SharedStore(Link(RedisWire(lambda: Redis.from_url(url), url), Naming("t"), sender="streaming", timeout=5.0), Terms(1.0))
    running, at = Quota("running", rate=0.0, burst=2.0, unit="in_flight"), time.time()
    found = await store.spend([Charge("a", running, 2.0, held=2.0)], at, hold="r", until=at + 1.0)
    await store.link.drain()
    print(found.ok, flush=True)
    await asyncio.sleep(60)
asyncio.run(main(sys.argv[1]))
"""


def store_at(url: str, *, lease: float = 0.0, patience: float = 5.0) -> SharedStore:
    return SharedStore(Link(RedisWire(lambda: Redis.from_url(url), url), Naming("t"), sender=f"w{time.time_ns()}", timeout=patience), Terms(lease))


async def admitted(store: SharedStore, charge: Charge, tries: int) -> int:
    return sum([(await store.spend([charge], time.time())).ok for _ in range(tries)])


def streams_and_is_killed(url: str) -> None:
    with subprocess.Popen([sys.executable, "-c", STREAMING, url], cwd=ROOT, stdout=subprocess.PIPE) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline() == b"True\n"
        worker.kill()


async def test_a_worker_that_is_killed_in_the_middle_of_an_answer_blocks_nobody_for_long(tmp_path: Path) -> None:
    """Its requests in flight are given back when their reservation ends."""
    with running("redis 6.2", tmp_path) as server:
        await asyncio.to_thread(streams_and_is_killed, server.url)
        store = store_at(server.url)
        assert await admitted(store, Charge("a", RUNNING, 1.0), 1) == 0
        async with asyncio.timeout(10):
            while not await admitted(store, Charge("a", RUNNING, 1.0), 1):
                pass
        await store.close()


@contextmanager
def trio(folder: Path) -> Iterator[tuple[Server, Server, StoreRules]]:
    """A leader, its replica, and a sentinel that watches them."""
    first, second, watching = free_port(), free_port(), free_port()
    config = folder / "sentinel.conf"
    config.write_text(
        f"port {watching}\ndir {folder}\nsentinel monitor quotas 127.0.0.1 {first} 1\n"
        "sentinel down-after-milliseconds quotas 300\nsentinel failover-timeout quotas 3000\n"
    )
    with ExitStack() as stack:
        leader = stack.enter_context(running("valkey 9.1", folder / "leader", "--port", str(first), "--repl-diskless-sync-delay", "0"))
        synced = b"Finished with success"
        replica = stack.enter_context(running("valkey 9.1", folder / "replica", "--port", str(second), "--replicaof", f"127.0.0.1 {first}", ready=synced))
        stack.enter_context(running("valkey 9.1", folder / "sentinel", str(config), "--sentinel", ready=b"+slave"))
        yield leader, replica, StoreRules(sentinel=SentinelRules(master="quotas", hosts=[f"127.0.0.1:{watching}"]), timeout=2.0)


async def test_a_failover_keeps_the_debts(tmp_path: Path) -> None:
    with trio(tmp_path) as (leader, _, rules):
        store = SharedStore(Link(wire(rules, tmp_path, {}), Naming("t"), sender="w", timeout=2.0), Terms(0.0, frozenset(), "closed"))
        assert await admitted(store, Charge("a", STILL, 1.0), 6) == 6
        # Acknowledged by the replica: what is not replicated yet is lost in a failover, as with anything on Redis.
        client = store.link.wire.client  # type: ignore[attr-defined]
        assert await client.wait(1, 5000) == 1
        leader.stop()
        async with asyncio.timeout(30):
            while (owed := await _told(store)) is None:
                pass
        assert owed == pytest.approx(6.0, abs=1e-3)
        assert await admitted(store, Charge("a", STILL, 1.0), 6) == 4
        await store.close()


async def _told(store: SharedStore) -> float | None:
    """What the server says is owed, None while there is none that takes writes."""
    await store.link.drain()
    try:
        answer = await store.link.ask(Operation(Verb.PEEK, billed([Charge("a", STILL, 0.0)]), time.time()))
    except StoreError:
        return None
    return answer.levels[0]


@contextmanager
def slow(server: Server, folder: Path, seconds: float) -> Iterator[str]:
    """A way to the server that takes `seconds` in each direction. It ends with the process."""
    path = folder / "slow"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()

    def carry(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                time.sleep(seconds)
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with suppress(OSError):
            while True:
                before, behind = listening.accept()[0], socket.socket(socket.AF_UNIX)
                behind.connect(str(server.path))
                ends.extend((before, behind))
                for pair in ((before, behind), (behind, before)):
                    threading.Thread(target=carry, args=pair, daemon=True).start()

    ends = [listening]
    threading.Thread(target=accept, daemon=True).start()
    yield f"unix://{path}"
    listening.shutdown(socket.SHUT_RDWR)
    for end in ends:
        end.close()


async def test_a_slow_network_delays_exact_spends_and_no_leased_ones(tmp_path: Path) -> None:
    with running("valkey 9.1", tmp_path) as server, slow(server, tmp_path, 0.1) as url:
        leased, exact = store_at(url, lease=1.0), store_at(url)
        began = time.monotonic()
        assert await admitted(leased, Charge("a", STILL, 1.0), 5) == 5
        assert time.monotonic() - began < 0.1
        await leased.link.drain()
        began = time.monotonic()
        assert await admitted(exact, Charge("a", STILL, 5.0), 2) == 1
        assert time.monotonic() - began >= 0.4
        await leased.close()
        await exact.close()


async def test_a_network_slower_than_the_timeout_is_a_server_that_is_down(tmp_path: Path) -> None:
    with running("redis 6.2", tmp_path) as server, slow(server, tmp_path, 0.5) as url:
        store = store_at(url, patience=0.1)
        began = time.monotonic()
        assert await admitted(store, Charge("a", STILL, 1.0), 20) == 10
        assert time.monotonic() - began < 0.5
        assert store.link.is_down
        await store.close()
