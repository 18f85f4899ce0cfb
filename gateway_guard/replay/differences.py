"""Who is treated differently by two policies, and which way: counted request by request, told by account, the most affected first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec

from gateway_guard.replay.report import ranked
from gateway_guard.replay.tally import REST, TRACKED

TOP = 25
# From mild to harsh. What is let through by an exemption is served at once.
TREATMENTS = ("served", "delayed", "degraded", "refused")
HARM = {"exempted": 0, "delayed": 1, "degraded": 2, "refused": 3}
# An account's plan and how many requests it made.
Known = Callable[[str], tuple[str, int] | None]


class Change(msgspec.Struct, frozen=True):
    """An account that the second policy treats otherwise: so many of its `requests` `worse` and `better`; `before` and `after` by treatment, from served
    to refused; `why` the commonest reason of the harsher policy.
    """

    account: str
    plan: str
    requests: int
    worse: int
    better: int
    before: list[int]
    after: list[int]
    why: str


class Direction(msgspec.Struct, frozen=True):
    """Those who fare worse, or better, on balance: their `accounts`, and `requests` that differ, of all; `top` the most affected first."""

    accounts: int
    requests: int
    top: list[Change]


class _Differing:
    """What differs for one account."""

    __slots__ = ("after", "before", "better", "why", "worse")

    def __init__(self) -> None:
        self.worse = self.better = 0
        self.before, self.after = [0] * len(TREATMENTS), [0] * len(TREATMENTS)
        self.why: Counter[str] = Counter()


class Differences:
    """Counts how requests are treated under the first policy and under the second. `moves`: of all requests, by treatment under either."""

    def __init__(self) -> None:
        self.moves = [[0] * len(TREATMENTS) for _ in TREATMENTS]
        self._accounts: dict[str, _Differing] = {}
        self._reasons: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

    def add(self, account: str, before: int, after: int, reasons: Sequence[str]) -> None:
        """One request: its treatments, and the reasons of the harsher policy."""
        self.moves[before][after] += 1
        if before == after:
            return
        found = self._meet(account)
        found.worse += after > before
        found.better += after < before
        found.before[before] += 1
        found.after[after] += 1
        found.why.update(reasons[:1])
        self._reasons[after > before].update(reasons[:1])

    def worse(self, name: Callable[[str], str], known: Known) -> Direction:
        """Those who fare worse on balance, the most harmed first."""
        return self._direction(lambda found: (_harm(found), found.worse - found.better), name, known)

    def better(self, name: Callable[[str], str], known: Known) -> Direction:
        """Those who fare better on balance, the most spared first."""
        return self._direction(lambda found: (-_harm(found), found.better - found.worse), name, known)

    def reasons(self, *, worse: bool) -> dict[str, int]:
        """Why requests fare worse under the second policy, or under the first, the commonest first."""
        return ranked(self._reasons[worse])

    def _meet(self, account: str) -> _Differing:
        name = account if account in self._accounts or len(self._accounts) < TRACKED else REST
        return self._accounts.setdefault(name, _Differing())

    def _direction(self, weigh: Callable[[_Differing], tuple[int, int]], name: Callable[[str], str], known: Known) -> Direction:
        found = [(weigh(of), account, of) for account, of in self._accounts.items()]
        moved = sorted((one for one in found if one[0] > (0, 0)), key=lambda one: (-one[0][0], -one[0][1], name(one[1])))
        differing = sum(of.worse + of.better for _, _, of in moved)
        return Direction(len(moved), differing, [_change(name(account), known(account), of) for _, account, of in moved[:TOP]])


def _change(shown: str, known: tuple[str, int] | None, of: _Differing) -> Change:
    plan, requests = known or ("", of.worse + of.better)
    return Change(shown or "(no account)", plan, requests, of.worse, of.better, of.before, of.after, next(iter(ranked(of.why)), ""))


def _harm(found: _Differing) -> int:
    """How much harsher: a step from served to refused counts three, from delayed to degraded one."""
    return sum(step * (after - before) for step, (before, after) in enumerate(zip(found.before, found.after, strict=True)))
