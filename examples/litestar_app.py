"""The guard on a Litestar application: `GATEWAY_GUARD_KEY=... uvicorn examples.litestar_app:app`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from litestar import Litestar, Request, post
from litestar.middleware import DefineMiddleware

from examples.demo.model_server import tokens, words
from gateway_guard import GatewayGuard


@post("/v1/messages", status_code=200)
async def messages(request: Request[Any, Any, Any]) -> dict[str, Any]:
    """Answers from a word list, with the usage that the guard settles by."""
    data = await request.json()
    prompt = str(data["messages"][-1]["content"])
    answer = words(prompt, data["max_tokens"])
    usage = {"input_tokens": tokens(prompt), "output_tokens": len(answer)}
    content = [{"type": "text", "text": " ".join(answer)}]
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": data["model"], "content": content, "stop_reason": "end_turn", "usage": usage}


POLICY = Path(__file__).parent.parent / "policies" / "balanced.yaml"
guard = DefineMiddleware(GatewayGuard, policy=POLICY)  # type: ignore[arg-type]  # Litestar's own ASGI types are narrower than Starlette's
app = Litestar([messages], middleware=[guard])
