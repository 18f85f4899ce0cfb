"""How wide each quota has to be for each organisation in a piece of traffic: the factor on the quota's limit and burst at which nothing of it is touched.

Theory of operation. Played in shadow, every request tells what it costs in each quota that applies to it, in the gate's own arithmetic; what it really used
replaces the forecast when it ends. A quota made s times as wide (rate s*r, burst s*b) touches nobody whose level stays within s*b all the time,

    level(t_j) = C_j - s r t_j - min over i <= j of (C_{i-1} - s r t_i)        with C the running sum of costs

and that can only get easier as s grows. So each subject has one critical factor, found by bisection, and an organisation's need is the largest of its
accounts'. Requests in flight are counted by their own times instead.
"""

from __future__ import annotations

from array import array
from heapq import heappop, heappush

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway_guard.facts import Usage
from gateway_guard.policy.judge import Rulebook
from gateway_guard.quota import Lines, Part, Quota
from gateway_guard.replay.run import Ended, Played, Step

PRECISION = 0.005
# Who shares a bucket with strangers cannot say how wide it has to be.
OWN = ("account", "org", "account_model", "network")

Floats = NDArray[np.float64]


class Need(msgspec.Struct, frozen=True):
    """What one quota would need: the quota as it is, and by organisation (an account that has none is one of its own) the factor on it."""

    quota: Quota
    units: dict[str, float]


class _Ledger:
    """Costs of one subject under some lines, relative to the scale that applies to it; and how many of its requests run at once."""

    __slots__ = ("at", "columns", "most", "running", "unit")

    def __init__(self, unit: str, lines: int) -> None:
        self.unit = unit
        self.at = array("d")
        self.columns = [array("d") for _ in range(lines)]
        self.running: list[float] = []
        self.most = 0.0

    def runs(self, at: float, until: float, scale: float) -> None:
        """One more runs. Requests come in the order in which they began."""
        ends = self.running
        while ends and ends[0] <= at:
            heappop(ends)
        heappush(ends, until)
        self.most = max(self.most, len(ends) / scale)


class Needs:
    """Takes the steps of a replay in shadow. Memory: some 80 bytes a request."""

    def __init__(self, rules: Rulebook) -> None:
        self._rules = rules
        self._ledgers: dict[tuple[Lines, str], _Ledger] = {}
        self._lines: dict[tuple[Quota, ...], Lines] = {}
        self._asked = frozenset(name for name, rule in rules.policy.quotas.items() if rule.reserve == "asked")
        self._unit_of: dict[str, str] = {}
        self.requests = 0
        self.first = self.last = 0.0

    @property
    def units(self) -> dict[str, str]:
        """The organisation of each account, or the account itself."""
        return self._unit_of

    def take(self, step: Step) -> None:
        """Add one step: a request counts once it has ended."""
        if isinstance(step, Played):
            self.first = self.first or step.at
            self.last = max(self.last, step.at)
        elif not self._rules.exemption(step.facts.identity, step.facts.at):
            self._add(step)

    def _add(self, ended: Ended) -> None:
        facts, decision, outcome = ended.facts, ended.decision, ended.outcome
        account = decision.account
        self.requests += 1
        unit = self._unit_of.setdefault(account, facts.identity.org or account)
        settled = self._rules.settlement(decision.charges, outcome.usage or Usage())
        for part, change in zip(decision.charges.parts, settled.parts, strict=True):
            if part.lines.per in OWN:
                self._note(part, change, unit, (facts.at, outcome.at))

    def _note(self, part: Part, change: Part, unit: str, times: tuple[float, float]) -> None:
        # Plans have lines of their own for the same quotas: what is relative to the scale may be put together again.
        lines = self._lines.setdefault(part.lines.quotas, part.lines)
        ledger = self._ledgers.get((lines, part.subject))
        if ledger is None:
            ledger = self._ledgers[(lines, part.subject)] = _Ledger(unit, len(lines.quotas))
        at, ended = times
        ledger.at.append(at)
        for line, quota in enumerate(lines.quotas):
            if quota.unit == "in_flight":
                ledger.runs(at, ended, part.figures.scales[line])
                continue
            asked = part.costs[line]
            used = asked + change.costs[line]
            ledger.columns[line].append((max(asked, used) if quota.name in self._asked else used) / part.figures.scales[line])

    def found(self) -> list[Need]:
        """The needs of all quotas that have a bucket for each subject, in the policy's order."""
        units: dict[str, dict[str, float]] = {}
        quotas: dict[str, Quota] = {}
        for (lines, _), ledger in self._ledgers.items():
            at = np.frombuffer(ledger.at)
            for line, quota in enumerate(lines.quotas):
                of = units.setdefault(quota.name, {})
                quotas[quota.name] = quota
                need = ledger.most / quota.burst if quota.unit == "in_flight" else critical(quota, at, np.frombuffer(ledger.columns[line]))
                of[ledger.unit] = max(of.get(ledger.unit, 0.0), need)
        return [Need(quotas[name], units[name]) for name in self._rules.policy.quotas if name in units]


def critical(quota: Quota, at: Floats, cost: Floats) -> float:
    """The smallest factor on rate and burst with which these costs at these times never go beyond."""
    low, high = float(cost.max(initial=0.0)) / quota.burst, float(cost.sum()) / quota.burst
    if high <= low:
        return high
    order = np.argsort(at, kind="stable")
    at, cost = at[order] - at[order[0]], cost[order]
    total = np.cumsum(cost)
    while high - low > PRECISION * high:
        factor = (low + high) / 2
        if _peak(at, cost, total, factor * quota.rate) <= factor * quota.burst:
            high = factor
        else:
            low = factor
    return high


def _peak(at: Floats, cost: Floats, total: Floats, rate: float) -> float:
    """The highest level of a bucket that drains at `rate`."""
    after = total - rate * at
    return float((after - np.minimum.accumulate(after - cost)).max())
