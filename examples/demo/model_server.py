"""A small model server: OpenAI's chat completions and Anthropic's messages, answered from a word list.

The same prompt always gets the same answer, so that a demonstration and a test are repeatable. Run it alone with
`python -m examples.demo.model_server PORT`.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODELS = ("tiny-1", "tiny-1-mini")
OPENINGS = ("In short", "As a rule", "To begin with", "Seen from afar", "Put plainly", "On most days")
SUBJECTS = ("the tide", "a good index", "the old lighthouse", "this recipe", "a patient gardener", "the night train", "a small test", "the harbour master")
VERBS = ("keeps time with", "explains", "outlasts", "depends on", "makes room for", "quietly improves", "asks little of", "is worth")
OBJECTS = ("the weather", "its first draft", "three careful readings", "the people who use it", "a second opinion", "the long way round", "an early start")
SECONDS_A_WORD = 0.002


def words(prompt: str, limit: int) -> list[str]:
    """The answer to `prompt`: a few sentences, at most `limit` words."""
    chance = random.Random(prompt)
    out: list[str] = []
    for _ in range(chance.randint(2, 6)):
        sentence = f"{chance.choice(OPENINGS)}, {chance.choice(SUBJECTS)} {chance.choice(VERBS)} {chance.choice(OBJECTS)}."
        out += sentence.split()
    return out[:limit]


def text_of(content: Any) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(content, str):
        return content
    return " ".join(part.get("text", "") for part in content or () if isinstance(part, dict))


def tokens(text: str) -> int:
    """About what a tokenizer would count."""
    return max(1, len(text) // 4)


def sse(data: dict[str, Any], event: str = "") -> bytes:
    """One server-sent event."""
    return (f"event: {event}\n" if event else "").encode() + b"data: " + json.dumps(data).encode() + b"\n\n"


async def models(_: Request) -> Response:
    """GET /v1/models."""
    return JSONResponse({"object": "list", "data": [{"id": name, "object": "model", "created": 0, "owned_by": "demo"} for name in MODELS]})


async def chat(request: Request) -> Response:
    """POST /v1/chat/completions."""
    body = await request.json()
    prompt = " ".join(text_of(message.get("content")) for message in body["messages"])
    answer = words(prompt, body.get("max_completion_tokens") or body.get("max_tokens") or 200)
    usage = {"prompt_tokens": tokens(prompt), "completion_tokens": len(answer), "total_tokens": tokens(prompt) + len(answer)}
    head = {"id": "chatcmpl-demo", "created": 0, "model": body["model"]}
    if body.get("stream"):
        wanted = (body.get("stream_options") or {}).get("include_usage")
        return StreamingResponse(_chat_stream(head, answer, usage if wanted else None), media_type="text/event-stream")
    await asyncio.sleep(len(answer) * SECONDS_A_WORD)
    choice = {"index": 0, "message": {"role": "assistant", "content": " ".join(answer)}, "finish_reason": "stop"}
    return JSONResponse({**head, "object": "chat.completion", "choices": [choice], "usage": usage})


async def _chat_stream(head: dict[str, Any], answer: list[str], usage: dict[str, int] | None) -> AsyncIterator[bytes]:
    chunk = {**head, "object": "chat.completion.chunk"}
    for word in answer:
        yield sse({**chunk, "choices": [{"index": 0, "delta": {"content": word + " "}, "finish_reason": None}]})
        await asyncio.sleep(SECONDS_A_WORD)
    yield sse({**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage:
        yield sse({**chunk, "choices": [], "usage": usage})
    yield b"data: [DONE]\n\n"


async def messages(request: Request) -> Response:
    """POST /v1/messages."""
    body = await request.json()
    prompt = " ".join(text_of(message.get("content")) for message in body["messages"])
    answer = words(prompt, body["max_tokens"])
    usage = {"input_tokens": tokens(prompt), "output_tokens": len(answer)}
    head = {"id": "msg_demo", "type": "message", "role": "assistant", "model": body["model"]}
    if body.get("stream"):
        return StreamingResponse(_message_stream(head, answer, usage), media_type="text/event-stream")
    await asyncio.sleep(len(answer) * SECONDS_A_WORD)
    return JSONResponse({**head, "content": [{"type": "text", "text": " ".join(answer)}], "stop_reason": "end_turn", "stop_sequence": None, "usage": usage})


async def _message_stream(head: dict[str, Any], answer: list[str], usage: dict[str, int]) -> AsyncIterator[bytes]:
    start = {**head, "content": [], "stop_reason": None, "stop_sequence": None, "usage": {**usage, "output_tokens": 1}}
    yield sse({"type": "message_start", "message": start}, "message_start")
    yield sse({"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, "content_block_start")
    for word in answer:
        yield sse({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word + " "}}, "content_block_delta")
        await asyncio.sleep(SECONDS_A_WORD)
    yield sse({"type": "content_block_stop", "index": 0}, "content_block_stop")
    yield sse({"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": usage}, "message_delta")
    yield sse({"type": "message_stop"}, "message_stop")


app = Starlette(
    routes=[
        Route("/v1/models", models),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/messages", messages, methods=["POST"]),
    ]
)

if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]) if len(sys.argv) > 1 else 8000, log_level="warning")
