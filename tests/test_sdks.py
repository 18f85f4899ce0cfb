"""The real openai and anthropic SDKs, over real sockets, through the guard to a model server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import openai
import orjson
import pytest
from starlette.types import Receive, Scope, Send

from gateway_guard import GatewayGuard
from tests.fakes import KEY, ModelServer, answer, events, policy_file, start, streamed
from tests.served import served

CHATS: Any = [{"role": "user", "content": "hello"}]
MESSAGE: dict[str, Any] = {
    "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [{"type": "text", "text": "hi"}], "stop_reason": "end_turn",
    "stop_sequence": None, "usage": {"input_tokens": 3, "output_tokens": 7},
}  # fmt: skip
MESSAGE_EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None, "usage": {"input_tokens": 3, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hi"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 7}},
    {"type": "message_stop"},
]


async def model(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
    """Answers each API in its own form, whole or streamed."""
    if scope["type"] != "http":
        return
    stream = orjson.loads(server.bodies[-1]).get("stream", False)
    if scope["path"] == "/v1/messages":
        if stream:
            lines = [b"event: %b\ndata: %b\n\n" % (str(e["type"]).encode(), orjson.dumps(e)) for e in MESSAGE_EVENTS]
            await streamed(lines)(server, scope, receive, send)
            return
        await start(send)
        await send({"type": "http.response.body", "body": orjson.dumps(MESSAGE)})
    elif stream:
        await streamed(events())(server, scope, receive, send)
    else:
        await start(send)
        await send({"type": "http.response.body", "body": answer()})


@contextmanager
def guarded(folder: Path, quotas: str) -> Iterator[tuple[int, ModelServer]]:
    server = ModelServer(model)
    with served(GatewayGuard(server, policy_file(folder, quotas), key=KEY)) as port:
        yield port, server


TIGHT = "quotas:\n  minute: {limit: 600/min, burst: 1}\n"


def test_openai_retries_succeed_unaided(tmp_path: Path) -> None:
    """Ten a second and a burst of one: each further call is refused, told when to come back, and served when the SDK does."""
    with guarded(tmp_path, TIGHT) as (port, server), openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-a") as client:
        texts = [client.chat.completions.create(model="m", messages=CHATS).choices[0].message.content for _ in range(3)]
        chunks = list(client.chat.completions.create(model="m", messages=CHATS, stream=True))
    assert texts == ["hi"] * 3
    assert chunks[0].choices[0].delta.content == "hi"
    assert len(server.bodies) == 4


@pytest.mark.anyio
async def test_async_openai_retries_succeed_unaided(tmp_path: Path) -> None:
    with guarded(tmp_path, TIGHT) as (port, server):
        async with openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-a") as client:
            for _ in range(3):
                stream = await client.chat.completions.create(model="m", messages=CHATS, stream=True)
                assert [chunk.choices[0].delta.content async for chunk in stream if chunk.choices] == ["hi"]
    assert len(server.bodies) == 3


def test_anthropic_retries_succeed_unaided(tmp_path: Path) -> None:
    with guarded(tmp_path, TIGHT) as (port, server), anthropic.Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="sk-a") as client:
        for _ in range(3):
            message = client.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hello"}])
            assert message.usage.output_tokens == 7
        with client.messages.stream(model="m", max_tokens=9, messages=[{"role": "user", "content": "hello"}]) as stream:
            assert list(stream.text_stream) == ["hi"]
    assert len(server.bodies) == 4


def test_what_waiting_does_not_cure_is_not_retried(tmp_path: Path) -> None:
    """A day's quota that is spent: one request, one clear error, and no client that sleeps for hours inside a call."""
    with guarded(tmp_path, "quotas:\n  day: {limit: 1/day}\n") as (port, server):
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-a") as client:
            client.chat.completions.create(model="m", messages=CHATS)
            with pytest.raises(openai.RateLimitError) as refused:
                client.chat.completions.create(model="m", messages=CHATS)
        with anthropic.Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="sk-b") as other:
            other.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hello"}])
            with pytest.raises(anthropic.RateLimitError) as stopped:
                other.messages.create(model="m", max_tokens=9, messages=[{"role": "user", "content": "hello"}])
    assert len(server.bodies) == 2
    error = refused.value.body
    assert isinstance(error, dict)
    assert (error["gateway_guard"]["quota"], error["gateway_guard"]["left"]) == ("day", 0)
    assert refused.value.response.headers["x-should-retry"] == "false"
    assert stopped.value.response.headers["x-should-retry"] == "false"
    assert stopped.value.response.headers["retry-after"]


def test_errors_arrive_as_the_sdks_own(tmp_path: Path) -> None:
    with guarded(tmp_path, "guard: {body_limit: 2000}\n") as (port, server):
        with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-a", max_retries=0) as client:
            with pytest.raises(openai.BadRequestError, match="max_tokens"):
                client.chat.completions.create(model="m", messages=CHATS, max_tokens=-3)
            with pytest.raises(openai.APIStatusError) as large:
                client.chat.completions.create(model="m", messages=[{"role": "user", "content": "x" * 3000}])
            with pytest.raises(openai.AuthenticationError):
                client.with_options(default_headers={"Authorization": "Basic x"}).chat.completions.create(model="m", messages=CHATS)
        with anthropic.Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="sk-a", max_retries=0) as other, pytest.raises(anthropic.BadRequestError):
            other.messages.create(model="m", max_tokens=-1, messages=[{"role": "user", "content": "hello"}])
    assert large.value.status_code == 413
    assert server.bodies == []
