"""Whole replays through the real gate: results, outputs, and the same bytes each time."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from gateway_guard.errors import GuardError, TrafficError, UsageError
from gateway_guard.facts import Identity
from gateway_guard.policy.model import Mode
from gateway_guard.replay import session as sessions
from gateway_guard.replay.page import page
from gateway_guard.replay.report import Report, encode
from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import Stage, set_up
from gateway_guard.trace.decisions import DecisionRow, read_decisions
from gateway_guard.trace.exchanges import Exchange, Response
from tests.fakes import KEY, policy_file
from tests.logs import START, exchange, log

POLICY = """
throttle: {wait: 5s}
plans: {default: {}, pro: {scale: 2}}
quotas:
  minute: {limit: 6/min, burst: 3}
  day: {limit: 20k tokens/day}
exemptions: [{id: tester, accounts: [sk-exempt], until: 2020-01-01, reason: a test}, {id: later, accounts: [sk-exempt], until: 2030-01-01, reason: a test}]
"""
ACCOUNTS = "key,account,plan,org\nsk-one,acct_one,,\nsk-two,acct_two,pro,org_b\n"


def traffic(count: int = 60) -> list[Exchange]:
    """Three callers in turn, one of them unknown to the directory; then what no guard reads."""
    rng = random.Random(5)
    keys = ("sk-one", "sk-two", "sk-other", "sk-exempt")
    calls = [exchange(n, key=keys[n % 4], after=n * 1.5, tokens=rng.choice((None, 5, 200)), max_tokens=rng.choice((None, 100))) for n in range(count)]
    odd = msgspec.structs.replace
    return [
        *calls,
        odd(exchange(90, after=90), headers=[]),
        odd(exchange(91, after=91), body=msgspec.Raw(b'"text"')),
        odd(exchange(92, after=92), method="GET", path="/v1/models"),
        odd(exchange(93, after=93), response=Response(500, 10.0)),
        exchange(94, after=50),
    ]


def stage(folder: Path, source: Path | None = None, *, mode: Mode | None = None, accounts: bool = True, key: bytes = KEY, policy: str = POLICY) -> Stage:
    (folder / "accounts.csv").write_text(ACCOUNTS)
    path = source or log(folder / "log.jsonl.zst", traffic())
    return set_up(str(path), policy_file(folder, policy), key, accounts=folder / "accounts.csv" if accounts else None, mode=mode)


def played(found: Stage, **outputs: str) -> Report:
    session = Session(found)
    session.run(Outputs(**outputs), lambda: None)
    return session.report(2.0)


def rows(folder: Path, name: str = "d.jsonl") -> dict[str, DecisionRow]:
    return {row.id: row for row in read_decisions(folder / name)}


def test_every_exchange_has_its_row_in_order(tmp_path: Path) -> None:
    played(stage(tmp_path), decisions=str(tmp_path / "d.jsonl"))
    found = rows(tmp_path)
    assert list(found) == [one.id for one in traffic()]
    assert {found[f"x{n}"].account for n in (0, 1)} == {"acct_one", "acct_two"}
    assert len(found["x2"].account) == 20
    assert [row.ts for row in found.values()] == sorted(row.ts for row in found.values())
    assert found["x94"].ts == START + 93


def test_the_report_counts_what_the_rows_say(tmp_path: Path) -> None:
    report = played(stage(tmp_path), decisions=str(tmp_path / "d.jsonl"))
    decided = [row for row in rows(tmp_path).values() if row.account]
    actions = report.decisions.actions
    assert (actions["allow"], actions["throttle"]) == tuple(sum(row.action == action for row in decided) for action in ("allow", "throttle"))
    assert report.decisions.served == sum(row.served for row in decided)
    assert report.decisions.refused == sum(not row.served for row in decided) > 0
    assert report.decisions.delayed == sum(row.delay_ms > 0 for row in decided) > 0
    assert report.decisions.exempted == sum(row.reasons[1:] == ["exempt.later"] for row in decided) > 0
    assert report.decisions.delay_s == pytest.approx(sum(row.delay_ms for row in decided) / 1000, abs=0.01)
    assert report.decisions.longest_delay_s == pytest.approx(max(row.delay_ms for row in decided) / 1000, abs=0.001)
    assert report.decisions.enforced == sum(row.enforced for row in decided if row.action != "allow")
    reasons = [reason for row in decided if row.action != "allow" for reason in row.reasons]
    assert report.decisions.reasons == {reason: reasons.count(reason) for reason in report.decisions.reasons}
    assert sum(report.decisions.reasons.values()) == len(reasons)


def test_the_report_tells_what_was_read(tmp_path: Path) -> None:
    found = played(stage(tmp_path)).traffic
    assert (found.name, found.requests, found.first, found.last, found.backwards, found.broken) == ("log.jsonl.zst", 65, START, START + 93, 1, 0)
    assert found.undecided == {"invalid_credentials": 1, "invalid_request_body": 1, "unguarded": 1}
    assert (found.passed, found.excused) == (1, {})


def test_in_shadow_what_cannot_be_read_is_let_pass_counted_by_its_size_and_told(tmp_path: Path) -> None:
    report = played(stage(tmp_path, mode="shadow"), decisions=str(tmp_path / "d.jsonl"))
    assert report.traffic.undecided == {"unguarded": 1}
    assert report.traffic.excused == {"invalid_credentials": 1, "invalid_request_body": 1}
    assert "enforced, the policy refuses" in text(report)
    assert rows(tmp_path)["x90"].account != rows(tmp_path)["x2"].account


def test_a_body_that_came_compressed_is_read_as_it_was_recorded(tmp_path: Path) -> None:
    """The recorder takes the coding off the body; the header stays, since it is part of the client's shape."""
    packed = exchange(1)
    packed = msgspec.structs.replace(packed, headers=[*packed.headers, ("content-encoding", "gzip")])
    assert played(stage(tmp_path, log(tmp_path / "l.jsonl", [packed]))).traffic.undecided == {}


