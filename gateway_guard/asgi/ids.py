"""Ids of decisions: unguessable, since whoever quotes one has seen the answer."""

from __future__ import annotations

import os
import secrets

DIGITS = 20
BLOCK = 256

_ready: list[str] = []
# A forked process must not hand out what its parent still has.
os.register_at_fork(after_in_child=_ready.clear)


def new_id() -> str:
    """20 hexadecimal digits. They are drawn from the system in blocks: one at a time, drawing would cost as much as reading the body."""
    try:
        return _ready.pop()
    except IndexError:
        drawn = secrets.token_hex(BLOCK * DIGITS // 2)
        _ready.extend(drawn[at : at + DIGITS] for at in range(DIGITS, len(drawn), DIGITS))
        return drawn[:DIGITS]
