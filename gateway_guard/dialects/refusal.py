"""Error bodies as bytes, whatever text they are to carry."""

from __future__ import annotations

from typing import Any

import orjson


def written(body: dict[str, Any]) -> bytes:
    """JSON; values that it has no form for are given as text, and text that is no Unicode is replaced."""
    try:
        return orjson.dumps(body, default=str)
    except orjson.JSONEncodeError:
        return orjson.dumps(_clean(body), default=str)


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_clean(str(key)): _clean(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(inner) for inner in value]
    return value if isinstance(value, bool | float | type(None)) else str(value)
