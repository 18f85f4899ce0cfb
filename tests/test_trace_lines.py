"""Lines of plain, zstd and gzip logs, from files and pipes."""

from __future__ import annotations

import gzip
import io
import os
import threading
from pathlib import Path
from typing import BinaryIO

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.errors import TrafficError
from gateway_guard.trace import lines as module
from gateway_guard.trace.lines import Lines, split

TEXT = b"one\ntwo\n\nthree"
FOUND = [b"one", b"two", b"", b"three"]


def zst(data: bytes) -> bytes:
    return zstandard.ZstdCompressor(write_checksum=True).compress(data)


SKIPPABLE = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
FORMS = {
    "plain": TEXT,
    "zstd": zst(TEXT),
    "zstd, many frames": zst(b"one\ntw") + zst(b"o\n\n") + zst(b"") + zst(b"three"),
    "zstd after a skippable frame": SKIPPABLE + zst(TEXT),
    "gzip": gzip.compress(TEXT),
    "gzip, many members": gzip.compress(b"one\ntw") + gzip.compress(b"o\n\nthree"),
}


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("chunk", [1, 3, 65536])
def test_every_form_gives_the_same_lines(data: bytes, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CHUNK", chunk)
    assert list(Lines("log", stream=io.BytesIO(data))) == FOUND


@pytest.mark.parametrize("data", [b"", zst(b""), gzip.compress(b"")])
def test_an_empty_log_has_no_lines(data: bytes) -> None:
    assert list(Lines("log", stream=io.BytesIO(data))) == []


@pytest.mark.parametrize("form", ["zstd", "gzip"])
def test_a_log_that_was_cut_off_is_an_error(form: str) -> None:
    for cut in range(5, len(FORMS[form])):
        with pytest.raises(TrafficError, match="log: cannot be read to the end: "):
            list(Lines("log", stream=io.BytesIO(FORMS[form][:cut])))


@pytest.mark.parametrize("form", ["zstd, many frames", "gzip, many members"])
def test_what_is_whole_before_the_cut_is_read(form: str) -> None:
    lines = iter(Lines("log", stream=io.BytesIO(FORMS[form][:-3])))
    assert [next(lines) for _ in range(3)] == FOUND[:3]
    with pytest.raises(TrafficError, match="stops short"):
        list(lines)


@pytest.mark.parametrize("data", [zst(TEXT)[:-5] + b"XXXXX", zst(TEXT) + b"garbage", gzip.compress(TEXT)[:-8] + b"\0" * 8])
def test_a_damaged_log_is_an_error_in_one_line(data: bytes) -> None:
    with pytest.raises(TrafficError) as caught:
        list(Lines("log", stream=io.BytesIO(data)))
    assert "\n" not in str(caught.value)


def test_what_cannot_be_opened_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="nothing: cannot be opened: No such file"):
        Lines(tmp_path / "nothing")
    with pytest.raises(TrafficError, match="cannot be opened: Is a directory"):
        Lines(tmp_path)


def test_a_line_past_the_cap_is_none_and_the_rest_goes_on() -> None:
    data = b"short\n" + b"x" * 100 + b"\nshort\n" + b"y" * 100
    for chunk in (1, 7, 50, 1000):
        chunks = [data[i : i + chunk] for i in range(0, len(data), chunk)]
        assert list(split(iter(chunks), 20)) == [b"short", None, b"short", None]


def test_a_line_of_just_the_cap_is_kept() -> None:
    assert list(split(iter([b"x" * 20 + b"\n" + b"x" * 21]), 20)) == [b"x" * 20, None]


@given(st.lists(st.binary(max_size=12)), st.integers(1, 30))
def test_splitting_does_not_depend_on_the_chunks(chunks: list[bytes], cap: int) -> None:
    whole = b"".join(chunks)
    expected = whole.split(b"\n")
    if expected[-1] == b"":
        expected.pop()
    assert list(split(iter(chunks), cap)) == [line if len(line) <= cap else None for line in expected]


def test_a_bomb_costs_bounded_memory() -> None:
    """128 MiB of one letter in 4 KB: never more than 32 MiB of it is there at once, and the line is skipped."""
    packed = zst(b"a" * 2**26) * 2
    assert max(map(len, module.inflate(iter([packed])))) <= 32 * 2**20
    assert list(Lines("bomb", stream=io.BytesIO(packed), cap=2**20)) == [None]
    many = gzip.compress(b"a" * 2**24)
    assert max(map(len, module.inflate(iter([many])))) <= 2**20


def test_a_pipe_gives_each_line_as_it_comes() -> None:
    """A generator that waits for the answer to its last line must not wait for ever."""
    reader, writer = os.pipe()
    with open(reader, "rb") as stream, open(writer, "wb", buffering=0) as sink:
        lines = iter(Lines("-", stream=stream))
        for word in (b"one", b"two", b"three"):
            sink.write(word + b"\n")
            assert next(lines) == word


@pytest.mark.parametrize("flush", [zstandard.COMPRESSOBJ_FLUSH_BLOCK])
def test_a_compressed_pipe_too(flush: int) -> None:
    reader, writer = os.pipe()
    packer = zstandard.ZstdCompressor().compressobj()
    with open(reader, "rb") as stream, open(writer, "wb", buffering=0) as sink:
        lines = iter(Lines("-", stream=stream))
        for word in (b"one", b"two"):
            sink.write(packer.compress(word + b"\n") + packer.flush(flush))
            assert next(lines) == word


def test_position_and_size_tell_the_progress(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(TEXT)
    lines = Lines(path)
    assert (lines.position, lines.size) == (0, len(TEXT))
    assert list(lines) == FOUND
    assert lines.position == len(TEXT)


def test_a_pipe_has_no_size() -> None:
    reader, writer = os.pipe()
    feeder = threading.Thread(target=_feed, args=(writer,))
    feeder.start()
    with open(reader, "rb") as stream:
        lines = Lines("-", stream=stream)
        assert lines.size == 0
        assert list(lines) == FOUND
    feeder.join()


def _feed(writer: int) -> None:
    with open(writer, "wb") as sink:
        sink.write(TEXT)


def test_a_device_that_fails_is_told() -> None:
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error")

    stream: BinaryIO = Failing()
    with pytest.raises(TrafficError, match="log: cannot be read to the end: Input/output error"):
        list(Lines("log", stream=stream))
