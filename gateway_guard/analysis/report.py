"""From numbers to a view: names, standings, scores relative to the calibration's limits, and sentences that a person can read."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from gateway_guard.analysis import names, tests
from gateway_guard.analysis.clusters import Grouping
from gateway_guard.analysis.graph import Graph
from gateway_guard.analysis.profile import Profiles
from gateway_guard.analysis.tokens import FAMILY_NAMES, Floats
from gateway_guard.evidence import Evidence, Family
from gateway_guard.view import Cluster, Standing, View

if TYPE_CHECKING:
    from gateway_guard.analysis.analyst import Snapshot

_COUNTS = 3.0


def view(snapshot: Snapshot, profiles: Profiles, found: Graph, grouping: Grouping) -> View:
    """The view after `snapshot.before`."""
    label = grouping.label
    clusters = int(label.max(initial=-1)) + 1
    numbers = [np.flatnonzero(label == group) for group in range(clusters)]
    groups = [[snapshot.names[number] for number in members] for members in numbers]
    named = names.named(groups, snapshot.before, snapshot.at)
    pooled = tests.pooled(profiles, found, label)
    scores = tests.scored(pooled, snapshot.calibration.norms)
    rank = np.array([0.0] * clusters)
    standings: dict[str, Standing] = {}
    kept: dict[str, Cluster] = {}
    for group, name in enumerate(named):
        cluster = _cluster(snapshot, found, grouping, name, numbers[group], pooled, scores, group)
        kept[cluster.id] = cluster
        for member in numbers[group]:
            account = snapshot.names[member]
            old = snapshot.before.standings.get(account)
            joined = old.joined if old is not None and old.cluster == cluster.id else snapshot.at
            standings[account] = Standing(cluster.id, joined, cluster.coordination, cluster.harvest, _families(grouping.evidence[member]))
    del rank
    return View(snapshot.before.id + 1, snapshot.at, standings, kept, snapshot.calibration.digest)


def _families(evidence: Floats) -> tuple[Family, ...]:
    return tuple(name for name, weight in zip(FAMILY_NAMES, evidence, strict=True) if weight >= _COUNTS)


def _cluster(snapshot: Snapshot, found: Graph, grouping: Grouping, name: names.Named, members: np.ndarray, pooled: tests.Pooled, scores: tests.Scores, group: int) -> Cluster:  # type: ignore[type-arg]
    limits = snapshot.calibration.limits
    evidence = grouping.evidence[members].mean(axis=0)
    odds = np.log(max(found.n - len(members), 1) / len(members))
    coordination = float(evidence.sum() - odds + scores.interchangeable[group])
    harvest = float(scores.elicits[group] + scores.never_repeats[group] + scores.many_faces[group] + scores.passed_on[group])
    return Cluster(
        id=name.id,
        size=len(members),
        confidence=float(1 / (1 + np.exp(-(coordination - limits.coordination)))),
        coordination=coordination - limits.coordination,
        harvest=harvest - limits.harvest,
        families=_families(evidence),
        evidence=_sentences(pooled, scores, group),
        born=name.born,
        parents=name.parents,
    )


def _sentences(pooled: tests.Pooled, scores: tests.Scores, group: int) -> tuple[Evidence, ...]:
    parts = (
        ("content", "interchangeable", scores.interchangeable, f"lengths {pooled.alike_length[group]:.2f}, turns {pooled.alike_turn[group]:.2f}, elicitation {pooled.alike_elicit[group]:.2f}"),
        ("content", "elicits", scores.elicits, f"{pooled.asks[group]:.1%} of requests elicit"),
        ("rhythm", "never_repeats", scores.never_repeats, f"{pooled.distinct[group]:.1%} distinct"),
        ("identity", "many_faces", scores.many_faces, f"{pooled.cards[group]:.0f} cards, {pooled.faces[group]:.1%} faces"),
        ("conversation", "passed_on", scores.passed_on, f"{pooled.passed_on[group]:.1%} of members"),
    )
    return tuple(Evidence(family, signal, round(float(values[group]), 3), says) for family, signal, values, says in parts)  # type: ignore[arg-type]
