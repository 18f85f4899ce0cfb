"""What is kept of each account: a row of decayed counts and a bounded set of tokens.

A `Profiles` never changes: folding a journal in makes a new one, in time `n log n` of what was touched. So a snapshot is a reference, and a
conclusion may be drawn in a thread while events go on.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gateway_guard.analysis.journal import FIXED, VARIABLE, Journal, Newcomers, indices, numbers, times
from gateway_guard.analysis.settings import Settings
from gateway_guard.analysis.tokens import CAPS, Flags, Floats, Indices, Kind, Numbers, kinds, postings, split, starts, tokens

Counts = NDArray[np.float32]

HOURS, LENGTHS, TURNS, FAMILIES = 8, 10, 3, 8
EVENTS = 0
HOUR = slice(1, 1 + HOURS)
LENGTH = slice(HOUR.stop, HOUR.stop + LENGTHS)
TURN = slice(LENGTH.stop, LENGTH.stop + TURNS)
ELICIT = slice(TURN.stop, TURN.stop + FAMILIES)
ANY = ELICIT.stop
ANSWERS, OUTPUT = ANY + 1, ANY + 2
COLUMNS = OUTPUT + 1

BUCKET = 10800.0
BUCKETS = 64
_HOUR = 3600.0


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
    """`counts` one row an account, decayed to `at` · `active` a bit for each of the last 64 buckets of three hours · `posting` sorted, with
    `weight` (decayed count) and `seen` (hours since the epoch).
    """

    at: float
    births: Births
    first: Floats
    last: Floats
    counts: Counts
    active: Numbers
    posting: Numbers
    weight: NDArray[np.float32]
    seen: NDArray[np.uint32]

    def __len__(self) -> int:
        return len(self.first)


def blank() -> Profiles:
    """No account known."""
    none = np.zeros(0)
    whole = np.zeros(0, np.uint64)
    births = Births(none, whole, whole, whole, whole, np.zeros(0, np.bool_))
    return Profiles(0.0, births, none, none, np.zeros((0, COLUMNS), np.float32), whole, whole, np.zeros(0, np.float32), np.zeros(0, np.uint32))


def fold(profiles: Profiles, journal: Journal, settings: Settings) -> Profiles:
    """The profiles after the journal's events."""
    at = max(profiles.at, max(journal.at, default=profiles.at))
    grown = _grown(_aged(profiles, at, settings), journal.newcomers)
    if not len(journal):
        return grown
    account, when = indices(journal.account), times(journal.at)
    rows = _rows(grown, journal, account, when)
    return _noted(rows, *_postings(journal, account, when))


def _aged(profiles: Profiles, at: float, settings: Settings) -> Profiles:
    """Everything decayed to `at`, idle tokens forgotten, old activity bits cleared."""
    if not profiles.at or at <= profiles.at:
        return replace(profiles, at=at)
    fade = np.float32(0.5 ** ((at - profiles.at) / settings.half_life))
    keep = profiles.seen >= max(0.0, (at - settings.window) / _HOUR)
    return replace(
        profiles,
        at=at,
        counts=profiles.counts * fade,
        active=profiles.active & ~_between(profiles.at, at),
        posting=profiles.posting[keep],
        weight=profiles.weight[keep] * fade,
        seen=profiles.seen[keep],
    )


