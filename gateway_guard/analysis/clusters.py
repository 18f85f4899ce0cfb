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

from gateway_guard.analysis.graph import Graph, connected, log_tail, only, topics
from gateway_guard.analysis.rhythm import WELD, Load
from gateway_guard.analysis.settings import Settings
from gateway_guard.analysis.tokens import FAMILY_NAMES, FAMILY_OF, SELDOM, SLOT_OF, SLOTS, SPEAKS, STRONGEST, UNIQUE, Flags, Floats, Indices, Kind, starts

F = len(FAMILY_NAMES)
ENOUGH = 3.0
_CONTENT, _CLIENT = FAMILY_NAMES.index("content"), FAMILY_NAMES.index("client")
_FAMILY_OF_SLOT: Indices = np.zeros(SLOTS, dtype=np.int64)
for _kind in Kind:
    _FAMILY_OF_SLOT[SLOT_OF[_kind]] = FAMILY_OF[_kind]
_PRIOR = 1.0
_DOUBT = 0.003
_CEILING = 8.0
# Where one family has to carry a member alone, only things hardly ever said elsewhere speak, and it takes two of them.
_FORGIVEN = 0.05
_GRAIN, _WIDE = 2**16, 2**20
_STRONG = 50.0
_HIGH_CEILING = 12.0
_ROUNDS = 5
_ALIKE = 0.5
_MARGIN = 3.0


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


@dataclass(frozen=True, slots=True)
class Grouping:
    """`label` a cluster's number for each account, -1 for none · `evidence` log-odds of each account by family, for its cluster ·
    `weights` by which they were found.
    """

    label: Indices
    evidence: Floats
    weights: Weights


def grown(graph: Graph, seed: Indices, settings: Settings, load: Load) -> Grouping:
    """Clusters out of seeds, and out of what is left, groups that say the same things and are tied together besides."""
    first = _whole(graph, seed, settings)
    free = graph.open & (first.label < 0)
    second = _of_topics(graph, free, settings, load)
    taken = second.label >= 0
    label = np.where(taken, second.label + int(first.label.max(initial=-1)) + 1, first.label)
    return Grouping(label, np.where(taken[:, None], second.evidence, first.evidence), first.weights)


def _whole(graph: Graph, seed: Indices, settings: Settings) -> Grouping:
    """An actor's parts (a sign-up day, a program) are found first, then tied together; an account may belong to a part or to the whole."""
    rules = Rules(settings.families, SPEAKS, _CEILING, _DOUBT)
    part = _settled(graph, _numbered(seed, settings.smallest), settings.smallest, rules)
    evidence = _own(graph, part, weigh(graph, part, rules), rules)
    label = _numbered(woven(graph, part), 1)
    account, cluster, total = _claims(graph, label, rules)
    label = np.where(label >= 0, label, _best(account, cluster, total, len(label)))
    weights = weigh(graph, label, rules)
    joint = _own(graph, label, weights, rules)
    better = joint.sum(axis=1) > evidence.sum(axis=1)
    return Grouping(label, np.where(better[:, None], joint, evidence), weights)


def _of_topics(graph: Graph, free: Flags, settings: Settings, load: Load) -> Grouping:
    """Groups that say the same things, in which near-unique things tie members together or load is dealt out evenly, far beyond chance.

    That is the second family, and it holds for the group; the accounts in it are told by what they say alone, so that has to be plain.
    """
    rules = Rules(1, np.where(np.arange(SLOTS) == SLOT_OF[Kind.SENTENCE], _STRONG, SPEAKS), _HIGH_CEILING, _DOUBT)
    told = only(graph, free, (Kind.SENTENCE, Kind.SYSTEM, Kind.TEMPLATE, *UNIQUE))
    label = _settled(told, _numbered(topics(told, free), settings.smallest), settings.smallest, rules)
    second = np.append(tied(graph, label) | load.even(label), False)
    label = _numbered(np.where(second[label] & (label >= 0), label, -1), settings.smallest)
    weights = weigh(told, label, rules)
    return Grouping(label, _own(told, label, weights, rules), weights)


def tied(graph: Graph, label: Indices) -> Flags:
    """Whether each cluster holds more near-unique ties inside than chance can explain."""
    clusters = int(label.max(initial=-1)) + 1
    edge = np.flatnonzero(_unique_kind(graph)[graph.token] & (label[graph.account] >= 0))
    both, count = np.unique(graph.token[edge] * max(clusters, 1) + label[graph.account[edge]], return_counts=True)
    inside = np.bincount((both % max(clusters, 1))[count >= 2], minlength=clusters)[:clusters]
    size = np.bincount(label[label >= 0], minlength=clusters)
    chance = graph.ties * graph.n * (size / max(graph.n, 1)) ** 2
    return np.asarray(log_tail(inside, chance) < np.log(WELD / max(clusters, 1)))


def _settled(graph: Graph, label: Indices, smallest: int, rules: Rules) -> Indices:
    """Members and clusters, chosen in turns until they fit each other."""
    for _ in range(_ROUNDS):
        before = label
        account, cluster, evidence = _claims(graph, label, rules)
        merged = np.append(_merged(label, account, cluster, evidence), -1)
        label = _numbered(merged[_best(account, cluster, evidence, len(label))], smallest)
        if np.array_equal(before, label):
            break
    return label


