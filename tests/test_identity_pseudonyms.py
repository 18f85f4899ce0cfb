"""Keyed hashes: stable, separated by kind, and a key that others cannot read."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.errors import UsageError
from gateway_guard.identity import pseudonyms as module
from gateway_guard.identity.pseudonyms import Pseudonyms, load_key
from gateway_guard.identity.recent import Recent

KEY = bytes(range(32))
HEX = "00112233445566778899aabbccddeeff" * 2


def test_the_same_key_gives_the_same_hashes_for_ever() -> None:
    known = Pseudonyms(KEY)
    assert known.text("account", "acme") == "dd85e2b2067479847304"
    assert known.number("network", "192.0.2.0/24") == 8908008159146739235


@given(st.text(), st.text())
def test_kinds_keys_and_values_are_separate_domains(value: str, other: str) -> None:
    known, stranger = Pseudonyms(KEY), Pseudonyms(KEY[::-1])
    assert known.text("account", value) != known.text("org", value)
    assert known.text("account", value) != stranger.text("account", value)
    assert known.number("account", value) != known.number("network", value)
    assert (known.text("account", value) == known.text("account", other)) == (value == other)


@given(st.text(st.characters()))
def test_any_text_has_a_hash_of_the_promised_form(value: str) -> None:
    known = Pseudonyms(KEY)
    assert len(bytes.fromhex(known.text("account", value))) == 10
    assert 1 <= known.number("account", value) < 2**63


def test_lone_surrogates_are_hashed_too() -> None:
    assert Pseudonyms(KEY).text("account", "\ud800") != Pseudonyms(KEY).text("account", "\ud801")


@pytest.mark.parametrize("kind", ["", "k" * 17])
def test_a_kind_that_would_be_cut_off_is_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="a kind has 1 to 16 bytes"):
        Pseudonyms(KEY).text(kind, "x")


def test_short_keys_are_refused_and_long_ones_count_whole() -> None:
    with pytest.raises(UsageError, match="give at least 16"):
        Pseudonyms(b"short")
    long = bytes(range(200))
    assert Pseudonyms(long).text("account", "a") != Pseudonyms(long[:-1]).text("account", "a")


@pytest.mark.parametrize(
    ("stated", "key"),
    [
        (HEX, bytes.fromhex(HEX)),
        (f"  {HEX}\n", bytes.fromhex(HEX)),
        ("correct horse battery staple and more", b"correct horse battery staple and more"),
    ],
)
def test_the_environment_gives_the_key(stated: str, key: bytes, tmp_path: Path) -> None:
    assert load_key({"GATEWAY_GUARD_KEY": stated}, tmp_path / "unused") == key
    assert not (tmp_path / "unused").exists()


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"GATEWAY_GUARD_KEY": "MARKED-short-key"}, "GATEWAY_GUARD_KEY: 16 characters are too few"),
        ({"GATEWAY_GUARD_KEY": "0" * 64}, "GATEWAY_GUARD_KEY: looks like a placeholder"),
        ({}, "no pseudonym key: set GATEWAY_GUARD_KEY"),
        ({"GATEWAY_GUARD_KEY_FILE": "/nowhere/at/all/key"}, "/nowhere/at/all/key: the key file cannot be made"),
        ({"GATEWAY_GUARD_KEY_FILE": "/"}, "/: the key file is not a regular file"),
    ],
)
def test_a_key_that_cannot_be_used_is_one_clear_line(environment: dict[str, str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_key(environment)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    assert "MARKED" not in str(caught.value)


def test_a_missing_file_is_made_once_for_the_owner_alone(tmp_path: Path) -> None:
    file = tmp_path / "key"
    key = load_key({}, file)
    assert len(key) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert load_key({"GATEWAY_GUARD_KEY_FILE": str(file)}) == key
    assert os.listdir(tmp_path) == ["key"]


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_file_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    file = tmp_path / "key"
    load_key({}, file)
    file.chmod(mode)
    with pytest.raises(UsageError, match=f"others can read the key file \\(mode {mode:04o}\\): run `chmod 600"):
        load_key({}, file)


@pytest.mark.parametrize("held", [b"", b"\xff" * 40, b"x y z" * 2000])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, held: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(held)
    file.chmod(0o600)
    with pytest.raises(UsageError, match="key"):
        load_key({}, file)


def test_workers_that_start_together_get_one_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, start, keys = tmp_path / "key", threading.Barrier(8), []
    create = module._create

    def together(path: Path) -> None:
        start.wait()  # all have found the file missing before any makes it
        create(path)

    monkeypatch.setattr(module, "_create", together)
    workers = [threading.Thread(target=lambda: keys.append(load_key({}, file))) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert os.listdir(tmp_path) == ["key"]


def test_recent_keeps_what_is_asked_for_and_stays_bounded() -> None:
    recent: Recent[int, int] = Recent(10)
    recent.put(-1, 7)
    for number in range(1000):
        recent.put(number, number)
        assert recent.get(-1) == 7
        assert len(recent) <= 20
    assert recent.get(0) is None
    recent.drop(-1)
    assert recent.get(-1) is None