def test_the_report_tells_who_is_touched(tmp_path: Path) -> None:
    report = played(stage(tmp_path), decisions=str(tmp_path / "d.jsonl"))
    touched = {row.account for row in rows(tmp_path).values() if row.account and row.action != "allow"}
    assert (report.accounts.accounts, report.accounts.touched) == (4, len(touched))
    assert report.accounts.touched_requests == sum(bool(row.account) and row.action != "allow" for row in rows(tmp_path).values())
    assert (report.orgs.accounts, report.orgs.touched) == (1, int("acct_two" in touched))
    assert report.plans["pro"].requests == 15
    assert [top.refused for top in report.top] == sorted((top.refused for top in report.top), reverse=True)
    assert report.top[0].reason == "quota.minute"
    assert {top.account for top in report.top} == touched


def test_the_report_tells_how_full_quotas_became(tmp_path: Path) -> None:
    report = played(stage(tmp_path), decisions=str(tmp_path / "d.jsonl"))
    assert list(report.quotas) == ["day", "minute"]
    minute = report.quotas["minute"]
    assert (minute.per, minute.unit, minute.subjects) == ("account", "requests", 4)
    assert minute.refused == sum(row.short == "minute" and not row.served for row in rows(tmp_path).values())
    assert minute.delayed == report.decisions.delayed
    assert 0.5 < minute.fill_median <= minute.fill_90 <= minute.fill_99 <= minute.fill_most <= 2.0
    assert report.quotas["day"].fill_most < 1.0


def test_the_highest_fill_counts_and_not_the_last(tmp_path: Path) -> None:
    times = (0.0, 1.0, 500.0)
    report = played(stage(tmp_path, log(tmp_path / "l.jsonl", [exchange(n, after=at) for n, at in enumerate(times)])))
    assert report.quotas["minute"].fill_most == pytest.approx(1.9 / 3, abs=0.001)


def test_tokens_are_those_of_the_log(tmp_path: Path) -> None:
    every = [exchange(n, after=n * 100.0, tokens=7) for n in range(4)]
    report = played(stage(tmp_path, log(tmp_path / "l.jsonl", [*every, exchange(9, after=900, tokens=None, max_tokens=33)])))
    assert (report.used.served.output, report.used.served.reasoning) == (4 * 7 + 33, 0)
    assert report.used.sources == {"told": 4, "imputed": 1}
    assert report.used.refused.output == 0


def test_in_shadow_nothing_is_done_and_all_is_told(tmp_path: Path) -> None:
    report = played(stage(tmp_path, mode="shadow"), decisions=str(tmp_path / "d.jsonl"))
    found = [row for row in rows(tmp_path).values() if row.account]
    assert all(row.served and not row.delay_ms for row in found)
    assert (report.policy.mode, report.decisions.enforced, report.decisions.delay_s) == ("shadow", 0, 0.0)
    assert report.decisions.refused > 0
    assert report.used.refused.output > 0
    assert rows(tmp_path)["x90"].served


