"""What every dialect promises: recorded pairs, whatever way an answer is split; nothing but UnreadableBody, whatever the JSON."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_guard.dialects import DIALECTS
from gateway_guard.errors import UnreadableBody
from gateway_guard.facts import Usage
from gateway_guard.ports import Dialect, LimitShown, Meter
from gateway_guard.reading import Reading

RECORDED = Path(__file__).parent.parent / "recorded"
ANSWERS: list[dict[str, Any]] = json.loads((RECORDED / "answers.json").read_text())
REQUESTS = sorted(RECORDED.glob("*/*.request.json"))
STREAMS = [answer for answer in ANSWERS if answer["file"].endswith(".sse")]
NAMES = sorted(DIALECTS)

every_answer = pytest.mark.parametrize("answer", ANSWERS, ids=[answer["file"] for answer in ANSWERS])
every_stream = pytest.mark.parametrize("answer", STREAMS, ids=[answer["file"] for answer in STREAMS])
every_dialect = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=NAMES)


def meter(answer: dict[str, Any], content_encoding: str = "") -> Meter:
    return DIALECTS[answer["dialect"]].meter(answer["content_type"], content_encoding=content_encoding, input_tokens=answer["input_tokens"])


def body(answer: dict[str, Any]) -> bytes:
    path = RECORDED / str(answer["file"])
    return path.read_bytes()


def used(answer: dict[str, Any], *pieces: bytes, content_encoding: str = "") -> Usage:
    reads = meter(answer, content_encoding)
    for piece in pieces:
        reads.feed(piece)
    return reads.usage()


@pytest.mark.parametrize("path", REQUESTS, ids=[f"{path.parent.name}/{path.name.split('.')[0]}" for path in REQUESTS])
def test_recorded_requests_are_read_as_noted(path: Path) -> None:
    pair = json.loads(path.read_text())
    reading = DIALECTS[path.parent.name].read(pair["body"])
    read = {name: json.loads(msgspec.json.encode(getattr(reading, name))) for name in Reading.__struct_fields__}
    read["turns"] = [[turn.role, turn.text, turn.other] for turn in reading.turns]
    assert {name: read[name] for name in pair["reading"]} == pair["reading"]


@every_dialect
def test_every_dialect_has_recorded_pairs(dialect: Dialect) -> None:
    """A dialect without them would pass this suite unseen."""
    assert any(path.parent.name == dialect.name for path in REQUESTS)
    assert any(answer["dialect"] == dialect.name for answer in ANSWERS)


@every_answer
def test_recorded_answers_give_their_usage(answer: dict[str, Any]) -> None:
    assert used(answer, body(answer)) == Usage(**answer["usage"])


@every_answer
def test_an_answer_in_two_pieces_gives_the_same_usage_wherever_it_is_cut(answer: dict[str, Any]) -> None:
    whole, expected = body(answer), Usage(**answer["usage"])
    for at in range(len(whole) + 1):
        assert used(answer, whole[:at], whole[at:]) == expected, at


@every_answer
def test_an_answer_byte_by_byte_gives_the_same_usage(answer: dict[str, Any]) -> None:
    """And asking on the way changes nothing, for a caller who leaves is settled in the middle."""
    reads = meter(answer)
    for at, byte in enumerate(body(answer)):
        reads.feed(bytes([byte]))
        if at % 97 == 0:
            reads.usage()
    assert reads.usage() == Usage(**answer["usage"]) == reads.usage()


@every_answer
@pytest.mark.parametrize("kind", [memoryview, bytearray])
def test_pieces_may_be_views(answer: dict[str, Any], kind: Any) -> None:
    """Starlette takes memory views for a streamed body and hands them on."""
    whole = body(answer)
    assert used(answer, kind(whole[:99]), kind(whole[99:])) == Usage(**answer["usage"])
    assert used(answer, *(kind(piece) for piece in (gzip.compress(whole), b"")), content_encoding="gzip") == Usage(**answer["usage"])


@every_stream
@pytest.mark.parametrize("end", [b"\r\n", b"\r"], ids=["CRLF", "CR"])
def test_line_ends_make_no_difference(answer: dict[str, Any], end: bytes) -> None:
    whole, expected = body(answer).replace(b"\n", end), Usage(**answer["usage"])
    cuts = {at + by for at, byte in enumerate(whole) if byte in b"\r\n" for by in (-1, 0, 1, 2)}
    for at in cuts:
        assert used(answer, whole[:at], whole[at:]) == expected, at


@every_stream
def test_comments_and_other_fields_make_no_difference(answer: dict[str, Any]) -> None:
    """Gateways keep connections open with comments; ids and retry times are allowed anywhere."""
    noisy = b": ping\n\nid: 7\nretry: 10\n" + body(answer).replace(b"\n\n", b"\n: data: {}\n\n\n: keep-alive\n\n")
    assert used(answer, noisy) == Usage(**answer["usage"])


@every_stream
def test_an_event_over_several_lines_is_one(answer: dict[str, Any]) -> None:
    """A pretty-printing server begins a new data line wherever JSON allows one."""
    pretty = body(answer).replace(b'{"', b'{\ndata: "').replace(b',"', b',\ndata:"')
    assert used(answer, pretty) == Usage(**answer["usage"])


@every_answer
@pytest.mark.parametrize(("name", "packed"), [("gzip", gzip.compress), ("GZIP", gzip.compress), ("deflate", zlib.compress)])
def test_a_compressed_answer_gives_the_same_usage(answer: dict[str, Any], name: str, packed: Any) -> None:
    whole, expected = packed(body(answer)), Usage(**answer["usage"])
    for at in range(0, len(whole) + 1, 7):
        assert used(answer, whole[:at], whole[at:], content_encoding=name) == expected, at


@every_answer
def test_an_answer_that_cannot_be_decoded_is_estimated(answer: dict[str, Any]) -> None:
    for name in ("br", "zstd", "gzip"):  # this is no gzip, whatever the header says
        usage = used(answer, body(answer), content_encoding=name)
        assert usage.estimated
        assert usage.input == answer["input_tokens"]
        assert (usage.output == 0) == (answer["dialect"] == "openai.embeddings")


@given(data=st.data())
@settings(deadline=None, max_examples=60)
def test_any_pieces_give_the_same_usage(data: st.DataObject) -> None:
    answer = data.draw(st.sampled_from(ANSWERS))
    whole = body(answer)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=40)))
    pieces = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert used(answer, *pieces) == Usage(**answer["usage"])


json_leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)
KEYS = (
    "model messages role content type text tools functions tool_calls function_call function name arguments input instructions prompt system stream "
    "stream_options max_tokens max_completion_tokens max_output_tokens n best_of suffix logprobs include reasoning thinking signature data source output "
    "encrypted_content response_format format modalities variables choices delta usage error Model MESSAGES"
)
WORDS = (
    "user assistant system tool text input_text image image_url input_audio document file thinking redacted_thinking tool_use tool_result "
    "function_call function_call_output reasoning message json_schema none"
)
names = st.sampled_from(KEYS.split()) | st.text(max_size=4)
words = st.sampled_from(WORDS.split())
json_values = st.recursive(json_leaves | words, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=5), max_leaves=30)
bodies = st.dictionaries(names, json_values, max_size=8)


def outcome(dialect: Dialect, body: dict[str, Any]) -> Reading | UnreadableBody:
    """What reading ends in, if in either of what it may end in."""
    try:
        return dialect.read(body)
    except UnreadableBody as error:
        return error


def one_line(error: UnreadableBody) -> bool:
    """Fit for a header, a log line and a terminal."""
    return bool(error.message) and error.message.isascii() and error.message.isprintable() and len(error.message) < 400


@every_dialect
@given(body=bodies)
@settings(deadline=None, max_examples=60)
def test_any_json_is_read_or_refused(dialect: Dialect, body: dict[str, Any]) -> None:
    """Nothing but UnreadableBody may come out, and that is one line."""
    body = {"model": "m", "messages": [], "input": "", **body}
    found = outcome(dialect, body)
    if isinstance(found, Reading):
        assert found.parameters == tuple(body)
        assert found.input_tokens >= 0
        assert found.ask_tokens >= 0
    else:
        assert one_line(found)


@pytest.mark.parametrize("path", REQUESTS, ids=[f"{path.parent.name}/{path.name.split('.')[0]}" for path in REQUESTS])
@given(data=st.data())
@settings(deadline=None, max_examples=40)
def test_a_good_request_with_one_odd_field_is_read_or_refused(path: Path, data: st.DataObject) -> None:
    """Any value, however deep in the body, may be something else than the API says."""
    request = json.loads(path.read_text())["body"]
    where: Any = request
    while True:
        keys = list(where) if isinstance(where, dict) else list(range(len(where)))
        key = data.draw(st.sampled_from(keys))
        if not where[key] or not isinstance(where[key], dict | list) or data.draw(st.booleans()):
            break
        where = where[key]
    where[key] = data.draw(json_values)
    found = outcome(DIALECTS[path.parent.name], request)
    assert isinstance(found, Reading) or one_line(found)


@every_dialect
def test_text_that_is_no_unicode_is_read(dialect: Dialect) -> None:
    """A lone surrogate cannot come out of `parse`, but a recorded body may have one."""
    lone = "\ud800"
    body = {"model": lone, "messages": [{"role": lone, "content": lone}], "input": lone, "prompt": lone, "tools": [lone], lone: lone}
    assert dialect.read(body).model == lone
    with pytest.raises(UnreadableBody):
        dialect.read({**body, "MODEL" + lone: 1, "MODEL": 2})


@every_dialect
@pytest.mark.parametrize("key", ["tools", "messages", "input", "prompt", "system", "metadata", "response_format", "reasoning", "text"])
def test_deep_values_do_not_overflow_the_stack(dialect: Dialect, key: str) -> None:
    deep: Any = "x"
    for level in range(20_000):
        deep = [deep] if level % 2 else {"type": "tool_result", "content": deep} if level % 3 else {"a": deep}
    for value in (deep, [deep], [{"role": "user", "content": [deep, {"type": "tool_result", "content": deep}]}], [{"role": "user", "tool_calls": deep}]):
        found = outcome(dialect, {"model": "m", "messages": [], "input": "", key: value})
        assert isinstance(found, Reading) or one_line(found)


@every_dialect
@pytest.mark.parametrize("kind", ["application/json", "text/event-stream", "", "text/plain", "application/problem+json; charset=x"])
@given(chunks=st.lists(st.binary(max_size=40) | st.sampled_from([b"data:", b'data: {"choices":[{"delta":1}]}\n\n', b"\n", b"\r", b'{"usage":', b"null}"])))
@settings(deadline=None, max_examples=50)
def test_no_bytes_make_a_meter_raise(dialect: Dialect, kind: str, chunks: list[bytes]) -> None:
    reads = dialect.meter(kind, input_tokens=5, streaming=True)
    for chunk in chunks:
        reads.feed(chunk)
    usage = reads.usage()
    assert usage.input >= 0
    assert 0 <= usage.reasoning <= usage.output


@every_dialect
@given(event=bodies)
@settings(deadline=None, max_examples=60)
def test_no_event_makes_a_meter_raise(dialect: Dialect, event: dict[str, Any]) -> None:
    text = json.dumps(event).encode()
    for kind, data in (("text/event-stream", b"data: " + text + b"\n\n"), ("application/json", text)):
        reads = dialect.meter(kind)
        reads.feed(data)
        assert reads.usage().output >= 0


LIMITS = [
    LimitShown("requests", "requests", 60, 12.7, 31.2, 60),
    LimitShown("day", "requests", 1000, 40, 4000, 86400),
    LimitShown("in", "input_tokens", 100_000, 5000.9, 41.7, 60),
    LimitShown("out", "output_tokens", 10_000, 9000, 3.2, 60),
    LimitShown("held", "in_flight", 4, 1, float("inf")),
    LimitShown("money", "money", 5, 1, 30),
]


@every_dialect
@given(
    limits=st.lists(
        st.builds(
            LimitShown,
            name=st.text(max_size=10),
            unit=st.sampled_from(["requests", "tokens", "input_tokens", "output_tokens", "reasoning_tokens", "money", "in_flight"]),
            limit=st.floats(),
            remaining=st.floats(),
            reset_seconds=st.floats(),
            window_seconds=st.floats(),
        ),
        max_size=5,
    ),
    at=st.floats(0, 4e9),
)
def test_limit_headers_are_headers_whatever_the_numbers(dialect: Dialect, limits: list[LimitShown], at: float) -> None:
    """Neither nonsense nor infinity breaks an answer; and nothing can begin a second header."""
    headers = dialect.limit_headers(limits, at)
    assert len({name for name, _ in headers}) == len(headers)
    for name, value in headers:
        assert name == name.lower()
        assert value
        assert not set(value) - set(b"0123456789-:TZhms.")


@every_dialect
def test_the_tightest_bucket_is_shown(dialect: Dialect) -> None:
    headers = {name.decode(): value.decode() for name, value in dialect.limit_headers(LIMITS, 1764066000.0)}
    [remaining] = [value for name, value in headers.items() if "remaining" in name and "requests" in name]
    assert remaining == "12"
    assert not any("flight" in name or "money" in name for name in headers)
    assert dialect.limit_headers([], 0.0) == []


@every_dialect
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 429, 500, 503, 529])
def test_errors_are_json_with_everything_that_was_given(dialect: Dialect, status: int) -> None:
    details = {"decision": "d1", "room": 3.5, "retry_after_s": 2}
    said = json.loads(dialect.error(status, "some_code", "Tell “why”.", param="messages[0]", details=details, request_id="req_1"))
    error = said["error"]
    assert error["message"] == "Tell “why”."
    assert error["type"].endswith(("_error", "_too_large"))
    assert error["gateway_guard"] == details
    assert "some_code" in json.dumps(error)
    assert "messages[0]" in json.dumps(error)
    assert said["request_id"] == "req_1"
    assert json.loads(dialect.error(status, "c", "m", type="billing_error"))["error"]["type"] == "billing_error"


@every_dialect
def test_errors_carry_text_that_is_no_unicode_and_values_that_json_does_not_know(dialect: Dialect) -> None:
    said = json.loads(dialect.error(400, "c", "\ud800 and \u2028", details={"a": [object, 2**70, 1.5, None, True, "\udfff"]}))
    assert said["error"]["message"] == "? and \u2028"
    assert said["error"]["gateway_guard"]["a"][1:] == [str(2**70), 1.5, None, True, "?"]
