"""Sets up a replay from files: what is played, under which policy, with whose names."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from gateway_guard.analysis.analyst import Analyst
from gateway_guard.assembly import Parts, assemble, candidate_of
from gateway_guard.candidate import Candidate
from gateway_guard.gate import Gate
from gateway_guard.policy.model import Mode, Policy
from gateway_guard.replay.aside import Order, read_aside, worth
from gateway_guard.replay.player import Player
from gateway_guard.replay.report import PolicyUsed
from gateway_guard.replay.run import Step, Terms, play_readings, play_trace, readings
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.trace.events import Trace, is_trace
from gateway_guard.trace.exchanges import Exchange, ExchangeLog
from gateway_guard.worker import analyst_of, refresh

NAMES = 100_000


class Stage(NamedTuple):
    """`steps` is the replay itself, yet to be iterated over · `name` shows an account · `key` names the key without telling it · `gate`: whose
    view, at the end, is what the `analyst` found · `notes` what to know.
    """

    source: ExchangeLog | Trace
    steps: Iterator[Step]
    policy: PolicyUsed
    name: Callable[[str], str]
    key: str
    gate: Gate
    notes: tuple[str, ...] = ()
    analyst: Analyst | None = None


def set_up(
    traffic: str,
    policy: Path,
    key: bytes,
    *,
    accounts: Path | None = None,
    mode: Mode | None = None,
    fingerprints: bool = False,
    analyst: bool = True,
    solved: float = 0.0,
    change: Callable[[Policy], Policy] | None = None,
    candidate: bool = False,
    speed: float = 1.0,
) -> Stage:
    """Open the traffic (a file, or `-`) and assemble the guard. No date is given: exemptions count by the traffic's days, not by today.

    `fingerprints`: a trace is to be read with them even if there is no analyst, who alone looks at them. `analyst`: False plays without one.
    `solved`: the share of accounts that is taken to meet every challenge; of the others, those did that the recording shows ·
    `change` the policy before it is played · `candidate`: the policy's candidate decides too ·
    `speed`: an exchange log's requests come so many times as fast.
    """
    parts = assemble(policy, key, today=None, directory=accounts, mode=mode, change=change)
    guard, told = _guard(parts, analyst=analyst, candidate=candidate), terms(parts.rules.policy, solved)
    if not is_trace(traffic):
        log = ExchangeLog(traffic)
        order = Order(traffic, str(policy), key, told, str(accounts or ""), mode)
        aside = change is None and speed == 1.0 and worth(traffic)
        found = read_aside(log, order) if aside else readings(hastened(log, speed), parts.intake, told)
        return _stage(log, play_readings(found, guard.player, told), parts, guard)
    trace = Trace(traffic, fingerprints=fingerprints or guard.analyst is not None)
    return _stage(trace, play_trace(trace, guard.player, told), parts, guard)


def hastened(log: Iterable[Exchange], speed: float) -> Iterator[Exchange]:
    """The same exchanges in less time: answers are quicker too, so that as many are under way."""
    first: float | None = None
    for exchange in log:
        if speed == 1.0:
            yield exchange
            continue
        first = exchange.ts if first is None else first
        response = exchange.response
        if response is not None and response.latency_ms is not None:
            response = structs.replace(response, latency_ms=response.latency_ms / speed)
        yield structs.replace(exchange, ts=round(first + (exchange.ts - first) / speed, 6), response=response)


def set_up_pair(traffic: str, policies: tuple[Path, Path], key: bytes, *, accounts: Path | None = None, mode: Mode | None = None) -> tuple[Stage, Stage]:
    """The same traffic under two policies at once: it is read once, as the first policy reads it. Take the steps of both in turn."""
    one, two = (assemble(policy, key, today=None, directory=accounts, mode=mode) for policy in policies)
    guards, told = [_guard(parts, analyst=True) for parts in (one, two)], [terms(parts.rules.policy) for parts in (one, two)]
    if not is_trace(traffic):
        log = ExchangeLog(traffic)
        found = itertools.tee(readings(log, one.intake, told[0]))
        steps = [play_readings(own, guard.player, ours) for own, guard, ours in zip(found, guards, told, strict=True)]
        return _stage(log, steps[0], one, guards[0], *_unread(one, two)), _stage(log, steps[1], two, guards[1])
    trace = Trace(traffic, fingerprints=any(guard.analyst is not None for guard in guards))
    steps = [play_trace(own, guard.player, ours) for own, guard, ours in zip(itertools.tee(trace), guards, told, strict=True)]
    return _stage(trace, steps[0], one, guards[0]), _stage(trace, steps[1], two, guards[1])


def _stage(source: ExchangeLog | Trace, steps: Iterator[Step], parts: Parts, guard: _Guard, *notes: str) -> Stage:
    rules, known = parts.rules.policy, parts.pseudonyms.text("trace", "key")
    used = PolicyUsed(rules.name, parts.loaded.digest, rules.mode)
    told = [*parts.loaded.warnings, *guard.notes, *notes]
    if isinstance(source, Trace) and source.header.key != known:
        told.append("the trace was made with another key: its accounts keep their hashes, and exemptions by name do not apply")
    return Stage(source, steps, used, _names(parts), known, guard.gate, tuple(told), guard.analyst)


class _Guard(NamedTuple):
    """One gate with all that plays it."""

    gate: Gate
    player: Player
    analyst: Analyst | None
    notes: tuple[str, ...] = ()


def _guard(parts: Parts, *, analyst: bool, candidate: bool = False) -> _Guard:
    rules = parts.rules.policy
    gate = Gate(parts.rules, MemoryStore(rules.accounts))
    who = analyst_of(rules, parts.loaded.path.parent) if analyst and rules.analysis.enabled else None
    beside = candidate_of(rules, parts.loaded.path, parts.pseudonyms, today=None) if candidate else None
    rival = Candidate(beside.rules, gate, rules.reservation.output) if beside is not None else None
    return _Guard(gate, _player(gate, who, rules.analysis.refresh, rival), who, beside.warnings if beside is not None else ())


def _unread(one: Parts, two: Parts) -> tuple[str, ...]:
    """What the second policy would have read otherwise."""
    differ = [part for part in ("identity", "lists", "guard", "reservation") if getattr(one.rules.policy, part) != getattr(two.rules.policy, part)]
    return (f"requests are read once, by the first policy: the second one's `{'`, `'.join(differ)}` differ and are not used",) if differ else ()


def _player(gate: Gate, who: Analyst | None, every: float, candidate: Candidate | None = None) -> Player:
    if who is None:
        return Player(gate, candidate=candidate)
    return Player(gate, events=who.observe, refresh=lambda at: refresh(who, gate, at), every=every, candidate=candidate)


def terms(policy: Policy, solved: float = 0.0) -> Terms:
    """What of a policy a replay needs beside the gate."""
    rungs = tuple(rung.id for rung in policy.ladder if rung.do == "challenge")
    return Terms(policy.reservation.output, policy.mode == "shadow", policy.guard.unreadable == "pass", solved, rungs)


def _names(parts: Parts) -> Callable[[str], str]:
    return str if parts.directory is None else lru_cache(NAMES)(parts.directory.name)
