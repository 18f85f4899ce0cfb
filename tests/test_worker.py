"""The analyst beside the gate: events in, views out, and requests that go on whatever happens to it."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from gateway_guard import GatewayGuard, worker
from gateway_guard.analysis.analyst import Analyst
from gateway_guard.analysis.calibration import Calibration, encode, sealed
from gateway_guard.analysis.snapshot import Snapshot
from gateway_guard.errors import UsageError
from gateway_guard.facts import Fingerprint, Identity, RequestFacts, Seen
from gateway_guard.gate import Gate
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.policy.judge import compile_policy
from gateway_guard.policy.model import Policy
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.view import Cluster, Standing, View
from gateway_guard.worker import Worker, kept, load_calibration, refresh
from tests.fakes import KEY, ModelServer, call, chat, policy_file

pytestmark = pytest.mark.anyio


def gate() -> Gate:
    return Gate(compile_policy(Policy(version=1, name="test"), "digest"), MemoryStore())


def seen(n: int) -> Seen:
    return Seen(RequestFacts(f"r{n}", 1000.0 + n, Identity(f"{n % 7:020d}"), "openai.chat", "m", Fingerprint(client=1, template=n)))


async def test_each_conclusion_is_adopted_and_the_next_builds_on_it() -> None:
    guard = gate()
    beside = Worker(Analyst(), guard, lambda: 5000.0, refresh=3600.0)
    for round_ in (1, 2):
        for n in range(20):
            beside(seen(n))
        await beside.conclude()
        assert (guard.view.id, guard.view.at) == (round_, 5000.0)
    await beside.close()


async def test_an_analyst_that_fails_leaves_the_last_view_in_force(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    guard = gate()
    guard.view = last = View(3, 1.0)
    failed = asyncio.Event()

    def broken(snapshot: Snapshot) -> View:
        loop.call_soon_threadsafe(failed.set)
        raise ZeroDivisionError("bad luck")

    loop = asyncio.get_running_loop()
    monkeypatch.setattr(worker, "conclude", broken)
    beside = Worker(Analyst(), guard, lambda: 5000.0, refresh=0.001)
    with caplog.at_level(logging.ERROR, "gateway_guard"):
        beside(seen(1))
        await asyncio.wait_for(failed.wait(), 10)
        failed.clear()
        await asyncio.wait_for(failed.wait(), 10)
    await beside.close()
    assert guard.view is last
    assert "the last view stays in force" in caplog.text


def test_a_replay_refreshes_at_once() -> None:
    guard, analyst = gate(), Analyst()
    analyst.observe(seen(1))
    refresh(analyst, guard, 2000.0)
    assert (guard.view.id, guard.view.at) == (1, 2000.0)


async def test_a_mounted_guard_feeds_its_analyst(tmp_path: Path) -> None:
    """Served or refused: both are seen, with their fingerprints; without an analyst no fingerprint is taken."""
    path = policy_file(tmp_path, "quotas:\n  minute: {limit: 2/min}\n")
    mounted = GatewayGuard(ModelServer(), path, key=KEY)
    got: list[object] = []
    mounted.engine.sink = got.append
    for _ in range(3):
        await call(mounted, chat("what is the capital of France, and why is it not Lyon?")).run()
        await asyncio.sleep(0)
    kinds = [type(event).__name__ for event in got]
    assert sorted(kinds) == ["Done", "Done", "Done", "Seen", "Seen", "Seen"]
    assert all(event.facts.fingerprint.template for event in got if isinstance(event, Seen))
    await mounted.engine.close()


def standing(seen: float, cluster: str = "c-old") -> Standing:
    return Standing(cluster, 1.0, 4.0, 4.0, ("content", "network"), (3.0, 3.0), seen)


def test_what_stood_before_a_restart_stands_until_it_would_have_ended() -> None:
    before = View(7, 1000.0, {"a": standing(900.0), "b": standing(200.0), "c": standing(900.0)}, {"c-old": Cluster("c-old", 3)}, "known")
    now = View(8, 1100.0, {"c": standing(1090.0, "c-new")}, {"c-new": Cluster("c-new", 2)}, "known")
    both = kept(now, before, 500.0)
    assert {account: (one.cluster, one.seen) for account, one in both.standings.items()} == {"a": ("c-old", 900.0), "c": ("c-new", 1090.0)}
    assert set(both.clusters) == {"c-old", "c-new"}
    assert kept(View(9, 1400.0, {}, {}, "known"), before, 500.0).standings == {}


async def test_a_restart_is_no_way_out(tmp_path: Path) -> None:
    """The view is there before the first request, outlives conclusions that know nothing yet, and is worth nothing under another calibration."""
    known = sealed(Calibration(bound=0.0))
    (tmp_path / "calibration.json").write_bytes(encode(known))
    ladder = "signals: {coordination: {}, harvest: {}}\nladder: [{id: shut, at: 4, do: deny}]\n"
    path = policy_file(tmp_path, ladder + "state: state.sqlite\nanalysis: {calibration: calibration.json}\n")
    first = GatewayGuard(ModelServer(), path, key=KEY)
    at = first.engine.clock()
    alice = Pseudonyms(KEY).text("credential", "sk-alice")
    first.engine.books.adopted(View(3, at, {alice: standing(at)}, {"c-old": Cluster("c-old", 3)}, known.name))
    await first.engine.close()

    second = GatewayGuard(ModelServer(), path, key=KEY)
    assert (await call(second).run()).status == 403
    assert isinstance(second.engine.worker, Worker)
    await second.engine.worker.conclude()
    assert second.engine.gate.view.id == 4
    assert (await call(second).run()).status == 403
    await second.engine.close()

    (tmp_path / "calibration.json").write_bytes(encode(sealed(Calibration(bound=0.0, accounts=9))))
    third = GatewayGuard(ModelServer(), path, key=KEY)
    assert (await call(third).run()).status == 200
    await third.engine.close()


@pytest.mark.parametrize(("content", "says"), [(None, "No such file"), (b"{}", "cannot be read"), (b"not json", "cannot be read")])
def test_a_calibration_that_cannot_be_read_is_refused_in_a_line(content: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=says) as refused:
        load_calibration(path)
    assert str(path) in str(refused.value)
    assert "gateway-guard calibrate" in str(refused.value)
    text = policy_file(tmp_path, "analysis: {calibration: calibration.json}\n")
    with pytest.raises(UsageError):
        GatewayGuard(ModelServer(), text, key=KEY)
