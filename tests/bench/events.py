"""How fast recorded traffic is replayed: a raw log, and the trace that is made of it."""

from __future__ import annotations

import gc
import itertools
import os
import tempfile
from pathlib import Path

import msgspec

from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import set_up
from gateway_guard.trace.exchanges import Exchange, ExchangeWriter, Response, TokenCounts
from tests.bench.contenders import KEY, POLICY
from tests.bench.requests import CHAT, bodies

EXCHANGES = 10_000
ACCOUNTS = 1_000
BEGINNING = 1_800_000_000.0


def speeds() -> dict[str, float]:
    """By what is replayed: so many a second of CPU time. A trace has two events for each request."""
    with tempfile.TemporaryDirectory() as folder:
        log, trace = Path(folder) / "log.jsonl", Path(folder) / "trace.ggt"
        _write(log)
        return {
            "exchanges of a raw log, 1 KB": EXCHANGES / _played(log, analyst=False),
            "exchanges, made into a trace": EXCHANGES / _played(log, analyst=False, trace=str(trace)),
            "events of a trace": 2 * EXCHANGES / _played(trace, analyst=False),
            "events of a trace, with the analyst": 2 * EXCHANGES / _played(trace, analyst=True),
        }


def _write(path: Path) -> None:
    answered = Response(status=200, latency_ms=800.0, usage=TokenCounts(input_tokens=200, output_tokens=100))
    with ExchangeWriter(path) as writer:
        for number, body in zip(range(EXCHANGES), itertools.cycle(bodies(1024)), strict=False):
            headers = [("content-type", "application/json"), ("authorization", f"Bearer sk-bench-{number % ACCOUNTS}")]
            writer.write(Exchange(id=f"{number:x}", ts=BEGINNING + number / 50, path=CHAT, headers=headers, body=msgspec.Raw(body), response=answered))


def _played(source: Path, *, analyst: bool, trace: str = "") -> float:
    """Seconds of CPU time, those of a second process that reads the log included."""
    stage = set_up(str(source), POLICY, KEY, fingerprints=bool(trace), analyst=analyst)
    gc.collect()
    began = _spent()
    Session(stage).run(Outputs(trace=trace), lambda: None)
    stage.source.close()
    return _spent() - began


def _spent() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
