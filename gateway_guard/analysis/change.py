"""Accounts that changed hands: somebody else's program and network under a key with a history of its own.

People take up a second program, and home addresses change every few days; both at once, while other accounts do the same with the same
texts, is a thief at work on stolen keys.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway_guard.analysis.graph import log_tail
from gateway_guard.analysis.profile import HOUR, Profiles
from gateway_guard.analysis.rhythm import WELD
from gateway_guard.analysis.tokens import Flags, Floats, Indices, Kind, kinds, split

_HISTORY = 24
_TOGETHER = 2
_OFTEN = 1.5
_MANY = 4


@dataclass(frozen=True, slots=True)
class Change:
    """`settled` accounts with a history of a day or more · `turned` those of them that took up a new program and new networks at once · `usual` share of
    these among benign accounts.
    """

    settled: Flags
    turned: Flags
    usual: float

    def shares(self, label: Indices) -> Floats:
        """The share of each cluster's settled members that turned; NaN without any."""
        settled, turned = self._counts(label)
        return np.where(settled > 0, turned / np.maximum(settled, 1), np.nan)

    def beyond(self, label: Indices) -> Flags:
        """Whether more members of each cluster turned than chance can explain."""
        settled, turned = self._counts(label)
        return np.asarray((turned >= 3) & (log_tail(turned, (settled * self.usual).astype(np.float64)) < np.log(WELD / max(len(settled), 1))))

    def _counts(self, label: Indices) -> tuple[Indices, Indices]:
        clusters = int(label.max(initial=-1)) + 1
        held = (label >= 0) & self.settled
        return np.bincount(label[held], minlength=clusters), np.bincount(label[held & self.turned], minlength=clusters)


def changes(profiles: Profiles, usual: float) -> Change:
    """Which accounts turned."""
    began = np.where(np.isfinite(profiles.first), (profiles.first - profiles.base) / HOUR, np.inf)
    settled = (profiles.at - profiles.base) / HOUR - began >= _HISTORY
    program = _newest_program(profiles, began)
    return Change(settled, settled & _moved(profiles, program), usual)


def _newest_program(profiles: Profiles, began: Floats) -> Floats:
    """The hour in which each account first showed its newest lasting program, where that was a day or more after its beginning; else infinity."""
    token, account = split(profiles.posting)
    mine = np.flatnonzero((kinds(token) == Kind.CLIENT) & (profiles.weight >= _OFTEN))
    since = profiles.since[mine].astype(np.float64)
    late = since >= began[account[mine]] + _HISTORY
    found = np.full(len(profiles), -np.inf)
    np.maximum.at(found, account[mine][late], since[late])
    return np.where(np.isfinite(found), found, np.inf)


def _moved(profiles: Profiles, program: Floats) -> Flags:
    """Accounts that met a new network within hours of their newest program, or have been on many new ones ever since."""
    token, account = split(profiles.posting)
    mine = np.flatnonzero(kinds(token) == Kind.NETWORK)
    since, owner, weight = profiles.since[mine].astype(np.float64), account[mine], profiles.weight[mine].astype(np.float64)
    fresh = since >= program[owner] - _TOGETHER
    at_once = fresh & (since <= program[owner] + _TOGETHER) & (weight >= _OFTEN)
    n = len(profiles)
    many = np.bincount(owner[fresh], minlength=n) >= _MANY
    most = np.bincount(owner, weights=np.where(fresh, weight, 0.0), minlength=n) > np.bincount(owner, weights=weight, minlength=n) / 2
    return np.asarray((np.bincount(owner[at_once], minlength=n) > 0) | (many & most))
