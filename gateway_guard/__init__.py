"""Adaptive quotas per account and per cluster for LLM APIs, as an ASGI middleware."""

from gateway_guard.asgi.middleware import GatewayGuard

__all__ = ["GatewayGuard"]
