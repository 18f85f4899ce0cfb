"""What the analyst last concluded: immutable, swapped by one assignment, looked up in constant time."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway_guard.evidence import Evidence, Family


class Cluster(msgspec.Struct, frozen=True):
    """Accounts that act as one.

    `id` survives growth, shrink and re-clustering · `size` members · `confidence` that they are one actor, 0..1, calibrated on benign history ·
    `coordination` and `harvest` log-odds (two separate columns) · `families` of the evidence · `born` first seen · `parents` ids merged into it ·
    `reached` since when its evidence has reached each rung of the ladder that it reaches · `inherits` which share of the debts of which cluster of the
    view before came along with members that were in that one.
    """

    id: str
    size: int
    confidence: float = 0.0
    coordination: float = 0.0
    harvest: float = 0.0
    families: tuple[Family, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    born: float = 0.0
    parents: tuple[str, ...] = ()
    reached: Mapping[str, float] = {}
    inherits: tuple[tuple[str, float], ...] = ()


class Standing(msgspec.Struct, frozen=True, gc=False):
    """What the view holds of one account. An account of which nothing is known has none.

    `joined` when it came into the cluster · `weights` log-odds of its own that each of its `families` says · `seen` when it last showed a trait that
    speaks for the cluster, 0 when that is not told.
    """

    cluster: str = ""
    joined: float = 0.0
    coordination: float = 0.0
    harvest: float = 0.0
    families: tuple[Family, ...] = ()
    weights: tuple[float, ...] = ()
    seen: float = 0.0


class View(msgspec.Struct, frozen=True):
    """One conclusion: `id` grows by one each time; `calibrated` is the calibration's digest, empty while there is none (then everything stays in shadow)."""

    id: int = 0
    at: float = 0.0
    standings: Mapping[str, Standing] = {}
    clusters: Mapping[str, Cluster] = {}
    calibrated: str = ""


EMPTY = View()
