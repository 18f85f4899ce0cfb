"""The golden table: what each API's answers become under each kind of loss.

`python -m tests.test_rewrite_golden` writes tests/golden/degraded.json anew. Clients meet every change of it: look at the difference.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from gateway_guard.rewrite.answer import Rewriter
from gateway_guard.rewrite.loss import Loss
from gateway_guard.rewrite.seal import Sealer, Seals
from gateway_guard.rewrite.steps import steps
from tests.rich import ANSWERS, STREAMS

GOLDEN = Path(__file__).parent / "golden" / "degraded.json"
SEALER = Sealer(Seals(bytes(range(32))))
LOSSES = {
    "hide": Loss(hide=True, trace=True),
    "summary": Loss(trace=True),
    "logprobs": Loss(logprobs=True),
    "usage": Loss(detail=True, step=100),
    "length": Loss(length=40),
}


def rewritten(dialect: str, raw: bytes, loss: Loss, *, streams: bool) -> bytes:
    made = Rewriter(steps(dialect, loss, SEALER), streams=streams)
    return b"".join([*made.feed(raw), *made.finish()])


def golden() -> dict[str, Any]:
    table: dict[str, Any] = {}
    for dialect, answers in ANSWERS.items():
        for name, loss in LOSSES.items():
            whole = [orjson.loads(rewritten(dialect, orjson.dumps(body), loss, streams=False)) for body in answers]
            streams = [rewritten(dialect, raw, loss, streams=True).decode().splitlines() for raw in STREAMS[dialect][:1]]
            table[f"{dialect} {name}"] = {"whole": whole, "streams": [[line for line in lines if line] for lines in streams]}
    return table


def test_every_answer_becomes_what_the_table_says() -> None:
    table = orjson.loads(GOLDEN.read_bytes())
    made = golden()
    assert set(made) == set(table)
    assert [name for name in table if made[name] != table[name]] == []


if __name__ == "__main__":
    GOLDEN.write_bytes(orjson.dumps(golden(), option=orjson.OPT_INDENT_2) + b"\n")
