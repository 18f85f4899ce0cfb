"""Meters keep a bounded amount, believe no nonsense, and estimate what they are not told."""

from __future__ import annotations

import gzip
import json
import tracemalloc
import zlib
from typing import Any

import pytest

from gateway_guard.dialects import DIALECTS
from gateway_guard.dialects import meter as module
from gateway_guard.dialects.sse import Events
from gateway_guard.dialects.tail import KEPT, Tail
from gateway_guard.dialects.tally import MOST, speech
from gateway_guard.facts import Usage
from gateway_guard.ports import Meter

CHAT, RESPONSES, COMPLETIONS, EMBEDDINGS, MESSAGES = "openai.chat", "openai.responses", "openai.completions", "openai.embeddings", "anthropic.messages"
JSON, SSE = "application/json", "text/event-stream"


def fed(reads: Meter, *chunks: bytes) -> Usage:
    for chunk in chunks:
        reads.feed(chunk)
    return reads.usage()


def meter(name: str, kind: str = SSE, **given: Any) -> Meter:
    return DIALECTS[name].meter(kind, **given)


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def said(text: str) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}}])


@pytest.mark.parametrize("value", [-1, "7", True, None, 7.5, MOST + 1, 10**30, [], {}])
@pytest.mark.parametrize("kind", [JSON, SSE])
def test_usage_that_makes_no_sense_is_not_believed(value: Any, kind: str) -> None:
    """A number from a broken server would otherwise empty, or refill, a customer's quota."""
    answer = {"choices": [{"message" if kind == JSON else "delta": {"content": "abcdefgh"}}]}
    wrong = {"prompt_tokens": value, "completion_tokens": value, "total_tokens": value, "completion_tokens_details": {"reasoning_tokens": value}}
    data = json.dumps({**answer, "usage": wrong}).encode()
    assert fed(meter(CHAT, kind, input_tokens=3), data if kind == JSON else b"data: " + data + b"\n\n") == Usage(3, 2, 0, True)
    block = {"content": [{"type": "text", "text": "abcdefgh"}], "usage": {"input_tokens": value, "output_tokens": value, "cache_read_input_tokens": value}}
    assert fed(meter(MESSAGES, JSON, input_tokens=3), json.dumps(block).encode()) == Usage(3, 2, 0, True)


@pytest.mark.parametrize("usage", [None, [], 3, "none", {}, {"prompt_tokens_details": 3, "completion_tokens_details": []}])
def test_usage_of_another_shape_is_no_usage(usage: Any) -> None:
    answer = {"choices": [{"message": {"content": "abcd"}}], "usage": usage}
    assert fed(meter(CHAT, JSON, input_tokens=3), json.dumps(answer).encode()) == Usage(3, 1, 0, True)
    assert fed(meter(CHAT, input_tokens=3), said("abcd"), event(choices=[], usage=usage)) == Usage(3, 1, 0, True)


