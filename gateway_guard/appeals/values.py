"""What the way back is made of."""

from __future__ import annotations

from typing import Literal

import msgspec

Status = Literal["open", "released", "confirmed"]


class Touched(msgspec.Struct, frozen=True):
    """A decision that its account felt: refused, or answered less well. What an operator needs to judge an appeal; no text."""

    id: str
    account: str
    at: float
    action: str
    rung: str = ""
    cluster: str = ""
    families: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()

    @property
    def grave(self) -> bool:
        """More than a quota spoke."""
        return self.action != "throttle"


class Appeal(msgspec.Struct, frozen=True):
    """An account asks for one of its own decisions to be looked at. `reason` is its own words, escaped · `answer` and `by` are the operator's."""

    id: str
    at: float
    reason: str
    decision: Touched
    status: Status = "open"
    answered: float = 0.0
    answer: str = ""
    by: str = ""


class Act(msgspec.Struct, frozen=True):
    """Something that was done by hand, for the audit log: `body` as JSON."""

    number: int
    at: float
    kind: str
    body: str
