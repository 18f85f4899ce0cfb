"""What each rung costs: those who do nothing wrong, and those whom it is meant for.

Three things are told of a rung: whom it met, what it did to them, and what they would have to spend. The last is an estimate: a challenge that is asked counts
once for each time that a pass lasts, at the work that the desk would ask for then (suspicion, size of the cluster, repeats), whether or not it was met in the
recording. Below stands what comes of all rungs and quotas together: what an exchange that is answered in full takes, in attempts, waiting,
work, step-ups and, where the policy has prices, money.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable

import msgspec

from gateway_guard.challenge.effort import effort
from gateway_guard.decision import Action, Decision
from gateway_guard.facts import Usage
from gateway_guard.gate import Gate
from gateway_guard.policy.model import Rung
from gateway_guard.policy.terms import Tariff
from gateway_guard.replay.run import Ended, Step
from gateway_guard.replay.tally import REST, TRACKED, AccountTally

DAY = 86400.0


class Borne(msgspec.Struct, frozen=True):
    """What accounts bear of a rung. `requests` that met it, of which it `touched` so many and `refused` so many · `delay_s` that they were held · `challenges`
    that they would have to meet, `work_s` of one plain core for those that are proofs of work, and `step_ups`.
    """

    accounts: int = 0
    requests: int = 0
    touched: int = 0
    refused: int = 0
    delay_s: float = 0.0
    challenges: int = 0
    work_s: float = 0.0
    step_ups: int = 0


class RungCost(msgspec.Struct, frozen=True):
    """One rung: those on whom it `acted`, the `honest` among them, and requests for which it was only recorded (`shadow`)."""

    rung: str
    do: str
    acted: Borne
    honest: Borne
    shadow: int


class Exchanges(msgspec.Struct, frozen=True):
    """What accounts have for what they do: `full` of their `requests` were answered in full, and each of these took so much (None: there is none)."""

    accounts: int
    requests: int
    full: int
    attempts: float | None
    delay_s: float | None
    work_s: float | None
    step_ups: float | None
    money: float | None


class LadderCost(msgspec.Struct, frozen=True):
    """`who` is taken for honest, `whom` the ladder is meant for · `times`: how many times as much an exchange costs these (None: nothing to compare)."""

    who: str
    whom: str
    rungs: list[RungCost]
    honest: Exchanges
    meant: Exchanges
    times: dict[str, float | None]


class _Bearing:
    """What one account has borne of one rung."""

    __slots__ = ("challenges", "delay", "refused", "requests", "shadow", "step_ups", "touched", "until", "work")

    def __init__(self) -> None:
        self.requests = self.touched = self.refused = self.shadow = self.challenges = self.step_ups = 0
        self.delay = self.work = 0.0
        self.until = -math.inf


class _Repeats:
    """Passes that a cluster has had lately, for each member: one a day is forgiven, as the desk does."""

    __slots__ = ("at", "level")

    def __init__(self) -> None:
        self.level = self.at = 0.0

    def add(self, share: float, at: float) -> float:
        """What they were before this one."""
        before = max(0.0, self.level - max(0.0, at - self.at) / DAY)
        self.level, self.at = before + share, at
        return before


class Rungs:
    """Follows a replay, beside the tally. Bounded as it is."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        policy = gate.rules.policy
        self._rungs = {rung.id: rung for rung in policy.ladder}
        self._borne: dict[tuple[str, str], _Bearing] = {}
        self._repeats: dict[str, _Repeats] = {}
        self._money: dict[str, float] = {}
        self._tariff = Tariff(policy) if policy.prices else None

    def take(self, step: Step) -> None:
        """Count one step."""
        if isinstance(step, Ended):
            if self._tariff is not None and step.decision.served and step.outcome.usage is not None:
                self._paid(step.decision, step.outcome.usage)
        elif step.decision is not None and (step.decision.rung or step.decision.shadow):
            self._met(step.decision)

    def cost(self, honest: Collection[str], accounts: dict[str, AccountTally], meant: Collection[str], who: str, whom: str) -> LadderCost:
        """Everything that was counted, split into those who are taken for honest and those whom the ladder is meant for."""
        ours, theirs = self._exchanges(honest, accounts), self._exchanges(meant, accounts)
        return LadderCost(who, whom, [self._rung(rung, honest) for rung in self._rungs.values()], ours, theirs, _times(ours, theirs))

    def _met(self, decision: Decision) -> None:
        if decision.shadow:
            self._bearing(decision.shadow, decision.account).shadow += 1
        rung = self._rungs.get(decision.rung)
        if rung is None:
            return
        borne = self._bearing(rung.id, decision.account)
        if not self._gate.rules.enforcing or rung.mode == "shadow":
            borne.shadow += 1
            return
        borne.requests += 1
        borne.touched += bool(decision.action)
        borne.refused += not decision.served
        borne.delay += decision.wait if decision.served else 0.0
        if rung.do == "challenge" and decision.at >= borne.until and (decision.action is Action.CHALLENGE or f"pass.{rung.id}" in decision.reasons):
            self._challenged(rung, borne, decision)

    def _challenged(self, rung: Rung, borne: _Bearing, decision: Decision) -> None:
        rule = self._gate.rules.policy.challenges[rung.challenge or ""]
        cluster = self._gate.view.clusters.get(decision.cluster)
        size = cluster.size if cluster is not None else 1
        repeats = self._repeats.setdefault(decision.cluster or decision.account, _Repeats()).add(1.0 / max(1, size), decision.at)
        borne.until = decision.at + rule.lasts
        borne.challenges += 1
        if rule.work is None:
            borne.step_ups += 1
        else:
            borne.work += effort(rule.work, excess=decision.score - rung.at, size=size, repeats=repeats)

    def _paid(self, decision: Decision, usage: Usage) -> None:
        assert self._tariff is not None  # noqa: S101 - asked before
        given, output, _ = self._tariff.price(decision.model)
        name = decision.account if len(self._money) < TRACKED else REST
        self._money[name] = self._money.get(name, 0.0) + given * usage.input + output * usage.output

    def _bearing(self, rung: str, account: str) -> _Bearing:
        key = (rung, account if len(self._borne) < TRACKED else REST)
        return self._borne.get(key) or self._borne.setdefault(key, _Bearing())

    def _rung(self, rung: Rung, honest: Collection[str]) -> RungCost:
        mine = {account: borne for (ident, account), borne in self._borne.items() if ident == rung.id}
        acted = {account: borne for account, borne in mine.items() if borne.requests}
        spared = [borne for account, borne in acted.items() if account in honest]
        return RungCost(rung.id, rung.do, _borne(acted.values()), _borne(spared), sum(borne.shadow for borne in mine.values()))

    def _exchanges(self, names: Collection[str], accounts: dict[str, AccountTally]) -> Exchanges:
        tallies = [accounts[name] for name in names if name in accounts]
        full = sum(of.requests - of.refused - of.degraded for of in tallies)
        mine = [borne for (_, account), borne in self._borne.items() if account in names]
        requests = sum(of.requests for of in tallies)
        totals = {
            "attempts": float(requests),
            "delay_s": sum(of.waited for of in tallies),
            "work_s": sum(borne.work for borne in mine),
            "step_ups": float(sum(borne.step_ups for borne in mine)),
            "money": sum(self._money.get(name, 0.0) for name in names) if self._tariff is not None else None,
        }
        each = {name: None if total is None or not full else round(total / full, 6) for name, total in totals.items()}
        return Exchanges(accounts=len(tallies), requests=requests, full=full, **each)


def _borne(bearings: Iterable[_Bearing]) -> Borne:
    every = list(bearings)
    return Borne(
        accounts=len(every),
        requests=sum(one.requests for one in every),
        touched=sum(one.touched for one in every),
        refused=sum(one.refused for one in every),
        delay_s=round(sum(one.delay for one in every), 3),
        challenges=sum(one.challenges for one in every),
        work_s=round(sum(one.work for one in every), 1),
        step_ups=sum(one.step_ups for one in every),
    )


def _times(honest: Exchanges, meant: Exchanges) -> dict[str, float | None]:
    """How many times as much: where the honest pay nothing, there is no number for it."""
    found: dict[str, float | None] = {}
    for name in ("attempts", "delay_s", "work_s", "step_ups", "money"):
        theirs, ours = getattr(meant, name), getattr(honest, name)
        found[name] = round(theirs / ours, 2) if theirs is not None and ours else None
    return found
