"""What is exported, as tables: decisions, and events. Accounts and all else that names somebody are keyed hashes; what is not known is null.

Null, since a zero that stands for "unknown" would make one group of all accounts without a card as soon as somebody joins by it.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from msgspec import structs

from gateway_guard.facts import Done, Event, Fingerprint, Identity, RequestFacts, Seen, Usage
from gateway_guard.trace.decisions import COLUMNS as DECISIONS
from gateway_guard.trace.decisions import DecisionRow
from gateway_guard.trace.parquet import Columns, Kind

VERSION = "1"
_HASHED = re.compile(r"[0-9a-f]{20}")
_SEEN: dict[str, Kind] = {
    "org": "text", "plan": "text", "created_at": "number", "payment": "hash", "email_domain": "hash", "signup": "hash", "anonymous": "flag",
    "dialect": "text", "model": "text", "network": "hash", "input_tokens": "count", "ask_tokens": "count", "asks": "count", "turns": "count",
    "passes": "texts", "state": "count", "action": "text", "cluster": "text",
    "client": "hash", "version": "hash", "shape": "hash", "system": "hash", "tools": "hash", "template": "hash", "sketch": "hashes", "thread": "hashes",
    "blobs": "hashes", "elicits": "hash", "odd": "hash", "length": "count", "templates": "hashes", "rules": "hashes",
}  # fmt: skip
_DONE: dict[str, Kind] = {"input": "count", "output": "count", "reasoning": "count", "estimated": "flag", "status": "count", "ending": "text"}
EVENTS: Columns = {"kind": "text", "ts": "number", "id": "text", "account": "text", **_SEEN, **_DONE, "view": "count"}
TABLES: dict[str, Columns] = {"decisions": DECISIONS, "events": EVENTS}
_NOT_SEEN = (None,) * len(_SEEN)
_NOT_DONE = (None,) * len(_DONE)


def decision_cells(row: DecisionRow, hashed: Callable[[str], str]) -> tuple[Any, ...]:
    """A row of the decision log. `hashed` makes the keyed hash of an account's name: a replay with a directory writes names, and they stay at home."""
    account = row.account
    if account and not _HASHED.fullmatch(account):
        row = structs.replace(row, account=hashed(account))
    return structs.astuple(row)


def event_cells(event: Event) -> tuple[Any, ...]:
    """An event."""
    if isinstance(event, Seen):
        facts = event.facts
        return ("seen", facts.at, facts.id, facts.identity.account, *_seen_cells(event, facts), *_NOT_DONE, None)
    if isinstance(event, Done):
        return ("done", event.at, event.id, event.account, *_NOT_SEEN, *_done_cells(event, event.usage), None)
    return (type(event).__name__.lower(), event.at, None, None, *_NOT_SEEN, *_NOT_DONE, event.view)


def _seen_cells(event: Seen, facts: RequestFacts) -> tuple[Any, ...]:
    return (
        *_identity_cells(facts.identity),
        facts.dialect, facts.model or None, facts.network or None, facts.input_tokens, facts.ask_tokens or None, int(facts.asks), facts.turns,
        facts.passes, facts.state, event.action, event.cluster or None,
        *_fingerprint_cells(facts.fingerprint),
    )  # fmt: skip


def _identity_cells(who: Identity) -> tuple[Any, ...]:
    return (who.org or None, who.plan or None, who.created_at or None, who.payment or None, who.email_domain or None, who.signup or None, who.anonymous)


def _fingerprint_cells(f: Fingerprint) -> tuple[Any, ...]:
    return (
        f.client or None, f.version or None, f.shape or None, f.system or None, f.tools or None, f.template or None, f.sketch, f.thread,
        f.blobs, f.elicits, f.odd, f.length, f.templates, f.rules,
    )  # fmt: skip


def _done_cells(event: Done, usage: Usage) -> tuple[Any, ...]:
    return (usage.input, usage.output, usage.reasoning, usage.estimated, event.status or None, event.ending)
