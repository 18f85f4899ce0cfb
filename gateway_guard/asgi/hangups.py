"""SIGHUP as a wish to reload. Every guard of the process looks at one count; the handler itself does nothing else."""

from __future__ import annotations

import itertools
import signal
import threading

_signals = itertools.count(1)
_seen = [0]


def count() -> int:
    """How many came so far. The first call takes the signal over, unless the host application has a use of its own for it."""
    if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:
        signal.signal(signal.SIGHUP, _note)
    return _seen[0]


def _note(*_: object) -> None:
    _seen[0] = next(_signals)
