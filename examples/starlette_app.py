"""The guard on a Starlette application: `GATEWAY_GUARD_KEY=... uvicorn examples.starlette_app:app`."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Route

from examples.demo.model_server import chat, messages, models
from gateway_guard import GatewayGuard

POLICY = Path(__file__).parent.parent / "policies" / "balanced.yaml"

app = Starlette(
    routes=[
        Route("/v1/models", models),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/messages", messages, methods=["POST"]),
    ],
    middleware=[Middleware(GatewayGuard, policy=POLICY)],
)
