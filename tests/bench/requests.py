"""Requests as an SDK sends them, handed to an ASGI application without a server."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator

import orjson
from starlette.types import ASGIApp, Message, Scope

CHAT = "/v1/chat/completions"
DIFFERENT = 100
WORDS = ("harbour", "ledger", "morning", "copper", "gentle", "window", "seven", "argue", "river", "paper", "quick", "orange", "listen", "corner")


def bodies(size: int) -> list[bytes]:
    """Chat completions of about `size` bytes, each with a text of its own."""
    chance = random.Random(size)
    return [_body(chance, size) for _ in range(DIFFERENT)]


def keys(count: int) -> list[bytes]:
    """API keys of `count` accounts, in an order that meets each again only after all the others."""
    return [b"Bearer sk-bench-%06d" % number for number in range(count)]


def scopes(credentials: list[bytes], size: int) -> Iterator[Scope]:
    """Requests without end, by one account after the other."""
    for credential in itertools.cycle(credentials):
        yield {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": CHAT,
            "raw_path": CHAT.encode(),
            "root_path": "",
            "query_string": b"",
            "client": ("192.0.2.7", 40000),
            "server": ("127.0.0.1", 8000),
            "headers": [
                (b"host", b"127.0.0.1:8000"),
                (b"accept-encoding", b"gzip, deflate"),
                (b"connection", b"keep-alive"),
                (b"accept", b"application/json"),
                (b"content-type", b"application/json"),
                (b"user-agent", b"AsyncOpenAI/Python 3.57.0"),
                (b"x-stainless-lang", b"python"),
                (b"x-stainless-package-version", b"3.57.0"),
                (b"x-stainless-os", b"Linux"),
                (b"x-stainless-arch", b"x64"),
                (b"x-stainless-runtime", b"CPython"),
                (b"x-stainless-runtime-version", b"3.11.7"),
                (b"authorization", credential),
                (b"x-stainless-async", b"async:asyncio"),
                (b"x-stainless-retry-count", b"0"),
                (b"content-length", str(size).encode()),
            ],
        }


async def one(app: ASGIApp, scope: Scope, body: bytes) -> tuple[int, float]:
    """Run one request. Its status, and the thread's CPU time when the last byte of the answer was handed over."""
    status, answered = 0, 0.0
    parts: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive() -> Message:
        return parts.pop() if parts else {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        nonlocal status, answered
        if message["type"] == "http.response.start":
            status = message["status"]
        elif not message.get("more_body"):
            answered = time.thread_time()

    await app(scope, receive, send)
    return status, answered


def _body(chance: random.Random, size: int) -> bytes:
    text = " ".join(chance.choice(WORDS) for _ in range(size // 5))
    document = {"model": "tiny-1", "messages": [{"role": "system", "content": "You are brief."}, {"role": "user", "content": ""}], "max_tokens": 500}
    document["messages"][1]["content"] = text[: size - len(orjson.dumps(document))]  # type: ignore[index]
    return orjson.dumps(document)
