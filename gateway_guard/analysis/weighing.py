"""Accounts on the scales: how much the tokens of each say for each cluster of which it shows something plain.

It is most of what a conclusion costs, and it is asked for many times while members and clusters are chosen in turns. What is said for a cluster depends on
that cluster's members alone, so only clusters whose members changed are weighed again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway_guard.analysis.graph import Graph, salted
from gateway_guard.analysis.tokens import FAMILY_NAMES, FAMILY_OF, SLOT_OF, SLOTS, STRONGEST, Flags, Floats, Indices, Kind, Numbers, starts
from gateway_guard.analysis.weights import BESIDE, ENOUGH, F, Rules, Singles, Weights, independent, weigh

_CONTENT, _CLIENT = FAMILY_NAMES.index("content"), FAMILY_NAMES.index("client")
_FAMILY_OF_SLOT: Indices = np.zeros(SLOTS, dtype=np.int64)
for _kind in Kind:
    _FAMILY_OF_SLOT[SLOT_OF[_kind]] = FAMILY_OF[_kind]
# Families in which several tokens of one slot add up.
_ADDS_UP: Indices = np.unique(_FAMILY_OF_SLOT[STRONGEST > 1])
_FORGIVEN = 0.05
# Where the second family is not plain by itself, a third of the doubt is left to the whole.
_FAINT = np.log(3.0)
_LOOKS = 2
# Evidence is compared in steps of an eighth of a nat.
_STEPS, _STEPS_A_NAT = 128, 8.0
# A weight as an integer, in the low bits of a key that is sorted: 2**-16 nats, 16 nats at most.
_GRAIN, _WIDE, _BITS = 2**16, 2**20, 20
# Pairs, and cells of a table of tokens by clusters, that are looked at at once: they bound memory.
_PAIRS, _CELLS = 100_000, 4_000_000


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of an open account and a cluster, in no order: `evidence` by family and pair; `least` of each slot's strongest token alone, for families in
    which several add up. Single precision holds the grain of a weight exactly.
    """

    account: Indices
    cluster: Indices
    evidence: Singles
    least: Singles

    @property
    def table(self) -> Singles:
        """The evidence, a row a pair."""
        return self.evidence.T


_NONE = Pairs(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((F, 0), np.float32), np.zeros((len(_ADDS_UP), 0), np.float32))


def _joined(parts: list[Pairs]) -> Pairs:
    return Pairs(*(np.concatenate([getattr(part, name) for part in parts], axis=-1) for name in ("account", "cluster", "evidence", "least")))


