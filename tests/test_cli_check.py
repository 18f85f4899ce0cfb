"""`gateway-guard check` and `schema`, as a person calls them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gateway_guard import __main__ as program
from gateway_guard.errors import GuardError, PolicyError, UsageError

ROOT = Path(__file__).parent.parent
GOOD = "version: 1\nname: good\nquotas:\n  minute: {limit: 60/min}\n"
ODD = "version: 1\nname: odd\nquotas:\n  loose: {limit: 600/min}\n  tight: {limit: 60/min}\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path):  # type: ignore[no-untyped-def]
    """Runs the program in an empty folder; returns its exit code, output and errors."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["gateway-guard", *words])
        try:
            code = program.main()
        except SystemExit as end:
            code = int(end.code or 0)
        told = capsys.readouterr()
        return code, told.out, told.err

    return call


def test_a_good_file_is_told_with_its_digest(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "p.yaml").write_text(GOOD)
    code, out, err = run("check", "p.yaml")
    assert (code, err) == (0, "")
    assert out.startswith("ok p.yaml ")
    assert out.endswith(" (good, shadow: 1 quota)\n")
    assert len(out.split()[2]) == 16


def test_every_problem_is_on_a_line_of_its_own(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "good.yaml").write_text(GOOD)
    (tmp_path / "p.yaml").write_text("version: 1\nnam: bad\nmode: dry-run\n")
    code, out, err = run("check", "p.yaml", "good.yaml")
    lines = out.splitlines()
    assert (code, err) == (1, "")
    assert lines[:3] == [
        "p.yaml:1: `name` is missing; add for example `name: production`",
        "p.yaml:2: unknown key `nam`; did you mean `name`?",
        "p.yaml:3: `mode` is `dry-run`; did you mean `shadow`? (it must be one of shadow, enforce)",
    ]
    assert lines[3].startswith("ok good.yaml ")


def test_in_a_folder_the_policies_are_checked_and_their_parts_through_them(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    folder = tmp_path / "policies"
    (folder / "more").mkdir(parents=True)
    (folder / "a.yaml").write_text("include: part.yaml\n" + GOOD)
    (folder / "part.yaml").write_text("signals: {harvst: {}}\n")
    (folder / "more" / "b.yml").write_text(GOOD)
    (folder / "notes.txt").write_text("version: none\n")
    code, out, _ = run("check", "policies")
    assert code == 1
    assert out.splitlines()[0] == "policies/part.yaml:1: there is no signal `harvst`; did you mean `harvest`?"
    assert out.splitlines()[1].startswith("ok policies/more/b.yml ")
    assert len(out.splitlines()) == 2


def test_warnings_count_when_asked_for(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "p.yaml").write_text(ODD)
    code, out, _ = run("check", "p.yaml")
    assert code == 0
    assert out.startswith("p.yaml:4: warning: quota `loose` decides nothing")
    assert run("check", "--strict", "p.yaml")[0] == 1


def test_lists_that_a_policy_names_are_checked_with_it(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "p.yaml").write_text(GOOD + "lists: [nowhere.yaml]\n")
    code, out, err = run("check", "p.yaml")
    assert (code, err) == (1, "")
    assert "nowhere.yaml" in out


def test_an_exemption_of_the_past_is_refused_by_the_clock(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "p.yaml").write_text(GOOD + "exemptions: [{id: a, orgs: [x], until: 2020-01-01, reason: test}]\n")
    assert run("check", "p.yaml")[0] == 1


@pytest.mark.parametrize("words", [("check", "nowhere.yaml"), ("check", "empty"), ("check",), ("check", "--colour"), ("paint",)])
def test_wrong_calls_end_with_2_and_a_reason(run, tmp_path: Path, words: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "empty").mkdir()
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert err
    assert "Traceback" not in err


def test_a_missing_file_is_one_clear_line(run) -> None:  # type: ignore[no-untyped-def]
    assert run("check", "nowhere.yaml") == (2, "", "gateway-guard: nowhere.yaml: no such file or folder\n")


def test_the_schema_is_json(run) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = run("schema")
    assert code == 0
    assert json.loads(out)["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_help_names_every_verb(run) -> None:  # type: ignore[no-untyped-def]
    code, out, _ = run("--help")
    assert code == 0
    assert {"check", "schema"} <= set(out.split())


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (UsageError("--from is after --to"), 2, "gateway-guard: --from is after --to\n"),
        (GuardError("the log ends early"), 1, "gateway-guard: the log ends early\n"),
        (PolicyError(["p.yaml:1: one", "p.yaml:2: two"]), 1, "gateway-guard: p.yaml:1: one\ngateway-guard: p.yaml:2: two\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_become_lines_and_codes(run, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, says: str) -> None:  # type: ignore[no-untyped-def]
    def fail(_path: Path) -> bool:
        raise error

    monkeypatch.setattr(Path, "is_dir", fail)
    assert run("check", "p.yaml") == (code, "", says)


def test_a_reader_that_leaves_is_no_error() -> None:
    """`gateway-guard schema | head -1`: quiet, whatever is left to write."""
    with subprocess.Popen([sys.executable, "-m", "gateway_guard", "schema"], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout
        assert child.stderr
        child.stdout.close()
        assert child.stderr.read() == b""
