"""Counts what a replay decides. Bounded: past a million accounts or subjects the rest is counted as one."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from gateway_guard.decision import Action, Decision
from gateway_guard.facts import RequestFacts, Usage
from gateway_guard.quota import Quota
from gateway_guard.replay.player import Outcome
from gateway_guard.replay.run import Ended, Step

TRACKED = 1_000_000
REST = "(others)"


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

    __slots__ = ("delayed", "exempted", "peaks", "quota", "refused")

    def __init__(self, quota: Quota) -> None:
        self.quota = quota
        self.refused = self.delayed = self.exempted = 0
        self.peaks: dict[str, float] = {}


class Tally:
    """All counts of one replay.

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
        self.tokens = [0, 0, 0]
        self.unserved = [0, 0, 0]
        self.usage: Counter[str] = Counter()
        self.accounts: dict[str, AccountTally] = {}
        self.quotas: dict[str, QuotaTally] = {}

    def take(self, step: Step) -> None:
        """Count one step of a replay."""
        if isinstance(step, Ended):
            self._end(step.decision, step.outcome)
            return
        self.first = self.first or step.at
        self.last = step.at
        if step.facts is None or step.decision is None:
            self.undecided[step.undecided.code] += 1
            self.passed += step.undecided.served
        else:
            self._decide(step.facts, step.decision)

    def _decide(self, facts: RequestFacts, decision: Decision) -> None:
        self.requests += 1
        self.served += decision.served
        self.actions[decision.would] += 1
        account = self._account(facts)
        account.requests += 1
        if decision.would:
            self._touch(account, decision)
        self._fill(decision)

    def _account(self, facts: RequestFacts) -> AccountTally:
        identity = facts.identity
        account = self.accounts.get(identity.account)
        if account is None:
            name = identity.account if len(self.accounts) < TRACKED else REST
            account = self.accounts.setdefault(name, AccountTally(identity.plan, identity.org))
        return account

    def _touch(self, account: AccountTally, decision: Decision) -> None:
        self.enforced += decision.enforced
        self.reasons.update(decision.reasons)
        account.reasons.update(decision.reasons[:1])
        account.touched += 1
        kind = fate(decision)
        for counts in (self, account, self._quota(decision)):
            if counts is not None:
                setattr(counts, kind, getattr(counts, kind) + 1)
        if decision.served:
            self.delay += decision.wait
            self.longest = max(self.longest, decision.wait)

    def _quota(self, decision: Decision) -> QuotaTally | None:
        if not decision.short:
            return None
        charge = next((charge for charge in decision.charges if charge.quota.name == decision.short), None)
        return None if charge is None else self._tally_of(charge.quota)

    def _tally_of(self, quota: Quota) -> QuotaTally:
        key = quota.name if quota.per != "cluster" else f"{quota.name} (cluster)"
        tally = self.quotas.get(key)
        if tally is None:
            tally = self.quotas[key] = QuotaTally(quota)
        return tally

    def _fill(self, decision: Decision) -> None:
        for charge, balance in zip(decision.charges, decision.balances, strict=True):
            quota = charge.quota
            tally = self.quotas.get(quota.name)
            if tally is None or tally.quota.per != quota.per:
                tally = self._tally_of(quota)
            fill = balance.level / (quota.burst * charge.scale)
            peaks = tally.peaks
            if fill > peaks.get(charge.subject, -1.0):
                peaks[charge.subject if len(peaks) < TRACKED or charge.subject in peaks else REST] = fill

    def _end(self, decision: Decision, outcome: Outcome) -> None:
        usage = outcome.usage
        if decision.served:
            self.usage[_source(outcome)] += 1
        if usage is not None and decision.served:
            _add(self.tokens, usage)
        if usage is not None and decision.would and fate(decision) == "refused":
            _add(self.unserved, usage)


Fate = Literal["refused", "delayed", "exempted"]


def fate(decision: Decision) -> Fate:
    """What becomes of a request that is not simply allowed, were the policy enforced."""
    if decision.would is Action.THROTTLE and decision.spent:
        return "delayed" if decision.hold else "exempted"
    return "refused"


def _source(outcome: Outcome) -> str:
    if outcome.usage is None:
        return "none"
    if outcome.imputed:
        return "imputed"
    return "estimated" if outcome.usage.estimated else "told"


def _add(tokens: list[int], usage: Usage) -> None:
    tokens[0] += usage.input
    tokens[1] += usage.output
    tokens[2] += usage.reasoning
