"""The loop beside the requests: events to the analyst, its conclusions to the gate.

The request's way only looks things up. What is learned is learned here: each event is handed to the analyst as it happens (microseconds),
and every `refresh` seconds a snapshot is cut, concluded on in a thread, and adopted by one assignment to `gate.view`. A conclusion that fails is
logged and the last good view stays.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

from gateway_guard.analysis.analyst import Analyst, conclude
from gateway_guard.analysis.calibration import Calibration, decode
from gateway_guard.analysis.settings import Settings
from gateway_guard.errors import UsageError
from gateway_guard.facts import Event
from gateway_guard.gate import Gate
from gateway_guard.policy.model import Policy

log = logging.getLogger("gateway_guard")


def settings_of(policy: Policy) -> Settings:
    """The analyst's settings as a policy has them."""
    rules = policy.analysis
    return Settings(accounts=policy.accounts, window=rules.window, half_life=rules.half_life, smallest=rules.smallest)


def analyst_of(policy: Policy, folder: Path) -> Analyst:
    """The analyst that a policy asks for; the calibration's path is relative to `folder`."""
    calibration = policy.analysis.calibration
    return Analyst(settings_of(policy), load_calibration(folder / calibration) if calibration else None)


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
    view = conclude(analyst.cut(at))
    analyst.adopt(view)
    gate.view = view


class Worker:
    """Runs an analyst beside a gate, on the loop that serves requests. `clock` is the edge's."""

    def __init__(self, analyst: Analyst, gate: Gate, clock: Callable[[], float], refresh: float) -> None:
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
        snapshot = self._analyst.cut(self._clock())
        view = await asyncio.to_thread(conclude, snapshot)
        self._analyst.adopt(view)
        self._gate.view = view

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
