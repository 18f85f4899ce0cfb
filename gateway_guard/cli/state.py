"""What the verbs on the state have in common: finding it, the key, the day, and whoever does it."""

from __future__ import annotations

import datetime
import getpass
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gateway_guard.errors import UsageError

if TYPE_CHECKING:
    from gateway_guard.appeals.state import State
    from gateway_guard.gate import Gate
    from gateway_guard.policy.model import Policy

PolicyFile = Annotated[Path, typer.Option("--policy", envvar="GATEWAY_GUARD_POLICY", help="The policy file, whose `state` it is.", show_default=False)]
Reason = Annotated[str, typer.Option(help="Why, for whoever reads the audit log.", show_default=False)]
Until = Annotated[str, typer.Option(help="Until the end of this day (UTC), such as 2027-03-31.", show_default=False)]
StateFile = Annotated[Path | None, typer.Option("--state", help="A state file, or `redis`: what operators say in it counts, at its times.", show_default=False)]
AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]
REASON_LEAST, REASON_MOST = 3, 1000
LONGEST = 400  # days


def open_ledger(policy: Path) -> State:
    """The state that the policy names, or UsageError."""
    from gateway_guard.asgi.state import state_of  # noqa: PLC0415 - help must not wait for all of this

    state = state_of(read_policy(policy), policy.parent, os.environ, create=False)
    if state is None:
        raise UsageError(f"{policy}: keeps no state, so there are no appeals: give it `state: guard/state.sqlite`")
    return state


def is_kept(policy: Path) -> bool:
    """Whether there is a state that can be asked: on a server there is always one, a file the guard makes when it starts."""
    from gateway_guard.policy.model import SHARED  # noqa: PLC0415

    state = read_policy(policy).state
    return state is not None and (state == SHARED or (policy.parent / state).exists())


def heed(gate: Gate, state: Path | None, policy: Path) -> None:
    """Let a gate know what operators say in a state file, if there is one; `redis` is the server of a policy that keeps its state there."""
    from gateway_guard.appeals.ledger import Ledger  # noqa: PLC0415
    from gateway_guard.policy.model import SHARED  # noqa: PLC0415

    if state is not None:
        shared = str(state) == SHARED and read_policy(policy).state == SHARED
        attend(gate, open_ledger(policy) if shared else Ledger(state, create=False))


def attend(gate: Gate, state: State) -> None:
    """Let a gate know what operators say."""
    from gateway_guard.policy.acknowledged import Acknowledged, Suspended  # noqa: PLC0415

    gate.acknowledged, gate.suspended = Acknowledged(state.acknowledgements()), Suspended(state.suspensions())


def read_policy(path: Path) -> Policy:
    """The policy, whatever the day."""
    from gateway_guard.policy.load import load  # noqa: PLC0415

    return load(path).policy


def read_key(policy: Path) -> bytes:
    """The installation's key. None is made here: under a new one nothing would fit."""
    from gateway_guard.identity.pseudonyms import load_key  # noqa: PLC0415

    beside = policy.with_name(".gateway-guard.key")
    return load_key(os.environ, beside if beside.exists() else None)


def now() -> float:
    """The time."""
    return time.time()


def lead() -> float:
    """Seconds until what is done now holds."""
    from gateway_guard.appeals.state import LEAD  # noqa: PLC0415

    return LEAD


def who() -> str:
    """Who calls, as the system has it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid {os.getuid()}"


def checked_reason(reason: str) -> str:
    """A reason that says something, on one line."""
    if not REASON_LEAST <= len(reason.strip()) <= REASON_MOST or not reason.isprintable():
        raise UsageError(f"--reason: one line of {REASON_LEAST} to {REASON_MOST} characters")
    return reason.strip()


def end_of(until: str, *, days: int = 0) -> float:
    """The end of a day as epoch seconds; without one, in `days` days."""
    from gateway_guard.policy.units import day  # noqa: PLC0415

    today = datetime.datetime.now(datetime.UTC).date()
    try:
        found = day(until) if until or not days else today + datetime.timedelta(days=days)
    except ValueError as error:
        raise UsageError(f"--until: {error}") from None
    if found < today:
        raise UsageError(f"--until: {found} is past")
    if (found - today).days > LONGEST:
        raise UsageError(f"--until: {found} is more than {LONGEST} days away: nothing is acknowledged for ever, look at it again within a year")
    return datetime.datetime.combine(found + datetime.timedelta(days=1), datetime.time(), datetime.UTC).timestamp()


def when(at: float) -> str:
    """A time for people."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
