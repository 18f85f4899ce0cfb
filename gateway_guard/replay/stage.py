"""Sets up a replay from files: what is played, under which policy, with whose names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from gateway_guard.analysis.analyst import Analyst
from gateway_guard.assembly import Parts, assemble
from gateway_guard.gate import Gate
from gateway_guard.policy.model import Mode, Policy
from gateway_guard.replay.aside import Order, read_aside, worth
from gateway_guard.replay.player import Player
from gateway_guard.replay.report import PolicyUsed
from gateway_guard.replay.run import Step, Terms, play_readings, play_trace, readings
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.trace.events import Trace, is_trace
from gateway_guard.trace.exchanges import ExchangeLog
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
) -> Stage:
    """Open the traffic (a file, or `-`) and assemble the guard. No date is given: exemptions count by the traffic's days, not by today.

    `fingerprints`: a trace is to be read with them even if there is no analyst, who alone looks at them. `analyst`: False plays without one.
    `solved`: the share of accounts that is taken to meet every challenge; of the others, those did that the recording shows ·
    `change` the policy before it is played.
    """
    parts = assemble(policy, key, today=None, directory=accounts, mode=mode, change=change)
    rules = parts.rules.policy
    gate = Gate(parts.rules, MemoryStore(rules.accounts))
    who = analyst_of(rules, policy.parent) if analyst and rules.analysis.enabled else None
    player = _player(gate, who, rules.analysis.refresh)
    known = parts.pseudonyms.text("trace", "key")
    used = PolicyUsed(rules.name, parts.loaded.digest, rules.mode)
    if not is_trace(traffic):
        log = ExchangeLog(traffic)
        how = terms(rules, solved)
        order = Order(traffic, str(policy), key, how, str(accounts or ""), mode)
        found = read_aside(log, order) if change is None and worth(traffic) else readings(log, parts.intake, how)
        return Stage(log, play_readings(found, player, how), used, _names(parts), known, gate, parts.loaded.warnings, who)
    trace = Trace(traffic, fingerprints=fingerprints or who is not None)
    own = trace.header.key == known
    notes = () if own else ("the trace was made with another key: its accounts keep their hashes, and exemptions by name do not apply",)
    return Stage(trace, play_trace(trace, player, terms(rules, solved)), used, _names(parts), known, gate, (*parts.loaded.warnings, *notes), who)


def _player(gate: Gate, who: Analyst | None, every: float) -> Player:
    if who is None:
        return Player(gate)
    return Player(gate, events=who.observe, refresh=lambda at: refresh(who, gate, at), every=every)


def terms(policy: Policy, solved: float = 0.0) -> Terms:
    """What of a policy a replay needs beside the gate."""
    rungs = tuple(rung.id for rung in policy.ladder if rung.do == "challenge")
    return Terms(policy.reservation.output, policy.mode == "shadow", policy.guard.unreadable == "pass", solved, rungs)


def _names(parts: Parts) -> Callable[[str], str]:
    return str if parts.directory is None else lru_cache(NAMES)(parts.directory.name)
