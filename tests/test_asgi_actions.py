"""What the audit log learns of each conclusion: whom the ladder acts on, from when, until when, and why no longer."""

from __future__ import annotations

from typing import Any

from msgspec import structs

from gateway_guard.asgi.actions import NAMED, Actions
from gateway_guard.policy.acknowledged import NOTHING, Acknowledged, Acknowledgement
from gateway_guard.policy.judge import Rulebook
from gateway_guard.view import EMPTY, Cluster, Standing, View
from tests.test_gate import NOON
from tests.test_policy_tenure import TWO, guarded

RULES = guarded(EMPTY).rules


def view(number: int, accounts: int = 3, *, at: float = NOON, seen: float = NOON, score: float = 4.0) -> View:
    standings = {f"{account:020x}": Standing("c-1", NOON, score, score, TWO, (3.0, 3.0), seen) for account in range(accounts)}
    found = View(number, at, standings, {"c-1": Cluster("c-1", accounts, 0.9, score, score, TWO)} if accounts else {}, "calibrated")
    return RULES.ranked(found, EMPTY)


def turn(actions: Actions, now: View, acknowledged: Acknowledged = NOTHING, rules: Rulebook = RULES) -> list[dict[str, Any]]:
    return list(actions.turn(rules, now, acknowledged))


def test_an_action_begins_once_with_its_end() -> None:
    actions = Actions()
    adopted, begun = turn(actions, view(1))
    assert (adopted["kind"], adopted["clusters"]) == ("view.adopted", [{"cluster": "c-1", "accounts": 3, "confidence": 0.9}])
    assert (begun["kind"], begun["rung"], begun["do"], begun["of"], begun["until"]) == ("action.begun", "shut", "deny", 3, NOON + 3600)
    assert turn(actions, view(2)) == []
    (more,) = turn(actions, view(3, 4))
    assert (more["accounts"], more["of"]) == ([f"{3:020x}"], 1)


def test_why_an_action_has_ended() -> None:
    ends = {
        "expired": (view(2, at=NOON + 86400 * 9), NOTHING, RULES),
        "evidence": (view(2, 0), NOTHING, RULES),
        "policy": (view(2), NOTHING, in_mode("shadow")),
        "acknowledged": (
            view(2),
            Acknowledged([Acknowledgement(1, "cluster", "c-1", ("c-1",), TWO, "known", NOON, NOON + 60)]),
            RULES,
        ),
    }
    for why, (now, acknowledged, rules) in ends.items():
        actions = Actions()
        turn(actions, view(1))
        (ended,) = turn(actions, now, acknowledged, rules)
        assert (ended["kind"], ended["why"], ended["rung"], ended["of"]) == ("action.ended", why, "shut", 3)


def in_mode(mode: str) -> Rulebook:
    return Rulebook(RULES.policy.model_copy(update={"mode": mode}), "digest", lambda name: (name,), lambda name: (name,))


def test_a_rung_that_gives_way_to_another_ends_and_begins() -> None:
    actions = Actions()
    turn(actions, view(1))
    begun, ended = turn(actions, view(2, score=2.5))
    assert (begun["kind"], begun["rung"], ended["kind"], ended["rung"]) == ("action.begun", "dim", "action.ended", "shut")


def test_large_groups_are_named_in_parts() -> None:
    begun = turn(Actions(), view(1, NAMED * 2 + 7))[1:]
    assert [len(entry["accounts"]) for entry in begun] == [NAMED, NAMED, 7]
    assert len({account for entry in begun for account in entry["accounts"]}) == NAMED * 2 + 7


def test_without_a_calibration_nobody_is_acted_on() -> None:
    (adopted,) = turn(Actions(), structs.replace(view(1), calibrated=""))
    assert adopted["kind"] == "view.adopted"
