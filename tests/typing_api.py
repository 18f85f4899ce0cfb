"""Code of users, for the type checker alone: it has to pass without a cast or an ignore."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anthropic
import httpx
import httpx2
import openai
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.types import ASGIApp, Receive, Scope, Send

from gateway_guard import GatewayGuard
from gateway_guard.client import ChallengeAuth
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


def customers_side() -> tuple[httpx.Client, httpx.AsyncClient, openai.OpenAI, anthropic.AsyncAnthropic]:
    """One auth flow for every client of either library."""
    auth = ChallengeAuth(most=30.0, on_step_up=lambda url: url.startswith("https://"))
    return (
        httpx.Client(auth=auth),
        httpx.AsyncClient(auth=auth),
        openai.OpenAI(http_client=httpx2.Client(auth=auth)),
        anthropic.AsyncAnthropic(http_client=httpx2.AsyncClient(auth=auth)),
    )


def started() -> ASGIApp | str:
    """What a guard refuses to start with is told by three errors."""
    try:
        return GatewayGuard(model)
    except PolicyError as error:
        problems: tuple[str, ...] = error.problems
        return "\n".join(problems)
    except (DirectoryError, UsageError) as error:
        return str(error)
