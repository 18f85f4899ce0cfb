"""Ids of clusters: quotas hang on them, so they outlive growth, shrinking, merging and every reordering."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.analysis.names import Named, fresh, named
from gateway_guard.view import EMPTY, Cluster, Standing, View

GROUPS = st.lists(st.sets(st.integers(0, 60), min_size=1), min_size=1, max_size=6)


def seen(*groups: Named, view: int = 1) -> View:
    standings = {member: Standing(group.id) for group in groups for member in group.members}
    clusters = {group.id: Cluster(group.id, len(group.members), born=group.born, parents=group.parents) for group in groups}
    return View(view, 10.0, standings, clusters)


def first(*groups: list[str]) -> View:
    return seen(*named(groups, EMPTY, 10.0))


def test_a_new_group_gets_an_id_of_its_own() -> None:
    one, two = named([["a", "b", "c"], ["d", "e", "f"]], EMPTY, 10.0)
    assert one.id != two.id
    assert (one.born, one.parents) == (10.0, ())
    assert one.id.startswith("c-")


@pytest.mark.parametrize(
    ("after", "meaning"),
    [
        (["a", "b", "c", "d", "e", "f", "g"], "growth"),
        (["a"], "shrinking"),
        (["c", "x", "y", "z"], "turnover"),
    ],
)
def test_the_id_stays(after: list[str], meaning: str) -> None:
    before = first(["a", "b", "c", "d"])
    (old,) = before.clusters
    (group,) = named([after], before, 20.0)
    assert (group.id, group.born) == (old, 10.0), meaning


def test_merging_keeps_the_larger_s_id_and_remembers_the_other() -> None:
    before = first(["a", "b", "c", "d"], ["e", "f", "g"])
    large, small = before.standings["a"].cluster, before.standings["e"].cluster
    (group,) = named([list("abcdefg")], before, 20.0)
    assert (group.id, group.parents) == (large, (small,))
    assert group.inherits == ((small, 1.0),)


def test_splitting_gives_the_id_to_the_larger_part_and_the_other_remembers_where_it_came_from() -> None:
    before = first(list("abcdefg"))
    (old,) = before.clusters
    small, large = named([list("ab"), list("cdefg")], before, 20.0)
    assert large.id == old
    assert small.id != old
    assert small.parents == (old,)
    assert (small.inherits, large.inherits) == (((old, 2 / 7),), ())


def test_what_a_cluster_owes_that_is_over_goes_to_its_heirs_whole() -> None:
    """Whoever is in no cluster now takes nothing along."""
    before = first(list("abcde"), list("fghij"), ["k", "l", "m"])
    one, two = named([list("abcdek"), list("fghijl")], before, 20.0)
    gone = before.standings["k"].cluster
    assert one.inherits == two.inherits == ((gone, 0.5),)


def test_two_groups_never_share_an_id() -> None:
    before = first(list("abcdef"))
    groups = named([list("abc"), list("def"), ["x", "y", "z"]], before, 20.0)
    assert len({group.id for group in groups}) == 3


def test_parents_are_kept_over_later_views() -> None:
    before = first(["a", "b", "c", "d"], ["e", "f", "g"])
    merged = seen(*named([list("abcdefg")], before, 20.0))
    (later,) = named([list("abcdefgh")], merged, 30.0)
    assert later.parents == tuple(merged.clusters[later.id].parents)
    assert later.parents


def test_the_same_group_at_the_same_time_has_the_same_id_everywhere() -> None:
    assert fresh(["a", "b"], 5.0) == fresh(["a", "b"], 5.0)
    assert fresh(["a", "b"], 5.0) != fresh(["a", "b"], 6.0)
    assert fresh(["a", "b"], 5.0) != fresh(["ab"], 5.0)


@given(
    st.lists(st.sets(st.integers(0, 60), min_size=1), min_size=1, max_size=6),
    st.lists(st.sets(st.integers(0, 60), min_size=1), min_size=1, max_size=6),
    st.integers(0, 999),
)
def test_order_never_matters(before: list[set[int]], after: list[set[int]], seed: int) -> None:
    def apart(groups: list[set[int]]) -> list[list[str]]:
        taken: set[int] = set()
        out = []
        for group in groups:
            out.append([f"{n:02d}" for n in sorted(group - taken)])
            taken |= group
        return [group for group in out if group]

    old = first(*apart(before))
    groups = apart(after)
    shuffled = [random.Random(seed + n).sample(group, len(group)) for n, group in enumerate(groups)]
    order = random.Random(seed).sample(range(len(groups)), len(groups))
    straight = {group.members: (group.id, group.parents, group.inherits) for group in named(groups, old, 20.0)}
    mixed = {group.members: (group.id, group.parents, group.inherits) for group in named([shuffled[place] for place in order], old, 20.0)}
    assert straight == mixed
    assert len({ident for ident, _, _ in straight.values()}) == len(straight)
    for ident in old.clusters:
        parts = sum(part for _, _, inherits in straight.values() for source, part in inherits if source == ident)
        lives = any(ident == name for name, _, _ in straight.values())
        assert parts < 1.0 + 1e-9 if lives else parts == 0.0 or abs(parts - 1.0) < 1e-9
