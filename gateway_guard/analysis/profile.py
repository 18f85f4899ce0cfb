"""What is kept of each account: a row of decayed counts and a bounded set of tokens.

A `Profiles` never changes: folding a journal in makes a new one, in time `n log n` of what was touched. So a snapshot is a reference, and a
conclusion may be drawn in a thread while events go on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway_guard.analysis.journal import FIXED, VARIABLE, Journal, Newcomers, indices, numbers, times
from gateway_guard.analysis.settings import Settings
from gateway_guard.analysis.tokens import CAPS, Flags, Floats, Indices, Kind, Numbers, kinds, postings, split, starts, tokens

Counts = NDArray[np.float32]
Hours = NDArray[np.uint16]

LENGTHS, TURNS, FAMILIES = 10, 3, 8
EVENTS = 0
LENGTH = slice(1, 1 + LENGTHS)
TURN = slice(LENGTH.stop, LENGTH.stop + TURNS)
ELICIT = slice(TURN.stop, TURN.stop + FAMILIES)
ANY = ELICIT.stop
ANSWERS, OUTPUT = ANY + 1, ANY + 2
COLUMNS = OUTPUT + 1

HOUR = 3600.0
_LAST_HOUR = 2**16 - 1


@dataclass(frozen=True, slots=True)
class Births:
    """Sign-up data of each account, as the directory told them when the account was first seen."""

    created: Floats
    payment: Numbers
    mail: Numbers
    signup: Numbers
    plan: Numbers
    verified: Flags


@dataclass(frozen=True, slots=True)
class Profiles:
    """`counts` one row an account, decayed to `at` · `posting` sorted, with `weight` (decayed count) and when it was seen first (`since`) and last (`seen`),
    in hours after `base`.
    """

    at: float
    base: float
    births: Births
    first: Floats
    last: Floats
    counts: Counts
    posting: Numbers
    weight: NDArray[np.float32]
    since: Hours
    seen: Hours

    def __len__(self) -> int:
        return len(self.first)


def blank() -> Profiles:
    """No account known."""
    none, whole, hours = np.zeros(0), np.zeros(0, np.uint64), np.zeros(0, np.uint16)
    births = Births(none, whole, whole, whole, whole, np.zeros(0, np.bool_))
    return Profiles(0.0, 0.0, births, none, none, np.zeros((0, COLUMNS), np.float32), whole, np.zeros(0, np.float32), hours, hours)


def fold(profiles: Profiles, journal: Journal, settings: Settings) -> Profiles:
    """The profiles after the journal's events."""
    at = max(profiles.at, max(journal.at, default=profiles.at))
    grown = _grown(_aged(profiles, at, settings), journal.newcomers)
    if not len(journal):
        return _late(grown, journal)
    account, when = indices(journal.account), times(journal.at)
    based = grown if grown.base else replace(grown, base=float(when.min()) // HOUR * HOUR)
    return _noted(_rows(based, journal, account, when), *_postings(journal, account, hours(based, when)))


def _late(profiles: Profiles, journal: Journal) -> Profiles:
    """With the answers that ended in a time without requests."""
    if not journal.done_account:
        return profiles
    counts = profiles.counts.copy()
    _answered(counts, journal)
    return replace(profiles, counts=counts)


def hours(profiles: Profiles, when: Floats) -> Hours:
    """Times as whole hours after the profiles' base."""
    return np.clip((when - profiles.base) / HOUR, 0, _LAST_HOUR).astype(np.uint16)


def _aged(profiles: Profiles, at: float, settings: Settings) -> Profiles:
    """Everything decayed to `at`, idle tokens forgotten."""
    if not profiles.at or at <= profiles.at:
        return replace(profiles, at=at)
    fade = np.float32(0.5 ** ((at - profiles.at) / settings.half_life))
    keep = profiles.seen >= (at - settings.window - profiles.base) / HOUR
    return replace(
        profiles,
        at=at,
        counts=profiles.counts * fade,
        posting=profiles.posting[keep],
        weight=profiles.weight[keep] * fade,
        since=profiles.since[keep],
        seen=profiles.seen[keep],
    )


def _grown(profiles: Profiles, new: Newcomers) -> Profiles:
    """Rows for new accounts; one may take the row of an account that was forgotten."""
    if not len(new):
        return profiles
    row = indices(new.number)
    more = max(int(row.max()) + 1 - len(profiles), 0)
    old = profiles.births

    def column(before: Any, values: Any) -> Any:
        grown = np.append(before, np.zeros(more, before.dtype))
        grown[row] = values
        return grown

    births = Births(
        column(old.created, times(new.created)),
        column(old.payment, numbers(new.payment)),
        column(old.mail, numbers(new.mail)),
        column(old.signup, numbers(new.signup)),
        column(old.plan, numbers(new.plan)),
        column(old.verified, numbers(new.verified) > 0),
    )
    counts = np.vstack([profiles.counts, np.zeros((more, COLUMNS), np.float32)])
    counts[row] = 0.0
    return replace(profiles, births=births, first=column(profiles.first, np.inf), last=column(profiles.last, 0.0), counts=counts)


def _rows(profiles: Profiles, journal: Journal, account: Indices, when: Floats) -> Profiles:
    """Counts and times with the journal's events added."""
    n = len(profiles)
    first, last, counts = profiles.first.copy(), profiles.last.copy(), profiles.counts.copy()
    np.minimum.at(first, account, when)
    np.maximum.at(last, account, when)
    counts[:, EVENTS] += np.bincount(account, minlength=n).astype(np.float32)
    length = np.minimum(np.log2(indices(journal.length) / 16 + 1).astype(np.int64), LENGTHS - 1)
    turns = indices(journal.turns)
    for place, value in ((LENGTH, length), (TURN, (turns > 1).astype(np.int64) + (turns > 5))):
        width = place.stop - place.start
        counts[:, place] += np.bincount(account * width + value, minlength=n * width).reshape(n, -1).astype(np.float32)
    _elicited(counts, indices(journal.elicits), account)
    _answered(counts, journal)
    return replace(profiles, first=first, last=last, counts=counts)


def _elicited(counts: Counts, elicits: Indices, account: Indices) -> None:
    n = len(counts)
    counts[:, ANY] += np.bincount(account[elicits > 0], minlength=n).astype(np.float32)
    for bit in range(FAMILIES):
        counts[:, ELICIT.start + bit] += np.bincount(account[(elicits >> bit) & 1 > 0], minlength=n).astype(np.float32)


def _answered(counts: Counts, journal: Journal) -> None:
    account, output = indices(journal.done_account), indices(journal.output)
    counts[:, ANSWERS] += np.bincount(account, minlength=len(counts)).astype(np.float32)
    counts[:, OUTPUT] += np.bincount(account, weights=output, minlength=len(counts)).astype(np.float32)


def _postings(journal: Journal, account: Indices, hour: Hours) -> tuple[Numbers, Indices, Hours, Hours]:
    """Distinct postings of the journal, how often each, when first and when last."""
    fixed, many, flowing = numbers(journal.fixed), indices(journal.counts).reshape(-1, len(VARIABLE)), numbers(journal.flowing)
    times_each = many.sum(axis=1)
    token = np.concatenate(
        [
            tokens(np.tile(np.array(FIXED), len(account)), fixed),
            tokens(np.repeat(np.tile(np.array(VARIABLE), len(account)), many.ravel()), flowing),
        ]
    )
    event = np.concatenate([np.repeat(np.arange(len(account)), len(FIXED)), np.repeat(np.arange(len(account)), times_each)])
    told = np.concatenate([fixed, flowing]) > 0
    posting, event = postings(token, account[event])[told], event[told]
    order = np.argsort(posting, kind="stable")
    posting, when = posting[order], hour[event[order]]
    begin = np.flatnonzero(starts(posting))
    if not len(begin):
        return posting, begin, when, when
    return posting[begin], np.diff(np.append(begin, len(posting))), np.minimum.reduceat(when, begin), np.maximum.reduceat(when, begin)


def _noted(profiles: Profiles, posting: Numbers, count: Indices, since: Hours, seen: Hours) -> Profiles:
    """The profiles' postings with new ones merged in, each profile held to its bounds."""
    every = np.concatenate([profiles.posting, posting])
    if not len(every):
        return profiles
    order = np.argsort(every, kind="stable")
    every = every[order]
    begin = np.flatnonzero(starts(every))
    weight = np.add.reduceat(np.concatenate([profiles.weight, count.astype(np.float32)])[order], begin)
    first = np.minimum.reduceat(np.concatenate([profiles.since, since])[order], begin)
    last = np.maximum.reduceat(np.concatenate([profiles.seen, seen])[order], begin)
    every = every[begin]
    touched = np.zeros(len(profiles), np.bool_)
    touched[split(posting)[1]] = True
    keep = _within(every, weight, last, touched)
    return replace(profiles, posting=every[keep], weight=weight[keep], since=first[keep], seen=last[keep])


def _within(posting: Numbers, weight: NDArray[np.float32], seen: Hours, touched: Flags) -> Flags:
    """What stays of each profile: of every kind the tokens that others share, then the more frequent, then the more recent, then the smaller hash.

    The last rule lets two accounts keep the same ones: a sample by hash is the same sample everywhere.
    """
    token, account = split(posting)
    keep = np.ones(len(posting), np.bool_)
    place = np.flatnonzero(touched[account])
    kind = kinds(token[place])
    group = account[place] * len(CAPS) + kind
    full = np.bincount(group, minlength=1) > np.tile(CAPS, len(touched))[: group.max(initial=0) + 1]
    over = full[group]
    place, group, kind = place[over], group[over], kind[over]
    begin = starts(token)
    sharers = np.bincount(np.cumsum(begin) - 1)[(np.cumsum(begin) - 1)[place]]
    sampled = kind == Kind.TEMPLATE  # by hash alone: what is kept of the requests must be a fair sample, or repeats would look frequent
    rarity = np.where(sampled, False, sharers < 2)
    often, recent = np.where(sampled, 0.0, -weight[place]), np.where(sampled, 0, ~seen[place])
    order = np.lexsort((token[place], recent, often, rarity, group))
    rank = np.arange(len(order)) - np.maximum.accumulate(np.where(starts(group[order]), np.arange(len(order)), 0))
    keep[place[order]] = rank < CAPS[kind[order]]
    return keep
