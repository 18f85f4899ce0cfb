"""Clusters over time: what the members did before they were found and after, and what they share."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from gateway_guard.analysis.analyst import Analyst, conclude
from gateway_guard.analysis.picture import pictures
from gateway_guard.replay.portrait import Watch
from gateway_guard.replay.slots import NARROWEST, SLOTS
from gateway_guard.replay.tally import Tally
from gateway_guard.view import Cluster, View
from tests import reports
from tests.logs import START
from tests.test_analysis_analyst import actor, moment, people


def sized(number: int, **sizes: int) -> View:
    return View(number, clusters={name: Cluster(name, size) for name, size in sizes.items()})


def test_sizes_are_noted_with_each_view_and_carried_on() -> None:
    tally, watch = Tally(), Watch()
    for minute, view in enumerate((sized(1, a=3), sized(1, a=3), sized(2, a=5, b=2))):
        tally.slots.turn(START + minute * NARROWEST)
        watch.look(view, tally)
    tally.slots.turn(START + 4 * NARROWEST)
    assert watch.sizes("a", tally) == [3, 3, 5, 5, 5]
    assert watch.sizes("b", tally) == [0, 0, 2, 2, 2]
    assert watch.sizes("nobody", tally) == [0] * 5


def test_sizes_keep_up_with_wider_slots() -> None:
    tally, watch = Tally(), Watch()
    tally.slots.turn(START)
    watch.look(sized(1, a=3), tally)
    tally.slots.turn(START + 3 * NARROWEST)
    watch.look(sized(2, a=7), tally)
    tally.slots.turn(START + SLOTS * NARROWEST)
    assert watch.sizes("a", tally)[:4] == [3, 7, 7, 7]
    assert len(watch.sizes("a", tally)) == SLOTS // 2 + 1


def test_a_portrait_counts_the_members_requests_and_those_touched(tmp_path: Path) -> None:
    made = reports.session(tmp_path)
    ring, _ = made.report(1.0).clusters
    members = [made.tally.accounts[account] for account in sorted(made.tally.accounts)[:2]]
    assert ring.portrait is not None
    assert sum(ring.portrait.requests) == sum(one.requests for one in members)
    assert sum(ring.portrait.touched) == sum(one.touched for one in members) > 0
    assert [sum(row.requests) for row in ring.portrait.members] == sorted((one.requests for one in members), reverse=True)
    assert ring.portrait.sizes[-1] == 2


@pytest.fixture(scope="module")
def analyst() -> Analyst:
    rng = random.Random(11)
    made = Analyst()
    for event in sorted(people(rng) + actor(rng), key=moment):
        made.observe(event)
    return made


def test_a_picture_shows_who_shares_what(analyst: Analyst) -> None:
    view = conclude(analyst.cut())
    analyst.adopt(view)
    (ident,) = view.clusters
    picture = pictures(analyst.cut(), view)[ident]
    members = {account for account, standing in view.standings.items() if standing.cluster == ident}
    assert {trait.family for trait in picture.traits} >= {"content", "identity"}
    assert set(picture.shown) <= members
    for place, trait in enumerate(picture.traits):
        assert trait.members == sum(place in places for places in picture.shown.values())
    payment = next(trait for trait in picture.traits if trait.kind == "payment")
    assert (payment.says, payment.members, payment.others) == ("pay with one payment instrument", 10, 0)
