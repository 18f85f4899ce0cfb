"""A scripted application and a bare ASGI client: no server between the test and the guard."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import orjson
from starlette.types import ASGIApp, Message, Receive, Scope, Send

KEY = b"a key for tests that is long enough!"
CHAT = "/v1/chat/completions"
Headers = Sequence[tuple[bytes, bytes]]
Script = Callable[["ModelServer", Scope, Receive, Send], Awaitable[None]]


def policy_file(folder: Path, text: str = "", name: str = "policy.yaml") -> Path:
    """A policy that enforces; `text` adds to it."""
    path = folder / name
    path.write_text(f"version: 1\nname: test\nmode: enforce\n{text}")
    return path


def chat(text: str = "hello", **more: Any) -> bytes:
    """A chat completions body, as an SDK would write it."""
    return orjson.dumps({"model": "m", "messages": [{"role": "user", "content": text}], **more})


def answer(output: int = 7, given: int = 3) -> bytes:
    """A chat completions answer with its usage."""
    usage = {"prompt_tokens": given, "completion_tokens": output, "total_tokens": given + output}
    choice = {"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}
    return orjson.dumps({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})


def events(output: int = 7, given: int = 3) -> list[bytes]:
    """The same as a stream."""
    chunk = {"id": "x", "object": "chat.completion.chunk", "model": "m", "choices": [{"index": 0, "delta": {"content": "hi"}}]}
    last = {**chunk, "choices": [], "usage": {"prompt_tokens": given, "completion_tokens": output, "total_tokens": given + output}}
    return [b"data: " + orjson.dumps(chunk) + b"\n\n", b"data: " + orjson.dumps(last) + b"\n\n", b"data: [DONE]\n\n"]


class ModelServer:
    """An application that records what reaches it and answers by a script."""

    def __init__(self, script: Script | None = None) -> None:
        self.bodies: list[bytes] = []
        self.scopes: list[Scope] = []
        self.messages: list[Message] = []
        self._script = script or whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "http":
            self.bodies.append(await self.body(receive))
        await self._script(self, scope, receive, send)

    async def body(self, receive: Receive) -> bytes:
        """Read the request to its end."""
        out = b""
        while True:
            message = await receive()
            self.messages.append(message)
            part: bytes = message.get("body", b"")
            out += part
            if message["type"] != "http.request" or not message.get("more_body"):
                return out


async def start(send: Send, kind: bytes = b"application/json", status: int = 200, *more: tuple[bytes, bytes]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", kind), *more]})


async def whole(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
    """One JSON answer."""
    if scope["type"] != "http":
        return
    body = answer()
    await start(send, b"application/json", 200, (b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.body", "body": body})


def streamed(chunks: Iterable[bytes]) -> Script:
    """An answer as server-sent events."""

    async def script(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, b"text/event-stream")
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    return script


class Answer:
    """What a client got."""

    def __init__(self, sent: Sequence[Message]) -> None:
        starts = [m for m in sent if m["type"] == "http.response.start"]
        assert len(starts) <= 1, "an answer starts once"
        self.started = bool(starts)
        self.status: int = starts[0]["status"] if starts else 0
        self.raw_headers: list[tuple[bytes, bytes]] = list(starts[0]["headers"]) if starts else []
        self.headers = {name.decode(): value.decode() for name, value in self.raw_headers}
        self.chunks = [m.get("body", b"") for m in sent if m["type"] == "http.response.body"]
        self.body = b"".join(self.chunks)

    def json(self) -> Any:
        return orjson.loads(self.body)


class Call:
    """One request on its way: messages can be added and the answer watched while it runs."""

    def __init__(self, app: ASGIApp, path: str, parts: Sequence[bytes], headers: Headers, *, method: str = "POST", more: bool = False) -> None:
        self._app = app
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.received = asyncio.Event()
        for i, part in enumerate(parts):
            self._inbox.put_nowait({"type": "http.request", "body": part, "more_body": more or i + 1 < len(parts)})
        self._scope: Scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": b"",
            "headers": list(headers),
            "client": ("192.0.2.7", 5000),
            "server": ("test", 80),
        }

    def leave(self) -> None:
        """The client goes away."""
        self._inbox.put_nowait({"type": "http.disconnect"})

    async def run(self) -> Answer:
        async def send(message: Message) -> None:
            self.sent.append(message)
            self.received.set()

        await self._app(self._scope, self._inbox.get, send)
        return Answer(self.sent)


BEARER = [(b"authorization", b"Bearer sk-alice"), (b"content-type", b"application/json")]


def call(app: ASGIApp, body: bytes | Sequence[bytes] | None = None, *, path: str = CHAT, headers: Headers = BEARER) -> Call:
    """A request with the whole body at hand."""
    raw = chat() if body is None else body
    return Call(app, path, [raw] if isinstance(raw, bytes) else raw, headers)