class Weighing:
    """One graph under one set of rules. Labels are each account's cluster, numbered from 0 without gaps, -1 for none."""

    def __init__(self, graph: Graph, rules: Rules) -> None:
        self.graph, self.rules = graph, rules
        slot = SLOT_OF[graph.kind[graph.token]]
        order = np.argsort(graph.account * SLOTS + slot, kind="stable")
        self._account, self._token, self._slot = graph.account[order], graph.token[order], slot[order]
        self._expected = np.log(graph.expected[order])
        self._salt = salted(len(graph.open))
        self._marks = np.zeros(0, np.uint64)
        self._known = _NONE
        self._last: tuple[Indices, Pairs] = np.zeros(0, np.int64), _NONE

    def evidence(self, label: Indices) -> Pairs:
        """Every open account's evidence for each cluster of which it shows something plain, by family.

        Of every slot the strongest few tokens count, and no family more than the ceiling.
        """
        if np.array_equal(label, self._last[0]):
            return self._last[1]
        marks = self._marked(label)
        number = _places(marks, self._marks)
        fresh = np.isin(np.arange(len(marks)), number, invert=True)
        found = _joined([self._kept(number), *self._weighed(label, fresh)])
        self._marks, self._known = marks, found
        self._last = label, self._tempered(label, found) if self.rules.families > 1 else found
        return self._last[1]

    def _kept(self, number: Indices) -> Pairs:
        """What was weighed last for clusters that are still the same; `number` is what each is called now, -1 if it is gone."""
        known = self._known
        cluster = number[known.cluster]
        if (number >= 0).all():
            return Pairs(known.account, cluster, known.evidence, known.least)
        same = np.flatnonzero(cluster >= 0)
        return Pairs(known.account[same], cluster[same], known.evidence.take(same, axis=1), known.least.take(same, axis=1))

    def claims(self, label: Indices) -> tuple[Indices, Indices, Floats]:
        """(account, cluster, total evidence) wherever the account's own evidence is enough to be a member."""
        pairs = self.evidence(label)
        account, cluster, table = pairs.account, pairs.cluster, pairs.table
        size = np.bincount(label[label >= 0], minlength=1)
        total = table.sum(axis=1) + _missing(table, cluster, label[account] == cluster, size)
        share = size[cluster]
        doubt = self.rules.doubt
        odds = np.log(np.maximum(self.graph.n - share, 1) / np.maximum(share, 1)) + np.log((1 - doubt) / doubt)
        odds += np.where(independent(table) < self.rules.families, _FAINT, 0.0)
        enough = (total >= odds) & (independent(table, BESIDE) >= self.rules.families)
        return account[enough], cluster[enough], total[enough]

    def own(self, label: Indices) -> Floats:
        """Each member's evidence by family for its own cluster, capped."""
        pairs = self.evidence(label)
        home = label[pairs.account] == pairs.cluster
        mine = np.zeros((len(label), F))
        mine[pairs.account[home]] = pairs.table[home]
        return mine

    def often(self, label: Indices) -> Floats:
        """What shares of each member's requests show what speaks for its cluster, added up over tokens: a request that shows two counts twice."""
        graph, found = self.graph, weigh(self.graph, label, self.rules)
        clusters = int(label.max(initial=0)) + 1
        speaks = np.isin(graph.token * clusters + label[graph.account], found.token * clusters + found.cluster) & (label[graph.account] >= 0)
        return np.bincount(graph.account[speaks], weights=graph.often[speaks], minlength=len(label)).astype(np.float64)

    def _marked(self, label: Indices) -> Numbers:
        """One number for each cluster's set of members."""
        member = np.flatnonzero(label >= 0)
        member = member[np.argsort(label[member], kind="stable")]
        return np.add.reduceat(self._salt[member], np.flatnonzero(starts(label[member]))) if len(member) else np.zeros(0, np.uint64)

    def _weighed(self, label: Indices, fresh: Flags) -> Iterator[Pairs]:
        """Pairs of the clusters in `fresh`, slice by slice."""
        renumbered = np.append(np.where(fresh, np.cumsum(fresh) - 1, -1), -1)
        number = np.flatnonzero(fresh)
        label = renumbered[label]
        weights = weigh(self.graph, label, self.rules)
        account, cluster = self._candidates(label, weights, len(number))
        for pairs in _Scales(self, label, weights).on(account, cluster):
            yield Pairs(pairs.account, number[pairs.cluster], pairs.evidence, pairs.least)

    def _candidates(self, label: Indices, weights: Weights, clusters: int) -> tuple[Indices, Indices]:
        """(account, cluster), by cluster: where a token is plain by itself or of a slot where several add up, and members with their own cluster.

        Common things (a model, a plan) speak for hundreds of clusters a little; to weigh them for everybody would cost the square of what is found.
        """
        graph = self.graph
        adds_up = STRONGEST[SLOT_OF[graph.kind[weights.token]]] > 1
        plain = np.flatnonzero(adds_up | (np.log(weights.within / weights.around) >= ENOUGH))
        many = np.bincount(weights.token[plain], minlength=len(graph.names))
        edge, place = _spread(np.where(graph.open[graph.account], many[graph.token], 0), (np.cumsum(many) - many)[graph.token])
        member = np.flatnonzero((label >= 0) & graph.open)
        cluster = np.concatenate([weights.cluster[plain[place]], label[member]])
        pair = cluster * len(label) + np.concatenate([graph.account[edge], member])
        pair.sort()
        pair = pair[starts(pair)]
        return pair % max(len(label), 1), pair // max(len(label), 1)

    def _tempered(self, label: Indices, pairs: Pairs) -> Pairs:
        """Each family's evidence, beyond its strongest tokens at most log(share of the members who show as much / share of outsiders who do).

        An outsider is in no cluster, and shows no more than one family's worth: who shows two may be a member that is not taken in yet. Whether he does is
        looked at a second time, when what many show has been found to say little.
        """
        account, cluster = pairs.account, pairs.cluster
        clusters = int(label.max(initial=0)) + 1
        member, nobody = label[account] == cluster, np.flatnonzero(label[account] < 0)
        size = np.bincount(label[label >= 0], minlength=clusters)[cluster] - member + 1.0
        outside = int((self.graph.open & (label < 0)).sum()) + 1.0
        found = pairs.evidence.copy()
        shown = {int(family): cluster * _STEPS + _steps(found[family]) for family in _ADDS_UP}
        more = [np.flatnonzero(pairs.evidence[family] > least) for family, least in zip(_ADDS_UP, pairs.least, strict=True)]
        inside = [_as_much(steps[member], clusters)[steps[rows]] for steps, rows in zip(shown.values(), more, strict=True)]
        inside = [(share - member[rows] + 0.5) / size[rows] * outside for share, rows in zip(inside, more, strict=True)]
        for _ in range(_LOOKS):
            outsider = np.zeros(len(account), np.bool_)
            outsider[nobody[independent(found[:, nobody].T) < 2]] = True
            for (family, steps), rows, share, least in zip(shown.items(), more, inside, pairs.least, strict=True):
                around = _as_much(steps[outsider], clusters)[steps[rows]] - outsider[rows] + 0.5
                found[family, rows] = np.clip(np.log(share / around), least[rows], pairs.evidence[family, rows])
        return Pairs(account, cluster, found, pairs.least)

    def by_account(self, spoken: Flags) -> tuple[Indices, Indices, Indices]:
        """Edges of tokens that speak at all, by account and slot; for each account how many, and where they begin."""
        edge = np.flatnonzero(spoken[self._token])
        held = np.bincount(self._account[edge], minlength=len(self.graph.open))
        return edge, held, np.cumsum(held) - held

    def edges(self, edge: Indices) -> tuple[Indices, Indices, Floats]:
        """(token, slot, log of how usual it is) of some edges."""
        return self._token[edge], self._slot[edge], self._expected[edge]


