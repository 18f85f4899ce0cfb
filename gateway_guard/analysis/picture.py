"""Clusters as pictures: who of the members shows which of the traits that they have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gateway_guard.analysis import words
from gateway_guard.analysis.graph import Graph, build
from gateway_guard.analysis.snapshot import Snapshot
from gateway_guard.analysis.tokens import FAMILY_NAMES, Flags, Indices, Kind
from gateway_guard.evidence import Family
from gateway_guard.view import View

TRAITS = 8


@dataclass(frozen=True, slots=True)
class Trait:
    """One thing that members share: its `kind`, what it `says` of those who show it, how many `members` and how many `others` do, and the share of
    benign accounts that did before.
    """

    family: Family
    kind: str
    says: str
    members: int
    others: int
    usual: float


@dataclass(frozen=True, slots=True)
class Picture:
    """The most telling traits of a cluster, and which of them each member shows."""

    traits: tuple[Trait, ...]
    shown: dict[str, tuple[int, ...]]


def pictures(snapshot: Snapshot, view: View) -> dict[str, Picture]:
    """A picture of each of the view's clusters, by its id."""
    idents = sorted(view.clusters)
    profiles = snapshot.folded()
    label = _labels(snapshot, view, {ident: place for place, ident in enumerate(idents)}, len(profiles))
    graph = build(profiles, snapshot.calibration.reference, profiles.at - snapshot.settings.window)
    traits = words.traits(graph, label)
    member = label[graph.account] >= 0
    return {ident: _picture(snapshot, graph, traits, place, member & (label[graph.account] == place)) for place, ident in enumerate(idents)}


def _labels(snapshot: Snapshot, view: View, places: dict[str, int], accounts: int) -> Indices:
    """The place of each account's cluster, -1 for none."""
    label = np.full(accounts, -1)
    for number in range(min(accounts, snapshot.count)):
        standing = view.standings.get(snapshot.names[number])
        if standing is not None:
            label[number] = places.get(standing.cluster, -1)
    return label


def _picture(snapshot: Snapshot, graph: Graph, traits: words.Traits, place: int, inside: Flags) -> Picture:
    low = int(np.searchsorted(traits.cluster, place))
    high = min(int(np.searchsorted(traits.cluster, place, side="right")), low + TRAITS)
    account, token = graph.account[inside], graph.token[inside]
    shown: dict[str, list[int]] = {}
    for number, of in enumerate(traits.token[low:high]):
        for who in account[token == of]:
            shown.setdefault(snapshot.names[int(who)], []).append(number)
    return Picture(tuple(_traits(graph, traits, low, high)), {name: tuple(numbers) for name, numbers in shown.items()})


def _traits(graph: Graph, traits: words.Traits, low: int, high: int) -> Iterator[Trait]:
    for place in range(low, high):
        token, count = int(traits.token[place]), int(traits.count[place])
        family, kind = FAMILY_NAMES[int(graph.family[token])], Kind(int(graph.kind[token]))
        yield Trait(family, kind.name.lower(), words.NOUNS[kind], count, int(graph.sharers[token]) - count, float(graph.usual[token]))
