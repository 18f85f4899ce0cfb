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
* membership takes two families that one ordinary cause does not explain together: one that is plain by itself, and another beside it. It is the
  total that has to be beyond doubt.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway_guard.analysis.graph import Graph
from gateway_guard.analysis.tokens import FAMILY_NAMES, SELDOM, SLOT_OF, UNIQUE, Flags, Floats, Indices

Singles = NDArray[np.float32]
F = len(FAMILY_NAMES)
# From here on a family is plain by itself: twenty to one. Beside a plain one, seven to one speaks.
ENOUGH = 3.0
BESIDE = 2.0
_CONTENT, _CLIENT = FAMILY_NAMES.index("content"), FAMILY_NAMES.index("client")
_PRIOR = 1.0


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

    Both leave out whoever looks: what one account alone brings in proves nothing about it. Sorted by token. A cluster's depend on its own members only.
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


def independent(table: Floats | Singles, beside: float = ENOUGH) -> Indices:
    """How many independent families speak: one that is plain by itself, and those that have `beside` or more.

    A program brings its own headers and its own texts, so content and client count as one.
    """
    speaks = (table >= beside) & (table >= ENOUGH).any(axis=1, keepdims=True)
    software = speaks[:, _CONTENT] | speaks[:, _CLIENT]
    return np.asarray(speaks.sum(axis=1) - speaks[:, _CONTENT] - speaks[:, _CLIENT] + software)
