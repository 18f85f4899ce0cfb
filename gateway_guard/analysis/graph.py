"""The bipartite graph of accounts and tokens, and the seeds of groups in it.

Pairs of accounts are never expanded. What links accounts is a *pair of tokens of two families* that go together in more accounts than
chance lets expect (a card and a sentence, a network and a sign-up hour), or a conversation that goes on under a second account. These links are
nodes like tokens are; connected accounts are a seed. A token that everybody has cannot link, and neither can one family alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from gateway_guard.analysis.profile import ELICIT, EVENTS, FAMILIES, Profiles
from gateway_guard.analysis.reference import Reference
from gateway_guard.analysis.settings import DAY
from gateway_guard.analysis.tokens import FAMILY_OF, Flags, Floats, Indices, Kind, Numbers, kinds, postings, split, starts, tokens

_PER_FAMILY = 8
_RARE = 0.05
_PAIR_AT_LEAST = 3
_ALPHA = 1e-3
_CONTENT, _CLIENT, _CONVERSATION = (int(FAMILY_OF[kind]) for kind in (Kind.SENTENCE, Kind.CLIENT, Kind.THREAD))
_SAID = (Kind.SENTENCE, Kind.SYSTEM, Kind.TEMPLATE)
# A few-shot prefix sent as turns is shared by more accounts than a conversation can be.
_MOST_PARTIES = 12


@dataclass(frozen=True, slots=True)
class Graph:
    """`account` and `token` of each edge, sorted by token; `expected`, the share of benign users of the same program who exhibit it; `often`, the share of the
    account's requests that do · for each token
    its name, `kind`, `family`, `sharers` (distinct accounts) and `usual`, the share of benign accounts that exhibit it,
    `most` that it may be without an actor's doing · `ties` cards and conversations shared by chance, for each account · `n` accounts that are active ·
    `open` accounts that may be found (not verified, not idle).
    """

    account: Indices
    token: Indices
    expected: Floats
    often: Floats
    names: Numbers
    kind: Indices
    family: Indices
    sharers: Indices
    usual: Floats
    most: Floats
    ties: float
    n: int
    open: Flags


def build(profiles: Profiles, reference: Reference, since: float) -> Graph:
    """The graph of the accounts that were active after `since`."""
    live = profiles.last >= since
    token, account = edges(profiles, live)
    begin = starts(token)
    which = np.cumsum(begin) - 1
    sharers = np.bincount(which, minlength=int(begin.sum()))
    names = token[begin]
    same = _alike(which, account, kinds(names), len(profiles), len(names))
    keep = (sharers >= 2) & (same > 0)
    number = np.cumsum(keep) - 1
    edge = keep[which]
    account, named = account[edge], names[which[edge]]
    active = int(live.sum())
    usual = reference.usual(names[keep], active) / np.where(reference.unseen(names[keep]), same[keep], 1)
    token = number[which[edge]]
    with_program = reference.usual_with(programs(profiles)[account], named, usual[token])
    return Graph(
        account=account,
        token=token,
        expected=np.where(kinds(named) == Kind.CLIENT, usual[token], np.maximum(usual[token], with_program)),
        often=_often(profiles, named, account),
        names=names[keep],
        kind=kinds(names[keep]),
        family=FAMILY_OF[kinds(names[keep])],
        sharers=sharers[keep],
        usual=usual,
        most=np.maximum(reference.most(names[keep]), usual),
        ties=reference.ties,
        n=active,
        open=live & ~profiles.births.verified,
    )


def _often(profiles: Profiles, token: Numbers, account: Indices) -> Floats:
    """The share of each account's requests that show the token; 1 of what sign-up tells."""
    wanted = postings(token, account)
    place = np.minimum(np.searchsorted(profiles.posting, wanted), max(len(profiles.posting) - 1, 0))
    shown = profiles.posting[place] == wanted if len(profiles.posting) else np.zeros(len(wanted), np.bool_)
    share = np.ones(len(wanted))
    requests = np.maximum(profiles.counts[account[shown], EVENTS].astype(np.float64), 1e-9)
    share[shown] = np.minimum(profiles.weight[place[shown]] / requests, 1.0)
    return share


def edges(profiles: Profiles, live: Flags) -> tuple[Numbers, Indices]:
    """(token, account), sorted and distinct, of the accounts in `live`."""
    every = np.concatenate([profiles.posting, *_told(profiles, live)])
    every.sort()
    every = every[starts(every)]
    token, account = split(every)
    kept = live[account]
    return token[kept], account[kept]


