"""How long a rung holds for an account: when it is applied, and when it has expired. Pure arithmetic on the view's times and the request's.

Theory of operation. A conclusion says since when a cluster has reached each rung (`Cluster.reached`), since when an account is in it, and when the
account last showed a trait that speaks for it (`Standing.seen`). From these three, and from nothing else, follow

* the moment at which the rung is applied to the account. With `apply: hourly` that is a moment of the cluster's own in each hour, the same for all of its
  members, drawn from a keyed hash: whoever tries out which request makes the difference learns it an hour later, together with everything else that he did;
* the moment at which it ends: `expires` after the last new evidence. So every action ends by itself, whether or not anybody looks at it again.
"""

from __future__ import annotations

import math
from hashlib import blake2b

from gateway_guard.policy.model import Rung
from gateway_guard.view import Cluster, Standing

PERIODS = {"now": 0.0, "hourly": 3600.0, "daily": 86400.0}
_SCALE = float(2**64)


def in_force(rung: Rung, standing: Standing, cluster: Cluster | None, at: float, seed: bytes) -> bool:
    """Whether a rung that the account's evidence reaches holds at `at`."""
    return at < ends(rung, standing) and begins(rung, standing, cluster, seed) <= at


def ends(rung: Rung, standing: Standing) -> float:
    """When the rung has expired unless there is new evidence; inf where the view does not tell when there was evidence last."""
    return standing.seen + rung.expires if standing.seen else math.inf


def begins(rung: Rung, standing: Standing, cluster: Cluster | None, seed: bytes) -> float:
    """When the rung is applied: not before the cluster has reached it and the account has joined, and then at the next moment for it."""
    since = standing.joined if cluster is None else max(standing.joined, cluster.reached.get(rung.id, standing.joined))
    period = PERIODS[rung.apply]
    if not period:
        return since
    turn = math.floor(since / period)
    moment = _moment(turn, period, standing.cluster, seed)
    return moment if moment >= since else _moment(turn + 1, period, standing.cluster, seed)


def _moment(turn: int, period: float, cluster: str, seed: bytes) -> float:
    """The cluster's moment in a period."""
    drawn = blake2b(f"{cluster}/{turn}".encode(), key=seed, digest_size=8).digest()
    return (turn + int.from_bytes(drawn, "big") / _SCALE) * period
