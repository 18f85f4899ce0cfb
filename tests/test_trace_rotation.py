"""Files of a recorder: rotated, bounded, never overwritten."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import Any

import pytest

from gateway_guard.errors import UsageError
from gateway_guard.trace.lines import Lines
from gateway_guard.trace.rotation import RotatingFile


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def text(path: Path) -> list[bytes | None]:
    return list(Lines(path))


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.zst"])
def test_what_is_appended_is_readable_at_once(tmp_path: Path, name: str) -> None:
    file = RotatingFile(tmp_path / "deep" / name, rotate=10_000, keep=3)
    for number in range(3):
        file.append(b"line %d\n" % number)
        (only,) = (tmp_path / "deep").iterdir()
        assert text(only) == [b"line %d" % n for n in range(number + 1)]
    file.close()
    assert only.stat().st_mode & 0o777 == 0o600
    assert only.parent.stat().st_mode & 0o777 == 0o700


def test_files_are_rotated_by_size_and_the_oldest_dropped(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "log.jsonl", rotate=25, keep=3)
    for number in range(9):
        file.append(b"number %03d\n" % number)
    file.close()
    assert names(tmp_path) == ["log.000003.jsonl", "log.000004.jsonl", "log.000005.jsonl"]
    assert [text(path) for path in sorted(tmp_path.iterdir())] == [[b"number 004", b"number 005"], [b"number 006", b"number 007"], [b"number 008"]]


def test_all_files_together_stay_below_the_cap(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "log.jsonl", rotate=1000, keep=4)
    for number in range(500):
        file.append(b"x" * (number % 300) + b"\n")
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 4 * 1000
    file.close()


def test_a_block_larger_than_a_file_is_written_all_the_same(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "log.jsonl", rotate=10, keep=2)
    file.append(b"x" * 50 + b"\n")
    file.append(b"y\n")
    file.close()
    assert [text(path) for path in sorted(tmp_path.iterdir())] == [[b"x" * 50], [b"y"]]


def test_a_restart_goes_on_with_a_new_file(tmp_path: Path) -> None:
    for run in range(3):
        file = RotatingFile(tmp_path / "log.jsonl", rotate=100, keep=5)
        file.append(b"run %d\n" % run)
        file.close()
    assert [text(path) for path in sorted(tmp_path.iterdir())] == [[b"run 0"], [b"run 1"], [b"run 2"]]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    for name in ("log.jsonl", "log.1.jsonl", "log.000001.jsonl.zst", "other.000001.jsonl", "log.000001.jsonl.bak"):
        (tmp_path / name).write_text("precious")
    file = RotatingFile(tmp_path / "log.jsonl", rotate=1, keep=1)
    for _ in range(5):
        file.append(b"x\n")
    file.close()
    assert sum(path.read_text() == "precious" for path in tmp_path.iterdir()) == 5
    assert len(names(tmp_path)) == 6


def test_two_processes_take_different_numbers_and_spare_each_others_open_file(tmp_path: Path) -> None:
    one = RotatingFile(tmp_path / "log.jsonl", rotate=10, keep=1)
    two = RotatingFile(tmp_path / "log.jsonl", rotate=10, keep=1)
    one.append(b"one\n")
    for _ in range(3):
        two.append(b"twotwotwo\n")
    one.append(b"one\n")
    assert text(tmp_path / "log.000001.jsonl") == [b"one", b"one"]
    assert len(names(tmp_path)) == 2
    one.close()
    two.close()


def test_a_number_that_is_just_being_taken_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "log.000001.jsonl").write_text("another process was first")
    monkeypatch.setattr(os, "listdir", lambda _: [])
    file = RotatingFile(tmp_path / "log.jsonl", rotate=10, keep=5)
    file.append(b"x\n")
    file.close()
    assert (tmp_path / "log.000001.jsonl").read_text() == "another process was first"
    assert text(tmp_path / "log.000002.jsonl") == [b"x"]


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "victim").write_text("precious")
    (tmp_path / "log.000001.jsonl").symlink_to(tmp_path / "victim")
    file = RotatingFile(tmp_path / "log.jsonl", rotate=10, keep=1)
    file.append(b"x\n")
    file.close()
    assert (tmp_path / "victim").read_text() == "precious"


@pytest.mark.parametrize("name", ["log.jsonl", "log.jsonl.zst"])
def test_a_full_disk_leaves_whole_lines_and_later_ones_go_on(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = RotatingFile(tmp_path / name, rotate=10_000, keep=2)
    file.append(b"one\n")
    write = os.write

    def half(descriptor: int, data: memoryview) -> int:
        if len(data) > 2:
            return write(descriptor, data[:2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", half)
        with pytest.raises(OSError, match="No space left"):
            file.append(b"two\n")
    file.append(b"three\n")
    file.close()
    (only,) = tmp_path.iterdir()
    assert text(only) == [b"one", b"three"]


def test_a_file_that_somebody_removed_is_replaced(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "log.jsonl", rotate=100, keep=2)
    file.append(b"one\n")
    (tmp_path / "log.000001.jsonl").unlink()
    file.append(b"two\n")
    file.close()
    (only,) = tmp_path.iterdir()
    assert text(only) == [b"two"]


def test_a_file_system_without_locks_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    file = RotatingFile(tmp_path / "log.jsonl", rotate=10, keep=2)
    file.append(b"one\n")
    file.close()
    assert names(tmp_path) == ["log.000001.jsonl"]


@pytest.mark.parametrize("name", ["log.parquet", "log", ".jsonl", "log.jsonl.gz"])
def test_other_endings_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"is written as NAME\.jsonl or NAME\.jsonl\.zst"):
        RotatingFile(name, rotate=10, keep=1)
