"""Merging and splitting clusters: what is owed goes along, and no sequence of either prints quota."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_guard.analysis.names import named
from gateway_guard.facts import Identity
from gateway_guard.gate import Gate
from gateway_guard.quota import Charge
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.view import EMPTY, Cluster, Standing, View
from tests.test_gate import NOON, decide, facts, gate
from tests.test_stores_memory import finish

ACCOUNTS = [f"{n:020d}" for n in range(8)]
LIMIT = 12.0
SHARED: dict[str, Any] = {"quotas": {"q": {"limit": "12/day"}}, "clusters": {"share": ["q"], "minimum": 0}, "throttle": {"wait": 0}}


def regrouped(before: View, groups: Sequence[Sequence[str]], confidence: float = 1.0) -> View:
    """What the analyst would say of these groups, a millisecond after the view before: too soon for anything to drain."""
    at = NOON + before.id / 1000
    found = named([group for group in groups if group], before, at)
    clusters = {one.id: Cluster(one.id, len(one.members), confidence, 1.0, born=one.born, parents=one.parents, inherits=one.inherits) for one in found}
    standings = {member: Standing(one.id, at, 1.0) for one in found for member in one.members}
    return View(before.id + 1, at, standings, clusters, "calibrated")


def adopt(guard: Gate, *groups: Sequence[str], confidence: float = 1.0) -> list[str]:
    """Go by new groups; the ids of their clusters."""
    view = regrouped(guard.view, groups, confidence)
    finish(guard.adopt(view, view.at))
    return [view.standings[group[0]].cluster for group in groups]


def owed(guard: Gate, ident: str) -> float:
    """What the cluster owes, as whoever asks for nothing sees it; its opening included."""
    cluster = guard.view.clusters[ident]
    part = guard.rules.charges(facts(who=Identity(ACCOUNTS[0])), forecast=1.0, scale=1.0)
    pooled, _ = guard.rules.cluster_charges(part, cluster)
    levels = finish(guard.store.peek([Charge(c.subject, c.quota, 0.0, 0.0, c.scale, c.opened, c.filled) for p in pooled for c in p.charges()], NOON + 0.05))
    assert isinstance(levels, tuple)
    return float(levels[0])


def ask(guard: Gate, account: str, number: int) -> bool:
    """Whether the account was served at its cluster's cost."""
    decision = decide(guard, facts(number, who=Identity(account)))
    return decision.served and any(charge.quota.per == "cluster" for charge in decision.charges)


def test_merging_adds_up_what_is_owed() -> None:
    guard = gate(**SHARED)
    large, small = adopt(guard, ACCOUNTS[:5], ACCOUNTS[5:], confidence=0.0)
    for number in range(9):
        assert ask(guard, ACCOUNTS[number % 3 + 5], number)
    (merged,) = adopt(guard, ACCOUNTS, confidence=0.0)
    assert merged == large
    assert owed(guard, merged) == pytest.approx(9.0, abs=1e-3)
    assert small not in guard.view.clusters


def test_splitting_leaves_each_part_its_share() -> None:
    guard = gate(**SHARED)
    adopt(guard, ACCOUNTS, confidence=0.0)
    for number in range(40):
        assert ask(guard, ACCOUNTS[number % 8], number)
    stays, leaves = adopt(guard, ACCOUNTS[:6], ACCOUNTS[6:], confidence=0.0)
    assert (owed(guard, stays), owed(guard, leaves)) == pytest.approx((30.0, 10.0), abs=1e-3)


def test_a_part_that_leaves_a_sure_cluster_opens_full() -> None:
    guard = gate(**SHARED)
    _, leaves = adopt(guard, ACCOUNTS[:6], ACCOUNTS[6:])
    adopt(guard, ACCOUNTS)
    _, leaves = adopt(guard, ACCOUNTS[:6], ACCOUNTS[6:])
    assert owed(guard, leaves) == pytest.approx(LIMIT, abs=1e-3)


def test_whoever_leaves_for_nowhere_leaves_the_debt_behind() -> None:
    guard = gate(**SHARED)
    adopt(guard, ACCOUNTS, confidence=0.0)
    for number in range(16):
        assert ask(guard, ACCOUNTS[number % 8], number)
    (stays,) = adopt(guard, ACCOUNTS[:3], confidence=0.0)
    assert owed(guard, stays) == pytest.approx(16.0, abs=1e-3)


def test_a_view_that_is_adopted_twice_moves_debts_once() -> None:
    guard = gate(**SHARED)
    adopt(guard, ACCOUNTS, confidence=0.0)
    for number in range(16):
        assert ask(guard, ACCOUNTS[number % 8], number)
    stays, leaves = adopt(guard, ACCOUNTS[:4], ACCOUNTS[4:], confidence=0.0)
    finish(guard.adopt(guard.view, NOON))
    assert (owed(guard, stays), owed(guard, leaves)) == pytest.approx((8.0, 8.0), abs=1e-3)


STEP = st.tuples(
    st.lists(st.integers(0, 3), min_size=len(ACCOUNTS), max_size=len(ACCOUNTS)),
    st.sampled_from([0.0, 0.3, 0.9, 1.0]),
    st.lists(st.sampled_from(ACCOUNTS), max_size=30),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(STEP, min_size=1, max_size=6))
def test_no_sequence_of_merges_and_splits_prints_quota(schedule: Sequence[tuple[Sequence[int], float, Sequence[str]]]) -> None:
    """Together the clusters owe whatever was served at their cost since the first of them, and in the end each serves what it has left and no more."""
    guard = gate(**SHARED)
    assert isinstance(guard.store, MemoryStore)
    served = number = 0
    for labels, confidence, asking in schedule:
        groups = [[account for account, label in zip(ACCOUNTS, labels, strict=True) if label == wanted] for wanted in range(4)]
        adopt(guard, *[group for group in groups if group], confidence=confidence)
        assert sum(owed(guard, ident) for ident in guard.view.clusters) >= served - 1e-3
        for account in asking:
            number += 1
            served += ask(guard, account, number)
    assert sum(owed(guard, ident) for ident in guard.view.clusters) >= served - 1e-3
    for ident, cluster in guard.view.clusters.items():
        room = LIMIT * cluster.size ** (1.0 - cluster.confidence) - owed(guard, ident)
        got = sum(ask(guard, account, 1000 + n) for account, standing in guard.view.standings.items() if standing.cluster == ident for n in range(100))
        assert got <= max(0.0, room) + 1e-3


def test_the_first_view_moves_nothing() -> None:
    assert gate(**SHARED).rules.heirs(regrouped(EMPTY, [ACCOUNTS])) == ()
