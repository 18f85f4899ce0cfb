"""From numbers to a view: names, standings, scores relative to the calibration's limits, and sentences that a person can read."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

import numpy as np

from gateway_guard.analysis import names, recency, tests, words
from gateway_guard.analysis.clusters import Grouping
from gateway_guard.analysis.graph import Graph
from gateway_guard.analysis.tokens import FAMILY_NAMES, Flags, Floats, Indices
from gateway_guard.analysis.weights import BESIDE
from gateway_guard.evidence import Family
from gateway_guard.view import Cluster, Standing, View

if TYPE_CHECKING:
    from gateway_guard.analysis.snapshot import Snapshot


@dataclass(frozen=True, slots=True)
class Drawing:
    """What was found before names and limits are put to it."""

    graph: Graph
    grouping: Grouping
    pooled: tests.Pooled

    def members(self) -> list[Indices]:
        """The accounts of each group."""
        label = self.grouping.label
        order = np.argsort(label, kind="stable")
        order = order[label[order] >= 0]
        return np.split(order, np.cumsum(np.bincount(label[order]))[:-1]) if len(order) else []


@dataclass(frozen=True, slots=True)
class Columns:
    """The two columns for each group, in raw log-odds, and what they are made of."""

    coordination: Floats
    harvest: Floats
    shared: Floats
    scores: tests.Scores


def columns(drawing: Drawing, norms: tests.Norms) -> Columns:
    """Coordination (are these one actor?) and harvest (does it look like building a data set?)."""
    label, evidence = drawing.grouping.label, drawing.grouping.evidence
    groups = int(label.max(initial=-1)) + 1
    held = label >= 0
    size = np.bincount(label[held], minlength=groups)
    shared = np.stack([np.bincount(label[held], weights=column[held], minlength=groups) for column in evidence.T], axis=1) / np.maximum(size, 1)[:, None]
    odds = np.log(np.maximum(drawing.graph.n - size, 1) / np.maximum(size, 1))
    scores = tests.scored(drawing.pooled, norms)
    harvest = scores.elicits + scores.never_repeats + scores.many_faces + scores.passed_on + scores.long_answers + scores.changed_hands
    return Columns(shared.sum(axis=1) - odds + scores.interchangeable + scores.even, harvest, shared, scores)


def view(snapshot: Snapshot, drawing: Drawing) -> View:
    """The view after `snapshot.before`."""
    members = drawing.members()
    named = names.named([[snapshot.names[number] for number in group] for group in members], snapshot.before, snapshot.at)
    found = columns(drawing, snapshot.calibration.norms)
    traits = words.traits(drawing.graph, drawing.grouping.label)
    seen = recency.shown(snapshot.folded(), snapshot.calibration.reference, drawing.grouping.label, drawing.graph.n, snapshot.at)
    kept = {name.id: _cluster(snapshot, drawing, found, traits, name, group) for group, name in enumerate(named)}
    standings = dict(_standings(snapshot, drawing.grouping, list(kept.values()), members, seen))
    return View(snapshot.before.id + 1, snapshot.at, standings, kept, snapshot.calibration.name)


def _standings(snapshot: Snapshot, grouping: Grouping, clusters: list[Cluster], members: list[Indices], seen: Floats) -> Iterator[tuple[str, Standing]]:
    """Each member's, cluster by cluster."""
    before = snapshot.before.standings
    for cluster, group, whole in zip(clusters, members, grouping.families, strict=True):
        evidence = grouping.evidence[group]
        speaks = (evidence >= BESIDE) | whole
        for number, weights, which, last in zip(group.tolist(), evidence.round(3).tolist(), speaks.tolist(), seen[group].tolist(), strict=True):
            account = snapshot.names[number]
            old = before.get(account)
            joined = old.joined if old is not None and old.cluster == cluster.id else snapshot.at
            families = tuple(compress(FAMILY_NAMES, which))
            yield account, Standing(cluster.id, joined, cluster.coordination, cluster.harvest, families, tuple(compress(weights, which)), last)


def _families(evidence: Floats, whole: Flags) -> tuple[Family, ...]:
    """Families that speak for a cluster."""
    return tuple(name for name, speaks in zip(FAMILY_NAMES, (evidence >= BESIDE) | whole, strict=True) if speaks)


def _cluster(  # noqa: PLR0917 - one call, for each group
    snapshot: Snapshot, drawing: Drawing, found: Columns, traits: words.Traits, name: names.Named, group: int
) -> Cluster:
    limits = snapshot.calibration.limits
    coordination = float(found.coordination[group]) - limits.coordination
    harvest = float(found.harvest[group]) - limits.harvest_at(len(name.members))
    shared = words.shared(drawing.graph, traits, group, len(name.members))
    return Cluster(
        id=name.id,
        size=len(name.members),
        confidence=float(1.0 / (1.0 + np.exp(-min(coordination, harvest)))),
        coordination=round(coordination, 6),
        harvest=round(harvest, 6),
        families=_families(found.shared[group], drawing.grouping.families[group]),
        evidence=(*shared, *words.tests(drawing.pooled, found.scores, snapshot.calibration.norms, group)),
        born=name.born,
        parents=name.parents,
        inherits=name.inherits,
    )
