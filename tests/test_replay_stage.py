"""A replay set up from files."""

from __future__ import annotations

from gateway_guard.policy.model import Policy
from gateway_guard.replay.stage import terms


def test_the_rungs_that_may_be_taken_as_met_are_those_that_challenge() -> None:
    ladder = [{"id": "wary", "at": 1, "do": "throttle"}, {"id": "prove", "at": 2, "do": "challenge"}, {"id": "show", "at": 3, "do": "challenge"}]
    found = terms(Policy.model_validate({"version": 1, "name": "test", "ladder": ladder}), 0.4)
    assert (found.solved, found.rungs) == (0.4, ("prove", "show"))
