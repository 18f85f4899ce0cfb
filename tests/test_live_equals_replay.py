"""What the mounted guard decided, a replay of its recording decides again, byte for byte."""

from __future__ import annotations

import asyncio
import random
import time
from contextlib import suppress
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from gateway_guard import GatewayGuard
from gateway_guard.appeals.ledger import Ledger
from gateway_guard.appeals.state import LEAD
from gateway_guard.asgi.clock import Clock
from gateway_guard.cli.state import heed
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.policy.acknowledged import Acknowledgement, Suspension
from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import set_up
from gateway_guard.view import EMPTY, Cluster, Standing, View
from tests.fakes import KEY, ModelServer, answer, call, chat, events, policy_file, start, streamed
from tests.test_asgi_challenge import a_pass, ask
from tests.test_challenge_sdks import LADDER, suspects

pytestmark = pytest.mark.anyio
POLICY = """
throttle: {wait: 50ms, release: 100000/s}
reservation: {output: 20}
plans: {default: {}, pro: {scale: 2, trust: {start: 10%, over: 30d}}}
quotas:
  minute: {limit: 60/min}
  second: {limit: 1200/min, burst: 3}
  day: {limit: 150 tokens/day}
  money: {limit: $0.02/day, models: [dear]}
  flight: {limit: 2 in flight}
prices: {"*": {input: 100, output: 500}}
record: {decisions: decisions.jsonl, exchanges: exchanges.jsonl.zst}
"""


