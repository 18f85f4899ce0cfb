"""Exports: everything of a log is in its Parquet, in bounded pieces, and nobody's name."""

from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs

from gateway_guard.facts import Adopted, Cut, Done, Event, Fingerprint, Identity, RequestFacts, Seen, Usage
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.trace import parquet
from gateway_guard.trace.decisions import DecisionRow, decisions_writer, read_decisions
from gateway_guard.trace.events import TraceWriter
from gateway_guard.trace.output import Output
from gateway_guard.trace.tables import TABLES
from tests.commands import command
from tests.fakes import KEY, policy_file
from tests.logs import exchange, log

duckdb: Any = importlib.import_module("duckdb")
pq: Any = importlib.import_module("pyarrow.parquet")
MIDNIGHT = 1_799_971_200.0  # 2027-01-15
HASH = "0123456789abcdef0123"
BIG = 2**63 - 1
PRINT = Fingerprint(1, 2, 3, 4, 5, 6, (7, BIG), (8,), (9, 10), 11, 12, 13, (14,), (15, 16))
WHO = Identity(HASH, "0" * 20, "pro", 1.5, 21, 22, 23)


def seen(number: int, at: float, **changes: Any) -> Seen:
    facts = RequestFacts(f"x{number}", at, WHO, "openai.chat", "m", PRINT, 31, 32, 33, 5, 6, ("prove",), 1)
    return Seen(structs.replace(facts, **changes), "degrade", "c-1")


EVENTS: list[Event] = [
    seen(1, MIDNIGHT - 2),
    Cut(MIDNIGHT - 1.5, 7),
    seen(2, MIDNIGHT - 1, identity=Identity(HASH), fingerprint=Fingerprint(), model="", network=0, ask_tokens=0, passes=()),
    Done("x1", MIDNIGHT + 1, HASH, Usage(1, 2, 3, estimated=True), 200, "left"),
    Adopted(MIDNIGHT + 2, 7),
    Done("x2", MIDNIGHT + 86_400, HASH, Usage(), 0, "refused"),
]


def traced(folder: Path, events: list[Event], name: str = "t.ggt") -> str:
    with Output(folder / name) as output:
        writer = TraceWriter(output, key="k1")
        for event in events:
            writer(event)
        writer.finish()
    return str(folder / name)


def decided(folder: Path, accounts: list[str], name: str = "d.jsonl.zst") -> str:
    with Output(folder / name) as output:
        writer = decisions_writer(output)
        for number, account in enumerate(accounts):
            action = "deny" if number % 2 else "allow"
            reasons = ["rung.shut"] if number % 2 else []
            writer.write(
                DecisionRow(
                    id=f"x{number}",
                    ts=MIDNIGHT + number,
                    account=account,
                    action=action,  # type: ignore[arg-type]
                    enforced=True,
                    cluster=None,
                    reasons=reasons,
                    served=not number % 2,
                    delay_ms=0.0,
                    wait_s=None if number % 2 else 0.0,
                    score=1.25,
                )
            )
        writer.finish()
    return str(folder / name)


def again(row: dict[str, Any]) -> Event:
    """The event that a row tells of: nothing of it may be lost."""
    if row["kind"] in ("cut", "adopted"):
        return (Cut if row["kind"] == "cut" else Adopted)(row["ts"], row["view"])
    if row["kind"] == "done":
        usage = Usage(row["input"], row["output"], row["reasoning"], row["estimated"])
        return Done(row["id"], row["ts"], row["account"], usage, row["status"] or 0, row["ending"])
    of = {name: value for name, value in row.items() if value is not None}
    prints: dict[str, Any] = {name: tuple(of[name]) if isinstance(of[name], list) else of[name] for name in Fingerprint.__struct_fields__ if name in of}
    who = Identity(**{name: of[name] for name in Identity.__struct_fields__ if name in of})
    rest = {name: of[name] for name in ("dialect", "model", "network", "input_tokens", "ask_tokens", "asks", "turns", "state") if name in of}
    facts = RequestFacts(id=of["id"], at=of["ts"], identity=who, fingerprint=Fingerprint(**prints), passes=tuple(of["passes"]), **rest)
    return Seen(facts, of["action"], of.get("cluster", ""))


