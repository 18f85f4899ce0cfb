"""Challenges that are met at one worker are met at all of them: on real servers."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest
from redis.asyncio import Redis

from gateway_guard import GatewayGuard
from gateway_guard.challenge.grants import MemoryGrants
from gateway_guard.client.instructions import instructions
from gateway_guard.stores.redis import Naming
from gateway_guard.stores.redis.grants import RedisGrants
from gateway_guard.stores.redis.wire import RedisWire
from tests.fakes import KEY, ModelServer, policy_file
from tests.servers import BINARIES, Server, running
from tests.test_asgi_challenge import PERSON, SECRET, ask, hand_in, solved
from tests.test_challenge_sdks import LADDER, suspects

pytestmark = pytest.mark.anyio


def worker(folder: Path, server: Server, policy: str) -> GatewayGuard:
    (folder / "secret").write_bytes(SECRET)
    guard = GatewayGuard(ModelServer(), policy_file(folder, f"{policy}store: {{url: '{server.url}', timeout: 5s}}\n"), key=KEY)
    guard.engine.gate.view = suspects("sk-a", "sk-b")
    return guard


@pytest.mark.parametrize("kind", BINARIES)
async def test_a_proof_is_taken_once_by_all_workers_and_its_pass_by_each(tmp_path: Path, kind: str) -> None:
    with running(kind, tmp_path) as server:
        one, two = worker(tmp_path, server, LADDER), worker(tmp_path, server, LADDER)
        proof = solved(await ask(one))
        given = await hand_in(two, proof)
        assert given.status == 200
        assert [(await hand_in(guard, proof)).status for guard in (one, two)] == [403, 403]
        shown = (b"x-gateway-guard-pass", given.json()["pass"].encode())
        assert [(await ask(guard, shown)).status for guard in (one, two)] == [200, 200]
        for guard in (one, two):
            await guard.engine.close()


async def test_a_step_up_at_one_worker_counts_at_the_others(tmp_path: Path) -> None:
    with running("redis 6.2", tmp_path) as server:
        one, two = worker(tmp_path, server, PERSON), worker(tmp_path, server, PERSON)
        asked = instructions((await ask(one)).headers["x-gateway-guard-challenge"])
        assert asked is not None
        now = one.engine.clock()
        result = jwt.encode({"challenge": asked.url.partition("challenge=")[2], "met": True, "iat": now, "exp": now + 60}, SECRET, "HS256")
        assert (await hand_in(one, result)).status == 200
        assert [(await ask(guard)).status for guard in (one, two)] == [200, 200]
        assert (await ask(two, key=b"sk-b")).status == 403
        server.stop()
        assert [(await ask(guard)).status for guard in (one, two)] == [200, 403], "without the server, who was told knows"
        for guard in (one, two):
            await guard.engine.close()


async def test_a_grant_ends(tmp_path: Path) -> None:
    """On the server by itself; here by the time that is handed in."""
    with running("valkey 9.1", tmp_path) as server:
        wire = RedisWire(lambda: Redis.from_url(server.url), "test")
        grants = RedisGrants(wire, Naming("gg", KEY), MemoryGrants(), timeout=5.0)
        await grants.grant("h1", 1000.0, 100.0)
        [key] = await wire.client.keys()
        left = await wire.client.pttl(key)
        assert 0 < left <= 900_000
        assert await grants.granted("h1", 999.0)
        await wire.client.delete(key)
        assert not await grants.granted("h1", 1000.0)
        await wire.close()