async def test_live_equals_replay(tmp_path: Path) -> None:
    """Concurrent requests of several accounts, streamed or not, delayed, refused, failing, some of whose clients leave."""
    rng = random.Random(7)

    async def script(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(rng.choice((0.0, 0.0, 0.001, 0.004)))
        kind = rng.random()
        if kind < 0.1:
            raise RuntimeError("the model is broken")
        if kind < 0.2:
            await start(send, b"application/json", 503)
            await send({"type": "http.response.body", "body": b"{}"})
        elif kind < 0.6:
            await streamed(events(output=rng.randrange(60)))(server, scope, receive, send)
        else:
            await start(send)
            await send({"type": "http.response.body", "body": answer(output=rng.randrange(60))})

    guard = GatewayGuard(ModelServer(script), policy_file(tmp_path, POLICY), key=KEY)

    async def one(i: int) -> None:
        await asyncio.sleep(rng.random() * 0.6)
        headers = [(b"authorization", b"Bearer sk-%d" % (i % 5))]
        request = call(guard, chat(f"question {i}", model=rng.choice(("cheap", "dear")), stream=i % 2 == 0, max_tokens=30), headers=headers)
        if i % 11 == 0:
            request.leave()
        try:
            await request.run()
        except RuntimeError:
            assert i >= 0

    async def at_once(key: bytes, *bodies: bytes) -> None:
        calls = [call(guard, body, headers=[(b"authorization", b"Bearer " + key)]).run() for body in bodies]
        await asyncio.gather(*calls, return_exceptions=True)

    await asyncio.gather(*(one(i) for i in range(400)))
    await at_once(b"sk-flight", *[chat(model="cheap")] * 3)
    await at_once(b"sk-money", *[chat(model="dear")] * 2)
    await at_once(b"sk-day", chat("x" * 800, model="cheap"))
    await in_a_moment(guard, b"sk-second", 8)
    await guard.engine.close()
    live = only(tmp_path, "decisions*")
    replay(tmp_path, tmp_path / "again.jsonl")
    assert live.count(b"\n") == 414
    assert {b'"action":"allow"', b'"quota.day"', b'"quota.second"', b'"quota.flight"', b'"quota.money"', b'"delay_ms":0.0'} <= set(found(live))
    assert (tmp_path / "again.jsonl").read_bytes() == live


async def in_a_moment(guard: GatewayGuard, key: bytes, count: int) -> None:
    """One request after the other while the clock all but stands still, however busy the machine is."""
    moment = guard.engine.clock()
    guard.engine.clock._now = lambda: moment
    for _ in range(count):
        with suppress(RuntimeError):
            await call(guard, chat(model="cheap"), headers=[(b"authorization", b"Bearer " + key)]).run()
    guard.engine.clock._now = time.time


def found(log: bytes) -> list[bytes]:
    return [mark for mark in (b'"action":"allow"', b'"quota.day"', b'"quota.second"', b'"quota.flight"', b'"quota.money"', b'"delay_ms":0.0') if mark in log]


def only(folder: Path, pattern: str) -> bytes:
    (path,) = folder.glob(pattern)
    return path.read_bytes()


def replay(folder: Path, out: Path, view: View = EMPTY, state: Path | None = None) -> None:
    (traffic,) = folder.glob("exchanges*")
    stage = set_up(str(traffic), folder / "policy.yaml", KEY)
    stage.gate.view = view
    heed(stage.gate, state, folder / "policy.yaml")
    Session(stage).run(Outputs(decisions=str(out)), lambda: None)


async def test_acknowledgements_and_ends_fall_on_the_same_requests_in_a_replay(tmp_path: Path) -> None:
    """Denied, acknowledged in the middle of the traffic, denied again when that is over, and served when the action has expired."""
    start, now = 1_795_000_000.0, [0.0]
    text = """
signals: {coordination: {}, harvest: {}}
ladder: [{id: shut, at: 4, do: deny, expires: 30s, apply: hourly}]
analysis: {enabled: false}
state: state.sqlite
record: {decisions: decisions.jsonl, exchanges: exchanges.jsonl.zst}
"""
    path, alice = policy_file(tmp_path, text), Pseudonyms(KEY).text("credential", "sk-alice")
    ledger = Ledger(tmp_path / "state.sqlite")
    ledger.acknowledge(Acknowledgement(0, "account", "alice", (alice,), ("content", "network"), "known", start + 5, start + 60), start, "op")
    ledger.withdraw(1, start + 9 - LEAD, by="op", reason="over")
    ledger.suspend(Suspension(0, "account", "alice", (alice,), "resold", start + 22, start + 24), start, "op")
    ledger.close()
    standing = Standing("c-1", start - 9 * 3600, 4.0, 4.0, ("content", "network"), (3.0, 3.0), start - 10)
    view = View(1, start, {alice: standing}, {"c-1": Cluster("c-1", 3)}, "known")
    guard = GatewayGuard(ModelServer(), path, key=KEY)
    guard.engine.clock = Clock(lambda: start + now[0])
    guard.engine.gate.view = view
    got = []
    for second in range(25):
        now[0] = float(second)
        got.append((await call(guard).run()).status)
    await guard.engine.close()
    assert got == [403] * 5 + [200] * 4 + [403] * 11 + [200] * 2 + [403] * 2 + [200]
    replay(tmp_path, tmp_path / "again.jsonl", view, tmp_path / "state.sqlite")
    live = only(tmp_path, "decisions*")
    assert (live.count(b'"acknowledged.1"'), live.count(b'"suspended.1"')) == (4, 2)
    assert (tmp_path / "again.jsonl").read_bytes() == live


async def test_challenges_are_met_by_the_same_requests_in_a_replay(tmp_path: Path) -> None:
    """One of two suspects shows a pass; nobody computes anything in the replay."""
    text = LADDER + "record: {decisions: decisions.jsonl, exchanges: exchanges.jsonl.zst}\n"
    guard, view = GatewayGuard(ModelServer(), policy_file(tmp_path, text), key=KEY), suspects("sk-a", "sk-b")
    guard.engine.gate.view = view
    shown = await a_pass(guard)
    for number in range(6):
        await ask(guard, shown, key=b"sk-a" if number % 2 else b"sk-b")
    await guard.engine.close()
    replay(tmp_path, tmp_path / "again.jsonl", view)
    live = only(tmp_path, "decisions*")
    assert (live.count(b'"challenge"'), live.count(b'"pass.prove"')) == (4, 3)
    assert (tmp_path / "again.jsonl").read_bytes() == live
