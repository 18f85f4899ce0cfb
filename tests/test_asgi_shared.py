"""Guards that share a server: one quota between them, whatever happens to the server."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest
from redis.asyncio import Redis

from gateway_guard import GatewayGuard
from gateway_guard.errors import UsageError
from gateway_guard.shared_worker import SharedWorker
from tests.commands import command
from tests.fakes import KEY, ModelServer, call, policy_file
from tests.servers import Server, running
from tests.test_asgi_alone import ROOT

pytestmark = pytest.mark.anyio

# An application that is told when all is over, as those of every framework are.
LIVING = """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from gateway_guard import GatewayGuard
route = Route("/v1/chat/completions", lambda request: JSONResponse({}), methods=["POST"])
app = GatewayGuard(Starlette(routes=[route]), "policy.yaml")
"""
QUOTA = "quotas:\n  minute: {limit: 5/day}\nanalysis: {enabled: false}\n"


def shared(folder: Path, server: Server, more: str = "", quota: str = QUOTA) -> GatewayGuard:
    path = policy_file(folder, f"{quota}store:\n  url: {server.url}\n  timeout: 5s\n{more}")
    return GatewayGuard(ModelServer(), path, key=KEY)


async def test_two_guards_are_one_quota(tmp_path: Path) -> None:
    with running("redis 6.2", tmp_path) as server:
        guards = [shared(tmp_path, server, "  lease: 0%\n") for _ in range(2)]
        got = [(await call(guards[number % 2]).run()).status for number in range(8)]
        assert got == [200] * 5 + [429] * 3
        for guard in guards:
            await guard.engine.close()


async def test_who_is_served_by_nobody_without_the_server_is_told_when_to_come_back(tmp_path: Path) -> None:
    with running("valkey 9.1", tmp_path) as server:
        guard = shared(tmp_path, server, "  down: closed\n  lease: 0%\n")
        assert (await call(guard).run()).status == 200
        server.stop()
        refused = await call(guard).run()
        assert (refused.status, refused.headers["retry-after"], refused.headers["x-should-retry"]) == (503, "5", "true")
        assert refused.json()["error"]["code"] == "quotas_unavailable"
        server.restart()
        await guard.engine.close()


async def test_in_shadow_nobody_is_refused_because_of_the_server(tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(f"version: 1\nname: t\n{QUOTA}store: {{url: 'unix://{tmp_path}/nobody', down: closed, lease: 0%}}\n")
    guard = GatewayGuard(ModelServer(), path, key=KEY)
    assert {(await call(guard).run()).status for _ in range(8)} == {200}
    await guard.engine.close()


async def test_a_changed_policy_changes_the_lease(tmp_path: Path) -> None:
    with running("valkey 9.1", tmp_path) as server:
        guard = shared(tmp_path, server)
        assert guard.engine.shared is not None
        assert guard.engine.shared.terms.exact == frozenset()
        path = policy_file(tmp_path, f"quotas:\n  minute: {{limit: 5/day, spend: exact}}\nanalysis: {{enabled: false}}\nstore:\n  url: {server.url}\n")
        assert path.exists()
        await guard.engine._reload()
        assert guard.engine.shared.terms.exact == frozenset({"minute"})
        await guard.engine.close()


async def test_guards_count_each_other_and_one_of_them_analyses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What either has seen is in the view that both go by."""
    # Rounds of its own would come between the steps that are taken here one by one.
    monkeypatch.setattr(SharedWorker, "start", lambda self: None)
    with running("valkey 9.1", tmp_path) as server:
        guards = [shared(tmp_path, server, quota="analysis: {refresh: 1h}\n") for _ in range(2)]
        workers = [guard.engine.worker for guard in guards]
        for guard in guards:
            await call(guard).run()
        for worker in workers:
            assert isinstance(worker, SharedWorker)
            await worker.tell()
            await worker.step()
        for worker in workers:
            assert isinstance(worker, SharedWorker)
            await worker.step()  # the first to come was alone
        leader, follower = sorted(workers, key=lambda worker: -worker.token if isinstance(worker, SharedWorker) else 0)
        assert isinstance(leader, SharedWorker)
        assert isinstance(follower, SharedWorker)
        assert leader.token
        assert not follower.token
        assert {guard.engine.shared.workers() for guard in guards if guard.engine.shared is not None} == {2}
        leader._refresh = 0.0
        await leader.step()
        await follower.step()
        views = [guard.engine.gate.view.id for guard in guards]
        for guard in guards:
            await guard.engine.close()
        assert views == [1, 1]


