"""What a candidate policy would have done otherwise, out of the decision log that tells of both."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

import msgspec

from gateway_guard.replay.differences import HARM, TREATMENTS, Differences, Direction
from gateway_guard.replay.report import encoded
from gateway_guard.replay.tally import REST, TRACKED
from gateway_guard.trace.decisions import DecisionRow, Label

VERSION = 1
_ACTED: dict[Label, int] = {"allow": 0, "degrade": HARM["degraded"], "challenge": HARM["refused"], "deny": HARM["refused"]}


class Differing(msgspec.Struct, frozen=True, kw_only=True):
    """Of `requests` from `first` to `last`, those that a candidate decided on, by treatment under the active policy (rows) and under the candidate (columns).

    `active` and `candidate` digests of the policies · `without` requests of which no candidate told.
    """

    v: int = VERSION
    requests: int
    without: int
    first: float
    last: float
    active: list[str]
    candidate: list[str]
    treatments: tuple[str, ...] = TREATMENTS
    moves: list[list[int]]
    worse: Direction
    better: Direction
    reasons_worse: dict[str, int]
    reasons_better: dict[str, int]


def differing(rows: Iterable[DecisionRow]) -> Differing:
    """Count the rows of one or several decision logs. A quota that only shadow kept from acting counts as having refused."""
    found, counts = Differences(), Counter[str]()
    digests: tuple[dict[str, None], dict[str, None]] = ({}, {})
    first = last = 0.0
    without = 0
    for row in rows:
        if not row.candidate:
            without += 1
            continue
        first, last = first or row.ts, row.ts
        digests[0][row.policy], digests[1][row.candidate] = None, None
        counts[row.account if row.account in counts or len(counts) < TRACKED else REST] += 1
        before = _treatment(row.action, row.delay_ms, served=row.served and row.enforced)
        after = _treatment(row.candidate_action, row.candidate_delay_ms, served=row.candidate_served)
        found.add(row.account, before, after, row.candidate_reasons if after > before else row.reasons)

    def known(account: str) -> tuple[str, int]:
        return "", counts[account]  # plans are not in a decision log

    return Differing(
        requests=counts.total(),
        without=without,
        first=first,
        last=last,
        active=list(digests[0]),
        candidate=list(digests[1]),
        moves=found.moves,
        worse=found.worse(str, known),
        better=found.better(str, known),
        reasons_worse=found.reasons(worse=True),
        reasons_better=found.reasons(worse=False),
    )


def encode(found: Differing) -> bytes:
    """The differences as JSON."""
    return encoded(found)


def _treatment(action: Label, delay_ms: float, *, served: bool) -> int:
    if action != "throttle":
        return _ACTED[action]
    return HARM["delayed"] if served and delay_ms else HARM["refused"]
