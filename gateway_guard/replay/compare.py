"""Two policies on the same traffic, in one pass: who is treated differently, and which way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping

import msgspec

from gateway_guard.errors import GuardError
from gateway_guard.replay.labels import Label
from gateway_guard.replay.report import Report, encoded, ranked
from gateway_guard.replay.run import Ended, Played, Step
from gateway_guard.replay.session import EVERY, Session
from gateway_guard.replay.stage import Stage
from gateway_guard.replay.tally import REST, TRACKED, fate

VERSION = 1
TOP = 25
# From mild to harsh. What is let through by an exemption is served at once.
TREATMENTS = ("served", "delayed", "degraded", "refused")
_HARM = {"exempted": 0, "delayed": 1, "degraded": 2, "refused": 3}


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


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """`moves` requests by treatment under the first policy (rows) and the second (columns) · `worse` and `better` under the second · `one` and `two`
    the reports of either alone.
    """

    v: int = VERSION
    complete: bool
    stopped: str = ""
    treatments: tuple[str, ...] = TREATMENTS
    moves: list[list[int]]
    worse: Direction
    better: Direction
    reasons_worse: dict[str, int]
    reasons_better: dict[str, int]
    one: Report
    two: Report


class _Differing:
    """What differs for one account."""

    __slots__ = ("after", "before", "better", "why", "worse")

    def __init__(self) -> None:
        self.worse = self.better = 0
        self.before, self.after = [0] * len(TREATMENTS), [0] * len(TREATMENTS)
        self.why: Counter[str] = Counter()


class Contest:
    """Plays two stages of the same traffic side by side. `stopped` says why it ended early."""

    def __init__(self, stages: tuple[Stage, Stage], labels: Mapping[str, Label] | None = None) -> None:
        self.stopped = ""
        self.sides = tuple(Session(stage, labels) for stage in stages)
        self._stages = stages
        self._moves = [[0] * len(TREATMENTS) for _ in TREATMENTS]
        self._differing: dict[str, _Differing] = {}
        self._reasons: tuple[Counter[str], Counter[str]] = (Counter(), Counter())

    def run(self, tick: Callable[[], None]) -> None:
        """Play both to their end."""
        steps = [_played(stage.steps, side) for stage, side in zip(self._stages, self.sides, strict=True)]
        try:
            for number, (one, two) in enumerate(zip(*steps, strict=True)):
                self._pair(one, two)
                if not number % EVERY:
                    for side in self.sides:
                        side.look()
                    tick()
        except KeyboardInterrupt:
            self._stop("interrupted")
            raise
        except GuardError as error:
            self._stop(str(error))
            raise
        finally:
            self._stages[0].source.close()

    def report(self, seconds: float) -> Comparison:
        """What was found so far."""
        one, two = (side.report(seconds) for side in self.sides)
        worse = self._direction(lambda found: (_harm(found), found.worse - found.better))
        better = self._direction(lambda found: (-_harm(found), found.better - found.worse))
        return Comparison(
            complete=not self.stopped,
            stopped=self.stopped,
            moves=self._moves,
            worse=worse,
            better=better,
            reasons_worse=ranked(self._reasons[1]),
            reasons_better=ranked(self._reasons[0]),
            one=one,
            two=two,
        )

    def _stop(self, why: str) -> None:
        self.stopped = why
        for side in self.sides:
            side.stopped = why

    def _pair(self, one: Played, two: Played) -> None:
        before, after = _treatment(one), _treatment(two)
        self._moves[before][after] += 1
        if before == after:
            return
        account = one.facts or two.facts
        found = self._meet(account.identity.account if account is not None else "")
        harsher = two if after > before else one
        found.worse += after > before
        found.better += after < before
        found.before[before] += 1
        found.after[after] += 1
        reasons = harsher.decision.reasons if harsher.decision is not None else (harsher.undecided,)
        found.why.update(reasons[:1])
        self._reasons[after > before].update(reasons[:1])

    def _meet(self, account: str) -> _Differing:
        name = account if account in self._differing or len(self._differing) < TRACKED else REST
        return self._differing.setdefault(name, _Differing())

    def _direction(self, weigh: Callable[[_Differing], tuple[int, int]]) -> Direction:
        """Those for whom the balance goes one way, the most harmed or spared first."""
        name = self._stages[0].name
        found = [(weigh(of), account, of) for account, of in self._differing.items()]
        moved = sorted((one for one in found if one[0] > (0, 0)), key=lambda one: (-one[0][0], -one[0][1], name(one[1])))
        differing = sum(of.worse + of.better for _, _, of in moved)
        return Direction(len(moved), differing, [self._change(name(account), account, of) for _, account, of in moved[:TOP]])

    def _change(self, shown: str, account: str, of: _Differing) -> Change:
        tally = self.sides[0].tally.accounts.get(account)
        why = next(iter(ranked(of.why)), "")
        plan, requests = (tally.plan, tally.requests) if tally is not None else ("", of.worse + of.better)
        return Change(shown or "(no account)", plan, requests, of.worse, of.better, of.before, of.after, why)


def encode(comparison: Comparison) -> bytes:
    """The comparison as JSON, indented for people who open it."""
    return encoded(comparison)


def _played(steps: Iterator[Step], side: Session) -> Iterator[Played]:
    """The requests of one side; all that happens on it is counted."""
    for step in steps:
        side.tally.take(step)
        if not isinstance(step, Ended):
            yield step


def _treatment(played: Played) -> int:
    decision = played.decision
    if decision is None:
        return 0 if played.passed else _HARM["refused"]
    return _HARM[fate(decision)] if decision.told else 0


def _harm(found: _Differing) -> int:
    """How much harsher: a step from served to refused counts three, from delayed to degraded one."""
    return sum(step * (after - before) for step, (before, after) in enumerate(zip(found.before, found.after, strict=True)))
