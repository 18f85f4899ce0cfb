"""The shared store's server side: keys, time, faults. What it has in common with every store is in `contracts`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway_guard.errors import StoreError
from gateway_guard.quota import Charge, Heir, Quota, Share, billed
from gateway_guard.stores.redis import Link, Naming, SharedStore, Terms
from gateway_guard.stores.redis.shared import StoreDown
from gateway_guard.stores.redis.wire import RedisWire
from tests.servers import BINARIES, Server, running

pytestmark = pytest.mark.anyio

MINUTE = Quota("minute", rate=1.0, burst=10.0)
# So slow that nothing drains while a test runs.
STILL = Quota("still", rate=1e-6, burst=10.0)
POOLED = Quota("still", rate=1e-6, burst=10.0, per="cluster")
RUNNING = Quota("running", rate=0.0, burst=2.0, unit="in_flight")
# Longer than a connection takes on the busiest machine.
TIMEOUT = 1.0


@pytest.fixture(params=BINARIES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with running(request.param, tmp_path) as started:
        yield started


@asynccontextmanager
async def worker(server: Server, name: str = "w1", terms: Terms | None = None, *, workers: int = 1) -> AsyncIterator[SharedStore]:
    """A worker's store, in live time."""
    wire = RedisWire(lambda: Redis.from_url(server.url), server.url)
    store = SharedStore(Link(wire, Naming("t", b"secret"), sender=name, timeout=TIMEOUT), terms or Terms(lease=0.0), workers=lambda: workers)
    try:
        yield store
    finally:
        await store.close()


async def rows(server: Server) -> dict[bytes, object]:
    """All debts on the server, and all holds."""
    async with Redis.from_url(server.url) as client:
        keys = [key for key in await client.keys("*") if isinstance(key, bytes) and b"journal" not in key and b"inherited" not in key]
        return {key: await client.hgetall(key) if b":held" in key else await client.get(key) for key in keys}


async def admitted(store: SharedStore, charge: Charge, tries: int) -> int:
    return sum([(await store.spend([charge], time.time())).ok for _ in range(tries)])


async def test_clocks_that_differ_print_no_quota(server: Server) -> None:
    """A worker five seconds ahead and one behind: between them they admit what the server's clock lets drain, and no more."""
    began = time.monotonic()
    async with worker(server, "ahead") as ahead, worker(server, "behind") as behind:
        served = 0
        for _ in range(30):
            served += (await ahead.spend([Charge("a", MINUTE, 1.0)], time.time() + 5.0)).ok
            served += (await behind.spend([Charge("a", MINUTE, 1.0)], time.time() - 5.0)).ok
    assert 10 <= served <= 10 + MINUTE.rate * (time.monotonic() - began)


async def test_keys_are_hashes_with_a_prefix_that_expire_when_drained(server: Server) -> None:
    async with worker(server) as store:
        model = Quota("model", rate=1.0, burst=10.0, per="model")
        both = Quota("both", rate=1.0, burst=10.0, per="account_model")
        secret = "a marked prompt where a model's name should be"
        await store.spend([Charge("0a" * 10, MINUTE, 5.0), Charge(secret, model, 1.0), Charge("0a" * 10 + "/" + secret, both, 1.0)], time.time())
        async with Redis.from_url(server.url) as client:
            keys = await client.keys("*")
            assert len(keys) == 4
            assert all(str(key).startswith("b't:{") and "marked" not in str(key) for key in keys)
            assert 60_000 <= await client.pttl("t:{" + "0a" * 10 + "}:account") <= 65_100
            assert min([await client.pttl(key) for key in keys]) > 0


async def test_a_settled_row_holds_no_reservation(server: Server) -> None:
    async with worker(server) as store:
        at = time.time()
        charges = [Charge("a", MINUTE, 1.0), Charge("a", RUNNING, 1.0, held=1.0)]
        await store.spend(charges, at, hold="r", until=at + 60.0)
        assert list((await rows(server))[b"t:{a}:account:held"]) == [b"r"]  # type: ignore[call-overload]
        await store.adjust([Charge("a", RUNNING, -1.0, held=1.0)], at, hold="r")
        await store.link.drain()
        assert list(await rows(server)) == [b"t:{a}:account"]