def programs(profiles: Profiles) -> Numbers:
    """The client token that each account shows most, 0 for none."""
    token, account = split(profiles.posting)
    client = np.flatnonzero(kinds(token) == Kind.CLIENT)
    token, account, weight = token[client], account[client], profiles.weight[client]
    order = np.lexsort((token, -weight, account))
    first = order[starts(account[order])]
    found = np.zeros(len(profiles), np.uint64)
    found[account[first]] = token[first]
    return found


def _told(profiles: Profiles, live: Flags) -> list[Numbers]:
    """Postings of what sign-up tells, and of what is asked for."""
    births, accounts = profiles.births, np.flatnonzero(live)
    created = births.created[accounts]
    known = created > 0
    half = (created // (DAY / 2)).astype(np.int64).astype(np.uint64) + np.uint64(1)
    shifted = ((created + DAY / 4) // (DAY / 2)).astype(np.int64).astype(np.uint64) + np.uint64(1 << 40)
    days = np.log2(np.maximum((profiles.at - created) / DAY, 0.25)).astype(np.int64) + 8
    told = [
        (Kind.PAYMENT, births.payment[accounts], births.payment[accounts] > 0),
        (Kind.MAIL, births.mail[accounts], births.mail[accounts] > 0),
        (Kind.SIGNUP, births.signup[accounts], births.signup[accounts] > 0),
        (Kind.PLAN, births.plan[accounts], births.plan[accounts] > 0),
        (Kind.BORN, half, known),
        (Kind.BORN, shifted, known),
        (Kind.AGE, days.astype(np.uint64), known),
    ]
    asks = profiles.counts[:, ELICIT][accounts] >= 0.5
    told += [(Kind.ELICITS, np.full(len(accounts), bit + 1, np.uint64), asks[:, bit]) for bit in range(FAMILIES)]
    return [postings(tokens(kind, values[has]), accounts[has]) for kind, values, has in told]


def _alike(which: Indices, account: Indices, kind: Indices, accounts: int, names: int) -> Indices:
    """How many tokens of a family the very same accounts share: told of the first of them, 0 of the others. The sentences of one prompt are one trait, not
    eight; but eight sentences that nobody ever used are a rarer trait than one."""
    salt = salted(accounts)
    begin = np.flatnonzero(starts(which))
    mark = np.add.reduceat(salt[account], begin) if len(begin) else np.zeros(0, np.uint64)
    mark = mark * np.uint64(31) + FAMILY_OF[kind].astype(np.uint64)
    _, first, count = np.unique(mark, return_index=True, return_counts=True)
    same = np.zeros(names, np.int64)
    same[first] = np.where(FAMILY_OF[kind[first]] == _CONTENT, count, 1)
    return same


def salted(accounts: int) -> Numbers:
    """A well-mixed number for each account: sums of them tell sets of accounts apart."""
    salt = (np.arange(1, accounts + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) ^ np.uint64(0x632BE59BD9B4E019)
    salt ^= salt >> np.uint64(29)
    return salt * np.uint64(0xBF58476D1CE4E5B9)


def seeds(graph: Graph, smallest: int) -> Indices:
    """A seed's number for each account, -1 for none: accounts that pass conversations on, and the accounts of one strong link.

    Links are not chained: a sign-up day that two strangers' groups have in common would weld them together for good.
    """
    talk = (graph.family[graph.token] == _CONVERSATION) & (graph.sharers[graph.token] <= _MOST_PARTIES) & graph.open[graph.account]
    label = connected(graph.account[talk], graph.token[talk], len(graph.open), smallest)
    account, link = _links(graph)
    free = label[account] < 0
    account, link = account[free], link[free]
    size = np.bincount(link)
    order = np.lexsort((link, -size[link], account))
    first = order[starts(account[order])]
    label[account[first]] = len(label) + link[first]
    return label


def only(graph: Graph, free: Flags, kept: tuple[Kind, ...]) -> Graph:
    """The same graph with tokens of some kinds, held against the benign history alone, and the accounts in `free` alone to be found."""
    edge = np.isin(graph.kind[graph.token], kept)
    return replace(
        graph, account=graph.account[edge], token=graph.token[edge], expected=graph.expected[edge], often=graph.often[edge], most=graph.usual, open=free
    )


def topics(graph: Graph, free: Flags) -> Indices:
    """Seeds of one family: accounts that say the same rare thing. A crowd does so too; only what else the group shows can make it an actor's."""
    edge = _rarest(graph, free)
    edge = edge[np.isin(graph.kind[graph.token[edge]], _SAID)]
    account, token = graph.account[edge], graph.token[edge]
    size = np.bincount(token, minlength=len(graph.names))
    order = np.lexsort((graph.names[token], -size[token], account))
    first = order[starts(account[order])]
    label = np.full(len(free), -1)
    label[account[first]] = token[first]
    return label


def _links(graph: Graph) -> tuple[Indices, Indices]:
    """(account, link) for every pair of rare tokens of two families that goes together beyond chance."""
    edge = _rarest(graph, graph.open)
    account, token = graph.account[edge], graph.token[edge]
    low, high = _pairs(account, graph.family[token])
    swap = token[low] > token[high]
    low, high = np.where(swap, high, low), np.where(swap, low, high)
    both, link, together = np.unique(token[low] * len(graph.names) + token[high], return_inverse=True, return_counts=True)
    one, two = both // max(len(graph.names), 1), both % max(len(graph.names), 1)
    chance = graph.n * _share(graph, one, edge[low], link) * _share(graph, two, edge[high], link)
    counted = np.where(_one_cause(graph.kind[one], graph.kind[two]), 0, together)
    strong = (counted >= _PAIR_AT_LEAST) & (log_tail(counted, chance) < np.log(_ALPHA / max(len(both), 1)))
    kept = strong[link]
    return account[low][kept], link[kept]


def _pairs(account: Indices, family: Indices) -> tuple[Indices, Indices]:
    """Places of all pairs of one account's edges that are of two families; `account` is ordered."""
    ones: list[Indices] = [np.zeros(0, np.int64)]
    others: list[Indices] = [np.zeros(0, np.int64)]
    for step in range(1, int(np.bincount(account).max(initial=1))):
        here = np.flatnonzero((account[:-step] == account[step:]) & (family[:-step] != family[step:]))
        ones.append(here)
        others.append(here + step)
    return np.concatenate(ones), np.concatenate(others)


def _share(graph: Graph, token: Indices, edge: Indices, link: Indices) -> Floats:
    """How common a link's token is: now, in the benign history, and among benign users of the programs of those whom it links."""
    count = np.maximum(np.bincount(link, minlength=len(token)), 1)
    expected = np.bincount(link, weights=graph.expected[edge], minlength=len(token)) / count
    return np.maximum(np.minimum(graph.sharers[token] / max(graph.n, 1), graph.most[token]), expected)


def _one_cause(one: Indices, two: Indices) -> Flags:
    """Pairs that one ordinary cause explains: a program brings its own headers and its own texts."""
    pair = (1 << FAMILY_OF[one]) | (1 << FAMILY_OF[two])
    return np.asarray(pair == (1 << _CONTENT) | (1 << _CLIENT))


def _rarest(graph: Graph, free: Flags) -> Indices:
    """The rarest edges of the accounts in `free`, a few of each family, ordered by account."""
    fit = (graph.expected < _RARE) & (graph.family[graph.token] != _CONVERSATION) & free[graph.account]
    edge = np.flatnonzero(fit)
    token = graph.token[edge]
    surprise = np.log(graph.sharers[token]) - np.log(graph.expected[edge])
    group = graph.account[edge] * 8 + graph.family[token]
    order = np.lexsort((graph.names[token], -surprise, group))
    edge, group = edge[order], group[order]
    place = np.arange(len(group))
    rank = place - np.maximum.accumulate(np.where(starts(group), place, 0))
    return edge[rank < _PER_FAMILY]


def log_tail(seen: Indices, expected: Floats) -> Floats:
    """Upper bound (Chernoff) on log P(X >= seen) for a Poisson number X."""
    k, mean = seen.astype(np.float64), np.maximum(expected, 1e-12)
    over = k > mean
    return np.where(over, k - mean - k * np.log(np.where(over, k, mean) / mean), 0.0)


def connected(account: Indices, link: Indices, accounts: int, smallest: int) -> Indices:
    """Connected components of accounts and links; each is numbered by its first account, small ones are -1."""
    label = np.arange(accounts)
    _, link = np.unique(link, return_inverse=True)
    links = int(link.max(initial=-1)) + 1
    while len(account):
        least = np.full(links, accounts)
        np.minimum.at(least, link, label[account])
        new = label.copy()
        np.minimum.at(new, account, least[link])
        new = new[new]
        if np.array_equal(new, label):
            break
        label = new
    size = np.bincount(label, minlength=accounts)
    return np.where(size[label] >= smallest, label, -1)


def numbered(label: Indices, smallest: int) -> Indices:
    """The same groups, numbered by their first account, without small ones."""
    _, first, group, size = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    kept = (size >= smallest) & (label[first] >= 0)
    number = np.full(len(first), -1)
    number[np.flatnonzero(kept)[np.argsort(first[kept])]] = np.arange(int(kept.sum()))
    return number[group]