def woven(graph: Graph, label: Indices) -> Indices:
    """Clusters that near-unique things tie together (one card, one conversation in both) far beyond chance are one, however their sign-up days differ."""
    label = label.copy()
    while True:
        clusters = int(label.max(initial=-1)) + 1
        one, two, ties = _ties(graph, label)
        if not len(one):
            return label
        size = np.bincount(label[label >= 0], minlength=clusters).astype(np.float64)
        tokens = min(float(_unique_kind(graph).sum()), graph.ties * graph.n)
        chance = 2.0 * tokens * size[one] * size[two] / graph.n**2
        score = -log_tail(ties, chance) + _same_program(graph, label, one, two)
        score = np.where(ties >= 2, score, 0.0)
        best = np.lexsort((two, one, -score))[0]
        if score[best] < np.log(clusters**2 / 2 / WELD):
            return label
        label = _numbered(np.where(label == two[best], one[best], label), 1)


def _unique_kind(graph: Graph) -> Flags:
    """Tokens that hardly anybody shares by chance."""
    return np.isin(graph.kind, UNIQUE) & (graph.usual < SELDOM)


def _ties(graph: Graph, label: Indices) -> tuple[Indices, Indices, Indices]:
    """(cluster, cluster, number of near-unique tokens that both show), the smaller number first."""
    clusters = max(int(label.max(initial=-1)) + 1, 1)
    edge = np.flatnonzero(_unique_kind(graph)[graph.token] & (label[graph.account] >= 0))
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
    clusters = int(label.max(initial=-1)) + 1
    edge = np.flatnonzero((graph.kind[graph.token] == Kind.CLIENT) & (label[graph.account] >= 0))
    both, count = np.unique(label[graph.account[edge]] * len(graph.names) + graph.token[edge], return_counts=True)
    cluster, token = both // max(len(graph.names), 1), both % max(len(graph.names), 1)
    most = np.full(clusters, -1)
    mostly = count > np.bincount(label[label >= 0], minlength=clusters)[cluster] / 2
    most[cluster[mostly]] = token[mostly]
    rare = -np.log(np.maximum(np.minimum(graph.sharers / max(graph.n, 1), graph.most), graph.usual))
    return np.where((most[one] >= 0) & (most[one] == most[two]), rare[most[one]], 0.0)


def _numbered(label: Indices, smallest: int) -> Indices:
    """The same groups, numbered by their first account, without small ones."""
    _, first, group, size = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    kept = (size >= smallest) & (label[first] >= 0)
    number = np.full(len(first), -1)
    number[np.flatnonzero(kept)[np.argsort(first[kept])]] = np.arange(int(kept.sum()))
    return number[group]


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
    speaks = (within > around * rules.speaks[SLOT_OF[graph.kind[token]]]) & ((count >= 2) | _unique_kind(graph)[token])
    return Weights(token[speaks], cluster[speaks], inside[speaks], beside[speaks], within[speaks], around[speaks])


def _evidence(graph: Graph, label: Indices, weights: Weights, rules: Rules, *, home: bool) -> tuple[Indices, Indices, Floats]:
    """(account, cluster, evidence by family) for every open account and each cluster for which its tokens speak; with `home`, for members and theirs alone.

    Of every slot the strongest few tokens count, and no family more than the ceiling. One sort of plain integers does it: account, cluster, slot and the weight
    itself are packed into a key.
    """
    clusters = max(int(label.max(initial=-1)) + 1, 1)
    many = np.bincount(weights.token, minlength=len(graph.names))
    times = np.where(label[graph.account] >= 0 if home else graph.open[graph.account], many[graph.token], 0)
    edge = np.repeat(np.arange(len(times)), times)
    begin = (np.cumsum(many) - many)[graph.token]
    place = np.repeat(begin - np.cumsum(times) + times, times) + np.arange(len(edge))
    if home:
        mine = label[graph.account[edge]] == weights.cluster[place]
        edge, place = edge[mine], place[mine]
    owner, cluster = graph.account[edge], weights.cluster[place]
    inside = label[owner] == cluster
    share = np.where(inside, weights.inside[place], weights.within[place])
    usual = np.maximum(np.where(inside, weights.beside[place], weights.around[place]), graph.expected[edge])
    slot = SLOT_OF[graph.kind[graph.token[edge]]]
    says = share > usual * rules.speaks[slot]
    weight = np.minimum(np.log(share[says] / usual[says]) * _GRAIN, _WIDE - 1).astype(np.int64)
    key = (((owner[says] * clusters + cluster[says]) * SLOTS + slot[says]) * _WIDE) + (_WIDE - 1 - weight)
    key.sort()
    return _tallied(key, clusters, rules.ceiling)


def _tallied(key: Indices, clusters: int, ceiling: float) -> tuple[Indices, Indices, Floats]:
    group, weight = key // _WIDE, (_WIDE - 1 - key % _WIDE) / _GRAIN
    place = np.arange(len(key))
    rank = place - np.maximum.accumulate(np.where(starts(group), place, 0))
    slot = group % SLOTS
    strong = rank < STRONGEST[slot]
    pair, slot, weight = (group // SLOTS)[strong], slot[strong], weight[strong]
    first = starts(pair)
    row = np.cumsum(first) - 1
    pair = pair[first]
    table = np.bincount(row * F + _FAMILY_OF_SLOT[slot], weights=weight, minlength=len(pair) * F).reshape(len(pair), F)
    return pair // clusters, pair % clusters, np.minimum(table, ceiling)


def _claims(graph: Graph, label: Indices, rules: Rules) -> tuple[Indices, Indices, Floats]:
    """(account, cluster, total evidence) wherever the account's own evidence is enough to be a member."""
    clusters = max(int(label.max(initial=-1)) + 1, 1)
    account, cluster, table = _evidence(graph, label, weigh(graph, label, rules), rules, home=False)
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


def _own(graph: Graph, label: Indices, weights: Weights, rules: Rules) -> Floats:
    """Each member's evidence by family, capped."""
    account, _, table = _evidence(graph, label, weights, rules, home=True)
    own = np.zeros((len(label), F))
    own[account] = table
    return own
