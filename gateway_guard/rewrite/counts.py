"""Usage, as far as an answer still tells it."""

from __future__ import annotations

from typing import Any

from gateway_guard.rewrite.loss import Loss

TOTALS = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
# Counts that bills are made from: everything else is detail.
KEPT = frozenset({*TOTALS, "total_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "server_tool_use", "service_tier"})
# Clients of the Responses API expect these objects: they stay, and tell nothing.
EXPECTED = frozenset({"input_tokens_details", "output_tokens_details"})
ROUNDED = (*TOTALS, "cache_creation_input_tokens", "cache_read_input_tokens")


def poorer(usage: Any, loss: Loss, *, expected: frozenset[str] = frozenset()) -> None:
    """Change `usage` in place. Counts are rounded up, and a total stays the sum of its parts."""
    if not isinstance(usage, dict):
        return
    if loss.detail:
        for name in [name for name in usage if name not in KEPT]:
            detail = usage.pop(name)
            if name in expected and isinstance(detail, dict):
                usage[name] = dict.fromkeys(detail)
    if loss.step:
        for name in ROUNDED:
            if type(usage.get(name)) is int:
                usage[name] = -(-usage[name] // loss.step) * loss.step
        if type(usage.get("total_tokens")) is int:
            usage["total_tokens"] = sum(usage[name] for name in TOTALS if type(usage.get(name)) is int)
