"""One decision on one page."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from msgspec import structs
from rich.console import Console

from gateway_guard.errors import UsageError
from gateway_guard.evidence import Evidence
from gateway_guard.replay.explain import Explanation, explain, page
from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import set_up
from gateway_guard.trace.exchanges import Response, TokenCounts
from tests.fakes import KEY
from tests.logs import exchange, log
from tests.test_replay_session import POLICY, rows, stage, traffic


def told(explanation: Explanation) -> str:
    console = Console(width=140, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(page(explanation))
    return console.export_text()


def test_a_refusal_names_the_quota_and_when_it_would_have_fitted(tmp_path: Path) -> None:
    """Six requests at once where three fit and a fourth and fifth could wait."""
    path = log(tmp_path / "log.jsonl", [exchange(n, after=0.0) for n in range(4)])
    found = explain(stage(tmp_path, path, policy=POLICY.replace("5s", "0s")), "x3")
    assert found.decision.action == "throttle"
    assert not found.decision.served
    assert found.verdict == "was refused: quota minute has 0 of 3 requests left, asked for 1; it fits in 10.0 s"
    day, minute = sorted(found.quotas, key=lambda quota: quota.quota)
    assert (minute.refuses, minute.owed, minute.left, minute.burst, minute.fits_in_s, minute.per_second) == (True, 3.0, 0.0, 3.0, 10.0, 0.1)
    assert (day.refuses, day.fits_in_s, day.unit) == (False, 0.0, "tokens")
    assert (found.used_input, found.used_output) == (20, 10)
    shown = told(found)
    for words in ("was refused: quota minute has 0 of 3", "acct_one", "✗  ", "in 10.0 s", "no maximum set; used 20 in, 10 out", "2027-01-15 08:00:00 UTC"):
        assert words in shown


@pytest.mark.parametrize("form", ["log", "trace"])
def test_each_row_of_the_decision_log_can_be_explained(tmp_path: Path, form: str) -> None:
    outputs = Outputs(str(tmp_path / "d.jsonl"), str(tmp_path / "t.ggt"))
    Session(stage(tmp_path)).run(outputs, lambda: None)
    source = tmp_path / ("t.ggt" if form == "trace" else "log.jsonl.zst")
    wanted = [row for row in rows(tmp_path).values() if row.account or form == "log"]
    for row in wanted[::6] + wanted[-4:]:
        found = explain(set_up(str(source), tmp_path / "policy.yaml", KEY, accounts=tmp_path / "accounts.csv"), row.id)
        assert found.decision == row
        assert row.id in told(found)


def test_in_a_trace_the_usage_is_that_of_the_request_itself(tmp_path: Path) -> None:
    """The second ends before the first."""
    slow = structs.replace(exchange(1, tokens=111), response=Response(200, 5000.0, usage=TokenCounts(1, 111)))
    path = log(tmp_path / "log.jsonl", [slow, exchange(2, tokens=222)])
    Session(stage(tmp_path, path)).run(Outputs(trace=str(tmp_path / "t.ggt")), lambda: None)
    for ident, output in (("x1", 111), ("x2", 222)):
        assert explain(stage(tmp_path, tmp_path / "t.ggt"), ident).used_output == output


VERDICTS = {
    "x0": "allowed",
    "x3": "allowed",
    "x90": "refused without a decision: invalid_credentials",
    "x92": "passed on without a decision: unguarded",
}


@pytest.mark.parametrize(("ident", "verdict"), VERDICTS.items())
def test_the_verdict_is_one_sentence(tmp_path: Path, ident: str, verdict: str) -> None:
    assert explain(stage(tmp_path), ident).verdict == verdict


def test_delays_exemptions_and_shadow_have_their_own_words(tmp_path: Path) -> None:
    verdicts = {one.id: explain(stage(tmp_path), one.id).verdict for one in traffic()[20:60:3]}
    assert any(verdict.startswith("was delayed by ") for verdict in verdicts.values())
    assert any(verdict.startswith("let through by an exemption, although quota minute has 0 of 3") for verdict in verdicts.values())
    shadow = [explain(stage(tmp_path, mode="shadow", policy=POLICY.replace("5s", "0s")), one.id).verdict for one in traffic()[40:60]]
    refused = [verdict for verdict in shadow if verdict.startswith("would have been refused: quota minute has ")]
    assert refused
    assert all(verdict.endswith(" s (shadow: it was served)") for verdict in refused)


def test_evidence_is_shown(tmp_path: Path) -> None:
    found = explain(stage(tmp_path), "x1")
    seen = [Evidence("rhythm", "equal_load", 1.25, "many accounts carry the same load")]
    told_too = told(structs.replace(found, evidence=seen))
    assert "equal_load" in told_too
    assert "+1.25" in told_too


def test_an_id_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no exchange has the id x1000"):
        explain(stage(tmp_path), "x1000")
