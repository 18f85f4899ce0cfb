"""Published traces of serving: counts and times only. BurstGPT (CSV), Azure's LLM inference traces (CSV), Mooncake (JSON lines)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway_guard.trace.exchanges import Exchange
from gateway_guard.trace.importers.made import CHAT, Broken, bearer, body, first, moment, response, whole


def burstgpt(record: Mapping[str, Any], number: int, starts: float, account: str) -> Exchange:
    """`Timestamp` in seconds from the beginning, `Model`, `Request tokens`, `Response tokens` (0: it failed), and in later releases `Elapsed time`."""
    at = starts + moment(_needed(record, "Timestamp"))
    output, took = whole(record.get("Response tokens")), record.get("Elapsed time")
    ended = at + moment(took) if took not in (None, "") else None
    told = response(at, ended, status=200 if output else 500, input_tokens=whole(record.get("Request tokens")), output_tokens=output or None)
    return Exchange(id=f"burstgpt-{number}", ts=at, path=CHAT, headers=bearer(account), body=body(record.get("Model"), messages=[]), response=told)


def azure(record: Mapping[str, Any], number: int, starts: float, account: str) -> Exchange:
    """`TIMESTAMP` as a date, `ContextTokens`, `GeneratedTokens`."""
    at = moment(_needed(record, "TIMESTAMP"))
    told = response(at, None, input_tokens=whole(record.get("ContextTokens")), output_tokens=whole(record.get("GeneratedTokens")))
    return Exchange(id=f"azure-{number}", ts=at, path=CHAT, headers=bearer(account), body=body("", messages=[]), response=told)


def mooncake(record: Mapping[str, Any], number: int, starts: float, account: str) -> Exchange:
    """`timestamp` in milliseconds from the beginning, `input_length`, `output_length`. `hash_ids` are not used: they are no conversation."""
    at = starts + moment(_needed(record, "timestamp")) / 1000.0
    given, output = first(record, "input_length", "input_tokens"), first(record, "output_length", "output_tokens")
    told = response(at, None, input_tokens=whole(given), output_tokens=whole(output))
    return Exchange(id=f"mooncake-{number}", ts=at, path=CHAT, headers=bearer(account), body=body("", messages=[]), response=told)


def _needed(record: Mapping[str, Any], name: str) -> Any:
    value = record.get(name)
    if value in (None, ""):
        raise Broken(f"has no {name}")
    return value
