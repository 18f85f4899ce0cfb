"""What is usual: how many benign accounts exhibit each token, from the operator's own history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gateway_guard.analysis.tokens import Floats, Indices, Numbers


@dataclass(frozen=True, slots=True)
class Reference:
    """`token` sorted, `sharers` of each, among `accounts` benign accounts. Tokens that are not listed were seen under one account at most."""

    token: Numbers
    sharers: Indices
    accounts: int

    def usual(self, token: Numbers) -> Floats:
        """The share of benign accounts that exhibit each token; of one never seen, half an account's share."""
        known = np.zeros(len(token))
        if len(self.token):
            place = np.minimum(np.searchsorted(self.token, token), len(self.token) - 1)
            known = np.where(self.token[place] == token, self.sharers[place], 0)
        return np.asarray((known + 0.5) / (self.accounts + 1.0))


UNKNOWN = Reference(np.zeros(0, np.uint64), np.zeros(0, np.int64), 0)
