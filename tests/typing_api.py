"""Code of users, for the type checker alone: it has to pass without a cast or an ignore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway_guard import GatewayGuard
from gateway_guard.errors import DirectoryError, PolicyError, UsageError


async def model(scope: Scope, receive: Receive, send: Send) -> None:
    """An application of the user's."""


def customers(credential: str) -> Mapping[str, Any] | None:
    """A directory of the user's."""
    return {"account": credential, "plan": "team"}


def mounted() -> list[ASGIApp]:
    """Every way to mount a guard."""
    fast = FastAPI()
    fast.add_middleware(GatewayGuard, policy="policies/default.yaml")
    return [
        fast,
        Starlette(middleware=[Middleware(GatewayGuard, policy=Path("policies/default.yaml"))]),
        GatewayGuard(model),
        GatewayGuard(model, "policies/default.yaml", directory="accounts.csv", key=b"0" * 32),
        GatewayGuard(model, directory=customers),
    ]


def started() -> ASGIApp | str:
    """What a guard refuses to start with is told by three errors."""
    try:
        return GatewayGuard(model)
    except PolicyError as error:
        problems: tuple[str, ...] = error.problems
        return "\n".join(problems)
    except (DirectoryError, UsageError) as error:
        return str(error)
