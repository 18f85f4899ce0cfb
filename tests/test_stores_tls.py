"""Encrypted ways to the server: who it is is checked, and so is who comes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway_guard import GatewayGuard
from gateway_guard.asgi.state import state_of
from gateway_guard.errors import StoreError
from gateway_guard.policy.load import load
from gateway_guard.shared_worker import SharedWorker
from tests.certificates import Authority
from tests.fakes import KEY, ModelServer, call, policy_file
from tests.servers import SYSTEM, Server, free_port, running

pytestmark = pytest.mark.anyio

QUOTA = "quotas:\n  minute: {limit: 5/day}\n"


@pytest.fixture
def kind() -> str:
    """The system's server: those out of wheels are built without TLS."""
    if SYSTEM is None:
        told = pytest.fail if os.environ.get("CI") else pytest.skip
        told("no redis-server on this machine: install one to test encrypted connections")
    return "the system's"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "certificates")


@contextmanager
def encrypted(kind: str, folder: Path, authority: Authority, host: str, *more: str, clients: str = "no") -> Iterator[tuple[Server, int]]:
    """A server that is reached by TLS, and its port. Its certificate is for `host`."""
    port = free_port()
    certificate, key = authority.issue("server", host)
    files = ["--tls-cert-file", str(certificate), "--tls-key-file", str(key), "--tls-ca-cert-file", str(authority.ca)]
    with running(kind, folder, "--tls-port", str(port), *files, "--tls-auth-clients", clients, *more) as server:
        yield server, port


def guarding(folder: Path, store: str, quota: str = f"{QUOTA}analysis: {{enabled: false}}\n") -> GatewayGuard:
    return GatewayGuard(ModelServer(), policy_file(folder, f"{quota}store:\n  timeout: 5s\n  lease: 0%\n  down: closed\n{store}"), key=KEY)


async def served(guard: GatewayGuard, times: int) -> list[int]:
    return [(await call(guard).run()).status for _ in range(times)]


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_one_quota_over_an_encrypted_way(kind: str, tmp_path: Path, authority: Authority, host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spends, and what the workers tell each other; nothing of it on a plain port."""
    # Rounds of its own would come between the steps that are taken here one by one.
    monkeypatch.setattr(SharedWorker, "start", lambda self: None)
    with encrypted(kind, tmp_path / "server", authority, host) as (_, port):
        store = f"  url: rediss://{host}:{port}/1\n  tls: {{ca: certificates/ca.pem}}\n"
        guards = [guarding(tmp_path, store, f"{QUOTA}analysis: {{refresh: 1h}}\n") for _ in range(2)]
        assert await served(guards[0], 3) + await served(guards[1], 3) == [200] * 5 + [429]
        worker = guards[0].engine.worker
        assert isinstance(worker, SharedWorker)
        worker._refresh = 0.0
        await worker.tell()
        await worker.step()
        assert guards[0].engine.gate.view.id == 1
        for guard in guards:
            await guard.engine.close()


@pytest.mark.parametrize(
    ("wrong", "reason"), [("authority", "certificate verify failed"), ("host", "Hostname mismatch"), ("none", "certificate verify failed")]
)
async def test_a_server_that_is_not_the_one_is_told_nothing(
    kind: str, tmp_path: Path, authority: Authority, caplog: pytest.LogCaptureFixture, wrong: str, reason: str
) -> None:
    """Somebody in between has a certificate of another authority, or one for another host."""
    Authority(tmp_path / "others")
    host = "elsewhere.example" if wrong == "host" else "localhost"
    tls = {"authority": "  tls: {ca: others/ca.pem}\n", "host": "  tls: {ca: certificates/ca.pem}\n", "none": ""}[wrong]
    with encrypted(kind, tmp_path / "server", authority, host) as (server, port):
        guard = guarding(tmp_path, f"  url: rediss://localhost:{port}\n{tls}")
        assert await served(guard, 2) == [503, 503]
        async with Redis.from_url(server.url) as client:
            assert await client.dbsize() == 0
        await guard.engine.close()
    assert reason in caplog.text


async def test_a_server_asks_who_comes(kind: str, tmp_path: Path, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate for the client, and a user with a password beside it."""
    authority.issue("client", "gateway.example")
    rights = ["--user", "guard", "on", ">opensesame", "~gateway_guard:*", "&gateway_guard:*", "+@all", "--user", "default", "off"]
    monkeypatch.setenv("GATEWAY_GUARD_STORE_PASSWORD", "opensesame")
    with encrypted(kind, tmp_path / "server", authority, "localhost", *rights, clients="yes") as (_, port):
        plain = f"  url: rediss://localhost:{port}\n  user: guard\n  tls: {{ca: certificates/ca.pem"
        known = guarding(tmp_path, f"{plain}, certificate: certificates/client.pem, key: certificates/client.key}}\n")
        assert await served(known, 6) == [200] * 5 + [429]
        await known.engine.close()
        unknown = guarding(tmp_path, f"{plain}}}\n")
        assert await served(unknown, 1) == [503]
        await unknown.engine.close()


async def test_a_leader_that_sentinel_names_is_spoken_to_over_tls(kind: str, tmp_path: Path, authority: Authority) -> None:
    with ExitStack() as stack:
        _, port = stack.enter_context(encrypted(kind, tmp_path / "leader", authority, "127.0.0.1"))
        watching = free_port()
        config = tmp_path / "sentinel.conf"
        certificate, key = authority.issue("sentinel", "127.0.0.1")
        config.write_text(
            f"port 0\ntls-port {watching}\ndir {tmp_path}\ntls-cert-file {certificate}\ntls-key-file {key}\ntls-ca-cert-file {authority.ca}\n"
            f"tls-auth-clients no\ntls-replication yes\nsentinel monitor quotas 127.0.0.1 {port} 1\n"
        )
        stack.enter_context(running(kind, tmp_path / "sentinel", str(config), "--sentinel", ready=b"+monitor"))
        guard = guarding(tmp_path, f"  sentinel: {{master: quotas, hosts: ['127.0.0.1:{watching}']}}\n  tls: {{ca: certificates/ca.pem}}\n")
        assert await served(guard, 6) == [200] * 5 + [429]
        await guard.engine.close()


@pytest.mark.parametrize(("host", "reason"), [("localhost", ""), ("127.0.0.1", "certificate verify failed")])
def test_the_state_goes_to_the_right_server_alone(kind: str, tmp_path: Path, authority: Authority, host: str, reason: str) -> None:
    with encrypted(kind, tmp_path / "server", authority, "localhost") as (_, port):
        path = policy_file(tmp_path, f"state: redis\nstore: {{url: 'rediss://{host}:{port}/1', tls: {{ca: certificates/ca.pem}}}}\n")
        state = state_of(load(path).policy, tmp_path, {})
        assert state is not None
        with pytest.raises(StoreError, match=reason) if reason else nullcontext():
            assert state.changed()
        state.close()
