"""From seeds to clusters: every account joins the cluster whose traits it shows, on its own evidence (see `weights.py`).

Theory of operation. A cluster is described by how common each token is among its members; accounts choose by that description, which changes it, and so on
until members and description fit each other. So a stranger whom one token swept into a seed falls out, an account that
seeds missed comes in with its second exchange, and clusters whose members recognise each other's traits as their own are joined.

It goes in three steps. An actor's *parts* come first (the accounts of one sign-up day, of one program), because a part is plain where the whole is a mixture.
Parts that cards and conversations tie together far beyond chance are one *whole*; accounts that no part took may belong to that. What is left is grouped
by what it says; a crowd says the same things too, so such a group stands only when its load is dealt out evenly or ties hold it together.

Ties in a choice are broken by names, never by order of arrival.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway_guard.analysis.change import Change
from gateway_guard.analysis.graph import Graph, connected, numbered, only, topics
from gateway_guard.analysis.rhythm import Load
from gateway_guard.analysis.settings import Settings
from gateway_guard.analysis.ties import tied, woven
from gateway_guard.analysis.tokens import FAMILY_NAMES, SLOT_OF, SLOTS, SPEAKS, UNIQUE, Flags, Floats, Indices, Kind, starts
from gateway_guard.analysis.weighing import Weighing
from gateway_guard.analysis.weights import F, Rules

_DOUBT = 0.003
_DOUBT_OF_ONE = 0.01
_CEILING = 8.0
# Where one family has to carry a member alone, only things hardly ever said elsewhere speak.
_STRONG = 50.0
_HIGH_CEILING = 12.0
# Who belongs by what he says alone says it in a good part of his requests, as the others do, not once by the way.
_AS_OFTEN = 0.25
_ROUNDS = 5
_ALIKE = 0.5
_MARGIN = 3.0


@dataclass(frozen=True, slots=True)
class Grouping:
    """`label` a cluster's number for each account, -1 for none · `evidence` log-odds of each account by family, for its cluster ·
    `families` that hold for each cluster as a whole, though its members do not show them one by one.
    """

    label: Indices
    evidence: Floats
    families: Flags


def grown(graph: Graph, seed: Indices, settings: Settings, load: Load, change: Change) -> Grouping:
    """Clusters out of seeds, and out of what is left, groups that say the same things and are tied together besides."""
    first = _whole(graph, seed, settings)
    free = graph.open & (first.label < 0)
    second = _of_topics(graph, free, settings, load, change)
    taken = second.label >= 0
    label = np.where(taken, second.label + int(first.label.max(initial=-1)) + 1, first.label)
    families = np.concatenate([first.families, second.families])
    return Grouping(label, np.where(taken[:, None], second.evidence, first.evidence), families)


def _whole(graph: Graph, seed: Indices, settings: Settings) -> Grouping:
    """An actor's parts (a sign-up day, a program) are found first, then tied together; an account may belong to a part or to the whole."""
    rules = Rules(settings.families, SPEAKS, _CEILING, _DOUBT)
    weighing = Weighing(graph, rules)
    part = _settled(weighing, numbered(seed, settings.smallest), settings.smallest)
    evidence = weighing.own(part)
    label = numbered(woven(graph, part), 1)
    account, cluster, total = weighing.claims(label)
    label = np.where(label >= 0, label, _best(account, cluster, total, len(label)))
    joint = weighing.own(label)
    better = joint.sum(axis=1) > evidence.sum(axis=1)
    return Grouping(label, np.where(better[:, None], joint, evidence), np.zeros((int(label.max(initial=-1)) + 1, F), np.bool_))


def _of_topics(graph: Graph, free: Flags, settings: Settings, load: Load, change: Change) -> Grouping:
    """Groups that say the same things, in which near-unique things tie members together or load is dealt out evenly, far beyond chance.

    That is the second family, and it holds for the group; the accounts in it are told by what they say alone, so that has to be plain.
    """
    rules = Rules(1, np.where(np.arange(SLOTS) == SLOT_OF[Kind.SENTENCE], _STRONG, SPEAKS), _HIGH_CEILING, _DOUBT_OF_ONE)
    told = only(graph, free, (Kind.SENTENCE, Kind.SYSTEM, Kind.TEMPLATE, *UNIQUE))
    weighing = Weighing(told, rules)
    label = _settled(weighing, numbered(topics(told, free), settings.smallest), settings.smallest)
    label = numbered(np.where(in_earnest(label, weighing.often(label)), label, -1), settings.smallest)
    families = _second(graph, label, load, change)
    kept = np.flatnonzero(families.any(axis=1))
    number = np.full(len(families) + 1, -1)
    number[kept] = np.arange(len(kept))
    label = number[label]
    return Grouping(label, weighing.own(label), families[kept])


def in_earnest(label: Indices, often: Floats) -> Flags:
    """Members who say what speaks for their group at least a quarter as often as the typical one does."""
    clusters = int(label.max(initial=-1)) + 1
    member = np.flatnonzero(label >= 0)
    member = member[np.lexsort((often[member], label[member]))]
    size = np.bincount(label[member], minlength=clusters)
    typical = often[member[np.cumsum(size) - size + size // 2]]
    return (label >= 0) & (often >= _AS_OFTEN * np.append(typical, 0.0)[label])


def _second(graph: Graph, label: Indices, load: Load, change: Change) -> Flags:
    """Which families, beside what they say, hold each group together beyond chance."""
    families = np.zeros((int(label.max(initial=-1)) + 1, F), np.bool_)
    families[:, FAMILY_NAMES.index("identity")] = tied(graph, label, (Kind.PAYMENT,)) | change.beyond(label)
    families[:, FAMILY_NAMES.index("conversation")] = tied(graph, label, (Kind.THREAD, Kind.BLOB))
    families[:, FAMILY_NAMES.index("rhythm")] = load.even(label)
    return families


def _settled(weighing: Weighing, label: Indices, smallest: int) -> Indices:
    """Members and clusters, chosen in turns until they fit each other."""
    for _ in range(_ROUNDS):
        before = label
        account, cluster, evidence = weighing.claims(label)
        merged = np.append(_merged(label, account, cluster, evidence), -1)
        label = numbered(merged[_best(account, cluster, evidence, len(label))], smallest)
        if np.array_equal(before, label):
            break
    return label


def _best(account: Indices, cluster: Indices, evidence: Floats, accounts: int) -> Indices:
    """The cluster with the most evidence for each account, -1 for none."""
    order = np.lexsort((cluster, -np.round(evidence, 9), account))
    account, cluster = account[order], cluster[order]
    best = np.full(accounts, -1)
    first = starts(account)
    best[account[first]] = cluster[first]
    return best


def _merged(label: Indices, account: Indices, cluster: Indices, evidence: Floats) -> Indices:
    """The number of the joined cluster for each cluster: two are one when half of the smaller would be members of the larger, on evidence as
    good as for their own.
    """
    clusters = int(label.max(initial=-1)) + 1
    home = label[account]
    own = np.full(len(label), np.inf)
    own[account[home == cluster]] = evidence[home == cluster]
    other = (home >= 0) & (home != cluster) & (evidence >= own[account] - _MARGIN)
    pair, count = np.unique(home[other] * max(clusters, 1) + cluster[other], return_counts=True)
    one, two = pair // max(clusters, 1), pair % max(clusters, 1)
    alike = count >= _ALIKE * np.bincount(label[label >= 0], minlength=max(clusters, 1))[one]
    return connected(np.concatenate([one[alike], two[alike]]), np.tile(np.arange(int(alike.sum())), 2), clusters, 1)
