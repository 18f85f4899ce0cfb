"""The state on a server that hosts share. What it has in common with a state file is in `contracts`."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from redis import Redis

from gateway_guard import GatewayGuard
from gateway_guard.appeals.keeper import Keeper
from gateway_guard.appeals.shared_ledger import SharedLedger
from gateway_guard.appeals.state import LEAD, State
from gateway_guard.appeals.values import Act, Appeal, Touched
from gateway_guard.asgi.state import state_of
from gateway_guard.assembly import assemble
from gateway_guard.cli.state import heed
from gateway_guard.errors import StoreError, UsageError
from gateway_guard.gate import Gate
from gateway_guard.policy.acknowledged import Acknowledgement
from gateway_guard.policy.load import load
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.view import EMPTY, View
from tests.cluster import cluster
from tests.commands import command
from tests.fakes import KEY, ModelServer, policy_file
from tests.servers import Server, free_port, running
from tests.test_asgi_alone import ROOT

AT = 1_795_000_000.0
GIVEN = Acknowledgement(0, "account", "alice", ("a" * 20,), ("content",), "known", AT + LEAD, AT + 86400)
ALICE = Touched("d1", "a" * 20, AT, "deny", "shut", "c-1", ("content",), ("rung.shut",))
POLICY = "analysis: {{enabled: false}}\nstate: redis\nrecord: {{audit: audit.jsonl}}\nstore: {{url: '{url}'{more}}}\n"
REASON = ("--reason", "agreed")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with running("valkey 9.1", tmp_path / "server") as started:
        yield started


def opened(server: Server, home: str = "here") -> SharedLedger:
    return SharedLedger(lambda: Redis.from_url(server.url), server.url, "gateway_guard", home)


def host(folder: Path, url: str, more: str = "") -> Path:
    folder.mkdir()
    policy_file(folder, POLICY.format(url=url, more=more))
    return folder


def state_in(folder: Path) -> State:
    state = state_of(load(folder / "policy.yaml").policy, folder, os.environ)
    assert state is not None
    return state


@contextmanager
def guarding(folder: Path) -> Iterator[GatewayGuard]:
    guard = GatewayGuard(ModelServer(), folder / "policy.yaml", key=KEY)
    yield guard
    asyncio.run(guard.engine.books.close())


def test_hosts_share_what_their_operators_say_and_each_verifies_its_own_audit_log(tmp_path: Path, server: Server) -> None:
    one, two = (host(tmp_path / name, server.url) for name in ("one", "two"))
    with guarding(one) as first, guarding(two) as second:
        assert command(one, "acknowledge", "acme", "--until", "2027-03-31", *REASON).returncode == 0
        assert command(two, "suspend", "mallory", "--until", "2027-03-31", *REASON).returncode == 0
        for guard in (first, second):
            keeper = guard.engine.keeper
            assert keeper is not None
            assert not guard.engine.gate.acknowledged
            keeper._turn()
            assert guard.engine.gate.acknowledged
            assert guard.engine.gate.suspended
    for there in (one, two):
        assert "1  account" in command(there, "acknowledgements").stdout
        assert "1  account" in command(there, "suspensions").stdout
        verified = command(there, "audit", "verify")
        assert (verified.returncode, verified.stderr) == (0, ""), verified.stdout
    told = "".join(command(there, "audit", "show", "--kind", kind).stdout for there in (one, two) for kind in ("acknowledged", "suspended"))
    assert len(told.splitlines()) == 2, "each act is in one host's log"
    [log] = one.glob("audit.*.jsonl")
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-1]))
    assert command(one, "audit", "verify").returncode == 1, "what was cut off is missed"
    assert command(two, "audit", "verify").returncode == 0


def test_an_appeal_filed_at_one_host_is_answered_at_another(tmp_path: Path, server: Server) -> None:
    one, two = (host(tmp_path / name, server.url) for name in ("one", "two"))
    state = state_in(one)
    state.file(Appeal("a-1", AT, "please", ALICE))
    assert "a-1" in command(two, "appeals", "list").stdout
    assert command(two, "appeals", "release", "d1", "--reason", "the course is known").returncode == 0
    answered = state.appeal("a-1")
    assert answered is not None
    assert (answered.status, answered.answer) == ("released", "the course is known")
    assert [given.appeal for given in state.acknowledgements()] == ["a-1"]
    again = command(one, "appeals", "confirm", "d1", *REASON)
    assert (again.returncode, "was released" in again.stderr) == (2, True)


def test_a_replay_counts_what_is_kept_on_the_server(tmp_path: Path, server: Server) -> None:
    there = host(tmp_path / "one", server.url)
    parts = assemble(there / "policy.yaml", KEY, today=None)
    gates = [Gate(parts.rules, MemoryStore(1)) for _ in range(2)]
    state_in(there).acknowledge(GIVEN, AT, "op")
    heed(gates[0], None, there / "policy.yaml")
    heed(gates[1], Path("redis"), there / "policy.yaml")
    assert [bool(gate.acknowledged) for gate in gates] == [False, True]


def test_it_survives_a_restart_of_a_server_that_writes_to_its_disk(tmp_path: Path) -> None:
    with running("valkey 9.1", tmp_path, "--appendonly", "yes", "--appendfsync", "always") as server:
        state = opened(server)
        state.remember([ALICE], AT)
        state.acknowledge(GIVEN, AT, "op")
        state.keep_view(View(7, AT))
        server.restart()
        assert (state.decision("d1"), len(opened(server).acknowledgements()), state.view()) == (ALICE, 1, View(7, AT))


def test_without_the_server_the_last_words_stay_in_force(tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """One line is logged; decisions wait; when it is there again, all goes on."""
    there = host(tmp_path / "one", server.url)
    with guarding(there) as guard:
        gate, keeper = guard.engine.gate, guard.engine.keeper
        assert keeper is not None
        keeper.ledger.acknowledge(GIVEN, AT, "op")
        keeper._turn()
        server.stop()
        keeper.touched(ALICE)
        for _ in range(3):
            keeper._turn()
        assert gate.acknowledged
        assert keeper.find("a" * 20, "d1") == ALICE
        assert caplog.text.count("cannot be used") == 1
        failed = command(there, "acknowledgements")
        assert (failed.returncode, len(failed.stderr.splitlines())) == (1, 1), failed.stderr
        server.restart()
        keeper._turn()
        assert keeper.ledger.decision("d1") == ALICE


def test_a_guard_starts_without_its_server_and_takes_up_what_is_said_once_it_is_there(tmp_path: Path, server: Server, caplog: pytest.LogCaptureFixture) -> None:
    there = host(tmp_path / "one", server.url)
    server.stop()
    with guarding(there) as guard:
        assert caplog.text.count("cannot be used") == 1
        assert guard.engine.books.view() == EMPTY
        server.restart()
        opened(server).acknowledge(GIVEN, AT, "op")
        keeper = guard.engine.keeper
        assert keeper is not None
        keeper._turn()
        assert guard.engine.gate.acknowledged


def test_what_could_not_be_read_is_read_the_next_time(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    adopted: list[bool] = []
    state = opened(server)
    keeper = Keeper(state, lambda: AT, lambda acknowledged, suspended: adopted.append(bool(acknowledged)))
    state.acknowledge(GIVEN, AT, "op")
    with monkeypatch.context() as broken:
        broken.setattr(state, "suspensions", lambda: (_ for _ in ()).throw(StoreError("gone", retryable=True)))
        keeper._turn()
    keeper._turn()
    assert adopted == [False, True]
    keeper.close()


def test_what_a_newer_guard_has_written_is_refused_in_a_line(tmp_path: Path, server: Server) -> None:
    there, before = host(tmp_path / "one", server.url), opened(server)
    before.acknowledge(GIVEN, AT, "op")
    with Redis.from_url(server.url) as client:
        client.hset("gateway_guard:{gg:state}:about", "version", 2)
    with pytest.raises(UsageError, match="newer gateway-guard's"):
        GatewayGuard(ModelServer(), there / "policy.yaml", key=KEY)
    refused = command(there, "acknowledgements")
    assert (refused.returncode, len(refused.stderr.splitlines()), "upgrade" in refused.stderr) == (2, 1, True)
    for use in (before.changed, lambda: before.remember([ALICE], AT), lambda: before.acknowledge(GIVEN, AT, "op")):
        with pytest.raises(StoreError, match="upgrade"):
            use()


def test_acts_of_a_process_that_died_while_it_had_them_are_given_to_another(server: Server) -> None:
    state, got = opened(server), list[Act]()
    state.acknowledge(GIVEN, AT, "op")
    with Redis.from_url(server.url) as client:
        client.set("gateway_guard:{gg:state}:taking", "the dead", px=60_000)
        assert state.hand_over(got.extend) == 0
        client.delete("gateway_guard:{gg:state}:taking")
        assert state.hand_over(got.extend) == 1
        assert not client.exists("gateway_guard:{gg:state}:taking")


def test_a_view_that_cannot_be_read_counts_as_none_and_a_broken_appeal_is_told(server: Server) -> None:
    state = opened(server)
    state.keep_view(View(1))
    state.file(Appeal("a-1", AT, "please", ALICE))
    with Redis.from_url(server.url) as client:
        client.hset("gateway_guard:{gg:state}:view", "body", b"\xc1")
        client.hset("gateway_guard:{gg:state}:appeals", "a-1", b"{")
    assert state.view() == EMPTY
    with pytest.raises(StoreError, match="truncated"):
        state.appeal("a-1")


def test_it_lies_in_one_slot_of_a_cluster(tmp_path: Path) -> None:
    with cluster(tmp_path / "nodes") as nodes:
        state = state_in(host(tmp_path / "one", f"redis://127.0.0.1:{nodes[0].port}", ", cluster: true"))
        state.remember([ALICE], AT)
        state.file(Appeal("a-1", AT, "please", ALICE))
        state.answer("a-1", "released", AT, by="op", answer="fine", relief=GIVEN)
        got: list[Act] = []
        assert state.hand_over(got.extend) == 3
        assert [bool(node.client.dbsize()) for node in nodes].count(True) == 1
        state.close()


def test_the_documented_rights_are_enough_and_a_wrong_password_is_not_told(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    [rights] = re.findall(r"`(~gateway_guard.*?)`", (ROOT / "docs" / "many-workers.md").read_text(), re.DOTALL)
    there = host(tmp_path / "one", server.url, ", user: guard")
    monkeypatch.setenv("GATEWAY_GUARD_STORE_PASSWORD", "open sesame")
    with Redis.from_url(server.url) as client:
        client.execute_command("ACL", "SETUSER", "guard", "on", ">open sesame", *rights.split())
        state = state_in(there)
        state.remember([ALICE], AT)
        state.file(Appeal("a-1", AT, "please", ALICE))
        state.answer("a-1", "released", AT, by="op", answer="fine", relief=GIVEN)
        state.withdraw(1, AT, by="op", reason="over")
        state.keep_view(View(1))
        state.reached("audit.1", 1, "x")
        assert (state.hand_over(lambda acts: None), len(state.acknowledgements()), state.changed(), len(state.appeals())) == (4, 1, True, 1)
        assert client.execute_command("ACL", "LOG") == []
    monkeypatch.setenv("GATEWAY_GUARD_STORE_PASSWORD", "a-wrong-secret")
    with pytest.raises(StoreError) as error:
        state_in(there).changed()
    assert "a-wrong-secret" not in str(error.value)


def test_a_sentinels_leader_is_found(tmp_path: Path) -> None:
    """The state goes to the server that the sentinel names."""
    port, watching = free_port(), free_port()
    config = tmp_path / "sentinel.conf"
    config.write_text(f"port {watching}\ndir {tmp_path}\nsentinel monitor quotas 127.0.0.1 {port} 1\n")
    with ExitStack() as stack:
        leader = stack.enter_context(running("valkey 9.1", tmp_path / "leader", "--port", str(port)))
        stack.enter_context(running("redis 6.2", tmp_path / "s", str(config), "--sentinel", ready=b"+monitor"))
        folder = tmp_path / "one"
        folder.mkdir()
        policy_file(folder, f"state: redis\nstore: {{sentinel: {{master: quotas, hosts: ['127.0.0.1:{watching}']}}}}\n")
        state_in(folder).acknowledge(GIVEN, AT, "op")
        assert len(opened(leader).acknowledgements()) == 1
