"""The guard around a bare ASGI callable: `GATEWAY_GUARD_KEY=... uvicorn examples.bare_asgi:app`. Accounts come from a function of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.types import Receive, Scope, Send

from gateway_guard import GatewayGuard

CUSTOMERS: dict[str, dict[str, Any]] = {"sk-example-1": {"account": "acme", "plan": "team"}}
ANSWER = b'{"object": "chat.completion", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}}'


async def model(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers everything alike."""
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": ANSWER})


app = GatewayGuard(model, policy=Path(__file__).parent.parent / "policies" / "balanced.yaml", directory=CUSTOMERS.get)