def test_the_mode_on_the_command_line_wins(tmp_path: Path) -> None:
    path = log(tmp_path / "log.jsonl", traffic())
    (tmp_path / "policy.yaml").write_text(f"version: 1\nname: test\nmode: shadow\n{POLICY}")
    cases: tuple[tuple[Mode | None, str], ...] = ((None, "shadow"), ("enforce", "enforce"))
    for mode, expected in cases:
        found = set_up(str(path), tmp_path / "policy.yaml", KEY, mode=mode)
        assert (found.policy.mode, played(found).decisions.enforced > 0) == (expected, expected == "enforce")


def test_a_trace_gives_the_same_decisions_under_any_policy(tmp_path: Path) -> None:
    """Made under one policy, replayed under another: as if the log itself were replayed under that one."""
    trace = str(tmp_path / "t.ggt")
    played(stage(tmp_path), trace=trace)
    strict = POLICY.replace("6/min", "3/min").replace("5s", "12s")
    plain = played(stage(tmp_path, policy=strict), decisions=str(tmp_path / "log.out"))
    report = played(stage(tmp_path, Path(trace), policy=strict), decisions=str(tmp_path / "trace.out"))
    wanted = [line for line in (tmp_path / "log.out").read_bytes().splitlines() if b'"account":""' not in line]
    assert (tmp_path / "trace.out").read_bytes().splitlines() == wanted
    assert report.decisions == plain.decisions
    assert report.decisions.delayed > 0
    assert (report.used.served, report.used.refused) == (plain.used.served, plain.used.refused)


def test_a_trace_of_a_trace_is_that_trace(tmp_path: Path) -> None:
    one, two = str(tmp_path / "one.ggt"), str(tmp_path / "two.ggt")
    played(stage(tmp_path), trace=one)
    found = set_up(one, tmp_path / "policy.yaml", KEY, fingerprints=True)
    played(found, trace=two)
    assert (tmp_path / "one.ggt").read_bytes() == (tmp_path / "two.ggt").read_bytes()


def test_a_trace_holds_no_text_and_no_secret(tmp_path: Path) -> None:
    played(stage(tmp_path, log(tmp_path / "l.jsonl", [exchange(1, marked="xyzzy", user="xyzzy", key="sk-xyzzy")])), trace=str(tmp_path / "t.ggt"))
    from gateway_guard.trace.events import Trace  # noqa: PLC0415

    told = repr(list(Trace(tmp_path / "t.ggt")))
    assert "x1" in told
    assert "xyzzy" not in told
    assert "question" not in told


def test_a_trace_under_another_key_says_so_and_shows_hashes(tmp_path: Path) -> None:
    played(stage(tmp_path), trace=str(tmp_path / "t.ggt"))
    found = stage(tmp_path, tmp_path / "t.ggt", key=KEY[::-1])
    assert "another key" in found.notes[-1]
    played(found, decisions=str(tmp_path / "d.jsonl"))
    assert not any(row.account.startswith("acct") for row in rows(tmp_path).values())


SAME = """
import sys
from pathlib import Path
from gateway_guard.replay.report import encode
from gateway_guard.replay import session as sessions
from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import set_up
folder, out = Path(sys.argv[1]), sys.argv[2]
session = Session(set_up(str(folder / "log.jsonl.zst"), folder / "policy.yaml", bytes.fromhex(sys.argv[3]), accounts=folder / "accounts.csv"))
session.run(Outputs(decisions=out + ".jsonl", trace=out + ".ggt"), lambda: None)
Path(out + ".json").write_bytes(encode(session.report(0.0)))
"""


def test_two_runs_write_the_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    stage(tmp_path).source.close()
    found = []
    for seed in ("0", "12345"):
        out = tmp_path / f"run{seed}"
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        subprocess.run([sys.executable, "-c", SAME, str(tmp_path), str(out), KEY.hex()], check=True, env=environment, cwd=Path(__file__).parent.parent)
        found.append([Path(f"{out}{suffix}").read_bytes() for suffix in (".jsonl", ".ggt", ".json")])
    assert found[0] == found[1]


