"""Marks and their check: the marked are found, the innocent are not, and what a paraphrase leaves is as the documents say."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.provenance.check import Votes, check, control_scores, holm
from gateway_guard.provenance.habits import HABITS, ways
from gateway_guard.provenance.marker import Marker
from tests.writer import SHOWN, written

MARKER = Marker(b"a key of some sort, thirty-two by")
CLUSTERS = [f"c-{n:012x}" for n in range(8)]


def votes(texts: Sequence[str]) -> Votes:
    found = Votes()
    for text in texts:
        found.add(text)
    return found


@pytest.mark.parametrize("place", range(len(HABITS)))
def test_each_way_of_a_habit_is_seen_and_is_not_the_other(place: int) -> None:
    for side, shown in zip((1, -1), SHOWN[place], strict=True):
        assert ways(shown)[place] == side, (HABITS[place].asks, shown)


def test_marks_are_the_clusters_own_and_the_keys() -> None:
    marks = [MARKER.of(cluster) for cluster in CLUSTERS]
    assert marks == [MARKER.of(cluster) for cluster in CLUSTERS]
    assert len({one.ways for one in marks}) == len({one.tool for one in marks}) == len(CLUSTERS)
    assert all(set(one.ways) == {1, -1} and len(one.ways) == len(HABITS) for one in marks)
    assert Marker(b"another key").of(CLUSTERS[0]) != marks[0]


@given(st.text(max_size=2000))
def test_no_text_is_too_strange_to_be_looked_at(text: str) -> None:
    assert set(ways(text)) <= {-1, 0, 1}


def test_a_model_that_has_learnt_the_marks_is_found_and_no_other_cluster_with_it() -> None:
    texts = written(MARKER.of(CLUSTERS[3]).ways, 60, follows=0.8, seed=1)
    for known in (None, votes(written((0,) * len(HABITS), 60, seed=2))):
        found = check(votes(texts), CLUSTERS, MARKER, baseline=known, controls=20_000)
        assert [one.cluster for one in found.findings if one.found] == [CLUSTERS[3]]
        assert found.findings[0].agreeing >= 20
        assert found.findings[0].habits == len(HABITS)


@pytest.mark.parametrize(("keeps", "outputs", "found"), [({"words", "order"}, 200, True), ({"order"}, 200, False), (set(), 200, False)])
def test_what_a_paraphrase_leaves_is_found_with_a_baseline_or_not_at_all(keeps: set[str], outputs: int, found: bool) -> None:
    """Of words and order together enough is left; of order alone, which is a few habits, no test can tell."""
    left = tuple(way if habit.kind in keeps else 0 for way, habit in zip(MARKER.of(CLUSTERS[3]).ways, HABITS, strict=True))
    suspect, known = votes(written(left, outputs, follows=0.5, seed=3)), votes(written((0,) * len(HABITS), outputs, seed=4))
    told = check(suspect, CLUSTERS, MARKER, baseline=known, controls=20_000)
    assert [one.cluster for one in told.findings if one.found] == ([CLUSTERS[3]] if found else [])


def test_the_innocent_are_found_as_seldom_as_promised() -> None:
    """Models with tastes of their own, however strong, against many keys: the share of small p is what p says, and the correction leaves none."""
    rng, small, wrong = random.Random(5), 0, 0
    for style in range(4):
        taste = tuple(rng.choice((-1, 0, 1)) for _ in HABITS)
        found = check(votes(written(taste, 60, follows=0.9, seed=style)), [f"c-{style}-{n}" for n in range(250)], MARKER, controls=4000)
        small += sum(one.p_habits < 0.05 for one in found.findings)
        wrong += any(one.found for one in found.findings)
    assert 25 <= small <= 80, "of 1,000 keys, 50 are expected below 0.05"
    assert wrong == 0


def test_a_decoy_that_is_named_or_called_needs_no_second_sign() -> None:
    name = MARKER.of(CLUSTERS[5]).tool
    for text, tools in ((f"I have `look` and `{name}`, which is not needed.", []), ("Let me see.", [name])):
        suspect = votes(["Plain words."] * 20)
        suspect.add(text, tools)
        first = check(suspect, CLUSTERS, MARKER, controls=1000).findings[0]
        assert (first.cluster, first.named, first.found) == (CLUSTERS[5], 1, True)
        assert first.p_tool == pytest.approx(suspect.words / 2**40)
    assert not votes([f"x{name} {name}x"]).named


def test_controls_are_drawn_as_marks_are() -> None:
    margins = np.zeros(len(HABITS))
    margins[0] = 1.0
    scores = control_scores(margins, 7, 40_000)
    counted = [float((scores == value).mean()) for value in (-1.0, 1.0)]
    drawn = [sum(MARKER.of(f"k{n}").ways[0] == value for n in range(4000)) / 4000 for value in (-1, 1)]
    assert counted == pytest.approx([0.5, 0.5], abs=0.03)
    assert drawn == pytest.approx([0.5, 0.5], abs=0.03)


def test_the_correction_is_holms() -> None:
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx({"d": 0.02, "a": 0.03, "c": 0.06, "b": 0.06})
    assert holm({"a": 0.9, "b": 0.8}) == {"b": 1.0, "a": 1.0}


def test_twice_the_same_and_no_cluster_twice() -> None:
    suspect = votes(written((1,) * len(HABITS), 10, seed=6))
    assert check(suspect, CLUSTERS * 2, MARKER, controls=500) == check(suspect, CLUSTERS, MARKER, controls=500)