def test_reasoning_is_never_more_than_the_output() -> None:
    answer = {"choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 9}}}
    assert fed(meter(CHAT, JSON), json.dumps(answer).encode()) == Usage(1, 5, 5, False)


def test_numbers_under_the_newer_names_are_read_too() -> None:
    answer = {"choices": [], "usage": {"input_tokens": 4, "output_tokens": 5, "output_tokens_details": {"reasoning_tokens": 2}}}
    assert fed(meter(CHAT, JSON), json.dumps(answer).encode()) == Usage(4, 5, 2, False)


@pytest.mark.parametrize(
    "delta",
    [
        {"content": "12345678"},
        {"content": [{"type": "text", "text": "12345678"}]},
        {"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "1234"}]}, {"type": "text", "text": "5678"}]},
        {"content": "1234", "reasoning": "5678"},
        {"content": "", "refusal": "12345678"},
        {"function_call": {"name": "f234", "arguments": "5678"}},
        {"content": {"text": "12345678"}},
        {"content": 5, "text": "12345678"},
        {"tool_calls": [{"function": {"arguments": "1234"}}, {"function": {"arguments": "5678"}}]},
        {"tool_calls": [{"function": {"arguments": {"text": "12345678"}}}]},
        {"tool_calls": {"function": {"arguments": "12345678"}}},
    ],
)
def test_what_a_delta_says_is_counted_in_whatever_shape(delta: dict[str, Any]) -> None:
    assert fed(meter(CHAT), event(choices=[{"index": 0, "delta": delta}])).output == 2


def test_bytes_not_characters_are_counted() -> None:
    assert fed(meter(CHAT), said("日本語日")).output == 3


def test_names_ids_and_blobs_are_not_speech() -> None:
    assert speech([{"id": "x" * 99, "type": "reasoning", "encrypted_content": "x" * 99, "summary": [{"text": "1234"}]}, {"arguments": "12"}, "stray"]) == 6
    assert speech({"type": "tool_use", "input": {"any": "x"}}) == len('{"any":"x"}')


@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream ; charset=utf-8", ""])
def test_streams_are_told_by_their_type(kind: str) -> None:
    assert fed(meter(CHAT, kind, streaming=True), said("12345678"), b"data: [DONE]\n\n").output == 2


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=utf-8", "text/plain", "", "application/octet-stream"])
def test_anything_else_is_read_as_json_or_else_by_length(kind: str) -> None:
    answer = b'{"choices":[{"message":{"content":"hi"}}],"usage":{"prompt_tokens":1,"completion_tokens":2}}'
    assert fed(meter(CHAT, kind), answer[:9], answer[9:]) == Usage(1, 2, 0, False)
    assert fed(meter(CHAT, kind, input_tokens=9), b"x" * 40) == Usage(9, 10, 0, True)
    assert fed(meter(CHAT, kind, input_tokens=9)) == Usage(9, 0, 0, True)


def test_an_error_used_nothing() -> None:
    for name in (CHAT, RESPONSES, COMPLETIONS, MESSAGES):
        assert fed(meter(name, JSON, input_tokens=9), b'{"error":{"message":"no"}}') == Usage(0, 0, 0, True)


def test_an_error_in_the_middle_of_a_stream_leaves_what_was_used() -> None:
    assert fed(meter(CHAT, input_tokens=9), said("abcd"), event(error={"message": "boom"})) == Usage(9, 1, 0, True)
    assert fed(meter(COMPLETIONS, input_tokens=9), event(choices=[{"text": "abcd"}]), event(error={"message": "boom"})) == Usage(9, 1, 0, True)


def test_a_prompt_of_nothing_is_a_server_that_does_not_count_it() -> None:
    answer = b'{"content":[],"usage":{"input_tokens":0,"output_tokens":2}}'
    assert fed(meter(MESSAGES, JSON, input_tokens=9), answer) == Usage(9, 2, 0, True)
    assert fed(meter(MESSAGES, JSON, input_tokens=0), answer) == Usage(0, 2, 0, False)


def test_a_final_event_without_its_empty_line_counts() -> None:
    last = event(choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2})
    for cut in (0, 1, 2):
        assert fed(meter(CHAT), said("abcdefghijklmnop"), last[: len(last) - cut]) == Usage(1, 2, 0, False)
    assert fed(meter(CHAT, input_tokens=3), said("abcd"), last[:-5]) == Usage(3, 1, 0, True)


def test_a_model_cannot_write_its_own_bill() -> None:
    """Usage in the text of an answer is text, in an answer of any length and at any place."""
    lie = json.dumps({"usage": {"prompt_tokens": 0, "completion_tokens": 0}, "choices": []})
    assert fed(meter(CHAT), said(lie), said("\n\ndata: " + lie + "\n\n")).output > len(lie) // 4
    truth = {"prompt_tokens": 3, "completion_tokens": 4_000_000}
    padded = json.dumps({"usage": truth, "choices": [{"message": {"content": "x" * (5 * 1024 * 1024) + lie}}]}).encode()
    assert fed(meter(CHAT, JSON), padded).output == -(-len(padded) // 4)


def chunked(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


def peak(reads: Meter, chunks: list[bytes]) -> int:
    tracemalloc.start()
    try:
        for chunk in chunks:
            reads.feed(chunk)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_long_answer_is_not_kept_and_its_usage_is_found_at_its_end() -> None:
    """Embeddings are megabytes; a parse of them would hold up every other request."""
    answer = {"data": [{"embedding": [0.125] * 300_000}], "model": "m", "usage": {"prompt_tokens": 8, "total_tokens": 8}}
    chunks = chunked(json.dumps(answer).encode(), 65536)
    reads = meter(EMBEDDINGS, JSON)
    assert peak(reads, chunks) < 300_000
    assert reads.usage() == Usage(8, 0, 0, False)


def test_an_answer_beyond_the_cap_is_read_by_its_end_or_its_length() -> None:
    text = "x" * (5 * 1024 * 1024)
    told = json.dumps({"choices": [{"message": {"content": text}}], "usage": {"prompt_tokens": 3, "completion_tokens": 9}}).encode()
    assert fed(meter(CHAT, JSON), *chunked(told, 100_000)) == Usage(3, 9, 0, False)
    untold = json.dumps({"choices": [{"message": {"content": text}}], "usage": None}).encode()
    assert fed(meter(CHAT, JSON, input_tokens=2), *chunked(untold, 100_000)) == Usage(2, -(-len(untold) // 4), 0, True)


def test_a_line_without_end_is_let_go_and_counted_by_its_length() -> None:
    reads = meter(CHAT, input_tokens=1)
    chunks = [b"data: ", *[b"x" * 65536] * 160]
    assert peak(reads, chunks) < 10 * 1024 * 1024
    assert fed(reads, b"\n\n", said("abcd")) == Usage(1, -(-(len("data: ") + 160 * 65536 + 4) // 4), 0, True)


def test_the_usage_at_the_end_of_a_line_that_was_too_long_is_found() -> None:
    """The last event of the Responses API repeats the whole answer."""
    usage = {"input_tokens": 5, "output_tokens": 6, "output_tokens_details": {"reasoning_tokens": 1}, "total_tokens": 11}
    last = event(type="response.completed", response={"output": "x" * (5 * 1024 * 1024), "usage": usage, "user": None, "metadata": {}})
    assert fed(meter(RESPONSES), *chunked(last, 65536)) == Usage(5, 6, 1, False)


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_the_lines_of_an_event_are_joined_wherever_they_are_cut(end: bytes) -> None:
    """A CRLF cut in two is one line end; taken for two it would end the event between its lines."""
    stream = end.join([b"event: x", b"data: {", b'data:"a":1', b": comment", b"data: }", b"", b"", b"data:2", b"data", b"", b"data: 3", b"", b""]) + b"data: 4"
    for first in range(len(stream) + 1):
        for second in range(first, min(first + 4, len(stream) + 1)):
            events = Events()
            found = [data for piece in (stream[:first], stream[first:second], stream[second:]) for data in events.feed(piece)]
            assert (found, events.pending()) == ([b' {\n"a":1\n }', b"2", b" 3"], b" 4"), (first, second)


def test_many_data_lines_are_bounded_like_one() -> None:
    events = Events(cap=100)
    assert [events.feed(b"data: 12345678\n") for _ in range(30)] == [[]] * 30
    assert len(events.lost) == 2
    assert sum(tail.size for tail in events.lost) + len(events.pending()) >= 30 * 9 - 9
    assert len(events.pending()) <= 100 + 30


def test_small_pieces_cost_no_more_than_large_ones() -> None:
    """Each byte is copied a bounded number of times, or a slow upstream costs the square of its answer."""
    events = Events(cap=50_000)
    for _ in range(120_000):
        events.feed(b"x")
    events.feed(b"\n")
    assert [tail.size for tail in events.lost] == [120_000]


@pytest.mark.parametrize(
    ("end", "usage"),
    [
        (b'"usage":{"a":1}}', {"a": 1}),
        (b'"usage" : {"a":{"b":[1]}},"service_tier":"x"}}\n', {"a": {"b": [1]}}),
        (b'"usage":null}', None),
        (b'"usage"', None),
        (b'"usage":{"a":', None),
        (b'\\"usage\\":{\\"a\\":1}"}', None),
        (b"", None),
        (b'"usage":' + b"[" * 10_000, None),
        (b'"usage":{"a":1}' + b" " * KEPT, None),
    ],
)
def test_the_usage_of_a_tail(end: bytes, usage: Any) -> None:
    for pieces in ([b"x" * 100_000 + end], [b"x" * 70_000, *chunked(end, 3)]):
        tail = Tail(*pieces)
        assert tail.usage() == usage
        assert tail.size == sum(map(len, pieces))


def test_a_compressed_bomb_is_followed_for_a_bounded_length(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INFLATED", 1_000_000)
    bomb = gzip.compress(b"\0" * 30_000_000)
    reads = meter(CHAT, JSON, content_encoding="gzip", input_tokens=4)
    assert peak(reads, [bomb]) < 6_000_000
    assert reads.usage() == Usage(4, -(-len(bomb) // 4), 0, True)
    assert fed(reads, b"more") == Usage(4, -(-(len(bomb) + 4) // 4), 0, True)


def test_a_compressed_stream_is_read_while_it_flows() -> None:
    """Servers flush each event; a caller who leaves then is settled by what he saw."""
    packer = zlib.compressobj(wbits=31)
    reads = meter(CHAT, content_encoding="gzip")
    for count in range(1, 20):
        reads.feed(packer.compress(said("abcd")) + packer.flush(zlib.Z_SYNC_FLUSH))
        assert reads.usage().output == count


def test_output_that_zlib_still_holds_is_drawn_out() -> None:
    whole = b"".join(said("abcd" * 1000) for _ in range(100))
    assert fed(meter(CHAT, content_encoding="gzip"), gzip.compress(whole)).output == 100_000


def test_trailing_garbage_after_a_compressed_answer_changes_nothing() -> None:
    answer = gzip.compress(b'{"usage":{"prompt_tokens":1,"completion_tokens":2}}')
    assert fed(meter(CHAT, JSON, content_encoding="gzip"), answer, b"garbage", b"") == Usage(1, 2, 0, False)
