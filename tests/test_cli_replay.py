"""The verbs `replay` and `explain` from the outside: exit codes, what goes where, pipes and interruptions."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from gateway_guard.__main__ import main
from gateway_guard.trace.decisions import read_decisions
from gateway_guard.trace.exchanges import line
from tests.logs import exchange, log

KEY = "00112233445566778899aabbccddeeff" * 2
POLICY = """version: 1
name: test
mode: enforce
quotas: {minute: {limit: 6/min, burst: 3}}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a policy, a directory and a log, in which the verbs run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GATEWAY_GUARD_KEY", KEY)
    for name in ("GATEWAY_GUARD_POLICY", "GATEWAY_GUARD_DIRECTORY", "GATEWAY_GUARD_KEY_FILE"):
        monkeypatch.delenv(name, raising=False)
    Path("policy.yaml").write_text(POLICY)
    Path("accounts.csv").write_text("key,account\nsk-one,acct_one\n")
    log(Path("log.jsonl.zst"), [exchange(n) for n in range(10)])
    return tmp_path


def run(*arguments: str) -> int:
    """The program with these arguments; its exit code."""
    before, sys.argv = sys.argv, ["gateway-guard", *arguments]
    handler = signal.getsignal(signal.SIGTERM)
    try:
        return main()
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        sys.argv = before
        signal.signal(signal.SIGTERM, handler)


def replayed(*arguments: str) -> int:
    return run("replay", "log.jsonl.zst", "--policy", "policy.yaml", *arguments)


def test_a_replay_shows_the_page_and_writes_what_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert replayed("--accounts", "accounts.csv", "--decisions", "d.jsonl.zst", "--report", "r.json", "--trace", "t.ggt") == 0
    shown = capsys.readouterr()
    assert "10 requests of 1 accounts" in shown.out
    assert "acct_one" in shown.out
    assert shown.err == ""
    assert [row.id for row in read_decisions("d.jsonl.zst")] == [f"x{n}" for n in range(10)]
    report = json.loads(Path("r.json").read_text())
    assert (report["complete"], report["decisions"]["refused"]) == (True, 7)
    assert run("replay", "t.ggt", "--policy", "policy.yaml", "--accounts", "accounts.csv") == 0
    assert "10 requests of 1 accounts" in capsys.readouterr().out


def test_the_page_has_no_colours_in_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert replayed() == 0
    assert "\x1b" not in capsys.readouterr().out


def test_the_mode_can_be_chosen(capsys: pytest.CaptureFixture[str]) -> None:
    assert replayed("--shadow", "--report", "r.json") == 0
    assert "shadow: recorded only" in capsys.readouterr().out
    assert json.loads(Path("r.json").read_text())["decisions"]["enforced"] == 0
    assert replayed("--enforce", "--report", "r.json") == 0
    assert json.loads(Path("r.json").read_text())["decisions"]["enforced"] == 7


def test_decisions_on_standard_output_send_the_page_elsewhere(capfd: pytest.CaptureFixture[str]) -> None:
    assert replayed("--decisions", "-") == 0
    shown = capfd.readouterr()
    assert [json.loads(row)["id"] for row in shown.out.splitlines()] == [f"x{n}" for n in range(10)]
    assert "10 requests of 1 accounts" in shown.err


def test_the_report_on_standard_output_is_json_alone(capfd: pytest.CaptureFixture[str]) -> None:
    assert replayed("--report", "-") == 0
    assert json.loads(capfd.readouterr().out)["complete"] is True


