"""What the guard itself says: refusals in the caller's dialect, and the limit headers that go on every answer."""

from __future__ import annotations

import math
from typing import Any

from starlette.types import Message, Send

from gateway_guard.asgi.board import limit_headers
from gateway_guard.decision import Action, Decision
from gateway_guard.dialects import ratelimit
from gateway_guard.errors import RequestError
from gateway_guard.ports import Dialect

RawHeaders = list[tuple[bytes, bytes]]
DECISION = b"x-gateway-guard-decision"
DEGRADED = b"x-gateway-guard-degraded"
CODES = {Action.THROTTLE: (429, "rate_limit_exceeded"), Action.DENY: (403, "access_denied")}

# Not a ban: a request that cannot be served as it is.
STATE = (400, "foreign_state")
STATE_SAYS = {
    "state.foreign": "was issued to another account or conversation",
    "state.altered": "is not as it was issued",
    "state.unbound": "was not issued here, or too long ago",
}


async def refuse(send: Send, dialect: Dialect, decision: Decision, appeals: str = "") -> None:
    """Answer a request that is not served. `appeals` is the path where its caller can appeal, empty for nowhere."""
    status, code = STATE if _is_state(decision) else CODES[decision.action]
    headers = [(DECISION, decision.id.encode()), *limit_headers(dialect, decision)[0]]
    if status == 429:
        headers += ratelimit.retry(decision.wait)
    else:
        headers.append((b"x-should-retry", b"false"))
    told = {**details(decision), "appeals": appeals} if appeals else details(decision)
    await answer(send, status, dialect.error(status, code, message(decision, appeals), details=told, request_id=decision.id), headers)


async def refuse_unread(send: Send, dialect: Dialect, error: RequestError, ident: str) -> None:
    """Answer a request that could not be read or whose caller could not be told."""
    headers: RawHeaders = [(DECISION, ident.encode()), (b"x-should-retry", b"true" if error.status == 503 else b"false")]
    if error.status == 503:
        headers.append((b"retry-after", b"5"))
    if error.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    body = dialect.error(error.status, error.code, error.message, param=error.param, details={"decision": ident}, request_id=ident)
    await answer(send, error.status, body, headers)


async def answer(send: Send, status: int, body: bytes, headers: RawHeaders) -> None:
    """One whole JSON answer."""
    own = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": own})
    await send({"type": "http.response.body", "body": body})


def details(decision: Decision) -> dict[str, Any]:
    """The machine-readable part of a refusal."""
    out: dict[str, Any] = {"decision": decision.id, "action": decision.action.label}
    found = _short(decision)
    if found is not None:
        charge, room = found
        quota = charge.quota
        out |= {"quota": quota.name, "per": quota.per, "unit": quota.unit, "limit": _figure(quota.burst * charge.scale), "window_s": quota.window}
        out |= {"left": _figure(room), "asked": _figure(charge.cost)}
    if math.isfinite(decision.wait):
        out["retry_after_s"] = round(decision.wait, 3)
    return out


def message(decision: Decision, appeals: str = "") -> str:
    """One sentence that names the limit, what is left, and when to come back."""
    if _is_state(decision):
        return f"A reasoning block of this conversation {STATE_SAYS[decision.reasons[0]]}. Leave it out, or start a new conversation. Decision {decision.id}."
    if decision.action is Action.DENY:
        way = f" To appeal, POST it to {appeals}." if appeals else ""
        return f"Access is suspended for this account. Quote decision {decision.id} when you contact support.{way}"
    found = _short(decision)
    if found is None:
        return f"Rate limit reached. Decision {decision.id}."
    charge, room = found
    quota, burst = charge.quota, charge.quota.burst * charge.scale
    figures = f"limit {_figure(burst)}, left {_figure(room)}, asked {_figure(charge.cost)}"
    head = f"Rate limit reached for {quota.unit.replace('_', ' ')} (quota {quota.name}): {figures}."
    if math.isfinite(decision.wait):
        return f"{head} Try again in {decision.wait:.3g} s. Decision {decision.id}."
    return f"{head} This request is larger than the quota can ever hold: make it smaller. Decision {decision.id}."


def start_with(message: Message, dialect: Dialect, decision: Decision, notice: bytes = b"") -> tuple[Message, str, str]:
    """The answer's beginning with our headers in place of any of the same name; and the content type and coding that it states.

    The application's own dictionary is left as it is.
    """
    own, names = limit_headers(dialect, decision)
    headers: RawHeaders = []
    kind = coding = b""
    for pair in message.get("headers", ()):
        name = pair[0].lower()
        if name in names or name == DECISION or (notice and name == DEGRADED):
            continue
        headers.append(pair)
        if name == b"content-type":
            kind = pair[1]
        elif name == b"content-encoding":
            coding = pair[1]
    headers += own
    headers.append((DECISION, decision.id.encode()))
    if notice:
        headers.append((DEGRADED, notice))
    return {**message, "headers": headers}, kind.decode("latin-1"), coding.decode("latin-1") if coding else ""


def _is_state(decision: Decision) -> bool:
    """Whether it is refused for the state that it brought along."""
    return bool(decision.reasons) and decision.reasons[0].startswith("state.")


def _short(decision: Decision) -> tuple[Any, float] | None:
    for charge, balance in zip(decision.charges, decision.balances, strict=True):
        if charge.quota.name == decision.short:
            return charge, balance.room
    return None


def _figure(value: float) -> float | int:
    return math.floor(value) if value >= 100 or value == int(value) else round(value, 2)
