"""Debts in memory are one process's: a second process with the same policy would grant every quota once more, so it does not come up.

Two things tell. Servers that start several workers say so on their command line, or in WEB_CONCURRENCY; and each process holds a lock (flock) on the
policy file, which needs no write access and ends with the process, however that ends.
"""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from gateway_guard.errors import UsageError

log = logging.getLogger("gateway_guard")
# uvicorn and gunicorn start a worker again that ends in any other way; this code stops the whole service.
WORKER_CANNOT_START = 3
# Seconds that a process which is about to end may keep the lock from its successor.
PATIENCE = 2.0
STEP = 0.05
ADVICE = "name a server in the policy (`store: {url: ...}`, Redis or Valkey; see docs/many-workers.md), or run one worker"

_held: dict[tuple[int, int], int] = {}


def ensure_alone(policy: Path, *, argv: Sequence[str], environment: Mapping[str, str]) -> None:
    """Hold the policy file for this process. UsageError, or in a server's worker the end of the service, when others guard with it too."""
    count = declared(argv, environment, child=multiprocessing.parent_process() is not None)
    if count > 1:
        refused = f"{policy}: {count} workers would each grant every quota in full, since debts are kept in memory: {ADVICE}"
    elif not held(policy):
        refused = f"{policy}: another process guards with this policy, and would grant every quota once more, since debts are kept in memory: {ADVICE}"
    else:
        return
    if multiprocessing.parent_process() is not None:
        log.critical("%s", refused)
        sys.exit(WORKER_CANNOT_START)
    raise UsageError(refused)


def declared(argv: Sequence[str], environment: Mapping[str, str], *, child: bool) -> int:
    """How many workers the server's command line starts, 1 when it does not say. `child`: this process was started as one of several."""
    program = Path(argv[0]).name if argv else ""
    names = ("--workers", "-w") if program in ("gunicorn", "hypercorn") else ("--workers",)
    for index, word in enumerate(argv):
        name, _, value = word.partition("=")
        if name in names:
            return _number(value or (argv[index + 1] if index + 1 < len(argv) else ""))
    return _number(environment.get("WEB_CONCURRENCY", "")) if child or program == "gunicorn" else 1


def held(policy: Path, *, patience: float = PATIENCE) -> bool:
    """Whether this process has the file to itself. Where files cannot be locked nothing is known, and it is taken to be so."""
    number = os.open(policy, os.O_RDONLY | os.O_CLOEXEC)
    found = os.fstat(number)
    if (found.st_dev, found.st_ino) in _held:
        os.close(number)
        return True
    until = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(number)
                return False
            time.sleep(STEP)
        except OSError as error:
            log.warning("%s cannot be locked (%s): run no second process with it", policy, error.strerror)
            os.close(number)
            return True
        else:
            # The lock lasts as long as the process.
            _held[found.st_dev, found.st_ino] = number
            return True


def _number(text: str) -> int:
    return int(text) if text.isdigit() else 1
