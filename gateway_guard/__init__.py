"""Adaptive quotas per account and per cluster for LLM APIs, as an ASGI middleware."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gateway_guard.asgi.middleware import GatewayGuard

__all__ = ["GatewayGuard"]


def __getattr__(name: str) -> Any:
    """Import the middleware when it is asked for, so that the command line need not."""
    if name == "GatewayGuard":
        from gateway_guard.asgi.middleware import GatewayGuard  # noqa: PLC0415 - lazily, see above

        return GatewayGuard
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
