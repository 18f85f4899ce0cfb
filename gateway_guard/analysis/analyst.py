"""Turns events, off to the side, into views. Sans-I/O: no clock, no randomness; the same events give the same views, byte for byte.

analyst.observe(event)            on each event: copies integers, microseconds
snapshot = analyst.cut(at)        references only
view = conclude(snapshot)         pure; may run in a thread while events go on
analyst.adopt(view)               what was concluded becomes the state that the next snapshot builds on
"""

from __future__ import annotations

import numpy as np

from gateway_guard.analysis import change, clusters, graph, report, rhythm, tests
from gateway_guard.analysis.calibration import Calibration
from gateway_guard.analysis.journal import Journal, indices
from gateway_guard.analysis.profile import blank, fold
from gateway_guard.analysis.settings import Settings
from gateway_guard.analysis.snapshot import Snapshot
from gateway_guard.analysis.tokens import MOST_ACCOUNTS, named
from gateway_guard.facts import Done, Event, Identity, Seen
from gateway_guard.view import EMPTY, View


class Analyst:
    """The one owner of profiles. Not thread-safe: one loop calls observe, cut and adopt; only `conclude` may run elsewhere."""

    def __init__(self, settings: Settings | None = None, calibration: Calibration | None = None, view: View = EMPTY) -> None:
        self._settings = settings or Settings()
        self._calibration = calibration or Calibration()
        self._view = view
        self._profiles = blank()
        # Number 0 is everybody who came when memory was full: they share one profile, and nothing is found out about it.
        self._names: list[str] = [""]
        self._numbers: dict[str, int] = {}
        self._free: list[int] = []
        self._codes: dict[str, int] = {}
        self._journal = Journal()
        self._journal.newcomers.add(0, Identity("", org="everybody else"), 0)
        self._held: list[Journal] = []
        self._out: Snapshot | None = None
        self._at = view.at

    @property
    def view(self) -> View:
        """The view adopted last."""
        return self._view

    @property
    def calibrated(self) -> str:
        """The calibration by which it judges, empty for none."""
        return self._calibration.name

    def observe(self, event: Event) -> None:
        """Take in one event. `Cut` and `Adopted` are marks for others."""
        if type(event) is Seen:
            facts = event.facts
            self._at = max(self._at, facts.at)
            self._journal.seen(self._number(facts.identity), facts, self._code(facts.model))
            if len(self._journal) >= self._settings.pending:
                self._fold()
        elif type(event) is Done:
            number = self._numbers.get(event.account)
            if number is not None:
                self._journal.done(number, event.usage)

    def _number(self, identity: Identity) -> int:
        number = self._numbers.get(identity.account)
        return self._enrolled(identity) if number is None else number

    def _enrolled(self, identity: Identity) -> int:
        """A number for a new account: a forgotten one's, the next one, or 0 when memory is full."""
        if self._free:
            number = self._free.pop()
            self._names[number] = identity.account
        elif len(self._names) <= min(self._settings.accounts, MOST_ACCOUNTS - 1):
            number = len(self._names)
            self._names.append(identity.account)
        else:
            return 0
        self._numbers[identity.account] = number
        self._journal.newcomers.add(number, identity, self._code(identity.plan))
        return number

    def _code(self, text: str) -> int:
        code = self._codes.get(text)
        if code is None:
            code = named(text)
            if len(self._codes) < 4096:
                self._codes[text] = code
        return code

    def _fold(self) -> None:
        """More is pending than is good for memory: fold it in now."""
        if self._out is not None or self._held:
            self._held.append(self._journal)
        else:
            self._profiles = fold(self._profiles, self._journal, self._settings)
        self._journal = Journal()

    def cut(self, at: float | None = None) -> Snapshot:
        """Everything up to now, by reference."""
        self._held.append(self._journal)
        self._journal = Journal()
        self._at = max(self._at, at or 0.0)
        self._out = Snapshot(self._at, self._profiles, tuple(self._held), self._names, len(self._names), self._view, self._settings, self._calibration)
        return self._out

    def adopt(self, view: View) -> None:
        """Build on what was concluded from the last cut (or, after a restart, on a view that another process published)."""
        out = self._out
        if out is not None and view.id == out.before.id + 1:
            self._profiles = out.folded()
            self._held = self._held[len(out.journals) :]
            self._out = None
            self._forget()
        self._view = view

    def _forget(self) -> None:
        """Give back the numbers of accounts that were idle for a whole window."""
        idle = self._profiles.last < self._profiles.at - self._settings.window
        idle[0] = False
        for journal in (*self._held, self._journal):
            for column in (journal.account, journal.done_account, journal.newcomers.number):
                idle[indices(column)[indices(column) < len(idle)]] = False
        for number in np.flatnonzero(idle).tolist():
            if self._names[number]:
                del self._numbers[self._names[number]]
                self._names[number] = ""
                self._free.append(number)


def conclude(snapshot: Snapshot) -> View:
    """The view that follows from a snapshot."""
    return report.view(snapshot, drawn(snapshot))


def drawn(snapshot: Snapshot) -> report.Drawing:
    """The groups in a snapshot with all that was measured of them."""
    profiles, settings, calibration = snapshot.folded(), snapshot.settings, snapshot.calibration
    found = graph.build(profiles, calibration.reference, profiles.at - settings.window)
    load = rhythm.Load(*rhythm.rates(profiles, settings.half_life), calibration.norms.spread)
    turned = change.changes(profiles, calibration.norms.turned)
    grouping = clusters.grown(found, graph.seeds(found, settings.smallest), settings, load, turned)
    return report.Drawing(found, grouping, tests.pooled(profiles, found, grouping.label, load, turned))
