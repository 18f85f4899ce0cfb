"""From seeds to clusters: every account joins the cluster whose traits it shows, on its own evidence.

Theory of operation. A cluster is described by how common each token is among its members; an account's evidence for it is the sum of
log(share among the members / share among everybody else), token by token, after Fellegi and Sunter:

* presence only: a token that an account does not show says nothing (an attacker may leave out what he likes);
* leave one out: what an account alone brought into the cluster does not speak for it;
* "everybody else" is the larger of the share in the benign history and the share outside the cluster now, so a prompt or a
  network that many others have weighs little, however many of the members have it;
* what one family adds is capped, because tokens of one family hang together; membership takes two families that one ordinary cause does not
  explain together.

So a stranger whom one token swept into a seed falls out, an account that seeds missed comes in with its second exchange, and clusters whose members
recognise each other's traits as their own are joined. A few rounds settle it. Ties are broken by names, never by order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway_guard.analysis.graph import Graph, connected
from gateway_guard.analysis.settings import Settings
from gateway_guard.analysis.tokens import FAMILY_NAMES, FAMILY_OF, SLOT_OF, SLOTS, STRONGEST, Flags, Floats, Indices, Kind, starts

F = len(FAMILY_NAMES)
CEILING = 6.0
ENOUGH = 3.0
_CONTENT, _CLIENT = FAMILY_NAMES.index("content"), FAMILY_NAMES.index("client")
_FAMILY_OF_SLOT: Indices = np.zeros(SLOTS, dtype=np.int64)
for _kind in Kind:
    _FAMILY_OF_SLOT[SLOT_OF[_kind]] = FAMILY_OF[_kind]
_PRIOR = 1.0
_SPEAKS = 0.4
_DOUBT = 0.001
_ROUNDS = 5
_ALIKE = 0.5
_MARGIN = 3.0


@dataclass(frozen=True, slots=True)
class Weights:
    """How common each token is in each cluster: `inside` as its members see it (leave one out), `outside` as others do, `elsewhere` among everybody else. Sorted by token."""

    token: Indices
    cluster: Indices
    inside: Floats
    outside: Floats
    elsewhere: Floats


@dataclass(frozen=True, slots=True)
class Grouping:
    """`label` a cluster's number for each account, -1 for none · `evidence` log-odds of each account by family, for its cluster · `weights` by which they were found."""

    label: Indices
    evidence: Floats
    weights: Weights


def grown(graph: Graph, seed: Indices, settings: Settings) -> Grouping:
    """Clusters out of seeds."""
    label = _numbered(seed, settings.smallest)
    for _ in range(_ROUNDS):
        before = label
        weights = weigh(graph, label)
        account, cluster, evidence = _claims(graph, label, weights, settings)
        merged = np.append(_merged(label, account, cluster, evidence), -1)
        label = _numbered(merged[_best(account, cluster, evidence, len(label))], settings.smallest)
        if np.array_equal(before, label):
            break
    weights = weigh(graph, label)
    return Grouping(label, _own(graph, label, weights), weights)


def _numbered(label: Indices, smallest: int) -> Indices:
    """The same groups, numbered by their first account, without small ones."""
    _, first, group, size = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    kept = (size >= smallest) & (label[first] >= 0)
    number = np.full(len(first), -1)
    number[np.flatnonzero(kept)[np.argsort(first[kept])]] = np.arange(int(kept.sum()))
    return number[group]


def weigh(graph: Graph, label: Indices) -> Weights:
    """What each token says for each cluster in which two members or more show it."""
    clusters = int(label.max(initial=-1)) + 1
    mine = label[graph.account]
    member = mine >= 0
    both, count = np.unique(graph.token[member] * max(clusters, 1) + mine[member], return_counts=True)
    token, cluster = both // max(clusters, 1), both % max(clusters, 1)
    size = np.bincount(label[label >= 0], minlength=max(clusters, 1))[cluster]
    elsewhere = np.minimum((graph.sharers[token] - count + 0.5) / (graph.n - size + 1.0), graph.most[token])
    usual = np.maximum(elsewhere, graph.usual[token])
    inside = (count - 1 + _PRIOR * usual) / (size - 1 + _PRIOR)
    others = (count + _PRIOR * usual) / (size + _PRIOR)
    speaks = (count >= 2) & (np.log(inside / usual) > _SPEAKS)
    return Weights(token[speaks], cluster[speaks], inside[speaks], others[speaks], elsewhere[speaks])


