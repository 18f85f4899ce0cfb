"""Plays the traffic of one case through the same gate and analyst as a replay, and counts what came of it, part by part."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from gateway_guard.analysis.analyst import Analyst
from gateway_guard.analysis.calibrate import calibrate
from gateway_guard.analysis.calibration import Calibration
from gateway_guard.assembly import Parts, assemble
from gateway_guard.decision import Action
from gateway_guard.errors import UsageError
from gateway_guard.facts import Event
from gateway_guard.gate import Gate
from gateway_guard.makers.make import accounts_of, made, moment
from gateway_guard.policy.model import Policy
from gateway_guard.replay.player import Player
from gateway_guard.replay.run import Ended, Played, Step, play, play_trace
from gateway_guard.replay.stage import terms
from gateway_guard.replay.tally import fate
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.trace.events import Trace, is_trace
from gateway_guard.trace.exchanges import ExchangeLog
from gateway_guard.tuning.case_load import Case, Cases
from gateway_guard.tuning.case_model import ALL, LogSource, Source
from gateway_guard.view import View
from gateway_guard.worker import analyst_of, refresh, settings_of

# Made accounts are nobody's: their hashes need not be secret, and are to be the same everywhere.
KEY = b"policy cases are played under this key"
WEEK = 7 * 86400.0


class First(NamedTuple):
    """When a reason first showed, in seconds from the beginning, and on whom."""

    after: float
    account: str


class Counts:
    """What happened to one part of the traffic."""

    def __init__(self) -> None:
        self.requests = self.served = self.touched = self.refused = self.delayed = 0
        self.action = self.would = 0
        self.clustered = 0
        self.reasons: Counter[str] = Counter()
        self.first: dict[str, First] = {}
        self.accounts: set[str] = set()
        self.touched_accounts: set[str] = set()

    def take(self, played: Played, begin: float) -> None:
        """Count one request."""
        self.requests += 1
        decision = played.decision
        if decision is None:
            self._note((played.undecided,), First(played.at - begin, ""))
            self.served += played.passed
            self.touched += not played.passed
            self.refused += not played.passed
            return
        self.accounts.add(decision.account)
        self.served += decision.served
        self.action = max(self.action, decision.action)
        self.would = max(self.would, decision.would)
        if not decision.would:
            return
        self.touched += 1
        self.touched_accounts.add(decision.account)
        self._note(decision.reasons, First(decision.at - begin, decision.account))
        if decision.told is not Action.DEGRADE:
            kind = fate(decision)
            self.refused += kind == "refused"
            self.delayed += kind == "delayed"

    def _note(self, reasons: Iterable[str], first: First) -> None:
        for reason in reasons:
            self.reasons[reason] += 1
            self.first.setdefault(reason, first)


class Bench:
    """Everything that the cases of one file share: the policy, assembled once for each directory, and the calibration, made when first asked for."""

    def __init__(self, cases: Cases) -> None:
        self._cases = cases
        self._begin = _midnight(cases.file.starts)
        self._parts: dict[Path | None, Parts] = {}
        self._calibration: Calibration | None = None

    @property
    def policy(self) -> Policy:
        """The policy that is tried."""
        return self._assembled(None).rules.policy

    def run(self, case: Case) -> dict[str, Counts]:
        """Play one case. Counts by part, and of all together."""
        source = next(iter(case.traffic.values()))
        parts = self._assembled(self._beside(source.accounts) if isinstance(source, LogSource) and source.accounts else None)
        gate = Gate(parts.rules, MemoryStore(parts.rules.policy.accounts))
        analyst = self._analyst(case, parts)
        player = _player(gate, analyst, self._cases.file.refresh or parts.rules.policy.analysis.refresh)
        counts, part_of = self._count(case, parts, player)
        if analyst is not None and player.played:
            refresh(analyst, gate, player.now)
        _cluster(counts, gate.view, part_of)
        return counts

    def names(self, case: Case) -> Callable[[str], str]:
        """Shows a made account by its name."""
        text = self._assembled(None).pseudonyms.text
        known = {
            text("account", f"{part}-{n}"): f"{part}-{n}"
            for part, of in case.traffic.items()
            if not isinstance(of, LogSource)
            for n in range(1, of.accounts + 1)
        }
        return lambda account: known.get(account, account)

    def _count(self, case: Case, parts: Parts, player: Player) -> tuple[dict[str, Counts], Callable[[str], str]]:
        counts = {name: Counts() for name in (*case.traffic, ALL)}
        steps, part_of, begin = self._steps(case, parts, player)
        for step in steps:
            if isinstance(step, Ended):
                continue
            begin = begin or step.at
            account = step.decision.account if step.decision is not None else ""
            for name in (part_of(account), ALL):
                counts[name].take(step, begin)
        return counts, part_of

    def _steps(self, case: Case, parts: Parts, player: Player) -> tuple[Iterator[Step], Callable[[str], str], float]:
        """What is played, which part an account belongs to, and when it all begins (0: with the first request)."""
        [first, *_] = case.traffic
        source = case.traffic[first]
        rules = parts.rules.policy
        if isinstance(source, LogSource):
            return _logged(self._beside(source.log), parts, player), lambda account: first, 0.0
        by_part = self._made(case.traffic, case.id)
        owner = {account: name for name, events in by_part.items() for account in accounts_of(events)}
        return play_trace(_merged(by_part), player, terms(rules)), owner.__getitem__, self._begin

    def _made(self, traffic: Mapping[str, Source], case: str) -> dict[str, list[Event]]:
        names, seed = self._assembled(None).pseudonyms, self._cases.file.seed
        return {
            name: made(source, name, seed=f"{seed}/{case}", names=names, begin=self._begin)
            for name, source in traffic.items()
            if not isinstance(source, LogSource)
        }

    def _analyst(self, case: Case, parts: Parts) -> Analyst | None:
        policy = parts.rules.policy
        if not policy.analysis.enabled:
            return None
        return Analyst(settings_of(policy), self._calibrated()) if case.calibrated else analyst_of(policy, self._cases.policy.parent)

    def _calibrated(self) -> Calibration:
        rules = self._cases.file.calibration
        if self._calibration is None:
            events = _merged(self._made(self._cases.benign, "calibration"))
            self._calibration = calibrate(events, settings_of(self.policy), rules.budget if rules is not None else 0.0)
        if not self._calibration.name:
            bound = self._calibration.bound
            raise UsageError(
                f"{self._cases.path}: the made traffic under `calibration` vouches for {bound:.2%} a week only: give it more accounts, or a larger budget"
            )
        return self._calibration

    def _assembled(self, directory: Path | None) -> Parts:
        if directory not in self._parts:
            self._parts[directory] = assemble(self._cases.policy, KEY, today=None, directory=directory)
        return self._parts[directory]

    def _beside(self, name: str) -> Path:
        return self._cases.path.parent / name


def _merged(by_part: Mapping[str, list[Event]]) -> list[Event]:
    return sorted((event for events in by_part.values() for event in events), key=moment)


def _player(gate: Gate, analyst: Analyst | None, every: float) -> Player:
    if analyst is None:
        return Player(gate)
    return Player(gate, events=analyst.observe, refresh=lambda at: refresh(analyst, gate, at), every=every)


def _logged(log: Path, parts: Parts, player: Player) -> Iterator[Step]:
    if is_trace(log):
        return play_trace(Trace(log), player, terms(parts.rules.policy))
    return play(ExchangeLog(log), parts.intake, player, terms(parts.rules.policy))


def _cluster(counts: Mapping[str, Counts], view: View, part_of: Callable[[str], str]) -> None:
    """How many accounts of each part are in the cluster that has most of them."""
    members: dict[str, Counter[str]] = {name: Counter() for name in counts}
    for account, standing in view.standings.items():
        if standing.cluster:
            members[part_of(account)][standing.cluster] += 1
            members[ALL][standing.cluster] += 1
    for name, clusters in members.items():
        counts[name].clustered = max(clusters.values(), default=0)


def _midnight(day: datetime.date) -> float:
    return datetime.datetime(day.year, day.month, day.day, tzinfo=datetime.UTC).timestamp()
