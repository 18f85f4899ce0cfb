"""What is usual: how many benign accounts exhibit each token, from the operator's own history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway_guard.analysis.tokens import SELDOM, UNIQUE, Flags, Floats, Indices, Numbers, kinds, starts


@dataclass(frozen=True, slots=True)
class Reference:
    """`token` sorted, `sharers` of each, among `accounts` benign accounts. Tokens that are not listed were seen under one account at most.

    `ties` near-unique tokens (cards, conversations) that two accounts or more share, for each account. `joint` and `together` say
    the same of (client, token) pairs: what users of one program have in common is that program's doing.
    """

    token: Numbers
    sharers: Indices
    accounts: int
    joint: Numbers
    together: Indices
    ties: float = 1.0

    def usual(self, token: Numbers, accounts: int) -> Floats:
        """The share of benign accounts that exhibit each token; of one never seen, half an account's share.

        With less history than there are `accounts` now, these say how rare "never seen" can be.
        """
        known = _looked_up(self.token, self.sharers, token)
        return np.where(known > 0, (known + 0.5) / (self.accounts + 1.0), 0.5 / (max(self.accounts, accounts) + 1.0))

    def unseen(self, token: Numbers) -> Flags:
        """Tokens that were seen under one benign account at most."""
        return np.asarray(_looked_up(self.token, self.sharers, token) == 0)

    def most(self, token: Numbers) -> Floats:
        """How common each token may be now without anybody's doing: a few times what it was, if it is well known; anything, if it is new."""
        known = _looked_up(self.token, self.sharers, token)
        return np.where(known >= _WELL_KNOWN, _SURGE * known / (self.accounts + 1.0), 1.0)

    def usual_with(self, client: Numbers, token: Numbers, usual: Floats) -> Floats:
        """The share of benign users of `client` who exhibit each token, drawn towards the whole population's where they are few."""
        users = np.where(client > 0, _looked_up(self.token, self.sharers, client), 0.0)
        both = _looked_up(self.joint, self.together, pair(client, token))
        return np.asarray((both + _DRAW * usual) / (users + _DRAW))


def _looked_up(keys: Numbers, values: Indices, wanted: Numbers) -> Floats:
    if not len(keys):
        return np.zeros(len(wanted))
    place = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[place] == wanted, values[place], 0).astype(np.float64)


def pair(one: Numbers, two: Numbers) -> Numbers:
    """One number for an ordered pair of tokens."""
    mixed = (one * np.uint64(0x9E3779B97F4A7C15)) ^ (two * np.uint64(0xC2B2AE3D27D4EB4F))
    return np.asarray(mixed ^ (mixed >> np.uint64(31)))


_DRAW = 10.0
_WELL_KNOWN = 10
_SURGE = 3.0
_NOTHING = np.zeros(0, np.uint64)
UNKNOWN = Reference(_NOTHING, np.zeros(0, np.int64), 0, _NOTHING, np.zeros(0, np.int64))


def learned(token: Numbers, account: Indices, client: Numbers, accounts: int, least: int = 2) -> Reference:
    """From (token, account) edges sorted by token; `client` is each account's program."""
    begin = starts(token)
    number = np.cumsum(begin) - 1
    sharers = np.bincount(number)
    often = sharers[number] >= max(least, 5)
    joint, together = np.unique(pair(client[account[often]], token[often]), return_counts=True)
    kept = sharers >= least
    ties = np.isin(kinds(token[begin]), UNIQUE) & (sharers >= 2) & (sharers < SELDOM * accounts)
    return Reference(token[begin][kept], sharers[kept], accounts, joint[together >= least], together[together >= least], float(ties.sum()) / max(accounts, 1))
