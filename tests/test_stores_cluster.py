"""Guards on a Redis Cluster of three nodes. What its store has in common with every other is in `contracts`."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.asyncio import RedisCluster

from gateway_guard import GatewayGuard
from gateway_guard.quota import Charge, Quota
from gateway_guard.shared_worker import SharedWorker
from gateway_guard.stores.redis import Link, Naming, SharedStore, Shelves, Terms
from gateway_guard.stores.redis.wire import ClusterWire
from tests.cluster import Node, cluster
from tests.fakes import KEY, ModelServer, call, policy_file

pytestmark = pytest.mark.anyio

STILL = Quota("still", rate=1e-6, burst=10.0)
ACCOUNTS = [f"{number:02x}" * 10 for number in range(24)]
SHELVES = 16


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[list[Node]]:
    with cluster(tmp_path / "nodes") as started:
        yield started


def store_on(nodes: list[Node], name: str, terms: Terms) -> SharedStore:
    naming = Naming("t", b"secret", shelves=SHELVES)
    wire = ClusterWire(lambda: RedisCluster(host="127.0.0.1", port=nodes[0].port, socket_timeout=5.0), "the cluster")
    return SharedStore(Shelves([Link(wire, naming, sender=name, timeout=5.0, shelf=str(shelf)) for shelf in range(SHELVES)]), terms)


async def test_accounts_are_spread_and_each_is_one_truth(nodes: list[Node]) -> None:
    """Spent at one worker, reported, known at the other: on whichever node."""
    leased, exact = store_on(nodes, "leased", Terms(1.0)), store_on(nodes, "exact", Terms(0.0))
    for account in ACCOUNTS:
        assert (await leased.spend([Charge(account, STILL, 6.0)], time.time())).ok
    await leased.link.drain()
    found = [(await exact.spend([Charge(account, STILL, cost)], time.time())).ok for account in ACCOUNTS for cost in (3.0, 3.0)]
    assert found == [True, False] * len(ACCOUNTS)
    assert all(node.client.dbsize() for node in nodes), "no node has nothing to do"
    for store in (leased, exact):
        await store.close()


async def test_without_one_node_its_accounts_are_decided_here_and_carried_over(nodes: list[Node]) -> None:
    store = store_on(nodes, "w", Terms(0.0))
    for account in ACCOUNTS:
        assert (await store.spend([Charge(account, STILL, 4.0)], time.time())).ok
    nodes[1].server.stop()
    for account in ACCOUNTS:
        assert (await store.spend([Charge(account, STILL, 4.0)], time.time())).ok
        assert not (await store.spend([Charge(account, STILL, 4.0)], time.time())).ok
    assert store.link.is_down
    nodes[1].server.restart()
    for _ in range(200):
        await store.link.drain()
        if not store.link.is_down:
            break
    levels = [(await store.peek([Charge(account, STILL, 0.0)], time.time()))[0] for account in ACCOUNTS]
    assert min(levels) >= 4.0 - 1e-3
    assert max(levels) <= 8.0
    assert sum(level > 7.9 for level in levels) > len(ACCOUNTS) / 2, "the other nodes have lost nothing; this one kept nothing on its disk"
    await store.close()


async def test_two_guards_are_one_quota_and_go_by_one_view(nodes: list[Node], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An organisation's quota lies on another node than the account's. Views are polled for."""
    monkeypatch.setattr(SharedWorker, "start", lambda self: None)
    path = policy_file(
        tmp_path,
        "quotas:\n  minute: {limit: 5/day}\n  models: {limit: 100/day, per: model}\nanalysis: {refresh: 1h}\n"
        f"store: {{url: 'redis://127.0.0.1:{nodes[0].port}', cluster: true, timeout: 5s, lease: 0%}}\n",
    )
    guards = [GatewayGuard(ModelServer(), path, key=KEY) for _ in range(2)]
    assert [(await call(guards[number % 2]).run()).status for number in range(8)] == [200] * 5 + [429] * 3
    workers = [guard.engine.worker for guard in guards]
    leader, follower = workers
    assert isinstance(leader, SharedWorker)
    assert isinstance(follower, SharedWorker)
    for worker in (leader, follower):
        await worker.tell()
        await worker.step()
    leader._refresh = 0.0
    await leader.step()
    await follower.step()
    assert [guard.engine.gate.view.id for guard in guards] == [1, 1]
    for guard in guards:
        await guard.engine.close()