def _between(before: float, at: float) -> np.uint64:
    """The bits of the buckets that began after `before`, up to that of `at`: they are about to be used anew."""
    first, last = int(before // BUCKET) + 1, int(at // BUCKET)
    mask = 0
    for bucket in range(first, min(last, first + BUCKETS - 1) + 1):
        mask |= 1 << (bucket % BUCKETS)
    return np.uint64(mask)


def _grown(profiles: Profiles, new: Newcomers) -> Profiles:
    n = len(new.created)
    if not n:
        return profiles
    old = profiles.births
    births = Births(
        np.append(old.created, times(new.created)),
        np.append(old.payment, numbers(new.payment)),
        np.append(old.mail, numbers(new.mail)),
        np.append(old.signup, numbers(new.signup)),
        np.append(old.plan, numbers(new.plan)),
        np.append(old.verified, numbers(new.verified) > 0),
    )
    return replace(
        profiles,
        births=births,
        first=np.append(profiles.first, np.full(n, np.inf)),
        last=np.append(profiles.last, np.zeros(n)),
        counts=np.vstack([profiles.counts, np.zeros((n, COLUMNS), np.float32)]),
        active=np.append(profiles.active, np.zeros(n, np.uint64)),
    )


def _rows(profiles: Profiles, journal: Journal, account: Indices, when: Floats) -> Profiles:
    """Counts, times and activity with the journal's events added."""
    n = len(profiles)
    first, last, active = profiles.first.copy(), profiles.last.copy(), profiles.active.copy()
    np.minimum.at(first, account, when)
    np.maximum.at(last, account, when)
    bit = np.uint64(1) << ((when // BUCKET).astype(np.int64) % BUCKETS).astype(np.uint64)
    np.bitwise_or.at(active, account, bit)
    counts = profiles.counts.copy()
    counts[:, EVENTS] += np.bincount(account, minlength=n).astype(np.float32)
    for place, value in _placed(journal, when):
        flat = np.bincount(account * place_width(place) + value, minlength=n * place_width(place))
        counts[:, place] += flat.reshape(n, -1).astype(np.float32)
    _elicited(counts, indices(journal.elicits), account)
    _answered(counts, journal)
    return replace(profiles, first=first, last=last, active=active, counts=counts)


def place_width(place: slice) -> int:
    """How many columns a histogram has."""
    return int(place.stop - place.start)


def _placed(journal: Journal, when: Floats) -> list[tuple[slice, Indices]]:
    hour = (when / _HOUR % 24 / 24 * HOURS).astype(np.int64)
    length = np.minimum(np.log2(indices(journal.length) / 16 + 1).astype(np.int64), LENGTHS - 1)
    turns = indices(journal.turns)
    return [(HOUR, hour), (LENGTH, length), (TURN, (turns > 1).astype(np.int64) + (turns > 5))]


def _elicited(counts: Counts, elicits: Indices, account: Indices) -> None:
    n = len(counts)
    counts[:, ANY] += np.bincount(account[elicits > 0], minlength=n).astype(np.float32)
    for bit in range(FAMILIES):
        counts[:, ELICIT.start + bit] += np.bincount(account[(elicits >> bit) & 1 > 0], minlength=n).astype(np.float32)


def _answered(counts: Counts, journal: Journal) -> None:
    account, output = indices(journal.done_account), indices(journal.output)
    counts[:, ANSWERS] += np.bincount(account, minlength=len(counts)).astype(np.float32)
    counts[:, OUTPUT] += np.bincount(account, weights=output, minlength=len(counts)).astype(np.float32)


def _postings(journal: Journal, account: Indices, when: Floats) -> tuple[Numbers, Indices, NDArray[np.uint32]]:
    """Distinct postings of the journal, how often each, and when last."""
    hour = (when / _HOUR).astype(np.uint32)
    fixed = numbers(journal.fixed).reshape(-1, len(FIXED))
    token = [tokens(np.tile(np.array(FIXED), len(account)), fixed.ravel())]
    owner, hours, value = [np.repeat(account, len(FIXED))], [np.repeat(hour, len(FIXED))], [fixed.ravel()]
    many = indices(journal.counts).reshape(-1, len(VARIABLE))
    flowing = numbers(journal.flowing)
    token.append(tokens(np.repeat(np.tile(np.array(VARIABLE), len(account)), many.ravel()), flowing))
    total = many.sum(axis=1)
    owner.append(np.repeat(account, total))
    hours.append(np.repeat(hour, total))
    value.append(flowing)
    present = np.concatenate(value) > 0
    posting = postings(np.concatenate(token), np.concatenate(owner))[present]
    when_seen = np.concatenate(hours)[present]
    order = np.argsort(posting, kind="stable")
    posting, when_seen = posting[order], when_seen[order]
    begin = np.flatnonzero(starts(posting))
    return posting[begin], np.diff(np.append(begin, len(posting))), np.maximum.reduceat(when_seen, begin) if len(begin) else when_seen


def _noted(profiles: Profiles, posting: Numbers, count: Indices, seen: NDArray[np.uint32]) -> Profiles:
    """The profiles' postings with new ones merged in, each profile held to its bounds."""
    every = np.concatenate([profiles.posting, posting])
    order = np.argsort(every, kind="stable")
    every = every[order]
    begin = np.flatnonzero(starts(every))
    weight = np.add.reduceat(np.concatenate([profiles.weight, count.astype(np.float32)])[order], begin)
    last = np.maximum.reduceat(np.concatenate([profiles.seen, seen])[order], begin)
    every = every[begin]
    touched = np.zeros(len(profiles), np.bool_)
    touched[split(posting)[1]] = True
    keep = _within(every, weight, last, touched)
    return replace(profiles, posting=every[keep], weight=weight[keep], seen=last[keep])


def _within(posting: Numbers, weight: NDArray[np.float32], seen: NDArray[np.uint32], touched: Flags) -> Flags:
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
