"""The guard of one process: its gate, its intake, its clock, its recorder, and the policy that it keeps up to date."""

from __future__ import annotations

import asyncio
import atexit
import datetime
import logging
import os
import sys
import time
from collections import Counter
from pathlib import Path

import httpx

from gateway_guard.appeals.keeper import Keeper
from gateway_guard.asgi import hangups
from gateway_guard.asgi.alone import ensure_alone, held
from gateway_guard.asgi.books import Books
from gateway_guard.asgi.clock import Clock
from gateway_guard.asgi.lane import Lane
from gateway_guard.asgi.settings import Settings
from gateway_guard.asgi.sharing import is_shared, shared_grants, shared_store, shared_worker, terms
from gateway_guard.assembly import Parts, assemble, candidate_of
from gateway_guard.candidate import Candidate
from gateway_guard.challenge.desk import Desk
from gateway_guard.challenge.grants import MemoryGrants
from gateway_guard.decision import LABELS, Action, Decision
from gateway_guard.errors import GuardError, RequestError, UnreadableBody
from gateway_guard.facts import RequestFacts, Usage
from gateway_guard.gate import Gate
from gateway_guard.identity.credentials import hide
from gateway_guard.identity.directory import Lookup
from gateway_guard.policy.model import Policy
from gateway_guard.ports import Sink
from gateway_guard.shared_worker import SharedWorker
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.stores.redis import SharedStore
from gateway_guard.trace.decisions import row
from gateway_guard.trace.recorder import Recorder
from gateway_guard.trace.recording import Recording
from gateway_guard.view import View
from gateway_guard.worker import Worker, analyst_of

log = logging.getLogger("gateway_guard")
# How often a changed policy is looked for, in seconds.
LOOK = 1.0
ALLOW = Action.ALLOW