async def test_a_password_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running("redis 6.2", tmp_path, "--requirepass", "open sesame") as server:
        monkeypatch.setenv("GATEWAY_GUARD_STORE_PASSWORD", "open sesame")
        guard = shared(tmp_path, server, "  lease: 0%\n  down: closed\n")
        assert (await call(guard).run()).status == 200
        await guard.engine.close()


async def test_the_documented_rights_are_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line of docs/many-workers.md, given to a user that may do nothing else."""
    [rights] = re.findall(r"`(~gateway_guard.*?)`", (ROOT / "docs" / "many-workers.md").read_text(), re.DOTALL)
    with running("valkey 9.1", tmp_path) as server:
        async with Redis.from_url(server.url) as client:
            await client.execute_command("ACL", "SETUSER", "guard", "on", ">open sesame", *rights.split())  # type: ignore[no-untyped-call]
        monkeypatch.setenv("GATEWAY_GUARD_STORE_PASSWORD", "open sesame")
        guard = shared(tmp_path, server, "  lease: 0%\n  down: closed\n  user: guard\n", "quotas:\n  minute: {limit: 5/day}\nanalysis: {refresh: 1h}\n")
        assert [(await call(guard).run()).status for _ in range(6)] == [200] * 5 + [429]
        worker = guard.engine.worker
        assert isinstance(worker, SharedWorker)
        worker._refresh = 0.0
        for _ in range(2):
            await worker.tell()
            await worker.step()
        assert guard.engine.gate.view.id >= 1
        async with Redis.from_url(server.url) as client:
            assert await client.execute_command("ACL", "LOG") == []  # type: ignore[no-untyped-call]
        await guard.engine.close()


def test_a_certificate_that_is_missing_is_told_at_the_start(tmp_path: Path) -> None:
    path = policy_file(tmp_path, "store: {url: 'rediss://10.0.0.5:6379', tls: {ca: missing.pem}}\n")
    with pytest.raises(UsageError, match=r"missing\.pem"):
        GatewayGuard(ModelServer(), path, key=KEY)


def test_two_workers_of_uvicorn_share_one_quota_and_keep_one_set_of_books(tmp_path: Path) -> None:
    """Real processes behind one socket: of thirty requests twenty are served. Whoever was refused, by either, may appeal; the audit log holds."""
    with running("valkey 9.1", tmp_path) as server:
        policy_file(
            tmp_path,
            f"quotas:\n  minute: {{limit: 20/day, spend: exact}}\nanalysis: {{enabled: false}}\nstore:\n  url: {server.url}\n  timeout: 2s\n  flush: 5ms\n"
            "state: guard/state.sqlite\nrecord: {audit: guard/audit.jsonl}\n",
        )
        with uvicorn_of_two(tmp_path) as listening:
            got = Counter(_status(listening) for _ in range(30))
        assert got == {200: 20, 429: 10}
    with closing(sqlite3.connect(tmp_path / "guard" / "state.sqlite")) as state:
        assert state.execute("SELECT count(*) FROM decisions").fetchone() == (10,)
    verified, told = command(tmp_path, "audit", "verify"), command(tmp_path, "audit", "show").stdout
    assert (verified.returncode, verified.stderr) == (0, "")
    kinds = Counter(line.split("  ")[1] for line in told.splitlines())
    assert (kinds["policy.loaded"], kinds["closed"]) == (2, 2)


@contextmanager
def uvicorn_of_two(folder: Path) -> Iterator[Path]:
    """The guard in two processes; where they listen."""
    (folder / "app.py").write_text(LIVING)
    listening = folder / "http"
    words = [sys.executable, "-m", "uvicorn", "app:app", "--uds", str(listening), "--workers", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "GATEWAY_GUARD_KEY": KEY.decode()}
    with subprocess.Popen(words, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as uvicorn:
        assert uvicorn.stderr is not None
        started = 0
        for line in uvicorn.stderr:
            started += "Application startup complete" in line
            if started == 2:
                break
        assert started == 2
        yield listening
        uvicorn.terminate()
        uvicorn.communicate()


def _status(listening: Path) -> int:
    """One request on a connection of its own, so that either worker may take it."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(listening))) as client:
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
        return client.post("http://guard/v1/chat/completions", json=body, headers={"authorization": "Bearer sk-alice"}).status_code
