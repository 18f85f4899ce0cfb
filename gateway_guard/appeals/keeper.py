"""What one process of the guard does with the state, in its file or on its server, off the requests' way.

Twice a second a thread keeps the decisions that were felt, takes up what operators have acknowledged, and hands what they did to the audit log. When
it cannot be used, the last acknowledgements stay in force, decisions wait within their bound, and the trouble is logged once.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice
from typing import Protocol

import msgspec

from gateway_guard.appeals.state import EACH, State
from gateway_guard.appeals.values import Act, Touched
from gateway_guard.errors import StoreError
from gateway_guard.policy.acknowledged import Acknowledged, Suspended
from gateway_guard.view import View

log = logging.getLogger("gateway_guard")

TICK = 0.5
# Accounts whose decisions wait to be written; further ones cannot appeal against what was decided in the same half second.
WAITING = 20_000
BATCH = 1000


class Audit(Protocol):
    """What a keeper needs of the audit log."""

    def write(self, entries: Sequence[dict[str, object]], /) -> None: ...


class Keeper:
    """`adopt` is given what operators say whenever that has changed."""

    def __init__(self, ledger: State, clock: Callable[[], float], adopt: Callable[[Acknowledged, Suspended], None], audit: Audit | None = None) -> None:
        self.ledger = ledger
        self._clock = clock
        self._adopt = adopt
        self._audit = audit
        self._waiting: dict[str, deque[Touched]] = {}
        self._writing: dict[str, deque[Touched]] = {}
        self._head: tuple[str, int, str] | None = None
        self._noted: tuple[str, int, str] | None = None
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._behind = False
        self._troubled = False
        self._attend(self._take_up)

    def touched(self, decision: Touched) -> None:
        """An account has felt a decision: it may appeal against it from now on."""
        with self._lock:
            waiting = self._waiting.get(decision.account)
            if waiting is None:
                if len(self._waiting) >= WAITING:
                    return
                waiting = self._waiting[decision.account] = deque(maxlen=EACH)
            waiting.append(decision)

    def find(self, account: str, ident: str) -> Touched | None:
        """A decision about `account`; None when there is none of that id, and when it is somebody else's: the two are not told apart."""
        with self._lock:
            waiting = [*self._writing.get(account, ()), *self._waiting.get(account, ())]
        found = next((one for one in waiting if one.id == ident), None) or self.ledger.decision(ident)
        return found if found is not None and found.account == account else None

    def reached(self, file: str, entry: int, seal: str) -> None:
        """How far the audit log goes: noted in the state, so that cutting it off is seen."""
        self._head = (file, entry, seal)

    def keep(self, view: View) -> None:
        """Keep a view over a restart. Called in a thread."""
        try:
            self.ledger.keep_view(view)
        except StoreError as error:
            log.error("the view could not be kept, a restart would forget it: %s", error)

    def start(self) -> None:
        """Begin, if it has not begun; a server that forks its workers does so before the first request."""
        if self._thread is None and not self._closing:
            self._thread = threading.Thread(target=self._run, name="gateway-guard-state", daemon=True)
            self._thread.start()

    def stop(self, timeout: float = 5.0) -> None:
        """Keep what waits, and go to sleep. The state stays open until `close`: the audit log's last entries are noted in it."""
        if self._closing:
            return
        self._closing = True
        self._wake.set()
        if self._thread is None:
            self._finish()
        else:
            self._thread.join(timeout)

    def close(self) -> None:
        """Note how far the audit log goes in the end, and let go of the state."""
        self.stop()
        try:
            self._note_head()
            self.ledger.close()
        except StoreError as error:
            log.error("the state could not be closed properly: %s", error)

    def _run(self) -> None:
        while not self._closing:
            self._wake.wait(TICK)
            self._turn()
        self._finish()

    def _finish(self) -> None:
        self._turn()
        while (self._writing or self._waiting) and not self._troubled:
            self._turn()

    def _turn(self) -> None:
        # What operators did comes first: a flood of refusals must not hold it up.
        self._attend(self._take_up, self._hand_over, self._keep, self._note_head)

    def _attend(self, *steps: Callable[[], None]) -> None:
        trouble = [error for step in steps if (error := _tried(step)) is not None]
        if trouble and not self._troubled:
            log.error("the state cannot be used, what is known of it stays in force: %s", trouble[0])
        self._troubled = bool(trouble)

    def _keep(self) -> None:
        if not self._writing:
            # One assignment each, so that no request waits for the disk; what cannot be written is tried again before anything newer.
            with self._lock:
                self._writing, self._waiting = self._waiting, {}
        batch = list(islice(self._writing, BATCH))
        if batch:
            self.ledger.remember([one for account in batch for one in self._writing[account]], self._clock())
        for account in batch:
            del self._writing[account]

    def _take_up(self) -> None:
        # What could not be read is read the next time, though nothing has changed since.
        self._behind = self.ledger.changed() or self._behind
        if self._behind:
            self._adopt(Acknowledged(self.ledger.acknowledgements()), Suspended(self.ledger.suspensions()))
            self._behind = False

    def _hand_over(self) -> None:
        if self._audit is not None:
            self.ledger.hand_over(self._written)

    def _written(self, acts: Sequence[Act]) -> None:
        if self._audit is not None:
            self._audit.write([{"at": act.at, "kind": act.kind, "act": act.number, **msgspec.json.decode(act.body)} for act in acts])

    def _note_head(self) -> None:
        head = self._head
        if head is not None and head != self._noted:
            self.ledger.reached(*head)
            self._noted = head


def _tried(step: Callable[[], None]) -> Exception | None:
    try:
        step()
    except (StoreError, OSError) as error:
        return error
    return None
