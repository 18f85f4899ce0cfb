"""How long a rung holds: begun together, ended by itself, healed by evidence that is no longer there. Through the gate."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway_guard.decision import Action
from gateway_guard.evidence import Family
from gateway_guard.gate import Gate
from gateway_guard.policy.judge import compile_policy
from gateway_guard.policy.model import Policy, Rung
from gateway_guard.policy.tenure import PERIODS, begins, ends
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.view import EMPTY, Cluster, Standing, View
from tests.test_gate import ALICE, NOON, decide, facts

HOUR = 3600.0
TWO: tuple[Family, ...] = ("content", "network")
SIGNALS: dict[str, Any] = {"coordination": {"ceiling": 9}, "harvest": {"ceiling": 9}}
LADDER: list[dict[str, Any]] = [
    {"id": "dim", "at": 1, "do": "throttle", "scale": 0.5, "expires": "2d"},
    {"id": "shut", "at": 6, "do": "deny", "expires": "1h"},
]


def rung(**more: Any) -> Rung:
    return Rung.model_validate({"id": "shut", "at": 6, "do": "deny", **more})


def view(at: float = NOON, seen: float = NOON, *, score: float = 4.0, **cluster: Any) -> View:
    standing = Standing("c-1", NOON - HOUR, score, score, TWO, (3.0, 3.0), seen)
    return View(1, at, {ALICE.account: standing}, {"c-1": Cluster("c-1", 9, 0.9, score, score, TWO, **cluster)}, "calibrated")


def guarded(now: View, ladder: list[dict[str, Any]] = LADDER, seed: bytes = b"") -> Gate:
    policy = Policy.model_validate({"version": 1, "name": "test", "mode": "enforce", "signals": SIGNALS, "ladder": ladder, "quotas": {"q": {"limit": "9/day"}}})
    return Gate(compile_policy(policy, "digest", seed=seed), MemoryStore(), now)


def test_an_action_expires_without_new_evidence_rung_by_rung() -> None:
    """The same view stays in force, as when the analyst is gone: the guard heals all the same."""
    guard = guarded(view())
    found = [decide(guard, facts(at=NOON + after)) for after in (0, HOUR - 1, HOUR, 2 * 86400 - 1, 2 * 86400)]
    assert [(one.rung, one.action is Action.DENY) for one in found] == [("shut", True), ("shut", True), ("dim", False), ("dim", False), ("", False)]
    assert all(one.served for one in found[2:])


def test_new_evidence_makes_it_last() -> None:
    guard = guarded(view())
    guard.view = view(NOON + HOUR, NOON + HOUR)
    assert decide(guard, facts(at=NOON + HOUR + 60)).action is Action.DENY


def test_evidence_that_decays_ends_it() -> None:
    guard = guarded(view())
    assert decide(guard, facts()).action is Action.DENY
    guard.view = view(NOON + 60, NOON, score=2.5)
    assert decide(guard, facts(at=NOON + 61)).rung == "dim"
    guard.view = View(2, NOON + 120, calibrated="calibrated")
    assert decide(guard, facts(at=NOON + 121)).rung == ""


def test_shadow_tells_the_same_ends() -> None:
    guard = guarded(view())
    guard.rules = compile_policy(guard.rules.policy.model_copy(update={"mode": "shadow"}), "digest")
    assert [decide(guard, facts(at=NOON + after)).would for after in (0, HOUR)] == [Action.DENY, Action.ALLOW]


def test_what_a_single_request_shows_needs_no_term() -> None:
    """A rung that rests on no conclusion lasts as long as its evidence does."""
    guard = guarded(view(seen=NOON - 90 * 86400, score=-1.0), [{"id": "young", "at": 0.2, "do": "throttle", "scale": 0.5}])
    policy = guard.rules.policy.model_copy(update={"signals": Policy.model_validate({"version": 1, "name": "t", "signals": {"young_account": {}}}).signals})
    guard.rules = compile_policy(policy, "digest")
    assert decide(guard, facts(who=structs.replace(ALICE, created_at=NOON - 60))).rung == "young"


@given(
    apply=st.sampled_from(["hourly", "daily"]),
    since=st.floats(NOON, NOON + 86400 * 9),
    joins=st.lists(st.floats(0, 86400 * 3), min_size=1, max_size=9),
    seed=st.binary(max_size=32),
)
def test_members_are_acted_on_together_and_soon(apply: str, since: float, joins: list[float], seed: bytes) -> None:
    """Whoever joins in the same stretch between two moments meets the rung at one moment, at most two periods later, never before it was reached."""
    period, rule = PERIODS[apply], rung(apply=apply)
    cluster = Cluster("c-1", 9, reached={"shut": since})
    moments = [begins(rule, Standing("c-1", since + joined), cluster, seed) for joined in sorted(joins)]
    for joined, moment in zip(sorted(joins), moments, strict=True):
        assert since + joined <= moment <= since + joined + 2 * period
        others = [other for late, other in zip(sorted(joins), moments, strict=True) if joined <= late <= moment - since]
        assert set(others) <= {moment}
    assert moments == sorted(moments)
    assert begins(rule, Standing("c-1", 0.0), cluster, seed) == begins(rule, Standing("c-1", since), cluster, seed)


def test_moments_differ_by_cluster_by_hour_and_by_key() -> None:
    rule = rung(apply="hourly")
    moments = {
        begins(rule, Standing(cluster, NOON + turn * HOUR), None, seed) % HOUR for cluster in ("c-1", "c-2") for turn in range(20) for seed in (b"a", b"b")
    }
    assert len(moments) > 40


def test_a_batched_rung_leaves_the_one_below_in_force_until_its_moment() -> None:
    ladder = [LADDER[0], {**LADDER[1], "apply": "hourly", "expires": "1d"}]
    now = view(reached={"dim": NOON, "shut": NOON})
    guard = guarded(now, ladder, seed=b"seed")
    moment = begins(guard.rules.policy.ladder[1], now.standings[ALICE.account], now.clusters["c-1"], b"seed")
    assert NOON < moment < NOON + 2 * HOUR
    assert [decide(guard, facts(at=at)).rung for at in (NOON, moment - 0.01, moment, moment + HOUR)] == ["dim", "dim", "shut", "shut"]


def test_since_when_a_rung_is_reached_is_kept_while_it_is() -> None:
    rules = guarded(EMPTY).rules
    first = rules.ranked(view(NOON), EMPTY)
    assert first.clusters["c-1"].reached == {"dim": NOON, "shut": NOON}
    second = rules.ranked(view(NOON + 60, score=2.5), first)
    assert second.clusters["c-1"].reached == {"dim": NOON}
    third = rules.ranked(view(NOON + 120), second)
    assert third.clusters["c-1"].reached == {"dim": NOON, "shut": NOON + 120}
    assert rules.ranked(view(NOON, score=-2.0), third).clusters["c-1"].reached == {}


@pytest.mark.parametrize(("seen", "end"), [(0.0, float("inf")), (NOON, NOON + 3 * 86400)])
def test_every_action_ends_once_it_is_told_when_there_was_evidence(seen: float, end: float) -> None:
    assert ends(rung(), Standing("c-1", seen=seen)) == end
