"""The decision log."""

from __future__ import annotations

import importlib
import io
import json
import math
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from gateway_guard.decision import Action, Decision
from gateway_guard.errors import TrafficError, UsageError
from gateway_guard.trace import parquet
from gateway_guard.trace.decisions import DecisionRow, decisions_writer, line, read_decisions, row, undecided
from gateway_guard.trace.output import Output

ALLOWED = Decision(id="x1", at=1.5, account="ab", action=Action.ALLOW, would=Action.ALLOW, policy="d1")
PLAIN = {
    "id": "x1", "ts": 1.5, "account": "acct_1", "action": "allow", "enforced": True, "cluster": None, "reasons": [], "served": True, "delay_ms": 0.0,
    "policy": "d1",
}  # fmt: skip


def decided(**changes: Any) -> Decision:
    return structs.replace(ALLOWED, **changes)


CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "allowed": ({}, {}),
    "delayed": (
        {"action": Action.THROTTLE, "would": Action.THROTTLE, "wait": 1.23456789, "short": "minute", "reasons": ("quota.minute",)},
        {"action": "throttle", "delay_ms": 1234.568, "short": "minute", "reasons": ["quota.minute"]},
    ),
    "refused": (
        {"action": Action.THROTTLE, "would": Action.THROTTLE, "wait": 7.0, "served": False, "short": "minute"},
        {"action": "throttle", "served": False, "wait_s": 7.0, "short": "minute"},
    ),
    "refused for good": ({"action": Action.DENY, "would": Action.DENY, "wait": math.inf, "served": False}, {"action": "deny", "served": False, "wait_s": None}),
    "shadow": ({"would": Action.DENY, "enforced": False, "rung": "shut"}, {"action": "deny", "enforced": False, "rung": "shut"}),
    "clustered": ({"cluster": "c7", "score": 2.123456, "view": 9}, {"cluster": "c7", "score": 2.1235, "view": 9}),
}


@pytest.mark.parametrize(("changes", "expected"), CASES.values(), ids=CASES)
def test_a_row_shows_what_an_enforcing_policy_does(changes: dict[str, Any], expected: dict[str, Any]) -> None:
    assert json.loads(line(row(decided(**changes), "acct_1"))) == PLAIN | expected


def test_what_got_no_decision_has_a_row_too() -> None:
    refused = undecided("x1", 1.5, "invalid_credentials", passed=False)
    assert (refused.action, refused.served, refused.wait_s, refused.reasons) == ("deny", False, None, ["request.invalid_credentials"])
    passed = undecided("x1", 1.5, "unguarded", passed=True)
    assert (passed.action, passed.served, passed.wait_s) == ("allow", True, 0.0)


@pytest.mark.parametrize("name", ["d.jsonl", "d.jsonl.zst", "d.jsonl.gz", "d.parquet"])
def test_what_is_written_is_read_again(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS", 4)
    rows = [row(decided(id=f"x{n}", **changes), "acct_1") for n, (changes, _) in enumerate(list(CASES.values()) * 3)]
    with Output(tmp_path / name) as output:
        writer = decisions_writer(output)
        for one in rows:
            writer.write(one)
        writer.finish()
    assert list(read_decisions(tmp_path / name)) == rows


def test_parquet_without_the_extra_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    with (
        pytest.raises(UsageError, match=r"d\.parquet: Parquet needs the extra: pip install 'gateway-guard\[parquet\]'"),
        Output(tmp_path / "d.parquet") as output,
    ):
        decisions_writer(output)
    assert list(tmp_path.iterdir()) == []


def test_a_broken_row_is_an_error() -> None:
    good = line(row(ALLOWED, "a"))
    rows = read_decisions("d", stream=io.BytesIO(good + b'{"id":1}\n'))
    assert isinstance(next(rows), DecisionRow)
    with pytest.raises(TrafficError, match="d:2: is not a decision: "):
        next(rows)


@pytest.mark.parametrize("data", [b"PAR1 nothing", b""])
def test_a_broken_parquet_file_is_an_error(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "d.parquet").write_bytes(data)
    with pytest.raises(TrafficError, match="is not a decision log"):
        list(read_decisions(tmp_path / "d.parquet"))