class _Scales:
    """What each token of an account says for a cluster, added up by slot and family."""

    def __init__(self, weighing: Weighing, label: Indices, weights: Weights) -> None:
        self._label, self._rules = label, weighing.rules
        spoken = np.bincount(weights.token, minlength=len(weighing.graph.names)) > 0
        self._column = np.cumsum(spoken) - 1
        self._width = int(spoken.sum())
        edge, self._held, self._begin = weighing.by_account(spoken)
        token, self._slot, self._expected = weighing.edges(edge)
        self._token = self._column[token]
        order = np.argsort(weights.cluster, kind="stable")
        self._cluster, self._row = weights.cluster[order], self._column[weights.token[order]]
        # A stranger's view of a token first, then a member's.
        self._share = np.log(np.concatenate([weights.within[order], weights.inside[order]]))
        self._usual = np.log(np.concatenate([weights.around[order], weights.beside[order]]))

    def on(self, account: Indices, cluster: Indices) -> Iterator[Pairs]:
        """The evidence of pairs that are ordered by cluster. A few clusters at a time are laid out as a table of their tokens, which is quick to look up."""
        rows = max(_CELLS // max(self._width, 1), 1)
        for first in range(0, int(cluster.max(initial=-1)) + 1, rows):
            mine = slice(*np.searchsorted(self._cluster, (first, first + rows)))
            table = np.full((rows, self._width), -1, np.int32)
            table[self._cluster[mine] - first, self._row[mine]] = np.arange(mine.start, mine.stop)
            begin, end = np.searchsorted(cluster, (first, first + rows))
            for place in range(begin, end, _PAIRS):
                part = slice(place, min(place + _PAIRS, end))
                yield self._part(account[part], cluster[part], table, first)

    def _part(self, account: Indices, cluster: Indices, table: NDArray[np.int32], first: int) -> Pairs:
        pair, edge = _spread(self._held[account], self._begin[account])
        entry = table.ravel()[(cluster - first)[pair] * self._width + self._token[edge]]
        hit = np.flatnonzero(entry >= 0)
        pair, edge, entry = pair[hit], edge[hit], entry[hit].astype(np.int64)
        entry += (self._label[account] == cluster)[pair] * len(self._cluster)
        weight = self._share[entry] - np.maximum(self._usual[entry], self._expected[edge])
        slot = self._slot[edge]
        says = weight > np.log(self._rules.speaks)[slot]
        packed = np.minimum(weight[says] * _GRAIN, _WIDE - 1).astype(np.int64)
        pair, *tables = _tallied((pair[says] * SLOTS + slot[says]) << _BITS | (_WIDE - 1 - packed), self._rules.ceiling)
        return Pairs(account[pair], cluster[pair], *tables)


def _tallied(key: Indices, ceiling: float) -> tuple[Indices, Singles, Singles]:
    """(pair, evidence by family, `least`). A key is pair, slot and, falling, the weight."""
    key.sort()
    group, weight = key >> _BITS, (_WIDE - 1 - (key & (_WIDE - 1))) / _GRAIN
    place = np.arange(len(key))
    rank = place - np.maximum.accumulate(np.where(starts(group), place, 0))
    slot = group & (SLOTS - 1)
    strong = np.flatnonzero(rank < STRONGEST[slot])
    pair, weight, alone = (group // SLOTS)[strong], weight[strong], rank[strong] == 0
    first = starts(pair)
    row, pair = np.cumsum(first) - 1, pair[first]
    cell = _FAMILY_OF_SLOT[slot[strong]] * len(pair) + row
    every, least = (
        np.minimum(np.bincount(cell, weights=part, minlength=F * len(pair)).reshape(F, len(pair)), ceiling).astype(np.float32)
        for part in (weight, np.where(alone, weight, 0.0))
    )
    return pair, every, least[_ADDS_UP]


def _spread(times: Indices, begin: Indices) -> tuple[Indices, Indices]:
    """Each place as often as `times` says, and beside it the numbers from its `begin` on."""
    place = np.repeat(np.arange(len(times)), times)
    return place, np.repeat(begin - np.cumsum(times) + times, times) + np.arange(len(place))


def _places(now: Numbers, before: Numbers) -> Indices:
    """Where each number of `before` stands in `now`, -1 for nowhere."""
    if not len(now):
        return np.full(len(before), -1)
    order = np.argsort(now, kind="stable")
    place = order[np.minimum(np.searchsorted(now[order], before), len(now) - 1)]
    return np.where(now[place] == before, place, -1)


def _steps(evidence: Singles) -> Indices:
    return np.asarray(np.minimum(evidence * _STEPS_A_NAT, _STEPS - 1), np.int64)


def _as_much(counted: Indices, clusters: int) -> Indices:
    """How many of the `counted` show so much or more: for each cluster and each step of evidence."""
    each = np.bincount(counted, minlength=clusters * _STEPS).reshape(clusters, _STEPS)
    return np.asarray(each[:, ::-1].cumsum(axis=1)[:, ::-1].ravel())


def _missing(table: Singles, cluster: Indices, member: Flags, size: Indices) -> Floats:
    """What it takes off that an account lacks the content or the program that nearly all members have: a job is a job, cards and addresses are bought apart."""
    speaks = table[:, [_CONTENT, _CLIENT]] >= ENOUGH
    passed = np.stack([np.bincount(cluster[member], weights=column[member], minlength=len(size)) for column in speaks.T], axis=1)
    lacking = 1.0 - (passed + 1.0) / (size + 2.0)[:, None]
    off: Floats = np.where(speaks, 0.0, np.log(np.maximum(lacking, _FORGIVEN))[cluster]).sum(axis=1)
    return off
