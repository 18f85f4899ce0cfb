"""What a signal found: typed, weighed in log-odds, and readable."""

from __future__ import annotations

from typing import Literal

import msgspec

Family = Literal["content", "conversation", "rhythm", "network", "client", "identity"]
FAMILIES: tuple[Family, ...] = ("content", "conversation", "rhythm", "network", "client", "identity")


class Evidence(msgspec.Struct, frozen=True, gc=False):
    """One finding of `signal`: its `family`, its contribution in log-odds (natural logarithm), and one sentence a person can read."""

    family: Family
    signal: str
    log_odds: float
    says: str