WRONG: dict[str, tuple[Sequence[str], int, str]] = {
    "no traffic": (["nothing.jsonl", "--policy", "policy.yaml"], 1, "gateway-guard: nothing.jsonl: cannot be opened: No such file or directory"),
    "no policy": (["log.jsonl.zst", "--policy", "nothing.yaml"], 1, "nothing.yaml"),
    "no directory": (["log.jsonl.zst", "--policy", "policy.yaml", "--accounts", "nothing.csv"], 1, "nothing.csv: cannot be read"),
    "no place": (["log.jsonl.zst", "--policy", "policy.yaml", "--decisions", "missing/d.jsonl"], 2, "missing/d.jsonl: cannot be written: No such file"),
    "no place for the report": (["log.jsonl.zst", "--policy", "policy.yaml", "--report", "missing/r.json"], 2, "missing/r.json: cannot be written"),
    "one place for two": (["log.jsonl.zst", "--policy", "policy.yaml", "--decisions", "x", "--report", "./x"], 2, "must go to different places"),
    "the traffic's place": (["log.jsonl.zst", "--policy", "policy.yaml", "--trace", "../{folder}/log.jsonl.zst"], 2, "log.jsonl.zst: is the traffic"),
    "no share": (["log.jsonl.zst", "--policy", "policy.yaml", "--solved", "most"], 2, "--solved most: `most` is not understood; write for example `5%`"),
    "more than all": (["log.jsonl.zst", "--policy", "policy.yaml", "--solved", "120%"], 2, "--solved 120%: `120%` is more than the whole"),
    "not a log": (["accounts.csv", "--policy", "policy.yaml"], 1, "accounts.csv: 2 of 2 lines are broken"),
}


@pytest.mark.parametrize(("arguments", "code", "says"), WRONG.values(), ids=WRONG)
def test_a_mistake_is_told_in_one_line(folder: Path, arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path.name for path in folder.iterdir()}
    assert run("replay", *(argument.format(folder=folder.name) for argument in arguments)) == code
    shown = capsys.readouterr()
    assert says in shown.err
    assert len(shown.err.splitlines()) == 1
    assert shown.out == ""
    assert {path.name for path in folder.iterdir()} == before


def test_a_broken_log_ends_in_a_partial_report(capsys: pytest.CaptureFixture[str]) -> None:
    Path("half.jsonl").write_bytes(b"".join(line(exchange(n)) for n in range(10)) + b'{"v":1')
    assert run("replay", "half.jsonl", "--policy", "policy.yaml", "--report", "r.json", "--decisions", "d.jsonl") == 1
    shown = capsys.readouterr()
    assert "PARTIAL: half.jsonl: 1 of 11 lines are broken" in shown.out
    assert "kept as far as it goes: " in shown.err
    assert "gateway-guard: half.jsonl: 1 of 11 lines are broken" in shown.err
    assert json.loads(Path("r.json").read_text())["complete"] is False
    assert len(list(read_decisions("d.jsonl.partial"))) == 10
    assert not Path("d.jsonl").exists()


def test_the_key_is_made_beside_the_policy_as_the_live_guard_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_GUARD_KEY")
    assert replayed("--decisions", "one.jsonl") == 0
    assert replayed("--decisions", "two.jsonl") == 0
    assert Path(".gateway-guard.key").stat().st_mode & 0o777 == 0o600
    assert Path("one.jsonl").read_bytes() == Path("two.jsonl").read_bytes()


@pytest.fixture
def piped(folder: Path) -> subprocess.Popen[bytes]:
    """A replay of its standard input that answers on its standard output."""
    command = [sys.executable, "-m", "gateway_guard", "replay", "-", "--policy", "policy.yaml", "--decisions", "-", "--report", "r.json"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder, env=environment)


