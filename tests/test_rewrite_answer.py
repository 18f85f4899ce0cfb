"""Answers made poorer: split anywhere they come out the same, nothing that was to go gets through, and what is left is what was said."""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_guard.dialects import DIALECTS
from gateway_guard.rewrite.answer import CAP, Rewriter
from gateway_guard.rewrite.blocks import Blocks
from gateway_guard.rewrite.loss import Loss
from gateway_guard.rewrite.seal import Sealer, Seals
from gateway_guard.rewrite.steps import rewriter, steps
from tests.rich import ANSWERS, SAYS, STREAMS, THINKS

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*/*.sse"))
SEALS = Seals(b"k" * 32)
BOUND = Sealer(SEALS, SEALS.owner("alice"), binds=True)
FREE = Sealer(SEALS)
ALL = Loss(hide=True, trace=True, logprobs=True, detail=True, length=40, step=100)
HIDE = Loss(hide=True, trace=True)
SUMMARY = Loss(trace=True)
LOSSES = [ALL, HIDE, SUMMARY, Loss(logprobs=True), Loss(detail=True), Loss(length=40), Loss(step=10)]
SPEAKING = [name for name in DIALECTS if name != "openai.embeddings"]


def through(dialect: str, chunks: list[bytes], loss: Loss, sealer: Sealer = FREE, *, streams: bool = True, inflates: bool = False) -> bytes:
    made = Rewriter(steps(dialect, loss, sealer), streams=streams, inflates=inflates)
    return b"".join(part for chunk in chunks for part in made.feed(chunk)) + b"".join(made.finish())


def whole(dialect: str, body: Any, loss: Loss, sealer: Sealer = FREE) -> Any:
    return orjson.loads(through(dialect, [orjson.dumps(body)], loss, sealer, streams=False))


def pieces(raw: bytes, cuts: list[int]) -> list[bytes]:
    ends = sorted({cut % (len(raw) + 1) for cut in cuts})
    return [raw[start:end] for start, end in zip([0, *ends], [*ends, len(raw)], strict=True)]


EVERY_STREAM = [(path.parent.name, path.read_bytes()) for path in RECORDED] + [(name, raw) for name, raws in STREAMS.items() for raw in raws]


@settings(max_examples=150, deadline=None)
@given(
    stream=st.sampled_from(EVERY_STREAM),
    ending=st.sampled_from([b"\n", b"\r\n", b"\r"]),
    loss=st.sampled_from(LOSSES),
    sealer=st.sampled_from([FREE, BOUND]),
    cuts=st.lists(st.integers(0, 2**20), max_size=30),
)
def test_a_stream_comes_out_the_same_whatever_way_it_is_split(stream: tuple[str, bytes], ending: bytes, loss: Loss, sealer: Sealer, cuts: list[int]) -> None:
    dialect, raw = stream
    raw = raw.replace(b"\n", ending)
    assert through(dialect, pieces(raw, cuts), loss, sealer) == through(dialect, [raw], loss, sealer)


@pytest.mark.parametrize("ending", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(("dialect", "raw"), EVERY_STREAM)
def test_a_stream_comes_out_the_same_byte_by_byte(dialect: str, raw: bytes, ending: bytes) -> None:
    raw = raw.replace(b"\n", ending)
    assert through(dialect, [raw[i : i + 1] for i in range(len(raw))], ALL, BOUND) == through(dialect, [raw], ALL, BOUND)


@settings(max_examples=100, deadline=None)
@given(raw=st.text("a:d\r\n {}\0", max_size=60).map(str.encode), cuts=st.lists(st.integers(0, 2**20), max_size=10))
def test_cutting_into_events_loses_no_byte(raw: bytes, cuts: list[int]) -> None:
    made = Blocks()
    blocks = [block for piece in pieces(raw, cuts) for block in made.feed(piece)]
    rest = made.rest()
    assert b"".join(block.raw for block in blocks) + (rest.raw if rest else b"") == raw


@pytest.mark.parametrize("dialect", SPEAKING)
@pytest.mark.parametrize("loss", [ALL, HIDE], ids=["all", "hide"])
def test_no_reasoning_gets_through(dialect: str, loss: Loss) -> None:
    for raw in STREAMS[dialect]:
        assert shown(raw).count(THINKS) >= 1
        assert THINKS not in shown(through(dialect, [raw], loss))
    for body in ANSWERS[dialect]:
        assert THINKS in orjson.dumps(body).decode()
        assert THINKS not in orjson.dumps(whole(dialect, body, loss)).decode()


@pytest.mark.parametrize("dialect", SPEAKING)
def test_what_is_said_stays(dialect: str) -> None:
    for raw in STREAMS[dialect]:
        assert said_in_stream(dialect, through(dialect, [raw], HIDE)) == SAYS
    for body in ANSWERS[dialect]:
        assert said(dialect, whole(dialect, body, HIDE)) == SAYS


@pytest.mark.parametrize("dialect", SPEAKING)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: str([name for name, value in loss._asdict().items() if value]))
def test_a_stream_says_what_the_whole_answer_says(dialect: str, loss: Loss) -> None:
    spoken = {said_in_stream(dialect, through(dialect, [raw], loss)) for raw in STREAMS[dialect]}
    assert spoken == {said(dialect, whole(dialect, body, loss)) for body in ANSWERS[dialect]}


def shown(raw: bytes) -> str:
    """Every text of a stream, end to end: a word that is split between events is found too."""
    texts: list[str] = []
    waiting: list[Any] = events_of(raw)[::-1]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            texts.append(value)
        elif isinstance(value, dict):
            waiting.extend(value[name] for name in reversed(value) if name in HOLDERS or (name != "logprobs" and isinstance(value[name], dict | list)))
        elif isinstance(value, list):
            waiting.extend(reversed(value))
    return "".join(texts)


HOLDERS = {"text", "content", "thinking", "reasoning", "reasoning_content", "delta", "partial_json"}


def said(dialect: str, body: Any) -> str:
    if dialect == "anthropic.messages":
        return "".join(block.get("text", "") for block in body["content"])
    if dialect == "openai.responses":
        return "".join(part["text"] for item in body["output"] if item["type"] == "message" for part in item["content"])
    choice = body["choices"][0]
    return choice["text"] if "text" in choice else choice["message"]["content"]  # type: ignore[no-any-return]


def events_of(raw: bytes) -> list[Any]:
    return [orjson.loads(line[6:]) for line in raw.splitlines() if line.startswith(b"data: {")]


def said_in_stream(dialect: str, raw: bytes) -> str:
    out = []
    for event in events_of(raw):
        if dialect == "anthropic.messages" and event["type"] == "content_block_delta":
            out.append(event["delta"].get("text", ""))
        elif dialect == "openai.responses" and event["type"] == "response.output_text.delta":
            out.append(event["delta"])
        elif dialect.startswith("openai.c"):
            out += [choice["text"] if "text" in choice else choice["delta"].get("content") or "" for choice in event["choices"]]
    return "".join(out)


REASONS = (("openai.chat", "length"), ("openai.completions", "length"), ("anthropic.messages", "max_tokens"))


def test_an_answer_ends_with_its_sentence_and_says_so() -> None:
    loss = Loss(length=40)
    short = SAYS[: SAYS.index(". Then") + 1]
    for dialect, reason in REASONS:
        for body in ANSWERS[dialect]:
            got = whole(dialect, body, loss)
            holder = got if dialect == "anthropic.messages" else got["choices"][0]
            assert said(dialect, got).endswith(short)
            assert {holder.get("finish_reason"), holder.get("stop_reason")} <= {None, reason, "tool_use"}
        for raw in STREAMS[dialect]:
            holders = [holder for e in events_of(through(dialect, [raw], loss)) for holder in (e.get("delta", {}), *(e.get("choices") or ()))]
            ends = {end for holder in holders if (end := holder.get("stop_reason") or holder.get("finish_reason"))}
            assert ends in ({reason}, {"tool_use"})
    for body in ANSWERS["openai.responses"]:
        got = whole("openai.responses", body, loss)
        assert (got["status"], got["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
    for raw in STREAMS["openai.responses"]:
        last = events_of(through("openai.responses", [raw], loss))[-1]
        assert (last["type"], last["response"]["status"]) == ("response.incomplete", "incomplete")


def test_indexes_of_blocks_have_no_gap_and_every_block_ends() -> None:
    for raw in STREAMS["anthropic.messages"]:
        for loss in LOSSES:
            events = [e for e in events_of(through("anthropic.messages", [raw], loss)) if e["type"].startswith("content_block")]
            starts = [e["index"] for e in events if e["type"] == "content_block_start"]
            assert starts == list(range(len(starts)))
            assert starts == [e["index"] for e in events if e["type"] == "content_block_stop"]


def test_numbers_are_rounded_up_and_still_add_up() -> None:
    body = {"choices": [], "usage": {"prompt_tokens": 101, "completion_tokens": 7, "total_tokens": 108, "completion_tokens_details": {"reasoning_tokens": 3}}}
    got = whole("openai.chat", body, Loss(detail=True, step=50))
    assert got["usage"] == {"prompt_tokens": 150, "completion_tokens": 50, "total_tokens": 200}
    got = whole(
        "openai.responses", {"usage": {"input_tokens": 1, "output_tokens": 2, "total_tokens": 3, "output_tokens_details": {"reasoning_tokens": 2}}}, ALL
    )
    assert got["usage"] == {"input_tokens": 100, "output_tokens": 100, "total_tokens": 200, "output_tokens_details": {"reasoning_tokens": None}}


def test_log_probabilities_do_not_spell_out_what_was_taken() -> None:
    choice = {"index": 0, "message": {"content": f"<think>{THINKS}</think>yes"}, "logprobs": {"content": [{"token": THINKS}]}, "finish_reason": "stop"}
    assert whole("openai.chat", {"choices": [choice]}, HIDE)["choices"][0] == {**choice, "message": {"content": "yes"}, "logprobs": None}


@pytest.mark.parametrize("coding", [gzip.compress, zlib.compress])
def test_a_compressed_answer_is_inflated(coding: Any) -> None:
    raw = coding(STREAMS["openai.chat"][0])
    got = through("openai.chat", [raw[:7], raw[7:]], HIDE, inflates=True)
    assert got == through("openai.chat", [STREAMS["openai.chat"][0]], HIDE)


def test_what_cannot_be_read_passes_as_it_is() -> None:
    for raw in (b"<html>", b"[1]", b'{"choices": "none", "content": 5, "output": [null]}'):
        got = through("openai.chat", [raw], ALL, streams=False)
        assert got == raw or orjson.loads(got) == orjson.loads(raw)
    long = b'{"x": "' + b"y" * CAP + b'"}'
    assert through("openai.chat", [long[:9], long[9:]], ALL, streams=False) == long
    assert rewriter(steps("openai.chat", ALL, FREE), "application/json", "br", streaming=False) is None
    assert rewriter(steps("openai.chat", ALL, FREE), "audio/mpeg", "", streaming=False) is None


def test_half_a_surrogate_pair_hides_nothing() -> None:
    """As servers write that count text in UTF-16: the halves of a sign in two events."""
    first, second = (b'data: {"choices":[{"index":0,"delta":{"content":"%b","reasoning_content":"SECRET"}}]}\n\n' % half for half in (b"\\ud83d", b"\\ude00"))
    got = through("openai.chat", [first + second], HIDE)
    assert b"SECRET" not in got
    assert (b"\\ud83d" in got, b"\\ude00" in got) == (True, True)


def test_half_an_event_at_the_end_does_not_show_what_was_to_go() -> None:
    half = b'data: {"choices": [{"index": 0, "delta": {"reasoning_content": "' + THINKS.encode()
    assert through("openai.chat", [half], HIDE) == b""
    assert through("openai.chat", [b"data: [DONE]"], HIDE) == b"data: [DONE]"


NAMES = ["type", "index", "delta", "content", "choices", "message", "text", "output", "response", "item", "part", "usage"]
JSONS = st.recursive(
    st.none() | st.booleans() | st.integers(-99, 99) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)
KINDS = ["content_block_start", "content_block_delta", "content_block_stop", "message_delta", "response.output_text.done", "response.completed"]


@settings(max_examples=300, deadline=None)
@given(dialect=st.sampled_from(SPEAKING), body=JSONS, kind=st.sampled_from([*KINDS, None]), loss=st.sampled_from(LOSSES))
def test_no_json_is_too_strange(dialect: str, body: Any, kind: str | None, loss: Loss) -> None:
    through(dialect, [orjson.dumps(body)], loss, BOUND, streams=False)
    event = {**body, "type": kind} if kind and isinstance(body, dict) else body
    through(dialect, [b"data: " + orjson.dumps(event) + b"\n\n"] * 2, loss, BOUND)
