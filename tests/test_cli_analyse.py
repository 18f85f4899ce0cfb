"""`gateway-guard analyse`, and what is read of its file afterwards."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import duckdb
import pytest

from gateway_guard.batch import job
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.trace.events import TraceWriter
from gateway_guard.trace.output import Output
from tests.commands import Told, command
from tests.fakes import KEY, policy_file
from tests.logs import exchange, log
from tests.test_analysis_scenes import Scene, harvesters, in_order
from tests.test_batch_job import traced
from tests.test_trace_export import decided

MEMBERS = [f"swarm{n:02d}" for n in range(24)]


def run(folder: Path, *words: str) -> Told:
    return command(folder, *words, key=KEY)


def analysed(folder: Path, *words: str) -> Told:
    return run(folder, "analyse", "--scratch", str(folder), *words)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trace, the same as Parquet by days, and what an analysis of it found."""
    folder = tmp_path_factory.mktemp("lake")
    policy_file(folder)
    made = Scene(3).people(40)
    harvesters(made, MEMBERS, rate=5.0)
    trace = traced(folder, in_order(made))
    assert run(folder, "export", trace, "--out", str(folder / "days"), "--partition", "day").returncode == 0
    found = analysed(folder, str(folder / "days"), "--out", str(folder / "found.json"))
    assert found.returncode == 0, found.stderr
    return folder


def test_parquet_by_days_and_the_trace_itself_give_the_same_bytes(lake: Path, tmp_path: Path) -> None:
    assert len(list((lake / "days").rglob("*.parquet"))) >= 3
    again = tmp_path / "again.json"
    assert analysed(lake, str(lake / "t.ggt"), "--out", str(again)).returncode == 0
    assert again.read_bytes() == (lake / "found.json").read_bytes()
    assert oct(again.stat().st_mode & 0o777) == "0o600"
    assert not list(lake.glob("gateway-guard-*")), "its own files are gone"


def test_a_window_and_little_memory(lake: Path) -> None:
    told = analysed(lake, str(lake / "days"), "--window", "1d", "--memory-limit", "64 MiB", "--json")
    assert told.returncode == 0, told.stderr
    day = json.loads((lake / "found.json").read_text())["history"]["at"] - 86400
    assert all(cluster["size"] <= len(MEMBERS) and cluster["born"] > day for cluster in json.loads(told.stdout))


def test_clusters_lists_what_an_analysis_found(lake: Path) -> None:
    told = run(lake, "clusters", str(lake / "found.json"), "--json")
    (found,) = json.loads(told.stdout)
    assert set(found["members"]) <= set(MEMBERS)
    assert found["size"] >= 20
    assert f"{found['size']}  " in run(lake, "clusters", str(lake / "found.json")).stdout
    assert json.loads(analysed(lake, str(lake / "days"), "--json").stdout) == [found]


def test_explain_tells_of_an_account_and_a_cluster_of_it(lake: Path) -> None:
    file = str(lake / "found.json")
    ident = json.loads((lake / "found.json").read_text())["clusters"][0]["id"]
    account = run(lake, "explain", file, "--account", MEMBERS[3], "--json")
    assert json.loads(account.stdout)["cluster"]["id"] == ident, account.stderr
    assert f"{ident}: " in run(lake, "explain", file, "--cluster", ident).stdout
    assert run(lake, "explain", file, "--account", "nobody").stderr == f"gateway-guard: {file}: no account nobody is in a cluster of it\n"
    assert "an analysis holds no requests" in run(lake, "explain", file, "--id", "x1").stderr


