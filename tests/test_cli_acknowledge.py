"""What operators say on the command line, and how it is kept, shown and taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway_guard.appeals.ledger import Ledger
from gateway_guard.identity.pseudonyms import Pseudonyms
from tests.commands import Told, command
from tests.fakes import KEY, policy_file

HASHES = Pseudonyms(KEY)
UNTIL = ("--until", "2027-03-31", "--reason", "agreed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "accounts.csv").write_text("key,account,org\nsk-1,acme,lab\n")
    policy_file(tmp_path, "state: state.sqlite\nidentity: {directory: accounts.csv}\n")
    Ledger(tmp_path / "state.sqlite").close()
    return tmp_path


def given(told: Told) -> None:
    assert (told.returncode, told.stderr) == (0, ""), told


@pytest.mark.parametrize(
    ("words", "kind", "name", "subjects"),
    [
        (["acme"], "account", "acme", [HASHES.text("account", "acme")]),
        (["sk-1"], "account", "acme", [HASHES.text("account", "acme")]),
        (["a" * 20], "account", "a" * 20, ["a" * 20]),
        (["c-0123456789ab"], "cluster", "c-0123456789ab", ["c-0123456789ab"]),
        (["lab", "--org"], "org", "lab", [HASHES.text("org", "lab")]),
    ],
)
def test_who_is_meant(words: list[str], kind: str, name: str, subjects: list[str], folder: Path) -> None:
    given(command(folder, "acknowledge", *words, *UNTIL, "--families", "content,network"))
    (kept,) = json.loads(command(folder, "acknowledgements", "--json").stdout)
    assert (kept["kind"], kept["name"], kept["subjects"], kept["families"]) == (kind, name, subjects, ["content", "network"])


def test_a_key_that_no_directory_knows_is_kept_as_its_hashes(folder: Path) -> None:
    """An account may be its key; the key itself goes neither into the state file nor into the audit log."""
    given(command(folder, "acknowledge", "sk-secret", *UNTIL))
    (kept,) = json.loads(command(folder, "acknowledgements", "--json").stdout)
    assert kept["subjects"] == [HASHES.text("account", "sk-secret"), HASHES.text("credential", "sk-secret")]
    assert b"sk-secret" not in b"".join(path.read_bytes() for path in folder.glob("state.sqlite*"))


def test_listed_until_withdrawn(folder: Path) -> None:
    assert command(folder, "acknowledgements").stdout == "nothing is acknowledged\n"
    given(command(folder, "acknowledge", "acme", *UNTIL))
    assert "account acme" in command(folder, "acknowledgements").stdout
    given(command(folder, "withdraw", "1", "--reason", "mistaken"))
    assert command(folder, "withdraw", "1", "--reason", "again").returncode == 2
    assert "no acknowledgement 7" in command(folder, "withdraw", "7", "--reason", "none").stderr
    assert "account acme" in command(folder, "acknowledgements", "--all").stdout


def test_suspended_until_lifted(folder: Path) -> None:
    assert command(folder, "suspensions").stdout == "nobody is suspended\n"
    given(command(folder, "suspend", "acme", *UNTIL))
    assert "1  account acme  until 2027-04-01 00:00 UTC  agreed" in command(folder, "suspensions").stdout
    given(command(folder, "lift", "1", "--reason", "mistaken"))
    assert command(folder, "lift", "1", "--reason", "again").returncode == 2


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--until", "2020-01-01", "--reason", "agreed"], "is past"),
        (["--until", "2099-01-01", "--reason", "agreed"], "nothing is acknowledged for ever"),
        (["--until", "tomorrow", "--reason", "agreed"], "year-month-day"),
        (["--until", "2027-03-31", "--reason", "x"], "one line of 3 to 1000"),
        (["--until", "2027-03-31", "--reason", "two\nlines"], "one line of 3 to 1000"),
        ([*UNTIL, "--families", "colour"], "is no kind of evidence"),
    ],
)
def test_mistakes_are_told_in_a_line(words: list[str], says: str, folder: Path) -> None:
    told = command(folder, "acknowledge", "acme", *words)
    assert (told.returncode, says in told.stderr, told.stderr.count("\n")) == (2, True, 1)
    assert command(folder, "acknowledgements", "--all").stdout == "nothing is acknowledged\n"


def test_without_a_state_file_there_is_nothing_to_say_it_to(tmp_path: Path) -> None:
    policy_file(tmp_path)
    assert "keeps no state" in command(tmp_path, "appeals", "list").stderr
    policy_file(tmp_path, "state: state.sqlite\n")
    assert "there is no state file" in command(tmp_path, "appeals", "list").stderr
    assert not (tmp_path / "state.sqlite").exists()


def test_no_key_is_made_where_there_is_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a new key every hash would be another."""
    from gateway_guard.cli.state import read_key  # noqa: PLC0415
    from gateway_guard.errors import UsageError  # noqa: PLC0415

    monkeypatch.delenv("GATEWAY_GUARD_KEY", raising=False)
    with pytest.raises(UsageError, match="no pseudonym key"):
        read_key(folder / "policy.yaml")
    assert not (folder / ".gateway-guard.key").exists()
