"""What a calibration is: a frozen value that says what is usual here, and from where on benign accounts would be hit more than the declared budget allows."""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway_guard.analysis.reference import UNKNOWN, Reference
from gateway_guard.analysis.tests import Norms


@dataclass(frozen=True, slots=True)
class Limits:
    """Scores are told relative to these: 0 is the point beyond which at most the budget's share of benign accounts lies."""

    coordination: float = 14.0
    harvest: float = 5.0


@dataclass(frozen=True, slots=True)
class Calibration:
    """`at` end of the benign history · `digest` of all the rest · `accounts`, `events`, `groups` it rests on · `budget` share of benign accounts a week."""

    at: float = 0.0
    digest: str = ""
    accounts: int = 0
    events: int = 0
    groups: int = 0
    budget: float = 0.0005
    reference: Reference = UNKNOWN
    norms: Norms = field(default_factory=Norms)
    limits: Limits = field(default_factory=Limits)
