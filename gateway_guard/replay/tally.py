"""Counts what a replay decides. Bounded: past a million accounts or subjects the rest is counted as one."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from gateway_guard.decision import Action, Decision
from gateway_guard.facts import Identity, Usage
from gateway_guard.quota import Quota
from gateway_guard.replay.player import Outcome
from gateway_guard.replay.run import Ended, Step

TRACKED = 1_000_000
REST = "(others)"
SOURCES = ("told", "estimated", "imputed", "none")


class AccountTally:
    """What happened to one account."""

    __slots__ = ("delayed", "exempted", "org", "plan", "reasons", "refused", "requests", "touched")

    def __init__(self, plan: str, org: str) -> None:
        self.plan = plan
        self.org = org
        self.requests = self.touched = self.refused = self.delayed = self.exempted = 0
        self.reasons: Counter[str] = Counter()


class QuotaTally:
    """How near a quota's subjects came to it: `peaks` holds the highest fill that each subject reached, 1 = the whole burst."""

    __slots__ = ("delayed", "exempted", "peaks", "quotas", "refused")

    def __init__(self, quota: Quota) -> None:
        self.quotas = [quota]
        self.refused = self.delayed = self.exempted = 0
        self.peaks: dict[str, float] = {}

    def reach(self, subject: str, fill: float) -> None:
        """A subject's fill is higher than ever."""
        if subject not in self.peaks and len(self.peaks) >= TRACKED:
            subject, fill = REST, max(fill, self.peaks.get(REST, fill))
        self.peaks[subject] = fill


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

    `refused`, `delayed` and `exempted` are what an enforcing policy does, `enforced` how much of that was done. Tokens are of what was served;
    `unserved` are those of refused requests, as far as the log tells.
    """

    def __init__(self) -> None:
        self.requests = self.served = self.enforced = self.passed = 0
        self.refused = self.delayed = self.exempted = 0
        self.first = self.last = 0.0
        self.delay = self.longest = 0.0
        self.actions = [0] * len(Action)
        self.reasons: Counter[str] = Counter()
        self.undecided: Counter[str] = Counter()
        self.excused: Counter[str] = Counter()
        self.tokens = Tokens()
        self.unserved = Tokens()
        self.usage = dict.fromkeys(SOURCES, 0)
        self.accounts: dict[str, AccountTally] = {}
        self.quotas: dict[str, QuotaTally] = {}
        # A rulebook's quotas are the same objects for as long as it lives, and to hash one by its value costs more than all the rest.
        self._by_identity: dict[int, QuotaTally] = {}

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
            self.undecided[step.undecided] += 1
            self.passed += step.passed

    def _see(self, at: float) -> None:
        self.first = self.first or at
        self.last = at

    def _decide(self, identity: Identity, decision: Decision) -> None:
        self._see(decision.at)
        self.requests += 1
        self.served += decision.served
        would = decision.would
        self.actions[would] += 1
        account = self.accounts.get(identity.account) or self._meet(identity)
        account.requests += 1
        if would:
            self._touch(account, decision)
        by_identity = self._by_identity
        for charge, level in zip(decision.charges, decision.levels, strict=True):
            quota = charge.quota
            tally = by_identity.get(id(quota)) or self._learn(quota)
            fill = level / (quota.burst * charge.scale)
            if fill > tally.peaks.get(charge.subject, -1.0):
                tally.reach(charge.subject, fill)

    def _end(self, decision: Decision, outcome: Outcome) -> None:
        usage = outcome.usage
        if decision.served:
            self.usage[_source(outcome)] += 1
            if usage is not None:
                self.tokens.add(usage)
        if decision.would and usage is not None and fate(decision) == "refused":
            self.unserved.add(usage)

    def _meet(self, identity: Identity) -> AccountTally:
        name = identity.account if len(self.accounts) < TRACKED else REST
        return self.accounts.setdefault(name, AccountTally(identity.plan, identity.org))

    def _learn(self, quota: Quota) -> QuotaTally:
        name = quota.name if quota.per != "cluster" else f"{quota.name} (cluster)"
        tally = self._by_identity[id(quota)] = self.quotas.setdefault(name, QuotaTally(quota))
        tally.quotas.append(quota)  # keeps it alive, so that its identity stays its own
        return tally

    def _touch(self, account: AccountTally, decision: Decision) -> None:
        self.enforced += decision.enforced
        self.reasons.update(decision.reasons)
        account.reasons.update(decision.reasons[:1])
        account.touched += 1
        kind = fate(decision)
        for counts in (self, account, self._short(decision)):
            if counts is not None:
                setattr(counts, kind, getattr(counts, kind) + 1)
        if decision.served:
            self.delay += decision.wait
            self.longest = max(self.longest, decision.wait)

    def _short(self, decision: Decision) -> QuotaTally | None:
        """The quota that refused or delayed. A cluster's has the name of its members' own, and the reasons tell them apart."""
        pooled = decision.reasons[:1] == (f"cluster.{decision.short}",)
        found = next((c.quota for c in decision.charges if c.quota.name == decision.short and (c.quota.per == "cluster") == pooled), None)
        return None if found is None else self._by_identity.get(id(found)) or self._learn(found)


Fate = Literal["refused", "delayed", "exempted"]


def fate(decision: Decision) -> Fate:
    """What becomes of a request that is not simply allowed, were the policy enforced."""
    if decision.would is Action.THROTTLE and decision.spent:
        return "delayed" if decision.hold else "exempted"
    return "refused"


def _source(outcome: Outcome) -> str:
    if outcome.imputed:
        return "imputed"
    if outcome.usage is None:
        return "none"
    return "estimated" if outcome.usage.estimated else "told"
