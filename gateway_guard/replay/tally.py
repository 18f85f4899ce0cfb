"""Counts what a replay decides. Bounded: past a million accounts or subjects the rest is counted as one."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from gateway_guard.decision import Action, Decision
from gateway_guard.facts import Identity, Usage
from gateway_guard.quota import Lines, Per, Unit
from gateway_guard.replay.player import Outcome
from gateway_guard.replay.run import Ended, Step
from gateway_guard.replay.slots import SLOTS, Activity, Slots

TRACKED = 1_000_000
REST = "(others)"
SOURCES = ("told", "estimated", "imputed", "none")
UNDECIDED = len(Action)
FLUSHED = 1 << 16


class AccountTally:
    """What happened to one account. `number` its row in the activity, `touches` that in the touched activity (-1: never touched) · `first` seen ·
    `caught` when first as a member of a cluster, or by the ladder (0: never) · `waited` seconds, at `longest` for one request.
    """

    __slots__ = (
        *("caught", "created_at", "degraded", "delayed", "exempted", "first", "longest", "number", "org", "plan"),
        *("reasons", "refused", "requests", "touched", "touches", "waited"),
    )

    def __init__(self, identity: Identity, number: int, at: float) -> None:
        self.plan = identity.plan
        self.org = identity.org
        self.created_at = identity.created_at
        self.number = number
        self.first = at
        self.touches = -1
        self.requests = self.touched = self.refused = self.delayed = self.exempted = self.degraded = 0
        self.caught = self.waited = self.longest = 0.0
        self.reasons: Counter[str] = Counter()


class QuotaTally:
    """How near a quota's subjects came to it: `peaks` holds the highest fill that each subject reached, 1 = the whole burst."""

    __slots__ = ("degraded", "delayed", "exempted", "peaks", "per", "refused", "unit")

    def __init__(self, per: Per, unit: Unit) -> None:
        self.per = per
        self.unit = unit
        self.refused = self.delayed = self.exempted = self.degraded = 0
        self.peaks: dict[str, float] = {}


class _Fills:
    """The highest fills of lines that are charged together, by subject: one look-up for all of them."""

    __slots__ = ("highest", "tallies")

    def __init__(self, tallies: list[QuotaTally]) -> None:
        self.tallies = tallies
        self.highest: dict[str, list[float]] = {}

    def meet(self, subject: str) -> list[float]:
        """A subject that was not seen before."""
        if len(self.highest) >= TRACKED:
            subject = REST
        return self.highest.setdefault(subject, [0.0] * len(self.tallies))

    def tell(self) -> None:
        """Tell the quotas' tallies. An account whose plan has changed has been under several lines."""
        for subject, fills in self.highest.items():
            for tally, fill in zip(self.tallies, fills, strict=True):
                tally.peaks[subject] = max(fill, tally.peaks.get(subject, 0.0))


class Tokens:
    """Model tokens, summed."""

    __slots__ = ("input", "output", "reasoning")

    def __init__(self) -> None:
        self.input = self.output = self.reasoning = 0

    def add(self, usage: Usage) -> None:
        """Add what one request used."""
        self.input += usage.input
        self.output += usage.output
        self.reasoning += usage.reasoning


