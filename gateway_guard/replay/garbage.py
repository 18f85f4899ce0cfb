"""The garbage collector's part of a replay."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

# New containers until the youngest are looked through. With Python's own 700, looking is a twentieth of a replay of many accounts.
YOUNG = 50_000


@contextmanager
def seldom_collected() -> Iterator[None]:
    """Within, cycles are looked for less often: a replay makes millions of values and hardly a cycle."""
    before = gc.get_threshold()
    gc.set_threshold(max(YOUNG, before[0]) if before[0] else 0, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
