"""A whole corpus, when there is one: GATEWAY_GUARD_CORPUS names a folder with traffic.jsonl.zst (and accounts.csv)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import set_up
from gateway_guard.trace.decisions import read_decisions
from gateway_guard.trace.exchanges import read
from tests.fakes import KEY, policy_file
from tests.logs import exchange, log

POLICY = """
throttle: {wait: 2s}
quotas: {minute: {limit: 10/min}, day: {limit: 200k tokens/day}}
"""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The corpus, or a stand-in of a hundred exchanges: the test is the same, only smaller."""
    named = os.environ.get("GATEWAY_GUARD_CORPUS")
    if named:
        return Path(named)
    print("GATEWAY_GUARD_CORPUS is not set: a hundred made-up exchanges stand in for a corpus")
    log(tmp_path / "traffic.jsonl.zst", [exchange(n, key=f"sk-{n % 7}", after=n / 10) for n in range(100)])
    (tmp_path / "accounts.csv").write_text("key,account\n" + "".join(f"sk-{n},acct_{n}\n" for n in range(7)))
    return tmp_path


def test_a_corpus_is_played_and_its_trace_decides_the_same(corpus: Path, tmp_path: Path) -> None:
    traffic, policy, accounts = corpus / "traffic.jsonl.zst", policy_file(tmp_path, POLICY), corpus / "accounts.csv"
    session = Session(set_up(str(traffic), policy, KEY, accounts=accounts))
    session.run(Outputs(str(tmp_path / "log.jsonl"), str(tmp_path / "t.ggt")), lambda: None)
    report = session.report(1.0)
    assert (report.traffic.broken, report.traffic.undecided) == (0, {})
    assert 0 < report.decisions.served < report.traffic.requests
    assert [row.id for row in read_decisions(tmp_path / "log.jsonl")] == [one.id for one in read(traffic)]
    Session(set_up(str(tmp_path / "t.ggt"), policy, KEY, accounts=accounts)).run(Outputs(str(tmp_path / "trace.jsonl")), lambda: None)
    assert (tmp_path / "trace.jsonl").read_bytes() == (tmp_path / "log.jsonl").read_bytes()
