"""One replay with its outputs: decisions, a trace, a report."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from gateway_guard.analysis.picture import pictures
from gateway_guard.errors import GuardError
from gateway_guard.replay import clusters
from gateway_guard.replay import report as reports
from gateway_guard.replay.clusters import Found
from gateway_guard.replay.garbage import seldom_collected
from gateway_guard.replay.headroom import headroom_of
from gateway_guard.replay.labels import Label, judged
from gateway_guard.replay.portrait import Watch, portrait
from gateway_guard.replay.report import Report, Run, Traffic
from gateway_guard.replay.run import Ended, Step, Tracing, row_of
from gateway_guard.replay.rungs import LadderCost, Rungs
from gateway_guard.replay.stage import Stage
from gateway_guard.replay.tally import Tally
from gateway_guard.replay.touched import Cost, cost_of, group, top_of, touched_of
from gateway_guard.trace.decisions import decisions_writer
from gateway_guard.trace.events import TraceWriter
from gateway_guard.trace.exchanges import ExchangeLog
from gateway_guard.trace.output import Output

EVERY = 128
PORTRAITS = 12
LABELLED = "accounts that the labels do not call an attack's"
UNSUSPECTED = "accounts in no cluster that both coordinates and harvests"
ATTACK, SUSPECTED = "accounts that the labels call an attack's", "accounts in a cluster that both coordinates and harvests"


class Outputs(NamedTuple):
    """Where to write; empty: nowhere."""

    decisions: str = ""
    trace: str = ""


class Session:
    """Plays a stage to its end. `stopped` says why it ended early; `kept` where its unfinished outputs are then."""

    def __init__(self, stage: Stage, labels: Mapping[str, Label] | None = None) -> None:
        self.tally = Tally()
        self.stopped = ""
        self.kept: list[str] = []
        self._stage = stage
        self._labels = labels
        self._watch = Watch()
        self._rungs = Rungs(stage.gate)

    def run(self, outputs: Outputs, tick: Callable[[], None]) -> None:
        """Play; `tick` is called now and then. What is written becomes final at the end, and is set aside if the replay is stopped."""
        files: list[Output] = []
        try:
            with ExitStack() as stack:
                takers = self._takers(outputs, stack, files)
                stack.enter_context(seldom_collected())
                for number, step in enumerate(self._stage.steps):
                    for take in takers:
                        take(step)
                    if not number % EVERY:
                        self.look()
                        tick()
        except KeyboardInterrupt:
            self.stopped = "interrupted"
            raise
        except GuardError as error:
            self.stopped = str(error)
            raise
        finally:
            self._stage.source.close()
            self.kept = [file.aside for file in files if file.aside]

    def look(self) -> None:
        """Note how the clusters stand, now and then."""
        self._watch.look(self._stage.gate.view, self.tally)

    def report(self, seconds: float) -> Report:
        """What was found so far."""
        tally, stage = self.tally, self._stage
        self.look()
        return Report(
            complete=not self.stopped,
            stopped=self.stopped,
            policy=stage.policy,
            traffic=self._traffic(),
            decisions=reports.decisions_of(tally),
            used=reports.used_of(tally),
            accounts=group(list(tally.accounts.values())),
            orgs=reports.orgs_of(tally),
            plans=reports.plans_of(tally),
            quotas=reports.quotas_of(tally),
            top=top_of(tally.accounts, stage.name),
            calibrated=stage.gate.view.calibrated,
            clusters=self._clusters(),
            timeline=reports.timeline_of(tally),
            headroom=headroom_of(tally),
            touched=touched_of(tally),
            cost=self._cost(),
            ladder=self._ladder(),
            labelled=None if self._labels is None else judged(tally.accounts, self._labels, stage.name),
            run=Run(round(seconds, 3), round(tally.requests / seconds, 1) if seconds else 0.0),
        )

    def _traffic(self) -> Traffic:
        tally, source = self.tally, self._stage.source
        log = source if isinstance(source, ExchangeLog) else None
        return Traffic(
            name=Path(source.name).name,
            requests=tally.requests + tally.undecided.total(),
            first=tally.first,
            last=tally.last,
            backwards=log.backwards if log else 0,
            broken=log.broken if log else 0,
            problems=log.problems if log else [],
            undecided=reports.ranked(tally.undecided),
            passed=tally.passed,
            excused=reports.ranked(tally.excused),
        )

    def _clusters(self) -> list[Found]:
        view, name, analyst = self._stage.gate.view, self._stage.name, self._stage.analyst
        found = clusters.found(view, name, self._stage.gate.acknowledged)
        if not found:
            return found
        drawn = pictures(analyst.cut(), view) if analyst is not None else {}
        inside = clusters.members(view)
        return [
            structs.replace(one, portrait=portrait(inside.get(one.id, ()), self.tally, self._watch.sizes(one.id, self.tally), drawn.get(one.id), name))
            if place < PORTRAITS
            else one
            for place, one in enumerate(found)
        ]

    def _cost(self) -> Cost:
        """Honest are those who are labelled so; without labels, those whom the ladder has nothing against at the end."""
        honest, _ = self._sides()
        return cost_of({account: self.tally.accounts[account] for account in honest}, UNSUSPECTED if self._labels is None else LABELLED, self._stage.name)

    def _ladder(self) -> LadderCost | None:
        """What each rung costs these, and those whom it is meant for."""
        if not self._stage.gate.rules.policy.ladder:
            return None
        (honest, meant), known = self._sides(), self._labels is not None
        who, whom = (LABELLED, ATTACK) if known else (UNSUSPECTED, SUSPECTED)
        return self._rungs.cost(frozenset(honest), self.tally.accounts, frozenset(meant), who, whom)

    def _sides(self) -> tuple[list[str], list[str]]:
        """Accounts that are taken for honest, and the others that something is known of."""
        accounts, name, labels = self.tally.accounts, self._stage.name, self._labels
        if labels is not None:
            kinds = {account: labels[name(account)].kind for account in accounts if name(account) in labels}
            return [a for a, kind in kinds.items() if kind != "attack"], [a for a, kind in kinds.items() if kind == "attack"]
        view = self._stage.gate.view
        suspect = {account for account, standing in view.standings.items() if standing.coordination > 0 and standing.harvest > 0}
        return [a for a in accounts if a not in suspect], [a for a in accounts if a in suspect]

    def _takers(self, outputs: Outputs, stack: ExitStack, files: list[Output]) -> list[Callable[[Step], None]]:
        """All outputs are opened before anything is written to one of them."""
        opened = {name: stack.enter_context(Output(name)) for name in outputs if name}
        files.extend(opened.values())
        takers: list[Callable[[Step], None]] = [self.tally.take]
        if self._stage.gate.rules.policy.ladder:
            takers.append(self._rungs.take)
        if outputs.decisions:
            takers.append(self._rows(opened[outputs.decisions], stack))
        if outputs.trace:
            writer = TraceWriter(opened[outputs.trace], key=self._stage.key)
            tracing = Tracing(writer)
            stack.callback(writer.finish)
            stack.callback(tracing.finish)
            takers.append(tracing.take)
        return takers

    def _rows(self, output: Output, stack: ExitStack) -> Callable[[Step], None]:
        writer, name = decisions_writer(output), self._stage.name
        stack.callback(writer.finish)

        def take(step: Step) -> None:
            if not isinstance(step, Ended):
                writer.write(row_of(step, name(step.decision.account) if step.decision is not None else ""))

        return take
