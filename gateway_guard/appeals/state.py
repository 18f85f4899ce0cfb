"""What survives a restart, wherever it is kept: in a file beside the policy (`ledger`) or on the server that hosts share (`shared_ledger`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from gateway_guard.appeals.values import Act, Appeal, Status, Touched
from gateway_guard.policy.acknowledged import Acknowledgement, Suspension
from gateway_guard.view import View

# Of each account so many decisions are kept of either kind (by quotas alone, by evidence), so that refusals in mass push out nobody's but their own.
EACH = 32
MOST = 200_000
KEEP = 30 * 86400.0
# What an operator does holds from so many seconds on: every process has taken it up by then, and a replay knows which requests came before it.
LEAD = 1.0


class State(Protocol):
    """May be used from any thread. Every call raises StoreError when the state cannot be used just now; every time comes from the caller."""

    def close(self) -> None:
        """Let go of it."""

    def changed(self) -> bool:
        """Whether what operators say may have changed by another's hand since this was asked last; true the first time."""

    def remember(self, decisions: Sequence[Touched], at: float) -> None:
        """Keep decisions for appeals, within the bounds."""

    def decision(self, ident: str) -> Touched | None:
        """A decision that was kept."""

    def file(self, appeal: Appeal) -> tuple[Appeal, bool]:
        """Take an appeal; the one that there is, and false, when its decision has been appealed against before."""

    def appeal(self, ident: str) -> Appeal | None:
        """One appeal, by its id or its decision's."""

    def appeals(self, status: Status | None = None, limit: int = 1000) -> list[Appeal]:
        """Appeals, the oldest first."""

    def answer(self, ident: str, status: Status, at: float, *, by: str, answer: str, relief: Acknowledgement | None = None) -> Appeal:
        """Decide an appeal, and with `relief` acknowledge what it was about, in one step. UsageError when it is not there or is decided."""

    def acknowledge(self, given: Acknowledgement, at: float, by: str) -> Acknowledgement:
        """Keep an acknowledgement; it gets its number."""

    def acknowledgements(self) -> list[Acknowledgement]:
        """All that were ever given, in order."""

    def withdraw(self, number: int, at: float, *, by: str, reason: str) -> Acknowledgement:
        """Take an acknowledgement back. UsageError when there is none in force."""

    def suspend(self, order: Suspension, at: float, by: str) -> Suspension:
        """Keep a suspension; it gets its number."""

    def suspensions(self) -> list[Suspension]:
        """All that were ever ordered, in order."""

    def lift(self, number: int, at: float, *, by: str, reason: str) -> Suspension:
        """End a suspension. UsageError when there is none in force."""

    def hand_over(self, take: Callable[[Sequence[Act]], None]) -> int:
        """Give `take` the acts that no process has taken yet; how many. When it raises, they are given again: at least once, in order."""

    def keep_view(self, view: View) -> None:
        """Keep the view in place of the one before."""

    def view(self) -> View:
        """The view that was kept last; an empty one when there is none, or when another version of the guard wrote it and it cannot be read."""

    def reached(self, file: str, entry: int, seal: str) -> None:
        """The audit log's file goes as far as this."""

    def heads(self) -> list[tuple[str, int, str]]:
        """(file, entry, seal) of each of the audit log's files."""