def _spread(graph: Graph, label: Indices, weights: Weights, edges: Flags) -> tuple[Indices, Indices, Indices, Floats]:
    """(account, cluster, slot, weight) for every edge and every cluster for which its token speaks."""
    account, token = graph.account[edges], graph.token[edges]
    low, high = np.searchsorted(weights.token, token), np.searchsorted(weights.token, token, side="right")
    times = high - low
    edge = np.repeat(np.arange(len(token)), times)
    place = np.repeat(low - np.cumsum(times) + times, times) + np.arange(int(times.sum()))
    owner, cluster = account[edge], weights.cluster[place]
    share = np.where(label[owner] == cluster, weights.inside[place], weights.outside[place])
    usual = np.maximum(weights.elsewhere[place], graph.expected[edges][edge])
    weight = np.log(share / usual)
    says = weight > _SPEAKS
    return owner[says], cluster[says], SLOT_OF[graph.kind[token[edge[says]]]], weight[says]


def _table(group: Indices, slot: Indices, weight: Floats, groups: int) -> Floats:
    """Evidence by family for each group: of every slot the strongest few tokens, and no family more than the ceiling."""
    order = np.lexsort((-weight, slot, group))
    group, slot, weight = group[order], slot[order], weight[order]
    place = np.arange(len(order))
    rank = place - np.maximum.accumulate(np.where(starts(group * SLOTS + slot), place, 0))
    strong = rank < STRONGEST[slot]
    flat = np.bincount(group[strong] * F + _FAMILY_OF_SLOT[slot[strong]], weights=weight[strong], minlength=groups * F)
    return np.minimum(flat.reshape(groups, F), CEILING)


def _claims(graph: Graph, label: Indices, weights: Weights, settings: Settings) -> tuple[Indices, Indices, Floats]:
    """(account, cluster, evidence) wherever the account's own evidence is enough to be a member."""
    clusters = int(label.max(initial=-1)) + 1
    owner, cluster, slot, weight = _spread(graph, label, weights, graph.open[graph.account])
    pair, group = np.unique(owner * max(clusters, 1) + cluster, return_inverse=True)
    table = _table(group, slot, weight, len(pair))
    account, cluster = pair // max(clusters, 1), pair % max(clusters, 1)
    size = np.bincount(label[label >= 0], minlength=max(clusters, 1))[cluster]
    odds = np.log(np.maximum(graph.n - size, 1) / np.maximum(size, 1)) + np.log((1 - _DOUBT) / _DOUBT)
    total = table.sum(axis=1)
    enough = (total >= odds) & (independent(table) >= settings.families)
    return account[enough], cluster[enough], total[enough]


def independent(table: Floats) -> Indices:
    """How many independent families speak. A program brings its own headers and its own texts, so content and client count as one."""
    speaks = table >= ENOUGH
    software = speaks[:, _CONTENT] | speaks[:, _CLIENT]
    return np.asarray(speaks.sum(axis=1) - speaks[:, _CONTENT] - speaks[:, _CLIENT] + software)


def _best(account: Indices, cluster: Indices, evidence: Floats, accounts: int) -> Indices:
    """The cluster with the most evidence for each account, -1 for none."""
    order = np.lexsort((cluster, -np.round(evidence, 9), account))
    account, cluster = account[order], cluster[order]
    best = np.full(accounts, -1)
    first = starts(account)
    best[account[first]] = cluster[first]
    return best


def _merged(label: Indices, account: Indices, cluster: Indices, evidence: Floats) -> Indices:
    """The number of the joined cluster for each cluster: two are one when half of the smaller would be members of the larger on evidence as good as for their own."""
    clusters = int(label.max(initial=-1)) + 1
    home = label[account]
    own = np.full(len(label), np.inf)
    own[account[home == cluster]] = evidence[home == cluster]
    other = (home >= 0) & (home != cluster) & (evidence >= own[account] - _MARGIN)
    pair, count = np.unique(home[other] * max(clusters, 1) + cluster[other], return_counts=True)
    one, two = pair // max(clusters, 1), pair % max(clusters, 1)
    alike = count >= _ALIKE * np.bincount(label[label >= 0], minlength=max(clusters, 1))[one]
    return connected(np.concatenate([one[alike], two[alike]]), np.tile(np.arange(int(alike.sum())), 2), clusters, 1)


def _own(graph: Graph, label: Indices, weights: Weights) -> Floats:
    """Each member's evidence by family, capped."""
    owner, cluster, slot, weight = _spread(graph, label, weights, label[graph.account] >= 0)
    mine = label[owner] == cluster
    return _table(owner[mine], slot[mine], weight[mine], len(label))