class Engine:
    """Made once for a mounted guard. What it refuses to start with is told by PolicyError, DirectoryError or UsageError."""

    def __init__(self, settings: Settings, *, lookup: Lookup | None = None) -> None:
        self._settings = settings
        self._lookup = lookup
        self.clock = Clock()
        self._http: httpx.AsyncClient | None = None
        parts = self._assemble()
        self.shared = self._shared(parts.rules.policy)
        self.gate = Gate(parts.rules, self.shared or MemoryStore(parts.rules.policy.accounts))
        self.intake = parts.intake
        self._grants = shared_grants(self.shared, parts.rules.policy.store.timeout) if self.shared is not None else MemoryGrants()
        self.desk = self._desk(parts)
        self.lane = Lane(parts.rules.policy.throttle.release)
        self.counts: Counter[str] = Counter()
        self.books = Books(parts.rules.policy, self._settings.policy.parent, settings.key, self.gate, self.clock)
        self._noted(parts)
        self.worker = self._worker(parts)
        self.sink: Sink | None = self.worker if parts.rules.policy.analysis.enabled else None
        self.recorder = self._recorder(parts)
        self._pseudonyms = parts.pseudonyms
        self._stamps = _stat(dict.fromkeys(parts.files, (0, 0)))
        self.candidate = self._candidate(parts)
        self._looked = 0.0
        self._reloading: asyncio.Task[None] | None = None
        self._hangups = hangups.count()
        if self.recorder is not None:
            atexit.register(self.recorder.close)

    @property
    def keeper(self) -> Keeper | None:
        """Who keeps the state, if the policy names one."""
        return self.books.keeper

    @property
    def appeals_path(self) -> str:
        """Where to appeal, empty for nowhere: without a state an appeal would be forgotten."""
        return (self.gate.rules.policy.appeals.path or "") if self.keeper is not None else ""

    def passes(self, error: RequestError) -> bool:
        """Whether a request that could not be read or identified goes on all the same."""
        if not self.gate.rules.enforcing:
            return True
        return isinstance(error, UnreadableBody) and self.intake.rules.unreadable == "pass"

    def unread(self, error: RequestError) -> None:
        """Count a request that could not be read or identified."""
        self.counts[error.code] += 1

    def decided(self, decision: Decision, facts: RequestFacts) -> int:
        """Log a decision; the ticket for recording its exchange."""
        self.counts[LABELS[decision.told]] += 1
        if decision.action is not ALLOW:
            self.books.felt(decision)
        if self.candidate is not None:
            # Once the request is on its way. Callbacks run in the order in which they are asked for, which is that of deciding and settling.
            asyncio.get_running_loop().call_soon(self._beside, self.candidate, decision, facts, self.gate.view)
        if self.recorder is None:
            return 0
        if self.candidate is None:
            self.recorder.decision(row(decision, decision.account))
        return self.recorder.opened(decision.account)

    async def settle(self, decision: Decision, usage: Usage | None, at: float) -> None:
        """A request that was served is over."""
        await self.gate.settle(decision, usage, at)
        if self.candidate is not None:
            asyncio.get_running_loop().call_soon(self.candidate.settle, decision.id, usage, at)

    def ended(self, recording: Recording) -> None:
        """Record an exchange that is over."""
        if self.recorder is not None:
            self.recorder.exchange(recording)

    def watch(self) -> None:
        """Look whether the policy has changed, at most once a second, and load it off the event loop."""
        now = time.monotonic()
        if now - self._looked < LOOK or self._reloading is not None:
            return
        self._looked = now
        self.books.start()
        if isinstance(self.worker, SharedWorker):
            self.worker.start()
        if self._hangups != hangups.count() or _stat(self._stamps) != self._stamps:
            self._hangups = hangups.count()
            self._reloading = asyncio.get_running_loop().create_task(self._reload())

    async def close(self) -> None:
        """Write what is left to write, and let connections go."""
        if self.candidate is not None:
            await asyncio.sleep(0)  # what it was asked last is still to be answered
        if self.worker is not None:
            await self.worker.close()
        await self.intake.identifier.close()
        if self._http is not None:
            await self._http.aclose()
        if self.recorder is not None:
            await asyncio.to_thread(self.recorder.close)
        await self.books.close()
        if self.shared is not None:
            await self.shared.close()

    def _beside(self, candidate: Candidate, decision: Decision, facts: RequestFacts, view: View) -> None:
        """Ask the candidate, and log what both decided."""
        found = candidate.decide(facts, served=decision.served, view=view)
        self.counts["candidate_failed" if found is None else "candidate_differs" if found.told is not decision.told else "candidate_agrees"] += 1
        if self.recorder is not None:
            self.recorder.decision(row(decision, decision.account, found))

    def _candidate(self, parts: Parts, known: Candidate | None = None) -> Candidate | None:
        """The policy's candidate. One that is refused does not keep the guard from guarding: the `known` one stays, as it is with the policy itself."""
        policy, path = parts.rules.policy, self._settings.policy
        if policy.candidate is not None:
            self._stamps |= _stat(dict.fromkeys([path.parent / policy.candidate], (0, 0)))
        try:
            beside = candidate_of(policy, path, parts.pseudonyms, today=self._today())
        except (GuardError, OSError) as error:
            log.error("the candidate policy is refused, %s: %s", "the last good one stays" if known is not None else "the guard runs without it", error)
            return known
        if beside is None:
            return None
        self._stamps |= _stat(dict.fromkeys(beside.files, (0, 0)))
        if known is None:
            return Candidate(beside.rules, self.gate, policy.reservation.output)
        known.adopt(beside.rules, policy.reservation.output)
        return known

    def _today(self) -> datetime.date:
        return datetime.datetime.fromtimestamp(self.clock(), datetime.UTC).date()

    def _shared(self, policy: Policy) -> SharedStore | None:
        if is_shared(policy):
            return shared_store(policy, self._settings.policy.parent, self._settings.key, os.environ)
        ensure_alone(self._settings.policy, argv=sys.argv, environment=os.environ)
        return None

    def _assemble(self) -> Parts:
        s = self._settings
        return assemble(s.policy, s.key, today=self._today(), directory=s.directory, lookup=self._lookup, client=self._client)

    def _client(self) -> httpx.AsyncClient:
        self._http = self._http or httpx.AsyncClient()
        return self._http

    async def _reload(self) -> None:
        try:
            parts = await asyncio.to_thread(self._assemble)
        except GuardError as error:
            self._stamps = _stat(self._stamps)
            self.counts["policy_refused"] += 1
            log.error("the changed policy is refused, the last good one stays in force: %s", error)
            self.books.note("policy.refused", problems=str(error).splitlines()[:20], stays=self.gate.rules.digest)
            return
        except OSError as error:
            log.error("the policy cannot be read, the last good one stays in force: %s", error)
            return
        finally:
            self._reloading = None
        await self._adopt(parts)

    async def _adopt(self, parts: Parts) -> None:
        before, known = self.gate.rules, self.intake.identifier
        if self.shared is not None:
            self.shared.agree(terms(parts.rules.policy))
        elif not held(self._settings.policy, patience=0.0):
            log.error("another process guards with %s too, and grants every quota once more: name a server under `store`, or stop one", self._settings.policy)
        for section in ("record", "analysis", "state", "store"):
            if getattr(parts.rules.policy, section) != getattr(before.policy, section):
                log.warning("the policy's `%s` section has changed: it takes effect at the next start", section)
        same = parts.rules.policy.identity == before.policy.identity
        if same:
            # Verified tokens and fetched keys stay warm; only the directory may be a newer one.
            known.directory, parts.intake.identifier = parts.intake.identifier.directory, known
        self.gate.rules, self.intake, self.desk = parts.rules, parts.intake, self._desk(parts)
        if not same:
            await known.close()
        self.lane = Lane(parts.rules.policy.throttle.release)
        self._stamps = _stat(dict.fromkeys(parts.files, (0, 0)))
        self.candidate = self._candidate(parts, self.candidate)
        self._noted(parts, before.digest)
        log.info("policy %s (%s) is in force, was %s", parts.rules.policy.name, parts.rules.digest, before.digest)

    def _noted(self, parts: Parts, before: str = "") -> None:
        policy = parts.rules.policy
        self.books.note("policy.loaded", policy=policy.name, digest=parts.rules.digest, mode=policy.mode, before=before)

    def _desk(self, parts: Parts) -> Desk | None:
        """Who states challenges, if there is a rung that asks for them."""
        policy = parts.rules.policy
        if not any(rung.do == "challenge" for rung in policy.ladder):
            return None
        return Desk(policy, self._settings.key, self.gate.store, self._grants, parts.operators)

    def _worker(self, parts: Parts) -> Worker | SharedWorker | None:
        policy, folder = parts.rules.policy, self._settings.policy.parent
        if not policy.analysis.enabled:
            return shared_worker(self.shared, self.gate, self.clock, None) if self.shared is not None else None
        analyst = analyst_of(policy, folder, self.books.view())
        if policy.analysis.calibration:
            self.books.note("calibration.loaded", file=policy.analysis.calibration, calibration=analyst.calibrated)
        self.gate.view = analyst.view
        if self.shared is not None:
            return shared_worker(self.shared, self.gate, self.clock, lambda before: analyst_of(policy, folder, before), self.books.adopted)
        return Worker(analyst, self.gate, self.clock, policy.analysis.refresh, self.books.adopted)

    def _recorder(self, parts: Parts) -> Recorder | None:
        rules, folder = parts.rules.policy.record, self._settings.policy.parent
        if not rules.decisions and not rules.exchanges:
            return None
        return Recorder(
            exchanges=folder / rules.exchanges if rules.exchanges else None,
            decisions=folder / rules.decisions if rules.decisions else None,
            sample=rules.sample,
            rotate=rules.rotate,
            keep=rules.keep,
            hide=lambda headers: hide(headers, parts.pseudonyms, recorded=True),
            number=parts.pseudonyms.number,
        )


def _stat(stamps: dict[Path, tuple[int, int]]) -> dict[Path, tuple[int, int]]:
    return {path: _stamp(path) for path in stamps}


def _stamp(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError:
        return (0, 0)
    return (found.st_mtime_ns, found.st_size)
