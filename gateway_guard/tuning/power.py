"""What is the smallest and slowest campaign that a policy would still catch?

Theory of operation. A campaign is made of the operator's own traffic, put into the second half of it, and played: the analyst sees everything, the gate
decides the campaign's requests under the view that the analyst has come to. It is caught as soon as half of its requests between two looks are
touched by the ladder or by a shared quota; the exchanges that it had until then are what it got away with. A campaign that had its
`exchanges`, or came to the end of the traffic, was not caught. Detection is given no label: it does not know which events were made.

Each campaign is played by itself against the same background, so cells do not help each other. The analyst looks eight times in the time that the campaign
takes for its exchanges, but not more often than the policy says: a live one looks more often, and catches sooner.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from heapq import merge
from typing import NamedTuple

import msgspec

from gateway_guard.analysis.analyst import Analyst
from gateway_guard.decision import Decision
from gateway_guard.facts import Done, Event, RequestFacts, Seen
from gateway_guard.gate import Gate, at_once
from gateway_guard.makers.campaign import EVASIONS, Evasion, Size, campaign
from gateway_guard.makers.cast import Names
from gateway_guard.makers.make import moment
from gateway_guard.policy.judge import Rulebook
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.tuning.background import Background
from gateway_guard.view import View
from gateway_guard.worker import refresh

DAY = 86400.0
LOOKS = 8
VERSION = 1
CAUGHT = 0.5


class Grid(NamedTuple):
    """Which campaigns are tried."""

    accounts: tuple[int, ...]
    daily: tuple[float, ...]
    evasions: tuple[Evasion, ...]

    def cells(self) -> Iterator[tuple[Evasion, Size]]:
        """The campaigns, those that are most likely to be caught first."""
        for evasion in self.evasions:
            for accounts in reversed(self.accounts):
                for daily in reversed(self.daily):
                    yield evasion, Size(accounts, daily)

    def __len__(self) -> int:
        return len(self.accounts) * len(self.daily) * len(self.evasions)


GRIDS = {
    "small": Grid((10, 100), (10, 100), (EVASIONS[0], EVASIONS[2])),
    "medium": Grid((5, 20, 100), (5, 50, 500), EVASIONS),
    "large": Grid((3, 10, 30, 100, 300), (2, 10, 50, 200, 1000), EVASIONS),
}


class Cell(msgspec.Struct, frozen=True):
    """One campaign: `caught` or not, after how many `exchanges` that it had untouched, and how many days. `found` share of its accounts that were in
    one cluster at the last look; `throttled` share of its requests that plain quotas held up, caught or not.
    """

    evasion: str
    accounts: int
    daily: float
    caught: bool
    exchanges: int
    days: float
    found: float
    throttled: float


class Power(msgspec.Struct, frozen=True, kw_only=True):
    """All campaigns that were tried. `complete` is false when it was stopped. `background`: requests and accounts of it, and the share of organisations
    that was kept.
    """

    v: int = VERSION
    policy: str
    calibrated: str
    traffic: str
    exchanges: int
    seed: int
    days: float
    requests: int
    accounts: int
    share: float
    complete: bool
    cells: list[Cell]


class Laboratory:
    """The background, observed up to where campaigns begin. `within`: exchanges after which a campaign has got away."""

    def __init__(self, analyst: Analyst, rules: Rulebook, background: Background, *, names: Names, seed: int, within: int) -> None:
        events = background.events
        first, self.end = moment(events[0]), moment(events[-1])
        self.begin = first + (self.end - first) / 2
        self.donors: Sequence[RequestFacts] = background.donors(self.begin)
        self._rules = rules
        self._background = background
        self._names = names
        self._seed = seed
        self._within = within
        for event in background.between(first, self.begin):
            analyst.observe(event)
        gate = Gate(rules, MemoryStore())
        refresh(analyst, gate, self.begin)
        self._analyst, self._view = analyst, gate.view

    @property
    def calibrated(self) -> str:
        """The calibration that is judged by, empty when there is none that holds."""
        return self._view.calibrated

    @property
    def days(self) -> float:
        """How long a campaign can last."""
        return (self.end - self.begin) / DAY

    def cell(self, evasion: Evasion, size: Size) -> Cell:
        """Try one campaign."""
        over = min(self.end - self.begin, self._within / (size.accounts * size.daily) * DAY * 1.25)
        events = campaign(size, evasion, self.donors, seed=self._seed, names=self._names, begin=self.begin, over=over)
        every = max(self._rules.policy.analysis.refresh, over / LOOKS)
        trial = _Trial(copy.deepcopy(self._analyst), self._rules, self._view, self._within)
        last = moment(events[-1])
        looks = iter([self.begin + every * (number + 1) for number in range(int((last - self.begin) / every) + 1)])
        due = next(looks)
        for event in merge(self._background.between(self.begin, last), events, key=moment):
            while moment(event) >= due and not trial.over:
                trial.look(due)
                due = next(looks, float("inf"))
            if trial.over:
                break
            trial.take(event)
        if not trial.over:
            trial.look(last)
        return trial.told(evasion, size, self.begin)


class _Trial:
    """One campaign on its way. Whose requests are its own is known here, for counting, and nowhere else."""

    def __init__(self, analyst: Analyst, rules: Rulebook, view: View, within: int) -> None:
        self._analyst = analyst
        self._gate = Gate(rules, MemoryStore(), view)
        self._within = within
        self._decisions: dict[str, Decision] = {}
        self._members: set[str] = set()
        self._window = self._touched = self._free = self._held = self._all = 0
        self.caught = 0.0
        self.last = 0.0

    @property
    def over(self) -> bool:
        """Caught, or got away."""
        return bool(self.caught) or self._free >= self._within

    def take(self, event: Event) -> None:
        """The analyst sees every event, the gate the campaign's."""
        self._analyst.observe(event)
        if isinstance(event, Seen) and event.facts.id.startswith("campaign-"):
            self._decide(event.facts)
        elif isinstance(event, Done) and (decision := self._decisions.pop(event.id, None)) is not None:
            at_once(self._gate.settle(decision, event.usage, event.at))

    def _decide(self, facts: RequestFacts) -> None:
        decision = at_once(self._gate.decide(facts))
        self._members.add(decision.account)
        self._all += 1
        self._window += 1
        self.last = facts.at
        if decision.served:
            self._decisions[facts.id] = decision
        if _acted_on(decision):
            self._touched += 1
        elif decision.would:
            self._held += 1
        else:
            self._free += 1

    def look(self, at: float) -> None:
        """The window is over: was it caught in it? Then a new view."""
        if self._window and self._touched >= CAUGHT * self._window:
            self.caught = at
        self._window = self._touched = 0
        if not self.over:
            refresh(self._analyst, self._gate, at)

    def told(self, evasion: Evasion, size: Size, begin: float) -> Cell:
        """What came of it."""
        ended = self.caught or self.last
        caught, free = bool(self.caught), min(self._free, self._within)
        days, throttled = (ended - begin) / DAY, self._held / max(self._all, 1)
        return Cell(evasion.name, size.accounts, size.daily, caught, free, round(days, 3), round(self._found(), 3), round(throttled, 3))

    def _found(self) -> float:
        counts: dict[str, int] = {}
        for account in self._members:
            standing = self._gate.view.standings.get(account)
            if standing is not None and standing.cluster:
                counts[standing.cluster] = counts.get(standing.cluster, 0) + 1
        return max(counts.values(), default=0) / max(len(self._members), 1)


def _acted_on(decision: Decision) -> bool:
    """Touched as one of many: by the ladder, or by a quota that a cluster shares."""
    return bool(decision.would) and any(reason.startswith(("rung.", "cluster.")) for reason in decision.reasons)
