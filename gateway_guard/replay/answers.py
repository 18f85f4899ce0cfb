"""What a staging deployment answered, beside what the policy decides about the same requests."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

import msgspec

from gateway_guard.decision import Action, Decision
from gateway_guard.replay.report import PolicyUsed, encoded, ranked
from gateway_guard.replay.tally import REST, TRACKED

VERSION = 1
TOP = 25
# A wait that differs by less is the same: requests do not arrive to the moment.
WAIT_SLACK_S = 1.0
WAIT_SLACK = 0.1
EXPECTED = ("served", "degraded", "throttled", "challenged", "denied", "refused")
# `unguarded`: an answer on which no guard has left its header. `failed`: no answer.
GOT = (*EXPECTED, "unguarded", "failed")


class Got(NamedTuple):
    """An answer: what of `GOT` it is, its `status` (0: none), the `wait` in seconds that it asks for, `why` there is none."""

    label: str
    status: int = 0
    wait: float | None = None
    why: str = ""


class Affected(msgspec.Struct, frozen=True):
    """An account: of its `requests` so many `differ`, `mostly` in this way."""

    account: str
    requests: int
    differ: int
    mostly: str


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """`requests` were read, of which some were `skipped`, by reason · `answers` what was decided offline, and how often each answer came to it ·
    `statuses` as answered, `failures` why there was no answer · `waits` of refusals that both sides tell, `waits_differ` by more than a tenth and a
    second · `late_s` by how much a request was sent too late, at most.
    """

    v: int = VERSION
    complete: bool
    stopped: str
    target: str
    policy: PolicyUsed
    speed: float
    requests: int
    sent: int
    skipped: dict[str, int]
    agree: int
    differ: int
    answers: dict[str, dict[str, int]]
    statuses: dict[str, int]
    failures: dict[str, int]
    waits: int
    waits_differ: int
    late_s: float
    affected: list[Affected]
    seconds: float


def expected(decision: Decision) -> str:
    """How a deployment under the same policy answers."""
    if decision.action is Action.DENY and decision.reasons[:1] and decision.reasons[0].startswith("state."):
        return "refused"
    if not decision.served:
        return {Action.THROTTLE: "throttled", Action.CHALLENGE: "challenged"}.get(decision.action, "denied")
    return "degraded" if decision.action is Action.DEGRADE and not decision.silent else "served"


class Record:
    """Counts answers as they come; bounded, however many accounts there are."""

    def __init__(self) -> None:
        self.requests = self.waits = self.waits_differ = 0
        self.late = 0.0
        self.skipped = Counter[str]()
        self.failures = Counter[str]()
        self._pairs = Counter[tuple[str, str]]()
        self._statuses = Counter[int]()
        self._accounts = Counter[str]()
        self._differing: dict[str, Counter[str]] = {}

    @property
    def sent(self) -> int:
        """Requests that were sent and ended."""
        return self._pairs.total()

    @property
    def differ(self) -> int:
        """Answers that are not what was decided."""
        return self.sent - sum(count for (meant, got), count in self._pairs.items() if meant == got)

    def came(self, label: str) -> int:
        """How many answers are of this kind."""
        return sum(count for (_, got), count in self._pairs.items() if got == label)

    def add(self, account: str, decision: Decision, got: Got, late: float) -> None:
        """One answer."""
        meant = expected(decision)
        self.late = max(self.late, late)
        self._pairs[meant, got.label] += 1
        self._statuses[got.status] += 1
        if got.why:
            self.failures[got.why] += 1
        if meant == got.label == "throttled" and got.wait is not None:
            self.waits += 1
            self.waits_differ += abs(got.wait - decision.wait) > WAIT_SLACK_S + WAIT_SLACK * decision.wait
        name = account if account in self._accounts or len(self._accounts) < TRACKED else REST
        self._accounts[name] += 1
        if meant != got.label:
            self._differing.setdefault(name, Counter())[f"{meant}, answered {got.label}"] += 1

    def report(self, *, stopped: str, target: str, policy: PolicyUsed, speed: float, seconds: float) -> Answers:
        """All of it."""
        answers = {meant: {got: self._pairs[meant, got] for got in GOT if self._pairs[meant, got]} for meant in EXPECTED}
        return Answers(
            complete=not stopped,
            stopped=stopped,
            target=target,
            policy=policy,
            speed=speed,
            requests=self.requests,
            sent=self.sent,
            skipped=ranked(self.skipped),
            agree=self.sent - self.differ,
            differ=self.differ,
            answers={meant: row for meant, row in answers.items() if row},
            statuses={str(status or "none"): count for status, count in sorted(self._statuses.items())},
            failures=ranked(self.failures),
            waits=self.waits,
            waits_differ=self.waits_differ,
            late_s=round(self.late, 3),
            affected=self._affected(),
            seconds=round(seconds, 3),
        )

    def _affected(self) -> list[Affected]:
        found = sorted(self._differing.items(), key=lambda item: (-item[1].total(), item[0]))[:TOP]
        return [Affected(name, self._accounts[name], ways.total(), next(iter(ranked(ways)))) for name, ways in found]


def encode(answers: Answers) -> bytes:
    """The report as JSON."""
    return encoded(answers)
