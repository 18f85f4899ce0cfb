"""What the gate decided about one request, with all that is needed to explain it, act on it and settle it."""

from __future__ import annotations

import enum

import msgspec

from gateway_guard.evidence import Evidence
from gateway_guard.quota import Balance, Bill, balance


class Action(enum.IntEnum):
    """Ordered from the softest: what is done is never softer than a part of it."""

    ALLOW = 0
    THROTTLE = 1
    DEGRADE = 2
    CHALLENGE = 3
    DENY = 4

    @property
    def label(self) -> str:
        """The name in logs and policies."""
        return LABELS[self]


LABELS = tuple(action.name.lower() for action in Action)
NO_CHARGES = Bill()


class Decision(msgspec.Struct, frozen=True, gc=False):
    """`action` what is done · `would` what a fully enforcing policy would do · `enforced` false when only recorded · `served` whether the
    request goes to the model · `wait` seconds: how long it is held first when served, else when to come back (inf: not by waiting) · `short` the
    quota that refused or delayed it · `reasons` codes, strongest first · `charges` and `levels` pairwise: what was asked of each quota and what is owed now ·
    `spent` whether the charges were made · `rung` that acts, in a shadow policy the one that would · `shadow` a rung beyond it that is only
    recorded · `profile` how the answer is degraded, and `silent` without a word of it · `marked` with the cluster's marks ·
    `pace` events of a stream a second, 0 = as they come · `policy` digest of the policy · `hold` id of the reservation, empty for none.
    """

    id: str
    at: float
    account: str
    action: Action
    would: Action
    enforced: bool = True
    served: bool = True
    wait: float = 0.0
    short: str = ""
    rung: str = ""
    score: float = 0.0
    reasons: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    charges: Bill = NO_CHARGES
    levels: tuple[float, ...] = ()
    spent: bool = False
    model: str = ""
    shadow: str = ""
    profile: str = ""
    silent: bool = False
    marked: bool = False
    pace: float = 0.0
    cluster: str = ""
    view: int = 0
    policy: str = ""
    hold: str = ""

    @property
    def told(self) -> Action:
        """The action in logs and reports: what is done; where nothing is, what would be."""
        return self.action or self.would

    @property
    def balances(self) -> tuple[Balance, ...]:
        """Where each quota stands, in the order of the charges."""
        return tuple(balance(charge, level) for charge, level in zip(self.charges, self.levels, strict=True))
