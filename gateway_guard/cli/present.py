"""What a running guard goes by now, read where its workers keep it: on the server that they share, else in the state. Nothing is written.

Whoever may read those may ask; the guard itself opens no door for it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from gateway_guard.cli.state import attend, is_kept, open_ledger, read_key, when
from gateway_guard.errors import StoreError, UsageError

if TYPE_CHECKING:
    from gateway_guard.assembly import Parts
    from gateway_guard.quota import Bill
    from gateway_guard.replay.standing import Ground
    from gateway_guard.stores.redis import SharedStore
    from gateway_guard.view import View

IsLive = Annotated[bool, typer.Option("--live", help="What the running guard goes by now, from its `store` or its `state`, in place of a recording.")]


class Live(NamedTuple):
    """`ground` what is in force · `parts` of the policy · `said` where it was read, and of when it is, for a person."""

    ground: Ground
    parts: Parts
    said: str


def live(policy: Path | None, accounts: Path | None) -> Live:
    """The view that the guard of this policy has published or kept last. UsageError when it keeps none, or has concluded nothing yet."""
    from gateway_guard.asgi.sharing import is_shared  # noqa: PLC0415 - help must not wait for all of this
    from gateway_guard.assembly import assemble  # noqa: PLC0415
    from gateway_guard.gate import Gate  # noqa: PLC0415
    from gateway_guard.replay.standing import Ground  # noqa: PLC0415
    from gateway_guard.stores.memory import MemoryStore  # noqa: PLC0415

    if policy is None:
        raise UsageError("--live: name the policy of the running guard, with --policy or GATEWAY_GUARD_POLICY")
    parts = assemble(policy, read_key(policy), today=None, directory=accounts)
    rules = parts.rules.policy
    shared = is_shared(rules)
    if not shared and rules.state is None:
        raise UsageError(f"{policy}: the guard keeps its view to itself: give it `state: guard/state.sqlite`, or a server under `store`")
    view = _published(parts, policy) if shared else open_ledger(policy).view()
    if not view.id:
        raise UsageError(f"{policy}: nothing is concluded yet; the first view follows `analysis.refresh` after the first request")
    table = parts.directory
    name, identity = (table.name, table.account) if table is not None else (str, lambda account: None)
    owed = (lambda bill: _owed(parts, policy, bill)) if shared else None
    said = f"view {view.id}, concluded {when(view.at)}, from {'the server' if shared else rules.state}"
    gate = Gate(parts.rules, MemoryStore(1), view)
    if is_kept(policy):
        attend(gate, open_ledger(policy))
    return Live(Ground(gate, name, f"{policy}: the running guard", identity, owed), parts, said)


def account_of(found: Live, name: str) -> str:
    """The keyed hash of an account, given by name or by hash."""
    from gateway_guard.assembly import HASHED  # noqa: PLC0415

    known = found.ground.gate.view.standings
    if name in known or (len(name) == HASHED and all(sign in "0123456789abcdef" for sign in name)):
        return name
    ways = [found.parts.pseudonyms.text(kind, name) for kind in ("account", "credential")]
    return next((way for way in ways if way in known), ways[0])


def _store(parts: Parts, policy: Path) -> SharedStore:
    from gateway_guard.asgi.sharing import shared_store  # noqa: PLC0415

    return shared_store(parts.rules.policy, policy.parent, read_key(policy), os.environ)


def _published(parts: Parts, policy: Path) -> View:
    from gateway_guard.asgi.sharing import crew_of  # noqa: PLC0415
    from gateway_guard.view import EMPTY  # noqa: PLC0415

    async def read() -> View:
        store = _store(parts, policy)
        try:
            return await crew_of(store, parts.rules.policy).view() or EMPTY
        finally:
            await store.link.wire.close()

    try:
        return asyncio.run(read())
    except StoreError as error:
        raise UsageError(f"{policy}: the server that the policy names does not answer ({error})") from None


def _owed(parts: Parts, policy: Path, bill: Bill) -> Sequence[float]:
    async def peek() -> Sequence[float]:
        store = _store(parts, policy)
        try:
            return await store.peek(bill, 0.0)
        finally:
            await store.link.wire.close()

    return asyncio.run(peek())