async def test_a_batch_that_is_sent_twice_counts_once(server: Server) -> None:
    """The answer got lost after the server had carried the batch out."""
    async with worker(server, terms=Terms(lease=1.0)) as store:
        wire, send = store.link.wire, store.link.wire.send

        def lost(keys: Sequence[str], payload: bytes, done: Callable[[object], None]) -> None:
            wire.send = send  # type: ignore[method-assign]
            send(keys, payload, lambda reply: done(ConnectionError("cut off")))

        wire.send = lost  # type: ignore[method-assign]
        assert (await store.spend([Charge("a", STILL, 3.0)], time.time())).ok
        await store.link.drain()
        assert store.link.is_down
        await store.link.drain()
        assert not store.link.is_down
        assert (await store.peek([Charge("a", STILL, 0.0)], time.time()))[0] == pytest.approx(3.0, abs=1e-3)


async def test_a_server_that_forgot_the_script_is_told_again(server: Server) -> None:
    async with worker(server) as store, Redis.from_url(server.url) as client:
        assert await admitted(store, Charge("a", STILL, 1.0), 3) == 3
        await client.script_flush()
        assert await admitted(store, Charge("a", STILL, 1.0), 10) == 7


async def halve(store: SharedStore, version: int) -> None:
    """Half of what the cluster `old` owes goes to `new`."""
    [part] = billed([Charge("new", POOLED, 0.0)]).parts
    await store.inherit([Heir(part, [Share("old", 0.5, True)])], time.time(), version=version)


async def test_of_all_workers_one_moves_debts_and_all_know(server: Server) -> None:
    """The second one adopts the view later, and spends from what it leases: what the first one has moved is not there any more."""
    async with worker(server, "first", Terms(lease=1.0)) as first, worker(server, "second", Terms(lease=1.0)) as second:
        at = time.time()
        assert (await first.spend([Charge("old", POOLED, 8.0)], at)).ok
        await first.link.drain()
        await halve(first, 1)
        await halve(second, 1)
        for store in (first, second):
            assert await store.peek([Charge("old", POOLED, 0.0), Charge("new", POOLED, 0.0)], at) == pytest.approx((4.0, 4.0), abs=1e-3)
        assert not (await second.spend([Charge("new", POOLED, 7.0, opened=at - 1.0, filled=0.1)], at)).ok
        assert (await second.spend([Charge("new", POOLED, 6.0, opened=at - 1.0, filled=0.1)], at)).ok


async def test_debts_that_moved_expire_like_others(server: Server) -> None:
    async with worker(server) as store, Redis.from_url(server.url) as client:
        fast = Quota("fast", rate=1.0, burst=10.0, per="cluster")
        [part] = billed([Charge("new", fast, 0.0)]).parts
        assert (await store.spend([Charge("old", fast, 8.0)], time.time())).ok
        await store.inherit([Heir(part, [Share("old", 1.0, False)])], time.time(), version=1)
        assert 60_000 <= await client.pttl("t:{new}:cluster") <= 68_100


async def test_debts_move_without_the_server_and_on_it_when_it_is_back(tmp_path: Path) -> None:
    with running("valkey 9.1", tmp_path) as server:
        async with worker(server) as store:
            assert (await store.spend([Charge("old", POOLED, 8.0)], time.time())).ok
            server.stop()
            await halve(store, 1)
            assert await store.peek([Charge("old", POOLED, 0.0), Charge("new", POOLED, 0.0)], time.time()) == pytest.approx((4.0, 4.0), abs=1e-3)
            server.restart()
            await recovered(store)
            assert (await store.spend([Charge("new", POOLED, 1.0)], time.time())).levels == pytest.approx([1.0], abs=1e-3), "the server forgot all debts"
            await halve(store, 2)
            await halve(store, 1)
            assert (await store.peek([Charge("new", POOLED, 0.0)], time.time()))[0] == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize(("down", "served"), [("local", 5), ("open", 12), ("closed", 0)])