class Tally:
    """All counts of one replay. What is counted for each request is kept in plain numbers and dictionaries: it is a third of a fast replay's time.

    `refused`, `delayed`, `exempted` and `degraded` are what an enforcing policy does, `enforced` how much of that was done. Tokens are of what was served;
    `unserved` are those of refused requests, as far as the log tells. `timeline` counts by slot, then by action, the undecided last.
    """

    def __init__(self) -> None:
        self.requests = self.served = self.enforced = self.passed = 0
        self.refused = self.delayed = self.exempted = self.degraded = 0
        self.first = self.last = 0.0
        self.delay = self.longest = 0.0
        self.slots = Slots()
        self.timeline = _rows(SLOTS)
        self.activity = Activity()
        self.touches = Activity()
        self._row = self.timeline[0]
        self._note = self.activity.pending.append
        self._ends = self.slots.ends
        self.reasons: Counter[str] = Counter()
        self.undecided: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        self.tokens = Tokens()
        self.unserved = Tokens()
        self.usage = dict.fromkeys(SOURCES, 0)
        self.accounts: dict[str, AccountTally] = {}
        self._quotas: dict[str, QuotaTally] = {}
        self._fills: dict[Lines, _Fills] = {}
        self._touched = 0

    @property
    def actions(self) -> list[int]:
        """Requests by action."""
        return [sum(column) for column in zip(*self.timeline, strict=True)][:UNDECIDED]

    @property
    def quotas(self) -> dict[str, QuotaTally]:
        """The quotas that anything was charged to, by name."""
        for fills in self._fills.values():
            fills.tell()
        return self._quotas

    def take(self, step: Step) -> None:
        """Count one step of a replay."""
        if isinstance(step, Ended):
            self._end(step.decision, step.outcome)
        elif step.facts is not None and step.decision is not None:
            self._decide(step.facts.identity, step.decision)
            if step.excused:
                self.excused.update(step.excused)
        else:
            self._see(step.at)
            self._row[UNDECIDED] += 1
            self.undecided[step.undecided] += 1
            self.passed += step.passed

    def settle(self) -> None:
        """Bring the activity up to date."""
        for activity in (self.activity, self.touches):
            activity.flush(self.slots.number)

    def _see(self, at: float) -> None:
        self.last = at
        if at >= self._ends:
            self._turn(at)

    def _turn(self, at: float) -> None:
        self.first = self.first or at
        self.settle()
        for _ in range(self.slots.turn(at)):
            pairs = zip(self.timeline[::2], self.timeline[1::2], strict=True)
            self.timeline = [[a + b for a, b in zip(one, two, strict=True)] for one, two in pairs] + _rows(SLOTS // 2)
            self.activity.join()
            self.touches.join()
        self._row, self._ends = self.timeline[self.slots.number], self.slots.ends

    def _decide(self, identity: Identity, decision: Decision) -> None:
        self._see(decision.at)
        self.requests += 1
        self.served += decision.served
        told = decision.action or decision.would
        self._row[told] += 1
        account = self.accounts.get(identity.account) or self._meet(identity, decision.at)
        account.requests += 1
        self._note(account.number)
        if not self.requests % FLUSHED:
            self.settle()
        if told:
            self._touch(account, decision)
        levels, place = decision.levels, 0
        for part in decision.charges.parts:
            fills = self._fills.get(part.lines) or self._learn(part.lines)
            highest = fills.highest.get(part.subject) or fills.meet(part.subject)
            for line, burst in enumerate(part.figures.bursts):
                fill = levels[place] / burst
                place += 1
                if fill > highest[line]:  # noqa: PLR1730 - the call would cost as much as all of the loop
                    highest[line] = fill

    def _end(self, decision: Decision, outcome: Outcome) -> None:
        usage = outcome.usage
        if decision.served:
            self.usage[_source(outcome)] += 1
            if usage is not None:
                self.tokens.add(usage)
        if usage is not None and decision.told and fate(decision) == "refused":
            self.unserved.add(usage)

    def _meet(self, identity: Identity, at: float) -> AccountTally:
        name = identity.account if len(self.accounts) < TRACKED else REST
        return self.accounts.setdefault(name, AccountTally(identity, len(self.accounts), at))

    def _learn(self, lines: Lines) -> _Fills:
        tallies = [self._quota(quota.name, lines.per, quota.unit) for quota in lines.quotas]
        fills = self._fills[lines] = _Fills(tallies)
        return fills

    def _quota(self, name: str, per: Per, unit: Unit) -> QuotaTally:
        shown = name if per != "cluster" else f"{name} (cluster)"
        return self._quotas.setdefault(shown, QuotaTally(per, unit))

    def _touch(self, account: AccountTally, decision: Decision) -> None:
        self.enforced += decision.enforced
        self.reasons.update(decision.reasons)
        account.reasons.update(decision.reasons[:1])
        account.touched += 1
        if account.touches < 0:
            account.touches = self._touched
            self._touched += 1
        self.touches.pending.append(account.touches)
        if not account.caught and catches(decision):
            account.caught = decision.at
        kind = fate(decision)
        for counts in (self, account, self._short(decision)):
            if counts is not None:
                setattr(counts, kind, getattr(counts, kind) + 1)
        if decision.served:
            self.delay += decision.wait
            self.longest = max(self.longest, decision.wait)
            account.waited += decision.wait
            account.longest = max(account.longest, decision.wait)

    def _short(self, decision: Decision) -> QuotaTally | None:
        """The quota that refused or delayed. A cluster's has the name of its members' own, and the reasons tell them apart."""
        pooled = decision.reasons[:1] == (f"cluster.{decision.short}",)
        found = next((c.quota for c in decision.charges if c.quota.name == decision.short and (c.quota.per == "cluster") == pooled), None)
        return None if found is None else self._quota(found.name, found.per, found.unit)


Fate = Literal["refused", "delayed", "exempted", "degraded"]


def fate(decision: Decision) -> Fate:
    """What becomes of a request that is not simply allowed; where nothing is done, what would."""
    if decision.told is Action.THROTTLE and decision.spent:
        return "delayed" if decision.hold else "exempted"
    if decision.told is Action.DEGRADE and decision.spent:
        return "degraded"
    return "refused"


def catches(decision: Decision) -> bool:
    """Whether a request met what is meant for actors: a cluster's quota, or a rung of the ladder."""
    return decision.would > Action.THROTTLE or any(reason.startswith("cluster.") for reason in decision.reasons)


def _rows(count: int) -> list[list[int]]:
    return [[0] * (UNDECIDED + 1) for _ in range(count)]


def _source(outcome: Outcome) -> str:
    if outcome.imputed:
        return "imputed"
    if outcome.usage is None:
        return "none"
    return "estimated" if outcome.usage.estimated else "told"
