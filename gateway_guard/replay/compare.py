"""Two policies on the same traffic, in one pass: who is treated differently, and which way."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import msgspec

from gateway_guard.errors import GuardError
from gateway_guard.replay.differences import HARM, TREATMENTS, Differences, Direction
from gateway_guard.replay.garbage import seldom_collected
from gateway_guard.replay.labels import Label
from gateway_guard.replay.report import Report, encoded
from gateway_guard.replay.run import Ended, Played, Step
from gateway_guard.replay.session import EVERY, Session
from gateway_guard.replay.stage import Stage
from gateway_guard.replay.tally import fate

VERSION = 1


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


class Contest:
    """Plays two stages of the same traffic side by side. `stopped` says why it ended early."""

    def __init__(self, stages: tuple[Stage, Stage], labels: Mapping[str, Label] | None = None) -> None:
        self.stopped = ""
        self.sides = tuple(Session(stage, labels) for stage in stages)
        self._stages = stages
        self._differences = Differences()

    def run(self, tick: Callable[[], None]) -> None:
        """Play both to their end."""
        steps = [_played(stage.steps, side) for stage, side in zip(self._stages, self.sides, strict=True)]
        try:
            with seldom_collected():
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
        found, name = self._differences, self._stages[0].name
        return Comparison(
            complete=not self.stopped,
            stopped=self.stopped,
            moves=found.moves,
            worse=found.worse(name, self._known),
            better=found.better(name, self._known),
            reasons_worse=found.reasons(worse=True),
            reasons_better=found.reasons(worse=False),
            one=one,
            two=two,
        )

    def _stop(self, why: str) -> None:
        self.stopped = why
        for side in self.sides:
            side.stopped = why

    def _pair(self, one: Played, two: Played) -> None:
        before, after = _treatment(one), _treatment(two)
        account = one.facts or two.facts
        harsher = two if after > before else one
        reasons = harsher.decision.reasons if harsher.decision is not None else (harsher.undecided,)
        self._differences.add(account.identity.account if account is not None else "", before, after, reasons)

    def _known(self, account: str) -> tuple[str, int] | None:
        tally = self.sides[0].tally.accounts.get(account)
        return (tally.plan, tally.requests) if tally is not None else None


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
        return 0 if played.passed else HARM["refused"]
    return HARM[fate(decision)] if decision.told else 0
