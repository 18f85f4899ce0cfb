"""Files that appear whole or not at all."""

from __future__ import annotations

import errno
import gzip
import os
from pathlib import Path
from typing import Any

import pytest
import zstandard

from gateway_guard.errors import TrafficError, UsageError
from gateway_guard.trace.output import Output


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.zst", "a.jsonl.gz"])
def test_the_name_says_how_it_is_packed(tmp_path: Path, name: str) -> None:
    with Output(tmp_path / name) as output:
        for _ in range(1000):
            output.write(b"line\n")
        assert name not in names(tmp_path)
    data = (tmp_path / name).read_bytes()
    unpack = {"l": bytes, "t": lambda packed: zstandard.ZstdDecompressor().decompressobj().decompress(packed), "z": gzip.decompress}[name[-1]]
    assert unpack(data) == b"line\n" * 1000
    assert names(tmp_path) == [name]
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_what_was_there_stays_until_the_new_file_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    output = Output(path)
    output.write(b"new")
    assert path.read_bytes() == b"old"
    output.commit()
    assert path.read_bytes() == b"new"


def test_an_error_sets_the_half_file_aside(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    output = Output(path)
    output.write(b"half")
    with pytest.raises(KeyError), output:
        raise KeyError
    assert output.aside == f"{path}.partial"
    assert (path.read_bytes(), Path(output.aside).read_bytes()) == (b"old", b"half")


def test_a_file_without_anything_in_it_is_not_set_aside(tmp_path: Path) -> None:
    with pytest.raises(KeyError), Output(tmp_path / "a") as output:
        raise KeyError
    assert (output.aside, names(tmp_path)) == ("", [])


def test_the_end_comes_once(tmp_path: Path) -> None:
    output = Output(tmp_path / "a")
    output.write(b"x")
    output.commit()
    output.commit()
    output.set_aside()
    assert names(tmp_path) == ["a"]


def test_a_link_is_followed_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "a").symlink_to(tmp_path / "there" / "real")
    with Output(tmp_path / "a") as output:
        output.write(b"x")
    assert (tmp_path / "a").is_symlink()
    assert (tmp_path / "there" / "real").read_bytes() == b"x"


@pytest.mark.parametrize("place", ["missing/a", "."])
def test_a_place_that_cannot_be_written_is_told_at_once(tmp_path: Path, place: str) -> None:
    with pytest.raises(UsageError, match="cannot be written: "):
        Output(tmp_path / place)
    assert names(tmp_path) == []


def test_a_pipe_is_written_through_line_by_line(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    output = Output(fifo)
    output.write(b"one\n")
    assert os.read(reader, 100) == b"one\n"
    output.write(b"two\n")
    assert os.read(reader, 100) == b"two\n"
    output.commit()
    os.close(reader)
    assert names(tmp_path) == ["fifo"]


def test_a_reader_who_has_left_is_no_error_of_ours(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    output = Output(fifo)
    os.close(reader)
    with pytest.raises(BrokenPipeError), output:
        output.write(b"one\n")


def test_standard_output_stays_open(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    for word in (b"one\n", b"two\n"):
        with Output("-") as output:
            output.write(word)
    assert capfdbinary.readouterr().out == b"one\ntwo\n"


def test_a_full_disk_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    output = Output(tmp_path / "a")
    output.write(b"x")
    with pytest.raises(TrafficError, match="a: cannot be written: No space left on device"):
        output.commit()
    assert names(tmp_path) == []


def test_a_device_that_is_always_full() -> None:
    with pytest.raises(TrafficError, match="/dev/full: cannot be written: No space left"), Output("/dev/full") as output:
        output.write(b"x")
