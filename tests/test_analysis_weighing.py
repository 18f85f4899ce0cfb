"""What is remembered from one weighing to the next changes nothing of what is found, and neither do the bounds on memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_guard.analysis import weighing, weights
from gateway_guard.analysis.clusters import in_earnest
from gateway_guard.analysis.graph import Graph, numbered
from gateway_guard.analysis.tokens import FAMILY_OF, SPEAKS, Indices, Kind
from gateway_guard.analysis.weighing import Weighing
from gateway_guard.analysis.weights import Rules, Weights

ACCOUNTS, TOKENS = 60, 50
RULES = Rules(2, SPEAKS, 8.0, 0.003)


def drawn(seed: int = 7) -> Graph:
    """Sixty accounts with ten of fifty tokens each; the first twenty have rarer ones of their own."""
    rng = np.random.default_rng(seed)
    kind = np.array([Kind.PAYMENT, Kind.NETWORK, Kind.CLIENT, Kind.SENTENCE, Kind.SYSTEM, Kind.MODEL, Kind.BORN, Kind.TEMPLATE, Kind.SHAPE, Kind.TOOLS])[
        np.arange(TOKENS) % 10
    ]
    shows = rng.random((TOKENS, ACCOUNTS)) < np.where(np.arange(ACCOUNTS) < 20, 0.4, 0.1)
    token, account = np.nonzero(shows)
    usual = rng.uniform(0.001, 0.05, TOKENS)
    sharers = shows.sum(axis=1)
    expected = np.maximum(usual[token], rng.uniform(0.001, 0.03, len(token)))
    names = np.arange(TOKENS, dtype=np.uint64)
    return Graph(
        account,
        token,
        expected,
        np.full(len(token), 0.25),
        names,
        kind,
        FAMILY_OF[kind],
        sharers,
        usual,
        np.ones(TOKENS),
        1.0,
        5000,
        rng.random(ACCOUNTS) < 0.95,
    )


def rows(scales: Weighing, label: Indices) -> list[tuple[float, ...]]:
    pairs = scales.evidence(label)
    return sorted((int(account), int(cluster), *row) for account, cluster, row in zip(pairs.account, pairs.cluster, pairs.table.tolist(), strict=True))


labels = st.lists(st.integers(-1, 4), min_size=ACCOUNTS, max_size=ACCOUNTS).map(lambda label: numbered(np.array(label), 1))


@settings(deadline=None, max_examples=50)
@given(st.lists(labels, min_size=2, max_size=5))
def test_what_was_weighed_before_changes_nothing(turns: list[Indices]) -> None:
    graph = drawn()
    remembers = Weighing(graph, RULES)
    for label in turns:
        assert rows(remembers, label) == rows(Weighing(graph, RULES), label)


def test_a_cluster_that_stays_the_same_is_not_weighed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    scales = Weighing(drawn(), RULES)
    label = np.where(np.arange(ACCOUNTS) < 20, 0, np.where(np.arange(ACCOUNTS) < 30, 1, -1))
    scales.evidence(label)
    members: list[int] = []

    def weigh(graph: Graph, label: Indices, rules: Rules) -> Weights:
        members.append(int((label >= 0).sum()))
        return weights.weigh(graph, label, rules)

    monkeypatch.setattr("gateway_guard.analysis.weighing.weigh", weigh)
    scales.evidence(np.where(label == 0, 1, np.where(np.arange(ACCOUNTS) == 40, 0, np.where(label == 1, 0, -1))))
    assert members == [11], "the cluster that got one more is weighed, the other only got another number"


@pytest.mark.parametrize(("pairs", "cells"), [(1, 1), (7, 60), (100_000, 30)])
def test_bounds_on_memory_change_nothing(pairs: int, cells: int, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = drawn()
    label = np.minimum(np.arange(ACCOUNTS) // 8, 5)
    whole = rows(Weighing(graph, RULES), label)
    monkeypatch.setattr(weighing, "_PAIRS", pairs)
    monkeypatch.setattr(weighing, "_CELLS", cells)
    assert len(whole) > 100
    assert rows(Weighing(graph, RULES), label) == whole


def test_members_alone_have_evidence_of_their_own() -> None:
    label = np.where(np.arange(ACCOUNTS) < 20, 0, -1)
    own = Weighing(drawn(), RULES).own(label)
    assert (own[:20].sum(axis=1) > 0).sum() > 10
    assert not own[20:].any()


def test_who_says_it_once_by_the_way_is_not_one_of_those_who_say_it_all_day() -> None:
    label = np.array([0, 0, 0, 0, -1, 1, 1, 1])
    often = np.array([1.2, 1.1, 1.0, 0.22, 5.0, 0.2, 0.1, 0.3])
    assert in_earnest(label, often).tolist() == [True, True, True, False, False, True, True, True]
    assert not in_earnest(np.full(3, -1), np.ones(3)).any()


def test_how_often_an_account_says_what_speaks_for_its_cluster_is_added_up() -> None:
    label = np.where(np.arange(ACCOUNTS) < 20, 0, -1)
    often = Weighing(drawn(), RULES).often(label)
    assert not often[20:].any()
    assert set(np.unique(often[:20] % 0.25)) == {0.0}, "each edge says a quarter"
    assert often[:20].max() > 1.0
