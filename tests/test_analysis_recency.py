"""New evidence is a trait shown again, not mere activity: whoever goes on with something else comes to the end of his action."""

from __future__ import annotations

import random

import pytest

from gateway_guard.analysis.analyst import Analyst
from gateway_guard.facts import Event, Seen
from tests.test_analysis_analyst import DAY, START, actor, concluded, identity, moment, people, request

TURNED = [f"x{number}" for number in range(5)]
SWARM = [f"x{number}" for number in range(40)]


def later(event: Event, seconds: float) -> bool:
    return moment(event) >= START + seconds


@pytest.fixture(scope="module")
def seen() -> dict[str, float]:
    """Six days of an actor, five of whose accounts do ordinary work from the fourth day on."""
    rng = random.Random(5)
    swarm = actor(rng, days=6.0)
    kept = [event for event in swarm if not (later(event, 4 * DAY) and account(event) in TURNED)]
    honest: list[Event] = []
    for name in TURNED:
        who = next(event.facts.identity for event in swarm if isinstance(event, Seen) and account(event) == name)
        for number in range(20):
            honest += request(who, START + 4 * DAY + number * 8000, rng)
    view = concluded(people(rng, days=6.0) + kept + honest)
    return {name: standing.seen for name, standing in ((key.lstrip("0"), value) for key, value in view.standings.items()) if standing.cluster}


def account(event: Event) -> str:
    name = event.facts.identity.account if isinstance(event, Seen) else getattr(event, "account", "")
    return str(name).lstrip("0")


def test_what_goes_on_is_new_evidence(seen: dict[str, float]) -> None:
    still = [seen[name] for name in SWARM if name in seen and name not in TURNED]
    assert len(still) >= 30
    assert min(still) > START + 5 * DAY


def test_ordinary_work_is_none(seen: dict[str, float]) -> None:
    turned = [seen[name] for name in TURNED if name in seen]
    assert turned, "the old evidence still stands"
    assert max(turned) <= START + 4 * DAY + 3600


def test_an_account_in_no_cluster_has_no_evidence() -> None:
    rng = random.Random(3)
    analyst = Analyst()
    view = concluded(request(identity("h1", rng), START, rng), analyst)
    assert view.standings == {}