def ask(process: subprocess.Popen[bytes], number: int) -> dict[str, object]:
    """Write one exchange and wait for its decision."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(line(exchange(number)))
    process.stdin.flush()
    found = json.loads(process.stdout.readline())
    assert isinstance(found, dict)
    return found


def test_a_generator_can_wait_for_each_decision(piped: subprocess.Popen[bytes]) -> None:
    """What comes next may depend on what was decided: a closed loop."""
    with piped:
        assert [ask(piped, number)["served"] for number in range(5)] == [True, True, True, False, False]
        out, err = piped.communicate(timeout=60)
    assert (piped.returncode, out) == (0, b"")
    assert b"5 requests of 1 accounts" in err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_replay_ends_cleanly(folder: Path, piped: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with piped:
        for one in range(3):
            ask(piped, one)
        piped.send_signal(number)
        _, err = piped.communicate(timeout=60)
    assert piped.returncode == 130
    assert b"PARTIAL: interrupted" in err
    assert b"Traceback" not in err
    report = json.loads((folder / "r.json").read_text())
    assert (report["complete"], report["stopped"], report["traffic"]["requests"]) == (False, "interrupted", 3)
    assert not [path for path in folder.iterdir() if path.suffix == ".tmp"]


def test_a_reader_who_leaves_ends_the_replay_quietly(folder: Path, piped: subprocess.Popen[bytes]) -> None:
    with piped:
        ask(piped, 0)
        assert piped.stdout is not None
        assert piped.stdin is not None
        piped.stdout.close()
        piped.stdin.write(line(exchange(1)) * 100)
        piped.stdin.close()
        assert piped.stderr is not None
        err = piped.stderr.read()
    assert (piped.returncode, err) == (1, b"")
    assert not (folder / "r.json").exists()


def explained(*arguments: str) -> int:
    return run("explain", "log.jsonl.zst", "--policy", "policy.yaml", "--accounts", "accounts.csv", *arguments)


def test_one_decision_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert explained("--id", "x4") == 0
    shown = capsys.readouterr().out
    assert shown.startswith("was refused: quota minute has 0.4 of 3 requests left, asked for 1; it fits in 6.0 s\n")
    assert "acct_one" in shown


def test_an_explanation_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert explained("--id", "x4", "--json", "--shadow") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["v"], found["decision"]["id"], found["decision"]["enforced"], found["quotas"][0]["fits_in_s"]) == (1, "x4", False, 6.0)


def test_an_id_that_is_not_there_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert explained("--id", "x99") == 2
    assert capsys.readouterr().err == "gateway-guard: log.jsonl.zst: no exchange has the id x99\n"


def test_help_does_not_wait_for_the_heavy_parts() -> None:
    heavy = ("pydantic", "numpy", "pyarrow", "zstandard", "starlette", "msgspec")
    code = f"import sys, gateway_guard.cli.explain; print([name for name in {heavy} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parent.parent, text=True)
    assert found.stdout == "[]\n"


def test_compare_shows_both_ways_and_writes_what_is_asked(capsys: pytest.CaptureFixture[str]) -> None:
    Path("other.yaml").write_text(POLICY.replace("burst: 3", "burst: 1").replace("name: test", "name: other"))
    assert run("compare", "policy.yaml", "other.yaml", "log.jsonl.zst", "--report", "c.json", "--report", "c.html") == 0
    assert "Worse off under other: 1 accounts" in capsys.readouterr().out
    assert json.loads(Path("c.json").read_text())["worse"]["accounts"] == 1
    assert Path("c.html").read_text().startswith("<!doctype html>")
    assert run("compare", "policy.yaml", "other.yaml", "log.jsonl.zst", "--json") == 0
    assert json.loads(capsys.readouterr().out)["complete"]
    assert run("compare", "policy.yaml", "none.yaml", "log.jsonl.zst") == 1
    assert "none.yaml" in capsys.readouterr().err


def test_a_report_is_a_page_and_json_at_once_and_labels_are_for_it_alone(capsys: pytest.CaptureFixture[str]) -> None:
    Path("labels.csv").write_text("account,kind,actor\nacct_one,attack,ring\n")
    plain, labelled = "d1.jsonl", "d2.jsonl"
    assert replayed("--accounts", "accounts.csv", "--decisions", plain) == 0
    assert replayed("--accounts", "accounts.csv", "--decisions", labelled, "--labels", "labels.csv", "--report", "r.html", "--report", "r.json") == 0
    assert Path(plain).read_bytes() == Path(labelled).read_bytes()
    assert json.loads(Path("r.json").read_text())["labelled"]["recall"]["whole"] == 1
    assert "Against the labels" in Path("r.html").read_text()
    assert replayed("--labels", "none.csv") == 2
    assert "none.csv: the labels cannot be read" in capsys.readouterr().err
