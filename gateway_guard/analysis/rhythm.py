"""Load that is dealt out evenly. Honest accounts differ in volume by orders of magnitude; a dispatcher keeps his accounts within a few per cent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway_guard.analysis.profile import EVENTS, Profiles
from gateway_guard.analysis.settings import DAY
from gateway_guard.analysis.tokens import Flags, Floats, Indices, starts

# What chance may do once in a thousand conclusions, however many groups are looked at.
WELD = 1e-3
_EVEN = np.array([0.05, 0.15, 0.3])
# People of one kind (a course, a program's users) differ less than everybody does, though never as little as what is dealt out.
_OWN = np.array([0.5, 0.7, 1.0])
_MOST_UNEVEN = 0.2
_LEAST_EVENTS = 3.0
_LEAST_ACCOUNTS = 4


def rates(profiles: Profiles, half_life: float) -> tuple[Floats, Floats]:
    """Log requests a day of each account (NaN without enough), and the variance that counting alone gives it."""
    counts = profiles.counts[:, EVENTS].astype(np.float64)
    age = np.maximum(profiles.at - np.where(np.isfinite(profiles.first), profiles.first, profiles.at), DAY / 24)
    # Counts fade with the half-life, so the time that they stand for fades alike.
    days = half_life / np.log(2) * (1 - 0.5 ** (age / half_life)) / DAY
    told = counts >= _LEAST_EVENTS
    return np.where(told, np.log(np.maximum(counts, 1e-9) / days), np.nan), 1 / np.maximum(counts, 1.0)


def spread(rate: Floats, benign: Flags) -> float:
    """How different honest accounts are: the standard deviation of their log rates."""
    told = rate[benign & np.isfinite(rate)]
    return float(np.std(told)) if len(told) >= 10 else 1.2


def evenness(rate: Floats, noise: Floats, label: Indices, usual: float) -> Floats:
    """Log-odds that a cluster's load is dealt out evenly rather than people's own; one account in five may fall out of line. NaN: too few accounts."""
    clusters = int(label.max(initial=-1)) + 1
    found = np.full(clusters, np.nan)
    told = np.flatnonzero((label >= 0) & np.isfinite(rate))
    told = told[np.argsort(label[told], kind="stable")]
    if not len(told):
        return found
    begin = np.flatnonzero(starts(label[told]))
    for mine in np.split(told, begin[1:]):
        if len(mine) >= _LEAST_ACCOUNTS:
            found[label[mine[0]]] = _odds(rate[mine], noise[mine], usual)
    return found


def _odds(rate: Floats, noise: Floats, usual: float) -> float:
    off, noise = (rate - np.median(rate))[:, None], noise[:, None]
    people = _normal(off, (usual * _OWN) ** 2 + noise)
    dealt = np.log((1 - _MOST_UNEVEN) * np.exp(_normal(off, _EVEN**2 + noise)) + _MOST_UNEVEN * np.exp(people[:, [-1]]))
    # The centre was fitted to the same accounts: one of them is spent on it.
    return (_mean(dealt.sum(axis=0)) - _mean(people.sum(axis=0))) * (len(rate) - 1) / len(rate)


def _normal(off: Floats, variance: Floats) -> Floats:
    """The log of a normal density, but for a constant."""
    density: Floats = -(off**2) / (2 * variance) - np.log(variance) / 2
    return density


def _mean(logs: Floats) -> float:
    """The log of the mean: how wide the spread is, nobody knows."""
    return float(logs.max() + np.log(np.exp(logs - logs.max()).mean()))


@dataclass(frozen=True, slots=True)
class Load:
    """Each account's log rate with its noise, and how different honest accounts are."""

    rate: Floats
    noise: Floats
    usual: float

    def odds(self, label: Indices) -> Floats:
        """Log-odds of an even load for each cluster, NaN where there are too few accounts."""
        return evenness(self.rate, self.noise, label, self.usual)

    def even(self, label: Indices) -> Flags:
        """Whether each cluster's load is even beyond chance."""
        odds = self.odds(label)
        return np.asarray(np.nan_to_num(odds, nan=0.0) > np.log(max(len(odds), 1) / WELD))