async def test_without_the_server_the_policy_decides(down: StoreDown, served: int, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`local`: half of the burst for each of two workers. One alarm, however many requests; debts are carried over when the server is back."""
    with running("valkey 9.1", tmp_path) as server:
        async with worker(server, terms=Terms(0.0, frozenset(), down), workers=2) as store:
            await store.peek([Charge("a", STILL, 0.0)], time.time())
            server.stop()
            with caplog.at_level(logging.INFO, "gateway_guard"):
                if down == "closed":
                    for _ in range(12):
                        with pytest.raises(StoreError, match="nobody"):
                            await store.spend([Charge("a", STILL, 1.0)], time.time())
                else:
                    assert await admitted(store, Charge("a", STILL, 1.0), 12) == served
                server.restart()
                await recovered(store)
            assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
            assert (await store.peek([Charge("a", STILL, 0.0)], time.time()))[0] == pytest.approx(served, abs=1e-3)


async def recovered(store: SharedStore) -> None:
    """Try again at once instead of after a pause, until the server has answered."""
    for _ in range(100):
        await store.link.drain()
        if not store.link.is_down:
            return
    raise AssertionError("the server did not come back")


async def test_a_hanging_server_costs_a_request_the_timeout_and_the_next_ones_nothing(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    async with worker(server) as store:
        assert await admitted(store, Charge("a", STILL, 1.0), 1) == 1
        server.hang()
        began = time.monotonic()
        with caplog.at_level(logging.ERROR, "gateway_guard"):
            together = await asyncio.gather(*(store.spend([Charge("a", STILL, 1.0)], time.time()) for _ in range(20)))
            took = time.monotonic() - began
            assert sum(found.ok for found in together) == 9
            assert TIMEOUT * 0.9 <= took < 2 * TIMEOUT
            began = time.monotonic()
            await admitted(store, Charge("b", STILL, 1.0), 20)
            assert time.monotonic() - began < TIMEOUT
        assert len(caplog.records) == 1
        server.wake()
        await recovered(store)
        # Whatever the hanging server had taken in before and carried out late is counted once.
        assert (await store.peek([Charge("a", STILL, 0.0)], time.time()))[0] >= 10.0 - 1e-3


async def test_a_full_memory_refuses_whole_batches_and_is_a_server_that_is_down(tmp_path: Path) -> None:
    with running("redis 6.2", tmp_path, "--maxmemory-policy", "noeviction") as server:
        async with worker(server, terms=Terms(lease=1.0)) as store, Redis.from_url(server.url) as client:
            at = time.time()
            assert (await store.spend([Charge("a", STILL, 4.0, held=4.0)], at, hold="r", until=at + 600.0)).ok
            await store.link.drain()
            before = await rows(server)
            await client.config_set("maxmemory", "1")
            await store.adjust([Charge("a", STILL, -2.0, held=4.0)], at, hold="r")
            await store.link.drain()
            assert store.link.is_down
            assert await rows(server) == before, "nothing of the batch was done"
            await client.config_set("maxmemory", "0")
            await recovered(store)
            assert (await store.peek([Charge("a", STILL, 0.0)], time.time()))[0] == pytest.approx(2.0, abs=1e-3)


async def test_reservations_of_a_worker_that_died_come_back(server: Server) -> None:
    """Whoever touches the subject after the hold's end finds its reservation given back."""
    async with worker(server, "dead", Terms(lease=1.0)) as dead:
        at = time.time()
        assert (await dead.spend([Charge("a", RUNNING, 2.0, held=2.0)], at, hold="r", until=at + 0.3)).ok
        await dead.link.drain()
    async with worker(server, "alive") as alive:
        assert not (await alive.spend([Charge("a", RUNNING, 1.0)], time.time())).ok
        async with asyncio.timeout(5):
            while not await admitted(alive, Charge("a", RUNNING, 1.0), 1):
                pass


async def test_debts_that_pile_up_are_folded_and_nothing_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spends, holds that are open and settles that come later, in any mixture: the sum is the truth."""
    monkeypatch.setattr("gateway_guard.stores.redis.link.KEPT", 7)
    wide = Quota("wide", rate=1e-6, burst=1e6, unit="tokens")
    with running("valkey 9.1", tmp_path) as server:
        async with worker(server, terms=Terms(lease=1.0)) as store:
            await store.peek([Charge("a", wide, 0.0)], time.time())
            server.stop()
            at = time.time()
            for number in range(40):
                await store.spend([Charge(f"{number % 2}", wide, 100.0, held=60.0)], at, hold=str(number), until=at + 600.0)
                if number >= 10:
                    await store.adjust([Charge(f"{number % 2}", wide, -30.0, held=60.0)], at, hold=str(number - 10))
                if number == 5:
                    await store.link.drain()
            assert store.link.waiting < 20
            server.restart()
            await recovered(store)
            for number in range(30, 40):
                await store.adjust([Charge(f"{number % 2}", wide, -30.0, held=60.0)], at, hold=str(number))
            levels = [(await store.peek([Charge(name, wide, 0.0)], time.time()))[0] for name in "01"]
            assert levels == pytest.approx([20 * 70.0] * 2, abs=1e-2)
