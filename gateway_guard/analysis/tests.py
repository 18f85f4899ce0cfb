"""Second opinion: what the pooled group looks like, member against member and against benign accounts.

One account of a campaign makes too few requests to say anything; a hundred of them together make enough. Two questions are kept apart:

* one actor, or a crowd with something in common? People are individuals: within an account lengths, turns and habits repeat, between accounts
  they differ (intraclass correlation well above 0). Requests dealt out from one queue are interchangeable: the correlation is 0.
* does the pooled traffic look like building a data set? It asks for reasoning, grading or data formats more than benign traffic does, never asks
  the same twice, comes from payers that wear many faces, and passes people's conversations on from account to account.

Sizes are effects (log ratios against benign traffic), not significances: a group does not look worse because it is large.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from gateway_guard.analysis.change import Change
from gateway_guard.analysis.graph import Graph
from gateway_guard.analysis.profile import ANSWERS, ANY, EVENTS, LENGTH, OUTPUT, TURN, Profiles
from gateway_guard.analysis.rhythm import Load
from gateway_guard.analysis.tokens import FAMILY_OF, Floats, Indices, Kind, kinds, split, starts

_REPEATED = 2.0
_ACCOUNTS = 3
_MOST = 4.0
_SOME = 1.5
_FOUR_IN_FIVE = 0.8
_FLOOR = 0.02


class Norms(msgspec.Struct, frozen=True):
    """What benign traffic looks like: intraclass correlation of lengths, turns and elicitation; `spread` of log rates; share of requests that
    elicit; share that is distinct.
    """

    length: float = 0.25
    turn: float = 0.25
    elicit: float = 0.25
    spread: float = 1.2
    asks: float = 0.02
    output: float = 200.0
    turned: float = 0.01
    distinct: float = 0.75


@dataclass(frozen=True, slots=True)
class Pooled:
    """One number a cluster and test; NaN is silence."""

    events: Floats
    alike_length: Floats
    alike_turn: Floats
    alike_elicit: Floats
    asks: Floats
    distinct: Floats
    cards: Floats
    faces: Floats
    passed_on: Floats
    even: Floats
    output: Floats
    turned: Floats


def pooled(profiles: Profiles, graph: Graph, label: Indices, load: Load, change: Change) -> Pooled:
    """All tests on all clusters."""
    clusters = int(label.max(initial=-1)) + 1
    member = np.flatnonzero(label >= 0)
    group = label[member]
    counts = profiles.counts[member].astype(np.float64)
    events = np.bincount(group, weights=counts[:, EVENTS], minlength=clusters)
    asked = counts[:, [ANY]]
    cards, faces = _faces(profiles, label, clusters)
    return Pooled(
        events=events.astype(np.float64),
        alike_length=intraclass(counts[:, LENGTH], group, clusters),
        alike_turn=intraclass(counts[:, TURN], group, clusters),
        alike_elicit=intraclass(np.hstack([asked, np.maximum(counts[:, [EVENTS]] - asked, 0.0)]), group, clusters),
        asks=_typical(counts[:, ANY], counts[:, EVENTS], group, clusters),
        distinct=distinct(profiles, label, clusters),
        cards=cards,
        faces=faces,
        passed_on=_passed_on(graph, label, clusters),
        even=load.odds(label),
        output=_answers(counts, group, clusters),
        turned=change.shares(label),
    )


def intraclass(table: Floats, group: Indices, clusters: int) -> Floats:
    """How much more two requests of one account agree than two of different accounts: 1 individuals, 0 interchangeable. NaN without enough accounts.

    Every account counts the same, however many requests it made: one busy stranger says little about a hundred others.
    """
    rows = table.sum(axis=1)
    told = rows >= _REPEATED
    table, group, rows = table[told], group[told], rows[told]
    accounts = np.bincount(group, minlength=clusters).astype(np.float64)
    share = table / rows[:, None]
    centre = np.zeros((clusters, table.shape[1]))
    np.add.at(centre, group, share)
    # Two requests of one account agree; unbiased for the finite number of its requests.
    agree = ((table * (table - 1.0)).clip(0.0).sum(axis=1)) / (rows * (rows - 1.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        within = np.bincount(group, weights=agree, minlength=clusters) / accounts
        squares = np.bincount(group, weights=(share**2).sum(axis=1), minlength=clusters)
        between = ((centre**2).sum(axis=1) - squares) / (accounts * (accounts - 1.0))
        found = (within - between) / (1.0 - between)
    return np.where((accounts >= _ACCOUNTS) & (between < 0.98), found, np.nan)


def _typical(part: Floats, whole: Floats, group: Indices, clusters: int) -> Floats:
    """The mean over members of part/whole, where nobody counts for more than four in five of the members do: two who ask for nothing else are not the group."""
    share = part / np.maximum(whole, 1.0)
    order = np.lexsort((share, group))
    size = np.bincount(group, minlength=clusters)
    begin = np.cumsum(size) - size
    most = np.append(share[order], 0.0)[np.minimum(begin + np.ceil(_FOUR_IN_FIVE * size).astype(np.int64) - 1, len(share))]
    return np.bincount(group, weights=np.minimum(share, most[group]), minlength=clusters) / np.maximum(size, 1)


def _answers(counts: Floats, group: Indices, clusters: int) -> Floats:
    """Output tokens of a typical answer: the geometric mean over members of their means. NaN without enough members who were answered."""
    told = counts[:, ANSWERS] >= 1.0
    mean = np.log(np.maximum(counts[told, OUTPUT] / counts[told, ANSWERS], 1.0))
    members = np.bincount(group[told], minlength=clusters)
    return np.where(members >= _ACCOUNTS, np.exp(np.bincount(group[told], weights=mean, minlength=clusters) / np.maximum(members, 1)), np.nan)


def distinct(profiles: Profiles, label: Indices, clusters: int) -> Floats:
    """Distinct requests among those of the members, on what profiles keep of them."""
    token, account = split(profiles.posting)
    mine = np.flatnonzero((kinds(token) == Kind.TEMPLATE) & (label[account] >= 0))
    group = label[account[mine]]
    asked = np.bincount(group, weights=np.maximum(profiles.weight[mine].astype(np.float64), 0.0), minlength=clusters)
    order = np.lexsort((token[mine], group))
    new = starts(token[mine][order]) | starts(group[order])
    # A weight fades with time, a request made once counts at most one: both sides of the ratio fade alike.
    largest = np.maximum.reduceat(profiles.weight[mine][order].astype(np.float64), np.flatnonzero(new)) if len(order) else np.zeros(0)
    once = np.bincount(group[order][new], weights=np.minimum(largest, 1.0), minlength=clusters)
    return np.where(asked >= 5.0, np.minimum(once / np.maximum(asked, 1e-9), 1.0), np.nan)


def _faces(profiles: Profiles, label: Indices, clusters: int) -> tuple[Floats, Floats]:
    """Cards that three members or more pay with, and the share of members who pay with such a card yet signed up from another network or under
    another mail domain than the others on it: one payer who poses as many customers.
    """
    births = profiles.births
    paying = np.flatnonzero((label >= 0) & (births.payment > 0))
    order = paying[np.lexsort((births.payment[paying], label[paying]))]
    new = starts(label[order]) | starts(births.payment[order])
    card = np.cumsum(new) - 1
    size = np.bincount(card)
    owner = label[order][new]
    mails, signups = _variety(card, births.mail[order]), _variety(card, births.signup[order])
    face = np.where(size >= 3, np.maximum(mails, signups) - 1, 0)
    members = np.maximum(np.bincount(label[label >= 0], minlength=clusters), 1)
    cards = np.bincount(owner[size >= 3], minlength=clusters).astype(np.float64)
    return cards, np.bincount(owner, weights=face, minlength=clusters) / members


def _variety(card: Indices, value: np.typing.NDArray[np.uint64]) -> Indices:
    """How many different values each card has."""
    order = np.lexsort((value, card))
    new = starts(card[order]) | starts(value[order])
    return np.bincount(card[order][new], minlength=int(card.max(initial=-1)) + 1)


def _passed_on(graph: Graph, label: Indices, clusters: int) -> Floats:
    """The share of members who go on with another member's conversation."""
    talk = (graph.family[graph.token] == FAMILY_OF[Kind.THREAD]) & (label[graph.account] >= 0)
    account, token = graph.account[talk], graph.token[talk]
    group = label[account]
    same = np.bincount(np.unique(token * max(clusters, 1) + group, return_inverse=True)[1]) if len(token) else np.zeros(0, np.int64)
    place = np.unique(token * max(clusters, 1) + group, return_inverse=True)[1]
    shared = np.unique(account[same[place] >= 2])
    members = np.maximum(np.bincount(label[label >= 0], minlength=clusters), 1)
    return np.bincount(label[shared], minlength=clusters) / members


