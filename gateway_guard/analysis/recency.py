"""When each account last gave new evidence: last showed, in a request, a trait that speaks for its cluster."""

from __future__ import annotations

import numpy as np

from gateway_guard.analysis.profile import HOUR, Profiles
from gateway_guard.analysis.reference import Reference
from gateway_guard.analysis.tokens import Flags, Floats, Indices, Numbers, split

# What every second account shows is no news of anybody: a trait has to be so many times commoner in the cluster than elsewhere.
TIMES = 4.0


def shown(profiles: Profiles, reference: Reference, label: Indices, n: int, at: float) -> Floats:
    """Seconds since the epoch, to the hour's end and not after `at`; the account's last request where nothing of its own speaks. 0 for accounts in no cluster.

    `label` is each account's cluster, -1 for none; `n` accounts are active. What sign-up told speaks for a cluster as well, and is told once: it makes
    nothing last longer.
    """
    held, found = label >= 0, np.zeros(len(label))
    name, account = split(profiles.posting)
    mine = np.flatnonzero(held[account])
    if len(mine):
        mine = mine[_speaks(name, name[mine], label[account[mine]], reference, label, n=n)]
        np.maximum.at(found, account[mine], profiles.base + (profiles.seen[mine].astype(np.float64) + 1.0) * HOUR)
    return np.where(held, np.minimum(np.where(found > 0.0, found, profiles.last), at), 0.0)


def _speaks(every: Numbers, name: Numbers, cluster: Indices, reference: Reference, label: Indices, *, n: int) -> Flags:
    """Whether each of the members' tokens is so much commoner in its cluster than among everybody else. `every` are all accounts' tokens, sorted."""
    clusters = int(label.max()) + 1
    names, number = np.unique(name, return_inverse=True)
    sharers = np.searchsorted(every, names, "right") - np.searchsorted(every, names, "left")
    both, row, count = np.unique(number * clusters + cluster, return_inverse=True, return_counts=True)
    token, size = both // clusters, np.bincount(label[label >= 0], minlength=clusters)[both % clusters]
    within = (count - 1) / np.maximum(size - 1, 1)
    around = np.maximum((sharers[token] - count + 0.5) / np.maximum(n - size + 1, 1), reference.usual(names, n)[token])
    return np.asarray(((count >= 2) & (within > TIMES * around))[row])
