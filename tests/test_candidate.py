"""A candidate policy beside the active one: decided and logged, never enforced, and never in the way."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from gateway_guard import GatewayGuard
from gateway_guard.errors import PolicyError
from gateway_guard.policy.load import load, load_candidate
from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import set_up
from gateway_guard.trace.decisions import DecisionRow, read_decisions
from gateway_guard.view import Cluster, Standing, View
from tests.commands import command
from tests.fakes import KEY, ModelServer, call, policy_file

pytestmark = pytest.mark.anyio
ACTIVE = """
quotas: {minute: {limit: 60/min, burst: 8}}
signals: {coordination: {}, harvest: {}}
ladder: [{id: shut, at: 6, do: deny}]
analysis: {enabled: false}
candidate: proposed.yaml
record: {decisions: decisions.jsonl, exchanges: exchanges.jsonl.zst}
"""
PROPOSED = "include: policy.yaml\nversion: 1\nname: proposed\nquotas: {minute: {limit: 60/min, burst: 3}}\n"
LADDER = PROPOSED + "ladder: [{id: shut, at: 4, do: deny}]\n"


def guard(folder: Path, proposed: str = PROPOSED, active: str = ACTIVE) -> GatewayGuard:
    (folder / "proposed.yaml").write_text(proposed)
    return GatewayGuard(ModelServer(), policy_file(folder, active), key=KEY)


async def asked(mounted: GatewayGuard, count: int, key: bytes = b"sk-a") -> list[int]:
    """So many requests in one moment; their statuses."""
    moment = mounted.engine.clock()
    mounted.engine.clock._now = lambda: moment
    return [(await call(mounted, headers=[(b"authorization", b"Bearer " + key)]).run()).status for _ in range(count)]


async def rows(mounted: GatewayGuard, folder: Path) -> list[DecisionRow]:
    await mounted.engine.close()
    return list(read_decisions(live(folder)))


def live(folder: Path) -> Path:
    """The decision log that the guard wrote."""
    (path,) = folder.glob("decisions.*")
    return path


def again(folder: Path, view: View | None = None) -> bytes:
    """The decisions of a replay of what was recorded."""
    (traffic,) = folder.glob("exchanges.*")
    stage = set_up(str(traffic), folder / "policy.yaml", KEY, candidate=True)
    stage.gate.view = view or stage.gate.view
    Session(stage).run(Outputs(decisions=str(folder / "again.jsonl")), lambda: None)
    return (folder / "again.jsonl").read_bytes()


async def test_it_is_decided_and_logged_and_nothing_follows(tmp_path: Path) -> None:
    mounted = guard(tmp_path)
    assert await asked(mounted, 10) == [200] * 8 + [429] * 2
    found = await rows(mounted, tmp_path)
    digest = load_candidate(tmp_path / "proposed.yaml").digest
    assert {row.candidate for row in found} == {digest}
    assert [row.action for row in found] == ["allow"] * 8 + ["throttle"] * 2
    assert [row.candidate_served for row in found] == [True] * 3 + [False] * 7
    assert found[3].candidate_action == "throttle"
    assert (found[3].candidate_short, found[3].candidate_reasons) == ("minute", ["quota.minute"])
    assert mounted.engine.counts["candidate_differs"] == 5
    assert again(tmp_path) == live(tmp_path).read_bytes()


async def test_a_wider_candidate_serves_what_never_ran_and_replays_alike(tmp_path: Path) -> None:
    """What the active policy refused is imputed for the candidate, whose token quota fills by it: in live traffic as in a replay."""
    wider = "include: policy.yaml\nversion: 1\nname: wider\nquotas: {minute: {limit: 60/min, burst: 50}, tokens: {limit: 4000 tokens/day}}\n"
    mounted = guard(tmp_path, wider)
    await asked(mounted, 20)
    found = await rows(mounted, tmp_path)
    assert [row.served for row in found].count(False) == 12
    assert {row.candidate_short for row in found if not row.candidate_served} == {"tokens"}
    assert 0 < [row.candidate_served for row in found[8:]].count(False) < 12
    assert again(tmp_path) == live(tmp_path).read_bytes()


async def test_its_own_ladder_ranks_the_active_policys_clusters(tmp_path: Path) -> None:
    mounted = guard(tmp_path, LADDER)
    alice = mounted.engine._pseudonyms.text("credential", "sk-a")
    at = mounted.engine.clock()
    standing = Standing("c-1", at, 2.0, 2.0, ("content", "network"), (2.0, 2.0), at)
    view = View(1, at, {alice: standing}, {"c-1": Cluster("c-1", 3, coordination=2.0, harvest=2.0, families=("content", "network"))}, "known")
    mounted.engine.gate.view = view
    assert await asked(mounted, 2) == [200, 200]
    found = await rows(mounted, tmp_path)
    assert [(row.action, row.candidate_action, row.candidate_rung) for row in found] == [("allow", "deny", "shut")] * 2
    assert again(tmp_path, view) == live(tmp_path).read_bytes()


async def test_one_that_fails_touches_no_request(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mounted = guard(tmp_path)
    candidate = mounted.engine.candidate
    assert candidate is not None

    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError

    await asked(mounted, 1)
    await asyncio.sleep(0)
    candidate._gate.store.spend = candidate._gate.store.adjust = broken  # type: ignore[method-assign,assignment]
    assert await asked(mounted, 3) == [200] * 3
    found = await rows(mounted, tmp_path)
    assert [bool(row.candidate) for row in found] == [True, False, False, False]
    assert (mounted.engine.counts["candidate_failed"], candidate.failed) == (3, 3)
    assert caplog.text.count("the candidate policy failed") == 1


async def test_a_changed_candidate_is_adopted_with_its_debts_and_a_bad_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mounted = guard(tmp_path)
    await asked(mounted, 3)

    async def turned(text: str | None, stamp: int) -> None:
        if text is not None:
            (tmp_path / "proposed.yaml").write_text(text)
        os.utime(tmp_path / "proposed.yaml", (stamp, stamp))
        mounted.engine._looked = 0.0
        mounted.engine.watch()
        assert mounted.engine._reloading is not None
        await mounted.engine._reloading

    await turned(PROPOSED.replace("burst: 3", "burst: 4"), 1)
    await asked(mounted, 2)
    await turned("nonsense: true\n", 2)
    assert "the candidate policy is refused, the last good one stays" in caplog.text
    await asked(mounted, 1)
    await turned(PROPOSED.replace("burst: 3", "burst: 5"), 3)
    await asked(mounted, 2)
    found = await rows(mounted, tmp_path)
    assert [row.candidate_served for row in found] == [True] * 3 + [True, False] + [False] + [True, False]
    assert len({row.candidate for row in found}) == 3


async def test_a_bad_candidate_does_not_keep_the_guard_from_guarding(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mounted = guard(tmp_path, "nonsense: true\n")
    assert "the candidate policy is refused, the guard runs without it" in caplog.text
    assert await asked(mounted, 1) == [200]
    assert [row.candidate for row in await rows(mounted, tmp_path)] == [""]


def test_a_candidate_of_a_candidate_is_refused_and_an_inherited_one_is_not_its_own(tmp_path: Path) -> None:
    (tmp_path / "proposed.yaml").write_text(PROPOSED)
    policy_file(tmp_path, ACTIVE)
    assert load_candidate(tmp_path / "proposed.yaml").policy.candidate is None
    (tmp_path / "proposed.yaml").write_text(PROPOSED + "candidate: third.yaml\n")
    with pytest.raises(PolicyError, match=r"proposed\.yaml:5: a candidate has no candidate of its own; take the line out"):
        load_candidate(tmp_path / "proposed.yaml")


CHECKS: dict[str, tuple[str, str, int, str]] = {
    "good": (ACTIVE, PROPOSED, 0, "ok "),
    "a candidate with one": (ACTIVE, PROPOSED + "candidate: x.yaml\n", 1, "proposed.yaml:5: a candidate has no candidate of its own"),
    "itself": (ACTIVE.replace("proposed", "policy"), PROPOSED, 1, "`candidate` names this policy itself; name another one"),
    "none there": (ACTIVE.replace("proposed", "missing"), PROPOSED, 1, "missing.yaml"),
    "a mistake in it": (ACTIVE, PROPOSED + "ladderr: []\n", 1, "proposed.yaml:5: "),
    "not written anywhere": (
        ACTIVE.replace("decisions: decisions.jsonl, ", ""),
        PROPOSED,
        0,
        "warning: what the candidate decides is written",
    ),
    "in many workers": (ACTIVE + "store: {url: 'unix:///redis.sock'}\n", PROPOSED, 0, "as many times as wide as there are workers"),
    "reads otherwise": (
        ACTIVE,
        PROPOSED + "guard: {unreadable: pass}\n",
        0,
        "proposed.yaml: as a candidate it reads requests and finds clusters as",
    ),
}


@pytest.mark.parametrize(("active", "proposed", "code", "says"), CHECKS.values(), ids=CHECKS)
def test_a_check_judges_the_candidate_too(tmp_path: Path, active: str, proposed: str, code: int, says: str) -> None:
    policy_file(tmp_path, active)
    (tmp_path / "proposed.yaml").write_text(proposed)
    told = command(tmp_path, "check", str(tmp_path / "policy.yaml"))
    assert says in told.stdout
    assert told.returncode == code


def test_a_candidate_changes_nothing_in_the_policys_meaning(tmp_path: Path) -> None:
    plain, beside = policy_file(tmp_path, "", "one.yaml"), policy_file(tmp_path, "candidate: x.yaml", "two.yaml")
    assert load(plain).digest == load(beside).digest


async def test_the_log_tells_who_would_be_treated_otherwise(tmp_path: Path) -> None:
    mounted = guard(tmp_path)
    await asked(mounted, 10)
    await asked(mounted, 2, b"sk-b")
    alice = mounted.engine._pseudonyms.text("credential", "sk-a")
    await mounted.engine.close()
    path = live(tmp_path)
    told = json.loads(command(tmp_path, "candidate", str(path), "--json").stdout)
    assert told["moves"] == [[5, 0, 0, 5], [0] * 4, [0] * 4, [0, 0, 0, 2]]
    assert (told["requests"], told["worse"]["accounts"], told["better"]["accounts"]) == (12, 1, 0)
    (one,) = told["worse"]["top"]
    assert (one["account"], one["requests"], one["worse"], one["why"]) == (alice, 10, 5, "quota.minute")
    assert told["reasons_worse"] == {"quota.minute": 5}
    shown = command(tmp_path, "candidate", str(path))
    assert "12 requests" in shown.stdout
    assert "5 would have gone otherwise" in " ".join(shown.stdout.split())
    assert alice in shown.stdout


def test_a_log_without_a_candidate_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text("")
    told = command(tmp_path, "candidate", str(tmp_path / "d.jsonl"))
    assert (told.returncode, told.stderr.count("\n")) == (1, 1)
    assert "no candidate has decided on any request: name one in the policy" in told.stderr
