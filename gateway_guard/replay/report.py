"""What a replay found, as JSON (format version 1) and as a page for the terminal.

Everything but `run` depends on the traffic, the policy, the directory and the key alone: two replays write the same bytes there.
"""

from __future__ import annotations

from collections import Counter

import msgspec

from gateway_guard.decision import Action
from gateway_guard.replay import tally as tallies
from gateway_guard.replay.clusters import Found
from gateway_guard.replay.headroom import Headroom, fill
from gateway_guard.replay.labels import Labelled
from gateway_guard.replay.rungs import LadderCost
from gateway_guard.replay.tally import UNDECIDED, AccountTally, QuotaTally, Tally
from gateway_guard.replay.touched import Cost, Group, TopAccount, Touched, by

VERSION = 1


class PolicyUsed(msgspec.Struct, frozen=True):
    """The policy that was played: `digest` of its content, `mode` in force."""

    name: str
    digest: str
    mode: str


class Traffic(msgspec.Struct, frozen=True):
    """What was read. `first` and `last` seconds since 1970 · `backwards` lines whose time fell · `broken` lines skipped, the first five in `problems` ·
    `undecided` requests without a decision, by reason (`unguarded` paths, the codes of refusals), of which `passed` reach the model · `excused` requests
    that could not be read or identified, but are let pass by the policy: in shadow, what an enforcing policy refuses.
    """

    name: str
    requests: int
    first: float
    last: float
    backwards: int
    broken: int
    problems: list[str]
    undecided: dict[str, int]
    passed: int
    excused: dict[str, int]


class Decisions(msgspec.Struct, frozen=True):
    """`actions` what an enforcing policy does, by action, of which it `refused`, `delayed`, `exempted` and `degraded` so many; `enforced` how many of them were
    done, and `served` how many requests reached the model. Delays count where they were enforced. `reasons` by code.
    """

    actions: dict[str, int]
    enforced: int
    served: int
    refused: int
    delayed: int
    exempted: int
    delay_s: float
    longest_delay_s: float
    reasons: dict[str, int]
    degraded: int = 0


class Tokens(msgspec.Struct, frozen=True):
    """Model tokens."""

    input: int
    output: int
    reasoning: int


class Used(msgspec.Struct, frozen=True):
    """Tokens of the requests that were `served`, and of those that an enforcing policy `refused`, as far as the log tells; `sources` says for how many
    served requests usage was `told` by the server, `estimated` by the recording guard, `imputed` here, or there was `none`.
    """

    served: Tokens
    refused: Tokens
    sources: dict[str, int]


class QuotaUse(msgspec.Struct, frozen=True):
    """One quota: `subjects` that were counted, requests `refused` and `delayed` by it, and how full it became: the highest fill of the median
    subject, of the one at 90 and 99 %, and of the fullest (1 = the whole burst).
    """

    per: str
    unit: str
    subjects: int
    refused: int
    delayed: int
    fill_median: float
    fill_90: float
    fill_99: float
    fill_most: float


class Timeline(msgspec.Struct, frozen=True):
    """Requests by slot: the first begins at `start`, each is `width` seconds wide. `actions` what an enforcing policy does, beside what is `undecided`."""

    start: float
    width: float
    actions: dict[str, list[int]]
    undecided: list[int]


class Run(msgspec.Struct, frozen=True):
    """The only part that differs between two runs."""

    seconds: float
    requests_per_second: float


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """`complete` is false when the replay was stopped, or the log ended in an error told in `stopped`. `clusters` as the analyst saw them at the
    end, `calibrated` the digest of the calibration that it judged by (empty: it only records).
    `labelled` when labels were given. Reports before these were added have no `timeline`, `headroom`, `touched`, `cost`
    and `ladder`.
    """

    v: int = VERSION
    complete: bool
    stopped: str = ""
    policy: PolicyUsed
    traffic: Traffic
    decisions: Decisions
    used: Used
    accounts: Group
    orgs: Group
    plans: dict[str, Group]
    quotas: dict[str, QuotaUse]
    top: list[TopAccount]
    calibrated: str = ""
    clusters: list[Found] = []
    timeline: Timeline | None = None
    headroom: dict[str, Headroom] = {}
    touched: Touched | None = None
    cost: Cost | None = None
    ladder: LadderCost | None = None
    labelled: Labelled | None = None
    run: Run


def encode(report: Report) -> bytes:
    """The report as JSON, indented for people who open it."""
    return encoded(report)


def encoded(value: msgspec.Struct) -> bytes:
    """A value as JSON, indented."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def decisions_of(tally: Tally) -> Decisions:
    """What was decided."""
    return Decisions(
        actions={action.label: tally.actions[action] for action in Action},
        enforced=tally.enforced,
        served=tally.served,
        refused=tally.refused,
        delayed=tally.delayed,
        exempted=tally.exempted,
        delay_s=round(tally.delay, 3),
        longest_delay_s=round(tally.longest, 3),
        reasons=ranked(tally.reasons),
        degraded=tally.degraded,
    )


def used_of(tally: Tally) -> Used:
    """What was used and spared."""
    return Used(_tokens(tally.tokens), _tokens(tally.unserved), {source: count for source, count in tally.usage.items() if count})


def orgs_of(tally: Tally) -> Group:
    """The same for organisations."""
    members: dict[str, list[AccountTally]] = {}
    for account in tally.accounts.values():
        if account.org:
            members.setdefault(account.org, []).append(account)
    return Group(
        accounts=len(members),
        touched=sum(any(a.touched for a in of) for of in members.values()),
        refused=sum(any(a.refused for a in of) for of in members.values()),
        requests=sum(a.requests for of in members.values() for a in of),
        touched_requests=sum(a.touched for of in members.values() for a in of),
    )


def plans_of(tally: Tally) -> dict[str, Group]:
    """By plan, in alphabetic order."""
    return by(tally.accounts.values(), lambda account: account.plan)


def quotas_of(tally: Tally) -> dict[str, QuotaUse]:
    """By quota, in alphabetic order."""
    return {name: _use(quota) for name, quota in sorted(tally.quotas.items())}


def _tokens(tokens: tallies.Tokens) -> Tokens:
    return Tokens(tokens.input, tokens.output, tokens.reasoning)


def _use(tally: QuotaTally) -> QuotaUse:
    full = fill(list(tally.peaks.values()))
    return QuotaUse(tally.per, tally.unit, full.subjects, tally.refused, tally.delayed, full.median, full.at_90, full.at_99, full.most)


def timeline_of(tally: Tally) -> Timeline:
    """Traffic over time."""
    rows = tally.timeline[: tally.slots.number + 1]
    columns = [list(column) for column in zip(*rows, strict=True)]
    return Timeline(tally.slots.start, tally.slots.width, {a.label: columns[a] for a in Action}, columns[UNDECIDED])


def ranked(counts: Counter[str]) -> dict[str, int]:
    """Commonest first."""
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
