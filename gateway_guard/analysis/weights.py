"""How much an account's tokens say for its being one of a cluster, after Fellegi and Sunter.

A token's weight is log(share among the members / share among everybody else):

* presence only: a token that an account does not show says nothing (an attacker may leave out what he likes), save for the content or the program
  that nearly all members have in common;
* leave one out: what an account alone brought into the cluster does not speak for it;
* "everybody else" is the larger of the share in the benign history and the share outside the cluster now, so a prompt or a
  network that many others have weighs little, however many of the members have it;
* what one family adds is capped, because tokens of one family hang together: three sentences of one prompt that a tenth of everybody uses are
  one coincidence, not three, and among thousands of near-unique things somebody shares one by chance. So a family says no more than how much
  rarer it is among accounts of no cluster to show as much;
* membership takes two families that one ordinary cause does not explain together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway_guard.analysis.graph import Graph
from gateway_guard.analysis.tokens import FAMILY_NAMES, FAMILY_OF, SELDOM, SLOT_OF, SLOTS, STRONGEST, UNIQUE, Flags, Floats, Indices, Kind, starts

F = len(FAMILY_NAMES)
# From here on a family speaks: twenty to one.
ENOUGH = 3.0
_CONTENT, _CLIENT = FAMILY_NAMES.index("content"), FAMILY_NAMES.index("client")
_FAMILY_OF_SLOT: Indices = np.zeros(SLOTS, dtype=np.int64)
for _kind in Kind:
    _FAMILY_OF_SLOT[SLOT_OF[_kind]] = FAMILY_OF[_kind]
_PRIOR = 1.0
_FORGIVEN = 0.05
_LOOKS = 2
# Evidence is compared in steps of an eighth of a nat.
_STEPS, _STEPS_A_NAT = 128, 8.0
_GRAIN, _WIDE = 2**16, 2**20
# Pairs that are weighed at once: it bounds memory.
_BLOCK = 200_000


@dataclass(frozen=True, slots=True)
class Rules:
    """When an account belongs: `families` independent ones that must speak · `speaks` times that a token must be commoner than elsewhere, by slot ·
    `ceiling` on what one family adds · `doubt` share of members that may be strangers.
    """

    families: int
    speaks: Floats
    ceiling: float
    doubt: float


@dataclass(frozen=True, slots=True)
class Weights:
    """How common each token is in each cluster and among everybody else, as a member sees it (`inside`, `beside`) and as a stranger does (`within`, `around`).

    Both leave out whoever looks: what one account alone brings in proves nothing about it. Sorted by token.
    """

    token: Indices
    cluster: Indices
    inside: Floats
    beside: Floats
    within: Floats
    around: Floats


def unique(graph: Graph) -> Flags:
    """Tokens that hardly anybody shares by chance."""
    return np.isin(graph.kind, UNIQUE) & (graph.usual < SELDOM)


def weigh(graph: Graph, label: Indices, rules: Rules) -> Weights:
    """What each token says for each cluster in which it is common enough to speak."""
    clusters = max(int(label.max(initial=-1)) + 1, 1)
    mine = label[graph.account]
    member = mine >= 0
    both, count = np.unique(graph.token[member] * clusters + mine[member], return_counts=True)
    token, cluster = both // clusters, both % clusters
    size = np.bincount(label[label >= 0], minlength=clusters)[cluster]
    others, most, usual = graph.n - size + 1.0, graph.most[token], graph.usual[token]
    beside = np.maximum(np.minimum((graph.sharers[token] - count + 0.5) / others, most), usual)
    around = np.maximum(np.minimum((np.maximum(graph.sharers[token] - count - 1, 0) + 0.5) / others, most), usual)
    inside = (count - 1 + _PRIOR * usual) / (size - 1 + _PRIOR)
    within = (count + _PRIOR * usual) / (size + _PRIOR)
    speaks = (within > around * rules.speaks[SLOT_OF[graph.kind[token]]]) & ((count >= 2) | unique(graph)[token])
    return Weights(token[speaks], cluster[speaks], inside[speaks], beside[speaks], within[speaks], around[speaks])


def evidence(graph: Graph, label: Indices, weights: Weights, rules: Rules) -> tuple[Indices, Indices, Floats]:
    """(account, cluster, evidence by family) for every open account and each cluster of which it shows something plain.

    Of every slot the strongest few tokens count, and no family more than the ceiling. One sort of plain integers does it: account, cluster, slot and the weight
    itself are packed into a key.
    """
    clusters = max(int(label.max(initial=-1)) + 1, 1)
    pair = _candidates(graph, label, weights, clusters)
    spoken = np.flatnonzero(np.bincount(weights.token, minlength=len(graph.names))[graph.token] > 0)
    edge = spoken[np.argsort(graph.account[spoken], kind="stable")]
    blocks = np.array_split(pair, len(pair) // _BLOCK + 1)
    key = np.concatenate([_keys(graph, label, weights, rules, edge, block) for block in blocks])
    key.sort()
    account, cluster, table, least = _tallied(key, clusters, rules.ceiling)
    return account, cluster, _tempered(graph, label, account, cluster, table, least) if rules.families > 1 else table


def _candidates(graph: Graph, label: Indices, weights: Weights, clusters: int) -> Indices:
    """Pairs (account * clusters + cluster) with a token that is plain by itself or of a slot where several add up, and members with their own cluster.

    Common things (a model, a plan) speak for hundreds of clusters a little; to weigh them for everybody would cost the square of what is found.
    """
    adds_up = STRONGEST[SLOT_OF[graph.kind[weights.token]]] > 1
    plain = np.flatnonzero(adds_up | (np.log(weights.within / weights.around) >= ENOUGH))
    many = np.bincount(weights.token[plain], minlength=len(graph.names))
    times = np.where(graph.open[graph.account], many[graph.token], 0)
    edge = np.repeat(np.arange(len(times)), times)
    begin = (np.cumsum(many) - many)[graph.token]
    place = plain[np.repeat(begin - np.cumsum(times) + times, times) + np.arange(len(edge))]
    member = np.flatnonzero((label >= 0) & graph.open)
    pair = np.concatenate([graph.account[edge] * clusters + weights.cluster[place], member * clusters + label[member]])
    pair.sort()
    return np.asarray(pair[starts(pair)])


def _keys(  # noqa: PLR0917 - one call, for each block
    graph: Graph, label: Indices, weights: Weights, rules: Rules, edge: Indices, pair: Indices
) -> Indices:
    """What each token of the pairs' accounts says for the pairs' clusters, packed. `edge` are the edges with tokens that speak at all, by account."""
    clusters = max(int(label.max(initial=-1)) + 1, 1)
    held = np.bincount(graph.account[edge], minlength=len(label))
    times, begin = held[pair // clusters], (np.cumsum(held) - held)[pair // clusters]
    edge = edge[np.repeat(begin - np.cumsum(times) + times, times) + np.arange(int(times.sum()))]
    wanted = graph.token[edge] * clusters + np.repeat(pair % clusters, times)
    known = weights.token * clusters + weights.cluster
    place = np.minimum(np.searchsorted(known, wanted), max(len(known) - 1, 0))
    hit = known[place] == wanted if len(known) else np.zeros(0, np.bool_)
    edge, place = edge[hit], place[hit]
    owner, cluster = graph.account[edge], weights.cluster[place]
    inside = label[owner] == cluster
    share = np.where(inside, weights.inside[place], weights.within[place])
    usual = np.maximum(np.where(inside, weights.beside[place], weights.around[place]), graph.expected[edge])
    slot = SLOT_OF[graph.kind[graph.token[edge]]]
    says = share > usual * rules.speaks[slot]
    weight = np.minimum(np.log(share[says] / usual[says]) * _GRAIN, _WIDE - 1).astype(np.int64)
    return np.asarray((((owner[says] * clusters + cluster[says]) * SLOTS + slot[says]) * _WIDE) + (_WIDE - 1 - weight))


def _tallied(key: Indices, clusters: int, ceiling: float) -> tuple[Indices, Indices, Floats, Floats]:
    """(account, cluster, evidence by family, the same of each slot's strongest token alone)."""
    group, weight = key // _WIDE, (_WIDE - 1 - key % _WIDE) / _GRAIN
    place = np.arange(len(key))
    rank = place - np.maximum.accumulate(np.where(starts(group), place, 0))
    slot = group % SLOTS
    strong = rank < STRONGEST[slot]
    pair, slot, weight, alone = (group // SLOTS)[strong], slot[strong], weight[strong], rank[strong] == 0
    first = starts(pair)
    cell = (np.cumsum(first) - 1) * F + _FAMILY_OF_SLOT[slot]
    pair = pair[first]
    table, least = (
        np.minimum(np.bincount(cell, weights=part, minlength=len(pair) * F).reshape(len(pair), F), ceiling) for part in (weight, np.where(alone, weight, 0.0))
    )
    return pair // clusters, pair % clusters, table, least


def _tempered(  # noqa: PLR0917 - one call
    graph: Graph, label: Indices, account: Indices, cluster: Indices, table: Floats, least: Floats
) -> Floats:
    """Each family's evidence, beyond its strongest tokens at most log(share of the members who show as much / share of outsiders who do).

    An outsider is in no cluster, and shows no more than one family's worth: who shows two may be a member that is not taken in yet. Whether he does is
    looked at a second time, when what many show has been found to say little.
    """
    clusters = max(int(label.max(initial=-1)) + 1, 1)
    member = label[account] == cluster
    size = np.bincount(label[label >= 0], minlength=clusters)[cluster]
    outside = int((graph.open & (label < 0)).sum())
    found = table.copy()
    for _ in range(_LOOKS):
        outsider = (label[account] < 0) & (independent(found) < 2)
        for family in np.flatnonzero((table > least).any(axis=0)):
            shown = cluster * _STEPS + np.minimum(table[:, family] * _STEPS_A_NAT, _STEPS - 1).astype(np.int64)
            inside = (_as_much(shown, member, clusters) - member + 0.5) / (size - member + 1.0)
            around = (_as_much(shown, outsider, clusters) - outsider + 0.5) / (outside + 1.0)
            found[:, family] = np.clip(np.log(inside / around), least[:, family], table[:, family])
    return found


def _as_much(shown: Indices, counted: Flags, clusters: int) -> Indices:
    """For each pair, how many of the `counted` ones of its cluster have at least its evidence; `shown` is the cluster and, in steps, the evidence."""
    each = np.bincount(shown[counted], minlength=clusters * _STEPS).reshape(clusters, _STEPS)
    return np.asarray(each[:, ::-1].cumsum(axis=1)[:, ::-1].ravel()[shown])


def claims(graph: Graph, label: Indices, rules: Rules) -> tuple[Indices, Indices, Floats]:
    """(account, cluster, total evidence) wherever the account's own evidence is enough to be a member."""
    clusters = max(int(label.max(initial=-1)) + 1, 1)
    account, cluster, table = evidence(graph, label, weigh(graph, label, rules), rules)
    size = np.bincount(label[label >= 0], minlength=clusters)
    total = table.sum(axis=1) + _missing(table, cluster, label[account] == cluster, size)
    share = size[cluster]
    odds = np.log(np.maximum(graph.n - share, 1) / np.maximum(share, 1)) + np.log((1 - rules.doubt) / rules.doubt)
    enough = (total >= odds) & (independent(table) >= rules.families)
    return account[enough], cluster[enough], total[enough]


def _missing(table: Floats, cluster: Indices, member: Flags, size: Indices) -> Floats:
    """What it takes off that an account lacks the content or the program that nearly all members have: a job is a job, cards and addresses are bought apart."""
    speaks = table[:, [_CONTENT, _CLIENT]] >= ENOUGH
    passed = np.stack([np.bincount(cluster[member], weights=column[member], minlength=len(size)) for column in speaks.T], axis=1)
    lacking = 1.0 - (passed + 1.0) / (size + 2.0)[:, None]
    off: Floats = np.where(speaks, 0.0, np.log(np.maximum(lacking, _FORGIVEN))[cluster]).sum(axis=1)
    return off


def independent(table: Floats) -> Indices:
    """How many independent families speak. A program brings its own headers and its own texts, so content and client count as one."""
    speaks = table >= ENOUGH
    software = speaks[:, _CONTENT] | speaks[:, _CLIENT]
    return np.asarray(speaks.sum(axis=1) - speaks[:, _CONTENT] - speaks[:, _CLIENT] + software)


def own(graph: Graph, label: Indices, weights: Weights, rules: Rules) -> Floats:
    """Each member's evidence by family, capped."""
    account, cluster, table = evidence(graph, label, weights, rules)
    home = label[account] == cluster
    mine = np.zeros((len(label), F))
    mine[account[home]] = table[home]
    return mine
