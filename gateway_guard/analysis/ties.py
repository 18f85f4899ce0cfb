"""Near-unique things that two groups share: one card, one conversation, one opaque blob in both. Chance shares few; an actor's parts share many."""

from __future__ import annotations

import numpy as np

from gateway_guard.analysis.graph import Graph, connected, log_tail, numbered
from gateway_guard.analysis.rhythm import WELD
from gateway_guard.analysis.tokens import Flags, Floats, Indices, Kind
from gateway_guard.analysis.weights import ENOUGH, unique


def tied(graph: Graph, label: Indices, of: tuple[Kind, ...]) -> Flags:
    """Whether each cluster holds more near-unique ties of these kinds inside than chance can explain."""
    clusters = int(label.max(initial=-1)) + 1
    edge = np.flatnonzero((unique(graph) & np.isin(graph.kind, of))[graph.token] & (label[graph.account] >= 0))
    both, count = np.unique(graph.token[edge] * max(clusters, 1) + label[graph.account[edge]], return_counts=True)
    inside = np.bincount((both % max(clusters, 1))[count >= 2], minlength=clusters)[:clusters]
    size = np.bincount(label[label >= 0], minlength=clusters)
    return np.asarray(log_tail(inside, _chance(graph) * size.astype(np.float64) ** 2) < np.log(WELD / max(clusters, 1)))


def woven(graph: Graph, label: Indices) -> Indices:
    """Clusters that near-unique things tie together (one card, one conversation in both) far beyond chance are one, however their sign-up days differ."""
    label = numbered(_by_program(graph, label), 1)
    while True:
        clusters = int(label.max(initial=-1)) + 1
        one, two, ties = _ties(graph, label)
        if not len(one):
            return label
        size = np.bincount(label[label >= 0], minlength=clusters).astype(np.float64)
        score = -log_tail(ties, (_chance(graph) * 2.0 * size[one] * size[two]).astype(np.float64)) + _same_program(graph, label, one, two)
        score = np.where(ties >= 2, score, 0.0)
        best = np.lexsort((two, one, -score))[0]
        if score[best] < np.log(clusters**2 / 2 / WELD):
            return label
        label = numbered(np.where(label == two[best], one[best], label), 1)


def _by_program(graph: Graph, label: Indices) -> Indices:
    """Many small parts that use one rare program, with more ties among all of them together than chance explains: those that are tied are one.

    Pair by pair there may be a tie or two, which proves nothing; fifty ties within one program do.
    """
    clusters = int(label.max(initial=-1)) + 1
    one, two, ties = _ties(graph, label)
    program, rare = _programs(graph, label)
    same = (program[one] >= 0) & (program[one] == program[two]) & (rare[program[one]] >= ENOUGH)
    one, two, ties = one[same], two[same], ties[same]
    size = np.bincount(label[label >= 0], minlength=clusters).astype(np.float64)
    total = np.bincount(program[one], weights=ties, minlength=len(graph.names)).astype(np.int64)
    held = program >= 0
    sums = np.bincount(program[held], weights=size[held], minlength=len(graph.names))
    squares = np.bincount(program[held], weights=size[held] ** 2, minlength=len(graph.names))
    beyond = log_tail(total, (_chance(graph) * (sums**2 - squares)).astype(np.float64)) < np.log(WELD / max(int((total > 0).sum()), 1))
    kept = beyond[program[one]]
    joined = connected(np.concatenate([one[kept], two[kept]]), np.tile(np.arange(int(kept.sum())), 2), clusters, 1)
    return np.append(joined, -1)[label]


def _chance(graph: Graph) -> float:
    """How often one near-unique thing is shared by two given accounts by chance."""
    return min(float(unique(graph).sum()), graph.ties * graph.n) / float(max(graph.n, 1)) ** 2


def _ties(graph: Graph, label: Indices) -> tuple[Indices, Indices, Indices]:
    """(cluster, cluster, number of near-unique tokens that both show), the smaller number first."""
    clusters = max(int(label.max(initial=-1)) + 1, 1)
    edge = np.flatnonzero(unique(graph)[graph.token] & (label[graph.account] >= 0))
    held = np.unique(graph.token[edge] * clusters + label[graph.account[edge]])
    token, cluster = held // clusters, held % clusters
    found: list[Indices] = []
    for step in range(1, int(np.bincount(token).max(initial=1))):
        here = np.flatnonzero(token[:-step] == token[step:])
        found.append(cluster[here] * clusters + cluster[here + step])
    if not found:
        none = np.zeros(0, np.int64)
        return none, none, none
    both, ties = np.unique(np.concatenate(found), return_counts=True)
    return both // clusters, both % clusters, ties


def _same_program(graph: Graph, label: Indices, one: Indices, two: Indices) -> Floats:
    """What it says that most members of both clusters use one program: the rarer the program the more."""
    program, rare = _programs(graph, label)
    return np.where((program[one] >= 0) & (program[one] == program[two]), rare[program[one]], 0.0)


def _programs(graph: Graph, label: Indices) -> tuple[Indices, Floats]:
    """The client token that most members of each cluster show, -1 for none; and how rare each token is, in nats."""
    clusters = int(label.max(initial=-1)) + 1
    edge = np.flatnonzero((graph.kind[graph.token] == Kind.CLIENT) & (label[graph.account] >= 0))
    both, count = np.unique(label[graph.account[edge]] * len(graph.names) + graph.token[edge], return_counts=True)
    cluster, token = both // max(len(graph.names), 1), both % max(len(graph.names), 1)
    most = np.full(clusters, -1)
    mostly = count > np.bincount(label[label >= 0], minlength=clusters)[cluster] / 2
    most[cluster[mostly]] = token[mostly]
    return most, -np.log(np.maximum(np.minimum(graph.sharers / max(graph.n, 1), graph.most), graph.usual))
