"""What is measured: the guard, and what one would otherwise put in its place."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import orjson
from slowapi import Limiter
from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway_guard import GatewayGuard
from tests.bench.requests import CHAT

POLICY = Path(__file__).parent.parent.parent / "policies" / "balanced.yaml"
KEY = bytes(range(32))
ANSWER = orjson.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "tiny-1",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "x" * 400}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 200, "completion_tokens": 100, "total_tokens": 300},
    }
)


class Contender(NamedTuple):
    """`base` is the contender that it stands on: the difference is what it adds. `accounts` 0: does not tell accounts apart."""

    name: str
    app: ASGIApp
    base: str = ""
    accounts: int = 0


def contenders() -> list[Contender]:
    """In the order of the table."""
    return [
        Contender("bare application", bare),
        Contender("pure no-op middleware", PassThrough(bare), "bare application"),
        Contender("body held + orjson", Held(bare), "bare application"),
        Contender("BaseHTTPMiddleware no-op", BaseHTTPMiddleware(bare, dispatch=_next), "bare application"),
        Contender("guard, 1,000 accounts", GatewayGuard(bare, POLICY, key=KEY), "bare application", 1_000),
        Contender("guard, 50,000 accounts", GatewayGuard(bare, POLICY, key=KEY), "bare application", 50_000),
        Contender("Starlette route", _starlette()),
        Contender("slowapi, ASGI", _starlette(SlowAPIASGIMiddleware), "Starlette route", 1_000),
        Contender("slowapi, its default", _starlette(SlowAPIMiddleware), "Starlette route", 1_000),
    ]


async def bare(scope: Scope, receive: Receive, send: Send) -> None:
    """Reads the request and answers."""
    while (await receive()).get("more_body"):
        pass
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": ANSWER})


class PassThrough:
    """The least that a middleware can be."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.app(scope, receive, send)


class Held:
    """Holds the body, parses it, and hands it on: what any guard that reads prompts has to do."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        document = orjson.loads(body)
        assert document["model"]
        held: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return held.pop() if held else await receive()

        await self.app(scope, again, send)


async def _next(request: Request, call_next: RequestResponseEndpoint) -> Response:
    return await call_next(request)


def _starlette(middleware: type[SlowAPIASGIMiddleware] | type[SlowAPIMiddleware] | None = None) -> Starlette:
    async def chat(request: Request) -> Response:
        await request.body()
        return Response(ANSWER, media_type="application/json")

    app = Starlette(routes=[Route(CHAT, chat, methods=["POST"])], middleware=[Middleware(middleware)] if middleware else [])
    app.state.limiter = Limiter(key_func=lambda request: request.headers["authorization"], default_limits=["10000/minute"])
    return app
