"""`gateway-guard provenance`: which clusters, which key, and what is wrong with a file."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from gateway_guard.assembly import assemble
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.provenance.marker import Marker
from gateway_guard.trace.audit import AuditLog
from tests.commands import command
from tests.fakes import KEY, policy_file
from tests.writer import written

MARKED = "signals: {coordination: {}, harvest: {}}\nprofiles: {p: {marks: [habits]}}\nladder: [{id: dim, at: 2, do: degrade, profile: p}]\n"
MARKER = Marker(Pseudonyms(KEY).subkey("gg-provenance"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    policy_file(tmp_path, f"{MARKED}record: {{audit: audit.jsonl}}\n")
    texts = written(MARKER.of("c-2").ways, 60, follows=0.9, seed=1)
    (tmp_path / "outputs.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return tmp_path


def test_the_page_tells_who_is_marked_and_what_that_does_not_show(folder: Path) -> None:
    told = command(folder, "provenance", "check", str(folder / "outputs.jsonl"), "--cluster", "c-1", "--cluster", "c-2", "--controls", "5000")
    assert (told.returncode, told.stderr) == (0, "")
    [line] = [line for line in told.stdout.splitlines() if "MARKED" in line]
    assert line.split()[0] == "c-2"
    assert "c-2: form +" in told.stdout
    assert "1 of 2 clusters below 0.01" in told.stdout
    assert "not who trained on them" in told.stdout
    assert "without a baseline" in told.stdout


def test_a_baseline_is_subtracted(folder: Path) -> None:
    outputs = str(folder / "outputs.jsonl")
    told = json.loads(command(folder, "provenance", "check", outputs, "--baseline", outputs, "--cluster", "c-2", "--controls", "500", "--json").stdout)
    [finding] = told["findings"]
    assert (told["baseline"], finding["score"], finding["habits"], finding["found"]) == (60, 0.0, 0, False)


def test_without_names_the_audit_log_says_which_clusters(folder: Path) -> None:
    outputs = str(folder / "outputs.jsonl")
    none = command(folder, "provenance", "check", outputs)
    assert (none.returncode, "name clusters with --cluster" in none.stderr) == (2, True)
    log = AuditLog(folder / "audit.jsonl", KEY)
    log.note(1.0, "degraded", cluster="c-1")
    log.note(2.0, "marked", cluster="c-2")
    log.close()
    told = json.loads(command(folder, "provenance", "check", outputs, "--controls", "5000", "--json").stdout)
    assert [(finding["cluster"], finding["found"]) for finding in told["findings"]] == [("c-2", True)]


def test_marks_are_told_to_whoever_has_the_key(folder: Path) -> None:
    [told] = json.loads(command(folder, "provenance", "marks", "--cluster", "c-2", "--json").stdout)
    assert told == {"cluster": "c-2", "habits": MARKER.of("c-2").asked, "tool": MARKER.of("c-2").tool}
    assert MARKER.of("c-2").tool in command(folder, "provenance", "marks", "--cluster", "c-2").stdout


def test_a_key_of_its_own_is_made_once_and_needed_ever_after(folder: Path) -> None:
    policy = policy_file(folder, f"{MARKED}provenance: {{key_file: marks.key}}\n")
    lost = command(folder, "provenance", "marks", "--cluster", "c-2")
    assert (lost.returncode, "can only be told with the key" in lost.stderr) == (2, True)
    first, again = (assemble(policy, KEY, today=None).intake.marker.of("c-2") for _ in range(2))
    assert first == again != MARKER.of("c-2")
    assert stat.S_IMODE((folder / "marks.key").stat().st_mode) == 0o600
    assert first.tool in command(folder, "provenance", "marks", "--cluster", "c-2", key=b"the key of the installation is not needed").stdout


@pytest.mark.parametrize(
    ("content", "says"), [('{"text": "a"}\n{"txt": "b"}\n', ":2: is no output"), ("", "holds no outputs"), ("no json\n", ":1: is no output")]
)
def test_a_file_that_is_none_is_named_with_its_line(content: str, says: str, folder: Path) -> None:
    (folder / "outputs.jsonl").write_text(content)
    told = command(folder, "provenance", "check", str(folder / "outputs.jsonl"), "--cluster", "c-2")
    assert (told.returncode, says in told.stderr, told.stderr.count("\n")) == (1, True, 1)
