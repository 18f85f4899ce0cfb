"""The real SDKs, over real sockets, at a rung that challenges: `ChallengeAuth` meets it and the SDK never knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
import pytest

from gateway_guard import GatewayGuard
from gateway_guard.cli.serve import configured, guarded_proxy
from gateway_guard.client import ChallengeAuth
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.view import Cluster, Standing, View
from tests.fakes import KEY, ModelServer, policy_file
from tests.served import served
from tests.test_sdks import CHATS, model

LADDER = """\
analysis: {enabled: false}
signals: {coordination: {ceiling: 3}, harvest: {ceiling: 3}}
challenges:
  work: {work: {effort: 10ms, most: 1s}}
ladder:
  - {id: prove, at: 1, do: challenge, challenge: work}
"""
MEMORY_HARD = LADDER.replace("effort: 10ms", "effort: 30ms, algorithm: scrypt")
MESSAGES: Any = [{"role": "user", "content": "hello"}]
TURNS: Any = [*MESSAGES, {"role": "assistant", "content": "hi"}, {"role": "user", "content": "and?"}]
TOOLS: Any = [{"name": "look", "description": "looks", "input_schema": {"type": "object", "properties": {}}}]


def suspects(*credentials: str, score: float = 1.0) -> View:
    """A view in which these credentials are one cluster that harvests."""
    names = [Pseudonyms(KEY).text("credential", name) for name in credentials]
    cluster = Cluster("c-1", len(names), 0.9, score, score, ("content", "rhythm"))
    standing = Standing("c-1", 0.0, score, score, ("content", "rhythm"))
    return View(1, 0.0, dict.fromkeys(names, standing), {"c-1": cluster}, "calibrated")


@contextmanager
def challenging(folder: Path, policy: str = LADDER) -> Iterator[tuple[str, ModelServer]]:
    server = ModelServer(model)
    guard = GatewayGuard(server, policy_file(folder, policy), key=KEY)
    guard.engine.gate.view = suspects("sk-a", "sk-b")
    with served(guard) as port:
        yield f"http://127.0.0.1:{port}", server


@pytest.mark.parametrize("policy", [LADDER, MEMORY_HARD], ids=["sha256", "scrypt"])
@pytest.mark.parametrize("library", [httpx, httpx2])
def test_openai_is_served_unaided(tmp_path: Path, library: Any, policy: str) -> None:
    """One challenge for the first request, none for the ones after it; the SDK's own credential stays on all of them."""
    with challenging(tmp_path, policy) as (base, server), library.Client(auth=ChallengeAuth()) as http:
        client = openai.OpenAI(base_url=f"{base}/v1", api_key="sk-a", http_client=http, max_retries=0)
        texts = [client.chat.completions.create(model="m", messages=CHATS).choices[0].message.content for _ in range(3)]
        chunks = list(client.chat.completions.create(model="m", messages=CHATS, stream=True))
    assert texts == ["hi"] * 3
    assert chunks[0].choices[0].delta.content == "hi"
    headers = [dict(scope["headers"]) for scope in server.scopes if scope["type"] == "http"]
    assert [held[b"authorization"] for held in headers] == [b"Bearer sk-a"] * 4
    assert not any(b"x-gateway-guard-pass" in held for held in headers), "the pass is the guard's business, not the model server's"


def test_through_the_proxy_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_GUARD_KEY", KEY.decode())
    server = ModelServer(model)
    with served(server) as upstream:
        front = guarded_proxy(f"http://127.0.0.1:{upstream}", policy_file(tmp_path, LADDER))
        guard = front._app
        assert isinstance(guard, GatewayGuard)
        guard.engine.gate.view = suspects("sk-a")
        with served(configured(front, log_level="critical")) as port, httpx2.Client(auth=ChallengeAuth()) as http:
            client = openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-a", http_client=http, max_retries=0)
            assert [client.chat.completions.create(model="m", messages=CHATS).choices[0].message.content for _ in range(2)] == ["hi"] * 2
    assert len(server.bodies) == 2


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.anyio
async def test_async_openai_is_served_unaided(tmp_path: Path, library: Any) -> None:
    """A stream is the first request here."""
    with challenging(tmp_path) as (base, server):
        async with library.AsyncClient(auth=ChallengeAuth()) as http:
            client = openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="sk-a", http_client=http, max_retries=0)
            for _ in range(2):
                stream = await client.chat.completions.create(model="m", messages=CHATS, stream=True)
                assert [chunk.choices[0].delta.content async for chunk in stream if chunk.choices] == ["hi"]
    assert len(server.bodies) == 2


def test_anthropic_is_served_unaided(tmp_path: Path) -> None:
    with challenging(tmp_path) as (base, server), httpx2.Client(auth=ChallengeAuth()) as http:
        client = anthropic.Anthropic(base_url=base, api_key="sk-a", http_client=http, max_retries=0)
        with client.messages.stream(model="m", max_tokens=9, messages=MESSAGES) as stream:
            assert list(stream.text_stream) == ["hi"]
        for messages in (MESSAGES, TURNS):
            assert client.messages.create(model="m", max_tokens=9, messages=messages, tools=TOOLS).usage.output_tokens == 7
    assert [dict(scope["headers"])[b"authorization"] for scope in server.scopes if scope["type"] == "http"] == [b"Bearer sk-a"] * 3


@pytest.mark.anyio
async def test_async_anthropic_is_served_unaided(tmp_path: Path) -> None:
    with challenging(tmp_path) as (base, server):
        async with httpx2.AsyncClient(auth=ChallengeAuth()) as http:
            client = anthropic.AsyncAnthropic(base_url=base, api_key="sk-a", http_client=http, max_retries=0)
            for messages in (MESSAGES, TURNS):
                async with client.messages.stream(model="m", max_tokens=9, messages=messages) as stream:
                    assert [text async for text in stream.text_stream] == ["hi"]
    assert len(server.bodies) == 2


def test_without_it_there_is_one_clear_error_and_no_storm(tmp_path: Path) -> None:
    """An SDK with its usual retries asks once."""
    with challenging(tmp_path) as (base, server):
        with openai.OpenAI(base_url=f"{base}/v1", api_key="sk-a") as client, pytest.raises(openai.PermissionDeniedError, match="proof of work") as refused:
            client.chat.completions.create(model="m", messages=CHATS)
        with anthropic.Anthropic(base_url=base, api_key="sk-b") as other, pytest.raises(anthropic.PermissionDeniedError, match="proof of work") as stopped:
            other.messages.create(model="m", max_tokens=9, messages=MESSAGES)
    assert server.bodies == []
    error = refused.value.body
    assert isinstance(error, dict)
    assert error["code"] == "challenge_required"
    assert error["gateway_guard"]["challenge"]["kind"] == "proof_of_work"
    assert stopped.value.response.headers["x-gateway-guard-challenge"].startswith("proof_of_work;")
    assert stopped.value.response.headers["x-should-retry"] == "false"
