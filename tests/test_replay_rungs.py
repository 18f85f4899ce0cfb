"""What each rung costs: who meets it, what challenges would ask, and what an exchange takes."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from gateway_guard.facts import Usage
from gateway_guard.gate import Gate
from gateway_guard.replay.player import Outcome
from gateway_guard.replay.run import Ended, Played
from gateway_guard.replay.rungs import Borne, LadderCost, Rungs
from gateway_guard.replay.tally import Tally
from tests.test_gate import ALICE, NOON, clustered, decide, facts, gate, member

SIGNALS: dict[str, Any] = {"coordination": {}, "harvest": {}}
HOUR = 3600.0


def played(guard: Gate, requests: list[Any]) -> LadderCost:
    """Members of the cluster are meant, whoever else is honest."""
    tally, rungs = Tally(), Rungs(guard)
    for request in requests:
        decision = decide(guard, request)
        for step in (Played(request.id, request.at, request, decision), Ended(request, decision, Outcome(request.at, Usage(1000, 500)))):
            tally.take(step)
            rungs.take(step)
    members = guard.view.standings.keys()
    honest, meant = (frozenset(a for a in tally.accounts if (a in members) == inside) for inside in (False, True))
    return rungs.cost(honest, tally.accounts, meant, "honest", "meant")


def challenging(**rung: Any) -> dict[str, Any]:
    challenges = {"work": {"work": {"effort": "1s", "most": "100s"}, "lasts": "12h"}, "person": {"step_up": {"url": "https://x.example/", "key_file": "k"}}}
    ladder = [{"id": "prove", "at": 2, "do": "challenge", "challenge": "work", **rung}]
    return {"signals": SIGNALS, "challenges": challenges, "ladder": ladder}


def test_a_challenge_counts_once_for_each_time_that_a_pass_lasts() -> None:
    """And a repeat costs more: here by one pass that each of the members has had, half a day of which is forgiven."""
    view = clustered(1.0)
    size, excess = view.clusters["c1"].size, 4.0 - 2.0
    found = played(gate(view, **challenging()), [facts(n, who=member(1), at=NOON + hours * HOUR) for n, hours in enumerate((0, 1, 11, 12, 13))])
    [rung] = found.rungs
    assert (rung.acted.requests, rung.acted.refused, rung.acted.challenges, rung.acted.step_ups) == (5, 5, 2, 0)
    first = min(100.0, size * 2.718281828**excess)
    assert first <= rung.acted.work_s <= 100.0 + first
    assert found.meant.full == 0
    assert found.meant.attempts is None


def test_who_shows_a_pass_has_met_a_challenge_and_is_served() -> None:
    requests = [structs.replace(facts(n, who=member(1)), passes=("prove",)) for n in range(3)]
    found = played(gate(clustered(1.0), **challenging(challenge="person")), requests)
    assert (found.rungs[0].acted.challenges, found.rungs[0].acted.step_ups, found.rungs[0].acted.refused) == (1, 1, 0)
    assert found.meant.full == 3
    assert found.meant.step_ups == pytest.approx(1 / 3, abs=1e-6)


def test_an_exchange_takes_more_attempts_where_most_are_refused() -> None:
    policy = {"quotas": {"q": {"limit": "2/day"}}, "signals": SIGNALS, "prices": {"*": {"input": 3, "output": 15}}}
    ladder = [{"id": "slow", "at": 2, "do": "throttle", "scale": 0.5}, {"id": "shut", "at": 9, "do": "deny", "mode": "shadow"}]
    requests = [facts(n, who=member(1)) for n in range(4)] + [facts(n + 9, who=ALICE) for n in range(2)]
    found = played(gate(clustered(1.0), **policy, ladder=ladder), requests)
    assert (found.meant.requests, found.meant.full, found.meant.attempts) == (4, 1, 4.0)
    assert (found.honest.requests, found.honest.full, found.honest.attempts) == (2, 2, 1.0)
    assert found.honest.money == pytest.approx(0.0105)
    assert found.times == {"attempts": 4.0, "delay_s": None, "work_s": None, "step_ups": None, "money": 1.0}
    assert found.rungs[0].acted == Borne(accounts=1, requests=4, touched=3, refused=3)
    assert found.rungs[0].honest == Borne()


@pytest.mark.parametrize("changes", [{"mode": "shadow"}, {"ladder": [{"id": "dim", "at": 2, "do": "degrade", "profile": "p", "mode": "shadow"}]}])
def test_a_rung_in_shadow_is_counted_apart(changes: dict[str, Any]) -> None:
    policy = {"signals": SIGNALS, "profiles": {"p": {"max_tokens": 9}}, "ladder": [{"id": "dim", "at": 2, "do": "degrade", "profile": "p"}], **changes}
    [rung] = played(gate(clustered(1.0), **policy), [facts(n, who=member(n)) for n in range(3)]).rungs
    assert (rung.acted, rung.shadow) == (Borne(), 3)
