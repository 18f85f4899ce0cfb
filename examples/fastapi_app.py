"""The guard on a FastAPI application: `GATEWAY_GUARD_KEY=... uvicorn examples.fastapi_app:app`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI

from examples.demo.model_server import tokens, words
from gateway_guard import GatewayGuard

app = FastAPI()
app.add_middleware(GatewayGuard, policy=Path(__file__).parent.parent / "policies" / "balanced.yaml")


@app.post("/v1/chat/completions")
async def chat(body: dict[str, Any]) -> dict[str, Any]:
    """Answers from a word list, with the usage that the guard settles by."""
    prompt = str(body["messages"][-1]["content"])
    answer = words(prompt, 200)
    usage = {"prompt_tokens": tokens(prompt), "completion_tokens": len(answer), "total_tokens": tokens(prompt) + len(answer)}
    choice = {"index": 0, "message": {"role": "assistant", "content": " ".join(answer)}, "finish_reason": "stop"}
    return {"id": "chatcmpl-1", "object": "chat.completion", "created": 0, "model": body["model"], "choices": [choice], "usage": usage}