def test_a_trace_comes_back_whole_from_its_days(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROWS", 2)
    told = command(tmp_path, "export", traced(tmp_path, EVENTS), "--out", str(tmp_path / "lake"), "--partition", "day")
    assert (told.returncode, told.stderr) == (0, f"{tmp_path}/lake: 6 events in 3 file(s)\n")
    files = sorted((tmp_path / "lake").rglob("*.parquet"))
    assert [str(file.relative_to(tmp_path)) for file in files] == [f"lake/events/day=2027-01-{day}/t-1.parquet" for day in (14, 15, 16)]
    assert [again({k: v for k, v in row.items() if k != "day"}) for file in files for row in pq.ParquetFile(file).read().to_pylist()] == EVENTS
    assert pq.ParquetFile(files[0]).num_row_groups == 2
    about = pq.read_schema(files[0]).metadata
    assert {k.decode(): v.decode() for k, v in about.items()} == {
        "gateway_guard.table": "events",
        "gateway_guard.version": "1",
        "gateway_guard.key": "k1",
    }


def test_what_is_not_known_is_null_and_joins_nobody(tmp_path: Path) -> None:
    command(tmp_path, "export", traced(tmp_path, EVENTS), "--out", str(tmp_path / "t.parquet"))
    rows = duckdb.sql(f"SELECT payment, org, network, client, model FROM '{tmp_path}/t.parquet' WHERE kind = 'seen' ORDER BY ts").fetchall()
    assert rows == [(21, "0" * 20, 31, 1, "m"), (None, None, None, None, None)]
    assert duckdb.sql(f"SELECT max(s) FROM (SELECT unnest(sketch) s FROM '{tmp_path}/t.parquet')").fetchone() == (BIG,)


def test_rows_of_two_days_in_turns_stay_in_one_file_each(tmp_path: Path) -> None:
    """Around midnight a log need not be in order."""
    events: list[Event] = [*(Cut(MIDNIGHT + (n if n % 2 else -n), n) for n in range(1, 9)), Cut(MIDNIGHT + 2 * 86_400, 9), Cut(MIDNIGHT - 1, 10)]
    command(tmp_path, "export", traced(tmp_path, events), "--out", str(tmp_path / "lake"), "--partition", "day")
    found = {str(file.relative_to(tmp_path / "lake" / "events")): pq.ParquetFile(file).metadata.num_rows for file in (tmp_path / "lake").rglob("*.parquet")}
    assert found == {"day=2027-01-14/t-1.parquet": 4, "day=2027-01-15/t-1.parquet": 4, "day=2027-01-17/t-1.parquet": 1, "day=2027-01-14/t-2.parquet": 1}


def test_exporting_again_replaces_and_adds_nothing(tmp_path: Path) -> None:
    words = ("export", traced(tmp_path, EVENTS), decided(tmp_path, [HASH] * 3), "--out", str(tmp_path / "lake"), "--partition", "day")
    for _ in range(2):
        assert command(tmp_path, *words).stderr.endswith("lake: 6 events and 3 decisions in 4 file(s)\n")
    assert duckdb.sql(f"SELECT count(*) FROM '{tmp_path}/lake/events/**/*.parquet'").fetchone() == (6,)


def test_decisions_are_read_back_and_hold_no_name(tmp_path: Path) -> None:
    source = decided(tmp_path, ["acme", HASH, "", "ACME-with-20-letters"])
    told = command(tmp_path, "export", source, "--out", str(tmp_path / "d.parquet"))
    assert told.stderr == f"{tmp_path}/d.parquet: 4 decisions\n"
    hashed = Pseudonyms(KEY).text("account", "acme")
    rows = list(read_decisions(tmp_path / "d.parquet"))
    assert [row.account for row in rows][:3] == [hashed, HASH, ""]
    assert [structs.replace(row, account="") for row in rows] == [structs.replace(row, account="") for row in read_decisions(source)]
    assert b"cme" not in (tmp_path / "d.parquet").read_bytes().lower()
    counts = duckdb.sql(f"SELECT action, count(*), any_value(reasons) FROM '{tmp_path}/d.parquet' GROUP BY 1 ORDER BY 1").fetchall()
    assert counts == [("allow", 2, []), ("deny", 2, ["rung.shut"])]
    command(tmp_path, "export", str(tmp_path / "d.parquet"), "--out", str(tmp_path / "lake"), "--partition", "day")
    assert list(read_decisions(tmp_path / "lake" / "decisions" / "day=2027-01-15" / "d-1.parquet")) == rows


def test_a_source_that_breaks_off_leaves_what_can_be_read(tmp_path: Path) -> None:
    whole = Path(traced(tmp_path, [seen(n, MIDNIGHT + 15.0 * n) for n in range(9000)])).read_bytes()
    (tmp_path / "half.ggt").write_bytes(whole[:-200])
    told = command(tmp_path, "export", str(tmp_path / "half.ggt"), "--out", str(tmp_path / "h.parquet"))
    assert told.returncode == 1
    assert "kept as far as it goes: " in told.stderr
    assert not (tmp_path / "h.parquet").exists()
    kept = pq.ParquetFile(tmp_path / "h.parquet.partial").read()
    assert 0 < len(kept) < 9000
    told = command(tmp_path, "export", str(tmp_path / "half.ggt"), "--out", str(tmp_path / "lake"), "--partition", "day")
    assert (told.returncode, len(told.stderr.splitlines())) == (1, 3)
    assert [file.name for file in sorted((tmp_path / "lake").rglob("half*"))] == ["half-1.parquet.partial"] * 2


def test_a_mistake_is_told_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trace, decisions = traced(tmp_path, EVENTS), decided(tmp_path, [HASH])
    exchanges = str(log(tmp_path / "log.jsonl", [exchange(1)]))
    (tmp_path / "junk.jsonl").write_text("junk\n")
    cases: dict[tuple[str, ...], tuple[int, str]] = {
        (exchanges, "--out", "x.parquet"): (2, "is an exchange log, with prompts in it: make a trace of it (`gateway-guard replay "),
        (trace, decisions, "--out", "x.parquet"): (2, "one file holds one table of one key"),
        (trace, "--out", "x.jsonl"): (2, "x.jsonl: name a file NAME.parquet, or give --partition day"),
        ("-", "--out", "x.parquet"): (2, "-: an export is named after its source: give files"),
        (decisions, "--out", decisions): (2, "is the traffic, and would be written over"),
        (str(tmp_path / "none.ggt"), "--out", "x.parquet"): (1, "cannot be opened"),
        (str(tmp_path / "junk.jsonl"), "--out", "x.parquet"): (1, "junk.jsonl:1: is not a decision"),
    }
    monkeypatch.chdir(tmp_path)
    for words, (code, says) in cases.items():
        told = command(tmp_path, "export", *words)
        assert (told.returncode, says in told.stderr, len(told.stderr.splitlines())) == (code, True, 1), told.stderr
        assert not Path("x.parquet").exists()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    assert "Parquet needs the extra: pip install" in command(tmp_path, "export", trace, "--out", "x.parquet").stderr


def test_every_column_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "exports.md").read_text()
    for name, columns in TABLES.items():
        section = text.split(f"## `{name}`")[1].split("\n## ")[0]
        told = [column for line in section.splitlines() if line.startswith("| `") for column in re.findall(r"`(\w+)`", line.split("|")[1])]
        assert sorted(told) == sorted(columns)


def test_a_replay_s_trace_is_exported(tmp_path: Path) -> None:
    policy_file(tmp_path, "quotas: {minute: {limit: 5/min}}\nanalysis: {enabled: false}")
    source = log(tmp_path / "log.jsonl", [exchange(n) for n in range(12)])
    assert command(tmp_path, "replay", str(source), "--trace", str(tmp_path / "t.ggt")).returncode == 0
    assert command(tmp_path, "export", str(tmp_path / "t.ggt"), "--out", str(tmp_path / "t.parquet")).returncode == 0
    found = duckdb.sql(f"SELECT kind, count(*), count(DISTINCT account), sum(output) FROM '{tmp_path}/t.parquet' GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [("done", 12, 1, 120), ("seen", 12, 1, None)]
