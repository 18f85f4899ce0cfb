"""The exchange log: reading what others wrote, writing what others read."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.errors import TrafficError
from gateway_guard.facts import Identity
from gateway_guard.trace.exchanges import Exchange, ExchangeLog, ExchangeWriter, Response, asgi_headers, end, latency_ms, line, read
from tests.logs import START, exchange, log

LEAST = {"v": 1, "id": "a", "ts": START, "path": "/v1/messages"}


def written(*lines: dict[str, Any] | str) -> ExchangeLog:
    text = "\n".join(one if isinstance(one, str) else json.dumps(one) for one in lines)
    return read("log", stream=io.BytesIO(text.encode("utf-8", "surrogateescape")))


def test_the_least_that_a_line_may_say() -> None:
    (found,) = written(LEAST)
    assert (found.id, found.ts, found.method, found.headers, found.response, found.ends) == ("a", START, "POST", [], None, START)


def test_fields_that_are_not_known_are_ignored() -> None:
    (found,) = written({**LEAST, "colour": "red", "response": {"status": 200, "usage": {"input_tokens": 1, "cached_tokens": 9}}})
    assert found.response is not None
    assert found.response.usage is not None
    assert found.response.usage.input_tokens == 1


def test_the_body_is_kept_as_it_was_written() -> None:
    (found,) = written('{"v":1,"id":"a","ts":1,"path":"/","body":{"b" : 1.0,\t"a":[ ]}}')
    assert bytes(found.body) == b'{"b" : 1.0,\t"a":[ ]}'


def test_a_byte_order_mark_and_blank_lines_do_no_harm() -> None:
    taken = written("\ufeff" + json.dumps(LEAST), "", "   ", json.dumps({**LEAST, "id": "b"}) + "\r")
    assert [found.id for found in taken] == ["a", "b"]
    assert taken.broken == 0


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.zst", ".jsonl.gz"])
def test_what_is_written_is_read_again(tmp_path: Path, suffix: str) -> None:
    made = [exchange(n, identity=Identity("ab", payment=2**62)) for n in range(50)]
    path = log(tmp_path / f"log{suffix}", made)
    found = list(read(path))
    assert [line(one) for one in found] == [line(one) for one in made]
    assert found[3].identity == Identity("ab", payment=2**62)
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_line_says_its_version_first() -> None:
    assert line(exchange(1)).startswith(b'{"v":1,"id":"x1","ts":1800000001.0,')


def test_a_writer_that_fails_leaves_no_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    writer = ExchangeWriter(path)
    writer.write(exchange(1))
    with pytest.raises(KeyError), writer:
        raise KeyError
    assert [found.name for found in tmp_path.iterdir()] == ["log.jsonl.partial"]


BROKEN = {
    "no JSON": "nonsense",
    "cut off": '{"v":1,"id":"a"',
    "no id": json.dumps({"v": 1, "ts": 1, "path": "/"}),
    "ts a text": json.dumps({**LEAST, "ts": "yesterday"}),
    "ts too large a number": '{"v":1,"id":"a","ts":1e999,"path":"/"}',
    "ts negative": json.dumps({**LEAST, "ts": -1}),
    "latency negative": json.dumps({**LEAST, "response": {"latency_ms": -1}}),
    "latency of a year": json.dumps({**LEAST, "response": {"latency_ms": 3e10}}),
    "tokens negative": json.dumps({**LEAST, "response": {"usage": {"output_tokens": -5}}}),
    "a list": "[1]",
    "nested": '{"v":1,"id":"a","ts":1,"path":"/","body":' + "[" * 100_000 + "]" * 100_000 + "}",
    "not UTF-8": '{"v":1,"id":"\udcff","ts":1,"path":"/"}',
}


@pytest.mark.parametrize("bad", BROKEN.values(), ids=BROKEN)
def test_a_broken_line_is_skipped_counted_and_named(bad: str) -> None:
    good = [{**LEAST, "id": str(n)} for n in range(200)]
    taken = written(*good[:7], bad, *good[7:])
    assert len(list(taken)) == 200
    assert (taken.taken, taken.broken) == (200, 1)
    assert len(taken.problems) == 1
    assert taken.problems[0].startswith("log:8: ")


def test_milliseconds_for_seconds_are_pointed_out() -> None:
    taken = written(*[{**LEAST, "id": str(n)} for n in range(150)], {**LEAST, "ts": START * 1000})
    assert len(list(taken)) == 150
    assert "not milliseconds" in taken.problems[0]


def test_five_problems_are_kept_and_all_are_counted() -> None:
    taken = written(*["x"] * 9, *[{**LEAST, "id": str(n)} for n in range(1000)])
    assert len(list(taken)) == 1000
    assert (taken.broken, len(taken.problems)) == (9, 5)


def test_more_than_one_line_in_a_hundred_is_no_log() -> None:
    good = [{**LEAST, "id": str(n)} for n in range(99)]
    assert len(list(written(*good, "x"))) == 99
    with pytest.raises(TrafficError, match=r"log: 2 of 100 lines are broken.*log:99: "):
        list(written(*good[:98], "x", "x"))


@pytest.mark.parametrize("later", [{**LEAST, "v": 2}, {"v": 2, "name": "all is new"}])
def test_a_later_format_is_refused_at_once(later: dict[str, Any]) -> None:
    taken = written(LEAST, later)
    with pytest.raises(TrafficError, match="log:2: format version 2, but this gateway-guard reads version 1"):
        list(taken)


def test_times_that_fall_are_counted_and_taken() -> None:
    taken = written(*[{**LEAST, "ts": at} for at in (5, 7, 6, 7, 3, 8)])
    assert [found.ts for found in taken] == [5, 7, 6, 7, 3, 8]
    assert taken.backwards == 2


def test_a_line_past_the_cap_is_broken() -> None:
    text = b"".join(line(exchange(n)) for n in range(120)) + line(exchange(120, text="x" * 1000))
    taken = ExchangeLog("log", stream=io.BytesIO(text), line_cap=900)
    assert len(list(taken)) == 120
    assert taken.problems == ["log:121: longer than a line may be"]


def test_headers_come_back_as_the_server_saw_them() -> None:
    pairs = [("X-Name", "caf\xe9"), ("x-name", "日本")]
    assert asgi_headers(pairs) == [(b"x-name", b"caf\xe9"), (b"x-name", "日本".encode())]


@given(st.integers(0, 4_102_444_800_000_000), st.integers(0, 86_400_000_000))
def test_the_end_of_an_exchange_is_restored_to_the_microsecond(start: int, took: int) -> None:
    at, ended = start / 1e6, (start + took) / 1e6
    made = Exchange(id="a", ts=at, path="/", response=Response(latency_ms=min(latency_ms(at, ended), 86_400_000.0)))
    found = msgspec.json.decode(line(made), type=Exchange)
    assert found.ts == at
    assert found.ends == ended == end(at, latency_ms(at, ended))