def test_only_the_run_differs_between_two_reports(tmp_path: Path) -> None:
    reports = [json.loads(encode(played(stage(tmp_path)))) for _ in range(2)]
    reports[1]["run"] = reports[0]["run"]
    assert reports[0] == reports[1]
    assert reports[0]["v"] == 1


def test_a_log_that_breaks_off_leaves_partial_outputs(tmp_path: Path) -> None:
    path = log(tmp_path / "log.jsonl", traffic())
    path.write_bytes(path.read_bytes()[:-20])
    session = Session(stage(tmp_path, path))
    with pytest.raises(TrafficError, match="1 of 65 lines are broken"):
        session.run(Outputs(str(tmp_path / "d.jsonl"), str(tmp_path / "t.ggt")), lambda: None)
    assert session.kept == [str(tmp_path / "d.jsonl.partial"), str(tmp_path / "t.ggt.partial")]
    assert not (tmp_path / "d.jsonl").exists()
    report = session.report(1.0)
    assert (report.complete, "1 of 65" in report.stopped) == (False, True)
    assert report.traffic.requests == len(list(read_decisions(tmp_path / "d.jsonl.partial")))
    again = stage(tmp_path, tmp_path / "t.ggt.partial")
    assert played(again).decisions.served > 0


def test_an_interrupted_replay_keeps_what_it_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "EVERY", 8)
    session = Session(stage(tmp_path))
    ticks = iter(range(1))

    def tick() -> None:
        if next(ticks, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.run(Outputs(decisions=str(tmp_path / "d.jsonl")), tick)
    assert session.stopped == "interrupted"
    assert 0 < len(list(read_decisions(tmp_path / "d.jsonl.partial"))) < 65
    assert not session.report(1.0).complete


@pytest.mark.parametrize("outputs", [Outputs("missing/d.jsonl"), Outputs(trace="missing/t.ggt"), Outputs("d.jsonl", "missing/t.ggt")])
def test_outputs_that_cannot_be_written_are_told_before_the_replay(tmp_path: Path, outputs: Outputs) -> None:
    found = stage(tmp_path)
    before = sorted(tmp_path.iterdir())
    session = Session(found)
    with pytest.raises(UsageError, match=r"missing/.*: cannot be written"):
        session.run(Outputs(*(str(tmp_path / name) if name else "" for name in outputs)), lambda: None)
    assert session.tally.requests == 0
    assert sorted(tmp_path.iterdir()) == before


def test_traffic_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(GuardError, match="nothing: cannot be opened"):
        set_up(str(tmp_path / "nothing"), policy_file(tmp_path), KEY)


def text(report: Report) -> str:
    console = Console(width=130, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(page(report))
    return console.export_text()


def test_the_page_tells_it_to_people(tmp_path: Path) -> None:
    told = text(played(stage(tmp_path)))
    for words in (
        "log.jsonl.zst under policy test (", "enforced", "65 requests of 4 accounts, 2027-01-15 08:00 to 2027-01-15 08:01 UTC", "What happened to the requests",
        "delayed (at most", "refused (429)", "let through by an exemption", "verified organisations", "How full the quotas became", "quota.minute", "acct_one",
        "the log has no usage", "1 lines are out of order", "Without a decision: invalid_credentials 1, invalid_request_body 1, unguarded 1 (1 of them",
    ):  # fmt: skip
        assert words in told


def test_the_page_says_when_it_is_only_shadow_or_partial(tmp_path: Path) -> None:
    session = Session(stage(tmp_path, mode="shadow"))
    session.run(Outputs(), lambda: None)
    session.stopped = "interrupted"
    told = text(session.report(0.0))
    assert told.startswith("PARTIAL: interrupted\n")
    assert "shadow: recorded only, everything was let through" in told
    assert "What would have happened to the requests" in told


def test_a_page_of_nothing_is_a_page(tmp_path: Path) -> None:
    assert "0 requests of 0 accounts" in text(played(stage(tmp_path, log(tmp_path / "none.jsonl", []))))


def test_the_identity_in_the_log_wins(tmp_path: Path) -> None:
    known = exchange(1, identity=Identity("ab" * 10, plan="pro"))
    played(stage(tmp_path, log(tmp_path / "l.jsonl", [known])), decisions=str(tmp_path / "d.jsonl"))
    assert rows(tmp_path)["x1"].account == "ab" * 10