@dataclass(frozen=True, slots=True)
class Scores:
    """Log-odds by test, before calibration; zero is silence."""

    interchangeable: Floats
    even: Floats
    elicits: Floats
    never_repeats: Floats
    many_faces: Floats
    passed_on: Floats
    long_answers: Floats
    changed_hands: Floats


def scored(found: Pooled, norms: Norms) -> Scores:
    """What each test adds."""
    alike = np.stack([_ratio(found.alike_length, norms.length), _ratio(found.alike_turn, norms.turn), _ratio(found.alike_elicit, norms.elicit)])
    told = np.isfinite(alike)
    repeated = 1 - np.nan_to_num(found.distinct, nan=0.0)
    return Scores(
        interchangeable=np.where(told, alike, 0.0).sum(axis=0) / np.maximum(told.sum(axis=0), 1) * 2,
        even=np.clip(np.nan_to_num(found.even, nan=0.0), 0.0, _MOST * 2),
        elicits=np.clip(_odds(found.asks) - _odds(np.full_like(found.asks, norms.asks)), 0.0, _MOST),
        never_repeats=np.where(np.isfinite(found.distinct), np.log((1 - norms.distinct + _FLOOR) / (repeated + _FLOOR)), 0.0).clip(0.0) / 2,
        many_faces=np.minimum(np.log1p(found.cards) * np.minimum(found.faces * 3, 1.0), _MOST),
        long_answers=np.clip(np.nan_to_num(np.log(np.maximum(found.output, 1.0) / norms.output), nan=0.0), -_SOME, _SOME),
        changed_hands=np.clip(np.nan_to_num(_odds(found.turned) - _odds(np.full_like(found.turned, norms.turned)), nan=0.0) - _SOME, 0.0, _MOST),
        passed_on=np.where(found.passed_on > 0, np.log1p(found.passed_on * 50), 0.0),
    )


def _ratio(found: Floats, norm: float) -> Floats:
    return np.clip(np.log(norm / np.maximum(found, norm / 20)), -3.0, 3.0)


def _odds(share: Floats) -> Floats:
    return np.log((share + _FLOOR / 4) / (1 - share + _FLOOR / 4))