MISTAKES: tuple[tuple[tuple[str, ...], int, str], ...] = (
    (("gone.ggt",), 1, "gone.ggt: there is no such file or folder"),
    (("log.jsonl",), 1, "of an exchange log make a trace first"),
    (("d.parquet",), 1, "holds no events"),
    (("broken.parquet",), 1, "is no Parquet that can be read"),
    (("nothing",), 1, "no Parquet file with events in it"),
    (("t.ggt", "--window", "soon"), 2, "--window: "),
    (("t.ggt", "--memory-limit", "1 KiB"), 2, "an engine needs 64 MiB or more"),
    (("t.ggt", "--memory-limit", "much"), 2, "--memory-limit: "),
    (("t.ggt", "--out", "t.ggt"), 2, "would be written over"),
    (("t.ggt", "--out", "no/where.json"), 2, "no/where.json"),
    (("t.ggt", "--scratch", "no/where"), 2, "no folder can be made there"),
    (("t.ggt", "other/t.ggt"), 2, "made with more than one key"),
)


@pytest.mark.parametrize(("words", "code", "says"), MISTAKES)
def test_mistakes_are_told_in_a_line(words: tuple[str, ...], code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    policy_file(tmp_path)
    traced(tmp_path, [])
    (tmp_path / "other").mkdir()
    (tmp_path / "nothing").mkdir()
    with Output(tmp_path / "other" / "t.ggt") as output:
        TraceWriter(output, key="k2").finish()
    log(tmp_path / "log.jsonl", [exchange(1)])
    decided(tmp_path, ["a"], "d.parquet")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1")
    told = analysed(tmp_path, *words)
    assert (told.returncode, told.stdout) == (code, "")
    assert says in told.stderr
    assert told.stderr.count("\n") == 1


@pytest.mark.parametrize(("engine", "module", "extra"), [("duckdb", "ibis", "batch"), ("spark", "pyspark", "spark")])
def test_a_missing_extra_is_told_in_a_line(engine: str, module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == module else known(name, *rest))
    told = analysed(tmp_path, "t.ggt", "--engine", engine)
    assert (told.returncode, told.stderr) == (2, f"gateway-guard: --engine {engine}: needs {module}: pip install 'gateway-guard[{extra}]'\n")


def test_an_engine_that_gives_up_is_told_in_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy_file(tmp_path)
    traced(tmp_path, [])

    def fail(*_: Any) -> None:
        raise duckdb.OutOfMemoryException("Out of Memory Error: could not allocate\nPossible solutions: ...")

    monkeypatch.setattr(job, "analysis", fail)
    told = analysed(tmp_path, str(tmp_path / "t.ggt"))
    assert told.returncode == 1
    assert not list(tmp_path.glob("gateway-guard-*")), "its own files are gone"
    assert "\ngateway-guard: --engine duckdb gave up: Out of Memory Error: could not allocate (more --memory-limit" in told.stderr


def test_a_calibration_that_is_not_there_is_told_before_the_history_is_read(tmp_path: Path) -> None:
    policy_file(tmp_path, "analysis: {calibration: gone.json}\n")
    told = analysed(tmp_path, "t.ggt")
    assert (told.returncode, "gone.json: the calibration cannot be read" in told.stderr) == (2, True)


def test_the_command_line_does_not_wait_for_engines() -> None:
    heavy = ("ibis", "duckdb", "pyspark", "pyarrow", "pandas", "numpy")
    code = f"import sys, gateway_guard.cli.app; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parent.parent, text=True)
    assert found.stdout == "[]\n"


def test_accounts_are_shown_by_the_operators_names(lake: Path, tmp_path: Path) -> None:
    directory = tmp_path / "accounts.csv"
    directory.write_text("key,account\nsk-1,Alice\n")
    hashed = Pseudonyms(KEY).text("account", "Alice")
    made = Scene(3).people(40)
    harvesters(made, [hashed, *MEMBERS[1:]], rate=5.0)
    policy_file(tmp_path)
    told = analysed(tmp_path, traced(tmp_path, in_order(made)), "--accounts", str(directory), "--json")
    assert "Alice" in json.loads(told.stdout)[0]["members"], told.stderr
    assert "made with another key" in told.stderr
