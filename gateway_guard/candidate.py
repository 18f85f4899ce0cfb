"""A candidate policy beside the active one: it decides about every request, as if it were in force, and nothing follows from it.

Theory of operation. It has quotas of its own (in memory), and the view of the active policy's analyst, ranked by its own ladder. A request that the active
policy refused never ran: where the candidate would have served it, its usage is imputed, as in a replay. A request that the candidate would have delayed or
refused ends when it really ended. Whatever goes wrong here is counted and told once; the request knows nothing of it.
"""

from __future__ import annotations

import logging

from gateway_guard.decision import Decision
from gateway_guard.facts import RequestFacts, Usage, imputed
from gateway_guard.gate import Gate, at_once
from gateway_guard.policy.judge import Rulebook
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.view import View

log = logging.getLogger("gateway_guard")
# Requests that may run at once; of those beyond, reservations run out by themselves.
RUNNING = 100_000


class Candidate:
    """Decides beside the gate `active`, whose view and operators' words it follows. `output` tokens are taken for what never ran. Never raises."""

    def __init__(self, rules: Rulebook, active: Gate, output: int) -> None:
        self.failed = 0
        self._active = active
        self._output = output
        self._gate = Gate(rules, MemoryStore(rules.policy.accounts))
        self._view: View | None = None
        self._running: dict[str, Decision] = {}

    @property
    def rules(self) -> Rulebook:
        """The rulebook that it decides by."""
        return self._gate.rules

    def adopt(self, rules: Rulebook, output: int) -> None:
        """Decide by these rules from now on. What is owed stays owed, as with a policy in force."""
        self._gate.rules, self._output, self._view = rules, output, None

    def decide(self, facts: RequestFacts, *, served: bool, view: View | None = None) -> Decision | None:
        """What it would do about a request that the active policy has `served`, or not, under `view` (None: the present one). None when it failed."""
        try:
            return self._decided(facts, view or self._active.view, served=served)
        except Exception:
            self._fail()
            return None

    def settle(self, ident: str, usage: Usage | None, at: float) -> None:
        """A request that was served is over."""
        decision = self._running.pop(ident, None)
        if decision is None:
            return
        try:
            at_once(self._gate.settle(decision, usage, at))
        except Exception:
            self._fail()

    def _decided(self, facts: RequestFacts, view: View, *, served: bool) -> Decision:
        gate = self._gate
        if view is not self._view:
            at_once(gate.adopt(gate.rules.ranked(view, gate.view), facts.at))
            self._view = view
        gate.acknowledged, gate.suspended = self._active.acknowledged, self._active.suspended
        decision = at_once(gate.decide(facts))
        if not served:
            at_once(gate.settle(decision, imputed(facts, self._output), facts.at))
        elif decision.spent:
            self._running[facts.id] = decision
            if len(self._running) > RUNNING:
                del self._running[next(iter(self._running))]
        return decision

    def _fail(self) -> None:
        self.failed += 1
        if self.failed == 1:
            log.exception("the candidate policy failed: requests go on under the active one, and further failures are only counted")
