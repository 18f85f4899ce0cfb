"""Answers with everything in them that a profile can take away, whole and streamed: the same words in each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

THINKS = "SECRET-TRACE"
SAYS = "First find the kettle and fill it with water. Then boil it, e.g. at 3.5 kW. Pour."
Event = dict[str, Any]

USAGE: Event = {
    "prompt_tokens": 12, "completion_tokens": 83, "total_tokens": 95, "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 64},
}  # fmt: skip
LOGPROBS: Event = {"content": [{"token": "First", "logprob": -0.1, "bytes": [70], "top_logprobs": []}], "refusal": None}
TRACES: list[Event] = [
    {"reasoning_content": f"{THINKS} one"},
    {"reasoning": f"{THINKS} two", "reasoning_details": [{"type": "reasoning.text", "text": THINKS}]},
    {"content": f"<think>\n{THINKS} three\n</think>\n\n"},
    {"content": f"\n<thinking>{THINKS}</thinking><think>{THINKS}</think>"},
]


def in_pieces(text: str, size: int = 9) -> list[str]:
    return [text[i : i + size] for i in range(0, len(text), size)]


def sse(events: list[Event], *, named: bool = False, done: bool = False) -> bytes:
    lines = [(b"event: %b\n" % str(e["type"]).encode() if named else b"") + b"data: " + orjson.dumps(e) + b"\n\n" for e in events]
    return b"".join(lines) + (b"data: [DONE]\n\n" if done else b"")


def chat(trace: Event) -> Event:
    message = {"role": "assistant", "refusal": None, **trace, "content": trace.get("content", "") + SAYS}
    choice = {"index": 0, "message": message, "logprobs": LOGPROBS, "finish_reason": "stop"}
    return {"id": "c1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}


def chat_events(trace: Event) -> list[Event]:
    head: Event = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}

    def chunk(delta: Event, reason: str | None = None, **more: Any) -> Event:
        return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason, **more}]}

    first = [chunk({"role": "assistant", "content": ""})]
    content = trace.get("content", "")
    beside = {name: value for name, value in trace.items() if name != "content"}
    thinking = [chunk(beside)] * 3 if beside else []
    spoken = [chunk({"content": piece}, logprobs=LOGPROBS) for piece in in_pieces(content + SAYS)]
    return [*first, *thinking, *spoken, chunk({}, "stop"), {**head, "choices": [], "usage": USAGE}]


def completion() -> Event:
    choice = {"index": 0, "text": f"<think>{THINKS}</think>{SAYS}", "logprobs": {"tokens": ["First"]}, "finish_reason": "stop"}
    return {"id": "t1", "object": "text_completion", "created": 1, "model": "m", "choices": [choice], "usage": USAGE}


def completion_events() -> list[Event]:
    whole = completion()
    [choice] = whole["choices"]
    bare = {name: value for name, value in whole.items() if name != "usage"}
    spoken = [{**bare, "choices": [{**choice, "text": piece, "finish_reason": None}]} for piece in in_pieces(choice["text"])]
    return [*spoken, {**bare, "choices": [{**choice, "text": "", "finish_reason": "stop"}]}, {**bare, "choices": [], "usage": USAGE}]


SIGNED = {"type": "thinking", "thinking": f"{THINKS} four, {THINKS}", "signature": "EqQBCgIYAhIM1gbc"}
HIDDEN = {"type": "redacted_thinking", "data": "EmwKAhgBEgy3va3p"}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "look", "input": {"city": "Oslo"}}
COUNTED = {"input_tokens": 25, "cache_read_input_tokens": 20, "output_tokens": 89, "output_tokens_details": {"thinking_tokens": 60}}


def message(*, tagged: bool = False, tool: bool = False) -> Event:
    blocks: list[Event] = [SIGNED, HIDDEN, {"type": "text", "text": SAYS}]
    if tagged:
        blocks = [SIGNED, {"type": "text", "text": f"<think>{THINKS}</think>"}, {"type": "text", "text": SAYS}]
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": blocks + ([TOOL] if tool else []),
        "stop_reason": "tool_use" if tool else "end_turn", "stop_sequence": None, "usage": COUNTED,
    }  # fmt: skip


def block_events(index: int, block: Event) -> Iterator[Event]:
    empty, deltas = dict(block), list[Event]()
    if block["type"] == "text":
        empty["text"] = ""
        deltas = [{"type": "text_delta", "text": piece} for piece in in_pieces(block["text"])]
    elif block["type"] == "thinking":
        empty |= {"thinking": "", "signature": ""}
        deltas = [{"type": "thinking_delta", "thinking": piece} for piece in in_pieces(block["thinking"], 20)]
        deltas.append({"type": "signature_delta", "signature": block["signature"]})
    elif block["type"] == "tool_use":
        empty["input"] = {}
        deltas = [{"type": "input_json_delta", "partial_json": piece} for piece in in_pieces(orjson.dumps(block["input"]).decode())]
    yield {"type": "content_block_start", "index": index, "content_block": empty}
    yield from ({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas)
    yield {"type": "content_block_stop", "index": index}


def message_events(whole: Event) -> list[Event]:
    start = {**whole, "content": [], "stop_reason": None, "usage": {**COUNTED, "output_tokens": 1}}
    blocks = [event for index, block in enumerate(whole["content"]) for event in block_events(index, block)]
    end = {"type": "message_delta", "delta": {"stop_reason": whole["stop_reason"], "stop_sequence": None}, "usage": COUNTED}
    return [{"type": "message_start", "message": start}, {"type": "ping"}, *blocks, end, {"type": "message_stop"}]


SUMMED = {"type": "summary_text", "text": f"{THINKS} summed up"}
TRACED = {"type": "reasoning_text", "text": f"{THINKS} five"}
SPOKEN: Event = {"type": "output_text", "text": SAYS, "annotations": [], "logprobs": [{"token": "First", "logprob": -0.1, "bytes": [70], "top_logprobs": []}]}
COUNTS: Event = {
    "input_tokens": 36, "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0}, "output_tokens": 87,
    "output_tokens_details": {"reasoning_tokens": 64}, "total_tokens": 123,
}  # fmt: skip


def response(*, encrypted: bool = True) -> Event:
    reasoning: Event = {"id": "rs_1", "type": "reasoning", "summary": [SUMMED], "encrypted_content": "gAAAAABo" if encrypted else None}
    if not encrypted:
        reasoning["content"] = [TRACED]
    said = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [SPOKEN]}
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "error": None, "incomplete_details": None, "instructions": None,
        "metadata": {}, "model": "m", "output": [reasoning, said], "parallel_tool_calls": True, "temperature": 1.0, "tool_choice": "auto", "tools": [],
        "top_p": 1.0, "usage": COUNTS,
    }  # fmt: skip


def response_events(whole: Event) -> list[Event]:
    reasoning, said = whole["output"]
    begun = {**whole, "status": "in_progress", "output": [], "usage": None}
    at = {"item_id": "rs_1", "output_index": 0}
    summing = {**at, "summary_index": 0}
    speaking = {"item_id": "msg_1", "output_index": 1, "content_index": 0}
    events: list[Event] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**reasoning, "summary": [], "content": [], "encrypted_content": None}},
        {"type": "response.reasoning_summary_part.added", **summing, "part": {"type": "summary_text", "text": ""}},
        {"type": "response.reasoning_summary_text.delta", **summing, "delta": SUMMED["text"]},
        {"type": "response.reasoning_summary_text.done", **summing, "text": SUMMED["text"]},
        {"type": "response.reasoning_summary_part.done", **summing, "part": SUMMED},
    ]
    if reasoning.get("content"):
        events += [
            {"type": "response.content_part.added", **at, "content_index": 0, "part": {**TRACED, "text": ""}},
            {"type": "response.reasoning_text.delta", **at, "content_index": 0, "delta": TRACED["text"]},
            {"type": "response.reasoning_text.done", **at, "content_index": 0, "text": TRACED["text"]},
            {"type": "response.content_part.done", **at, "content_index": 0, "part": TRACED},
        ]
    events += [
        {"type": "response.output_item.done", "output_index": 0, "item": reasoning},
        {"type": "response.output_item.added", "output_index": 1, "item": {**said, "status": "in_progress", "content": []}},
        {"type": "response.content_part.added", **speaking, "part": {**SPOKEN, "text": "", "logprobs": []}},
        *({"type": "response.output_text.delta", **speaking, "delta": piece, "logprobs": SPOKEN["logprobs"]} for piece in in_pieces(SAYS)),
        {"type": "response.output_text.done", **speaking, "text": SAYS, "logprobs": SPOKEN["logprobs"]},
        {"type": "response.content_part.done", **speaking, "part": SPOKEN},
        {"type": "response.output_item.done", "output_index": 1, "item": said},
        {"type": "response.completed", "response": whole},
    ]
    return [{**event, "sequence_number": number} for number, event in enumerate(events)]


ANSWERS: dict[str, list[Event]] = {
    "openai.chat": [chat(trace) for trace in TRACES],
    "openai.completions": [completion()],
    "openai.responses": [response(), response(encrypted=False)],
    "anthropic.messages": [message(), message(tagged=True), message(tool=True)],
}
STREAMS: dict[str, list[bytes]] = {
    "openai.chat": [sse(chat_events(trace), done=True) for trace in TRACES],
    "openai.completions": [sse(completion_events(), done=True)],
    "openai.responses": [sse(response_events(whole), named=True) for whole in ANSWERS["openai.responses"]],
    "anthropic.messages": [sse(message_events(whole), named=True) for whole in ANSWERS["anthropic.messages"]],
}
