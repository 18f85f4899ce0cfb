"""The books of one process: the audit log and the state, and what goes into them."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from gateway_guard.appeals.keeper import Keeper
from gateway_guard.appeals.values import Touched
from gateway_guard.asgi.actions import Actions
from gateway_guard.asgi.state import state_of
from gateway_guard.decision import Action, Decision
from gateway_guard.errors import StoreError
from gateway_guard.gate import Gate
from gateway_guard.policy.acknowledged import Acknowledged, Suspended
from gateway_guard.policy.model import Policy
from gateway_guard.trace.audit import AuditLog
from gateway_guard.view import EMPTY, View

log = logging.getLogger("gateway_guard")
# What is counted for the audit log. Refusals by a quota alone are in the decision log.
DEEDS = {Action.DEGRADE: "degraded", Action.CHALLENGE: "challenged", Action.DENY: "denied"}


class Books:
    """Either may be missing. Raises UsageError when what the policy names cannot be used."""

    def __init__(self, policy: Policy, folder: Path, key: bytes, gate: Gate, clock: Callable[[], float]) -> None:
        self._gate = gate
        self._clock = clock
        self._actions = Actions()
        ledger = state_of(policy, folder, os.environ)
        self.audit = AuditLog(folder / policy.record.audit, key, rotate=policy.record.rotate, written=self._written) if policy.record.audit else None
        self.keeper = Keeper(ledger, clock, self._adopt, self.audit) if ledger is not None else None
        if self.audit is not None or self.keeper is not None:
            atexit.register(self._close)

    def note(self, kind: str, **body: Any) -> None:
        """Something happened now."""
        if self.audit is not None:
            self.audit.note(self._clock(), kind, **body)

    def start(self) -> None:
        """Begin to write, with the first request."""
        if self.audit is not None:
            self.audit.start()
        if self.keeper is not None:
            self.keeper.start()

    def felt(self, decision: Decision) -> None:
        """A decision was not to allow: what its account felt of it is kept."""
        action = decision.action
        if decision.served and action not in DEEDS:
            return
        if self.audit is not None and action in DEEDS:
            deed, account = DEEDS[action], decision.account
            self.audit.deed(decision.at, deed, account, cluster=decision.cluster, rung=decision.rung, decision=decision.id)
            if decision.marked:
                self.audit.deed(decision.at, "marked", account, cluster=decision.cluster, rung=decision.rung, decision=decision.id)
        if self.keeper is not None:
            self.keeper.touched(self._touched(decision))

    def view(self) -> View:
        """The view that was in force when the guard ended last, empty when none was kept."""
        try:
            return self.keeper.ledger.view() if self.keeper is not None else EMPTY
        except StoreError as error:
            log.error("the view that was kept cannot be read, the guard begins without one: %s", error)
            return EMPTY

    def adopted(self, view: View) -> None:
        """A view is in force. Called in a thread: it goes through every account that stands in it."""
        if self.audit is not None:
            for entry in self._actions.turn(self._gate.rules, view, self._gate.acknowledged):
                self.audit.note(view.at, **entry)
        if self.keeper is not None:
            self.keeper.keep(view)

    async def close(self) -> None:
        """Write what is left."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        # In this order: the last acts go into the audit log, whose end is then noted in the state.
        if self.keeper is not None:
            self.keeper.stop()
        if self.audit is not None:
            self.audit.close()
        if self.keeper is not None:
            self.keeper.close()
        atexit.unregister(self._close)

    def _touched(self, decision: Decision) -> Touched:
        standing = self._gate.view.standings.get(decision.account)
        families = standing.families if standing is not None and decision.cluster else ()
        return Touched(decision.id, decision.account, decision.at, decision.action.label, decision.rung, decision.cluster, families, decision.reasons)

    def _adopt(self, acknowledged: Acknowledged, suspended: Suspended) -> None:
        self._gate.acknowledged, self._gate.suspended = acknowledged, suspended

    def _written(self, file: str, entry: int, seal: str) -> None:
        if self.keeper is not None:
            self.keeper.reached(file, entry, seal)
