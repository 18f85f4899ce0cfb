"""The loop beside the requests: events to the analyst, its conclusions to the gate.

The request's way only looks things up. What is learned is learned here: each event is handed to the analyst as it happens (microseconds),
and every `refresh` seconds a snapshot is cut, concluded on in a thread, and adopted by one assignment to the gate's view. A conclusion that fails is
logged and the last good view stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from msgspec import structs

from gateway_guard.analysis.analyst import Analyst, conclude
from gateway_guard.analysis.calibration import Calibration, decode
from gateway_guard.analysis.settings import Settings
from gateway_guard.errors import UsageError
from gateway_guard.facts import Event
from gateway_guard.gate import Gate, at_once
from gateway_guard.policy.model import Policy
from gateway_guard.view import EMPTY, View

log = logging.getLogger("gateway_guard")


def settings_of(policy: Policy) -> Settings:
    """The analyst's settings as a policy has them."""
    rules = policy.analysis
    return Settings(accounts=policy.accounts, window=rules.window, half_life=rules.half_life, smallest=rules.smallest)


def analyst_of(policy: Policy, folder: Path, before: View = EMPTY) -> Analyst:
    """The analyst that a policy asks for; the calibration's path is relative to `folder`.

    `before` is the last view before a restart: made by another calibration it means nothing any more.
    """
    path = policy.analysis.calibration
    calibration = load_calibration(folder / path) if path else None
    known = calibration.name if calibration is not None else ""
    return Analyst(settings_of(policy), calibration, before if before.calibrated == known else EMPTY)


def load_calibration(path: Path) -> Calibration:
    """The calibration in a file, or UsageError."""
    try:
        return decode(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path}: the calibration cannot be read ({error.strerror}): make it with `gateway-guard calibrate`") from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def refresh(analyst: Analyst, gate: Gate, at: float) -> None:
    """Cut, conclude and adopt at once: how a replay keeps the gate's view up to date in virtual time."""
    view = gate.rules.ranked(conclude(analyst.cut(at)), analyst.view)
    analyst.adopt(view)
    at_once(gate.adopt(view, at))


def kept(view: View, before: View, lasting: float) -> View:
    """The view with what stood before a restart, for accounts that stand nowhere now, until it would have ended: a restart is no way out."""
    old = {
        account: standing
        for account, standing in before.standings.items()
        if account not in view.standings and standing.cluster in before.clusters and view.at < standing.seen + lasting
    }
    clusters = {standing.cluster: before.clusters[standing.cluster] for standing in old.values()}
    return structs.replace(view, standings={**old, **view.standings}, clusters={**clusters, **view.clusters}) if old else view


async def concluded(analyst: Analyst, gate: Gate, before: View, at: float) -> View:
    """The view that follows from all that the analyst has seen, with what stood `before` a restart. It is not adopted yet."""
    snapshot = analyst.cut(at)
    view = gate.rules.ranked(await asyncio.to_thread(conclude, snapshot), analyst.view)
    return kept(view, before, gate.rules.lasting) if before.standings else view


class Worker:
    """Runs an analyst beside a gate, on the loop that serves requests. `clock` is the edge's; `adopted` is told of each view, in a thread."""

    def __init__(self, analyst: Analyst, gate: Gate, clock: Callable[[], float], refresh: float, adopted: Callable[[View], None] = lambda view: None) -> None:
        self._adopted = adopted
        # What stood before a restart: the analyst has to see it again, and until then it is not forgotten.
        self._before = analyst.view
        self._analyst = analyst
        self._gate = gate
        self._clock = clock
        self._refresh = refresh
        self._task: asyncio.Task[None] | None = None

    def __call__(self, event: Event) -> None:
        """Take an event. The loop starts with the first one, since only then is it known which event loop serves."""
        self._analyst.observe(event)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def conclude(self) -> None:
        """Cut, conclude, adopt: once."""
        view = await concluded(self._analyst, self._gate, self._before, self._clock())
        self._analyst.adopt(view)
        await self._gate.adopt(view, self._clock())
        await asyncio.to_thread(self._adopted, view)

    async def close(self) -> None:
        """Stop concluding."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._refresh)
            try:
                await self.conclude()
            except Exception:
                # Whatever is wrong with the analysis, requests go on under the last good view.
                log.exception("the analyst failed, the last view stays in force")
