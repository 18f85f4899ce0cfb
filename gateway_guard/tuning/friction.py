"""Whom a policy would touch in benign traffic, by what, and from which score on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping

import msgspec

from gateway_guard.decision import Decision
from gateway_guard.gate import Gate
from gateway_guard.replay.run import Ended, Step

# What can touch an organisation, in the order in which reasons name it.
CAUSES = ("quota", "cluster", "rung")


class Friction(msgspec.Struct, frozen=True):
    """Of `units` organisations (an account that has none is one of its own) and `accounts`: how many are `touched` at least once, and by what."""

    units: int
    touched: int
    accounts: int
    touched_accounts: int
    requests: int
    touched_requests: int
    by: dict[str, int]


class Watch:
    """Takes the steps of a replay; `gate` is the one that decides them."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._units: dict[str, str] = {}
        self._accounts: set[str] = set()
        self._hit: dict[str, set[str]] = defaultdict(set)
        self._scores: dict[str, float] = {}
        self._requests = self._touched = 0

    def take(self, step: Step) -> None:
        """Count one step."""
        if isinstance(step, Ended) or step.facts is None or step.decision is None:
            return
        decision = step.decision
        unit = self._units.setdefault(decision.account, step.facts.identity.org or decision.account)
        self._requests += 1
        cause = self._cause(decision)
        if not cause:
            return
        self._touched += 1
        self._accounts.add(decision.account)
        self._hit[cause].add(unit)
        if cause == "rung":
            self._scores[unit] = max(self._scores.get(unit, 0.0), decision.score)

    def _cause(self, decision: Decision) -> str:
        """What an enforcing policy would touch the request by; what the analyst found without a calibration touches nobody."""
        if not decision.would or any(reason.startswith("exempt.") for reason in decision.reasons):
            return ""
        for reason in decision.reasons:
            kind = reason.partition(".")[0]
            if kind in CAUSES and (kind == "quota" or self._gate.view.calibrated):
                return kind
        return ""

    @property
    def scores(self) -> Mapping[str, float]:
        """By organisation that reached a rung: the highest score."""
        return self._scores

    def found(self) -> Friction:
        """What was counted."""
        hit = set().union(*self._hit.values())
        by = {cause: len(self._hit[cause]) for cause in CAUSES}
        units = len(set(self._units.values()))
        return Friction(units, len(hit), len(self._units), len(self._accounts), self._requests, self._touched, by)
