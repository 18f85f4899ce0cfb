"""The real SDKs, over real sockets, at a rung that challenges: `ChallengeAuth` meets it and the SDK never knows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import httpx2
import openai
import pytest

from gateway_guard import GatewayGuard
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
MESSAGES: Any = [{"role": "user", "content": "hello"}]


def suspects(*credentials: str, score: float = 1.0) -> View:
    """A view in which these credentials are one cluster that harvests."""
    names = [Pseudonyms(KEY).text("credential", name) for name in credentials]
    cluster = Cluster("c-1", len(names), 0.9, score, score, ("content", "rhythm"))
    standing = Standing("c-1", 0.0, score, score, ("content", "rhythm"))
    return View(1, 0.0, dict.fromkeys(names, standing), {"c-1": cluster}, "calibrated")


@contextmanager
def challenging(folder: Path, policy: str = LADDER, *credentials: str) -> Iterator[tuple[str, ModelServer]]:
    server = ModelServer(model)
    guard = GatewayGuard(server, policy_file(folder, policy), key=KEY)
    guard.engine.gate.view = suspects(*(credentials or ("sk-a", "sk-b")))
    with served(guard) as port:
        yield f"http://127.0.0.1:{port}", server


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_openai_is_served_unaided(tmp_path: Path, library: Any) -> None:
    """One challenge for the first request, none for the ones after it; the SDK's own credential stays on all of them."""
    with challenging(tmp_path) as (base, server), library.Client(auth=ChallengeAuth()) as http:
        client = openai.OpenAI(base_url=f"{base}/v1", api_key="sk-a", http_client=http, max_retries=0)
        texts = [client.chat.completions.create(model="m", messages=CHATS).choices[0].message.content for _ in range(3)]
        chunks = list(client.chat.completions.create(model="m", messages=CHATS, stream=True))
    assert texts == ["hi"] * 3
    assert chunks[0].choices[0].delta.content == "hi"
    headers = [dict(scope["headers"]) for scope in server.scopes if scope["type"] == "http"]
    assert [held[b"authorization"] for held in headers] == [b"Bearer sk-a"] * 4
    assert not any(b"x-gateway-guard-pass" in held for held in headers), "the pass is the guard's business, not the model server's"
