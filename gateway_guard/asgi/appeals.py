"""The appeals endpoint: an account asks for a decision about itself to be looked at, and asks how that went.

Whoever appeals is identified as for any guarded request. What belongs to somebody else is answered exactly like what does not exist. Every attempt pays
into a quota of the account's own; bodies are small, and an appeal holds no text of prompts, only what the caller writes as a reason.
"""

from __future__ import annotations

import asyncio
import datetime
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import orjson
from starlette.types import Receive, Scope, Send

from gateway_guard.appeals.values import Appeal
from gateway_guard.appeals.words import escaped
from gateway_guard.asgi.body import HeldBody
from gateway_guard.asgi.problem import headers_of, problem
from gateway_guard.dialects import ratelimit
from gateway_guard.errors import RequestError, StoreError
from gateway_guard.facts import Identity
from gateway_guard.quota import Charge, Quota

if TYPE_CHECKING:
    from gateway_guard.asgi.engine import Engine

BODY_LIMIT = 8192
ID_LIMIT = 64
LOOKS = 10
Headers = list[tuple[bytes, bytes]]
WAITS = "An operator will look at it. Ask again at `self` with the same credential."
NEXT = {
    "open": WAITS,
    "released": "The decision does not hold any more. You can go on.",
    "confirmed": "The decision stands until it expires. See `answer`.",
}


class Filing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller sends."""

    decision: str
    reason: str = ""


class Answer(NamedTuple):
    """An answer of the endpoint, whole."""

    status: int
    body: bytes
    headers: Headers


class Refused(Exception):
    """A problem that ends the request."""

    def __init__(self, status: int, code: str, title: str, detail: str, *, headers: Headers | None = None, **more: Any) -> None:
        super().__init__(detail)
        body = problem(status, code, title, detail, **more)
        self.answer = Answer(status, body, headers_of(body, headers or []))


def unknown() -> Refused:
    """There is no such thing, or it is not the caller's."""
    return Refused(404, "unknown-decision", "Unknown decision", "There is no decision or appeal of that id about this account, or it is too old.")


class AppealDesk:
    """Answers requests below the policy's `appeals.path`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def takes(self, path: str) -> bool:
        """Whether a request to `path` is for this desk."""
        mine = self._engine.appeals_path
        return bool(mine) and path.startswith(mine) and (len(path) == len(mine) or path[len(mine)] == "/")

    async def serve(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """Answer one request."""
        try:
            found = await self._answer(scope, receive, path.removeprefix(self._engine.appeals_path).strip("/"))
        except Refused as refused:
            found = refused.answer
        except StoreError:
            body = problem(503, "try-again", "Not now", "Appeals cannot be taken at the moment. Try again in a minute.")
            found = Answer(503, body, headers_of(body, [(b"retry-after", b"60")]))
        await send({"type": "http.response.start", "status": found.status, "headers": found.headers})
        await send({"type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else found.body})

    async def _answer(self, scope: Scope, receive: Receive, ident: str) -> Answer:
        allowed = (b"allow", b"GET" if ident else b"POST")
        if scope["method"] != allowed[1].decode():
            raise Refused(405, "method", "Wrong method", "POST files an appeal; GET, with an appeal's id after the path, shows it.", headers=[allowed])
        raw = b"" if ident else await _body(receive)
        identity = await self._identify(scope)
        await self._pay(identity, "appeals_shown" if ident else "appeals")
        root = scope.get("root_path", "")
        return self._told(*(await self._find(identity, ident) if ident else await self._file(identity, _filing(raw))), root)

    async def _identify(self, scope: Scope) -> Identity:
        peer = scope.get("client")
        try:
            identity = await self._engine.intake.identifier.identify(scope["headers"], peer[0] if peer else "", self._engine.clock())
        except RequestError as error:
            raise _unidentified(error.message) from None
        if identity.anonymous:
            raise _unidentified("Send the credential that the decision was about.")
        return identity

    async def _pay(self, identity: Identity, name: str) -> None:
        """One of the appeals that an account may file in a time; it may look at them more often."""
        limit = self._engine.gate.rules.policy.appeals.limit
        many = limit.amount if name == "appeals" else limit.amount * LOOKS
        quota = Quota(name, many / limit.window, many)
        spend = await self._engine.gate.store.spend([Charge(f"appeals/{identity.account}", quota, 1.0)], self._engine.clock())
        if not spend.ok:
            detail = f"This account may send {many:g} requests in {limit.window:g} s here. Try again in {spend.wait:.0f} s."
            raise Refused(429, "too-many-appeals", "Too many requests", detail, headers=list(ratelimit.retry(spend.wait)))

    async def _file(self, identity: Identity, filing: Filing) -> tuple[Appeal, int]:
        keeper = self._engine.keeper
        decision = await asyncio.to_thread(keeper.find, identity.account, filing.decision) if keeper is not None else None
        if keeper is None or decision is None:
            raise unknown()
        appeal = Appeal("a-" + secrets.token_hex(10), self._engine.clock(), escaped(filing.reason), decision)
        kept, new = await asyncio.to_thread(keeper.ledger.file, appeal)
        return kept, 202 if new else 200

    async def _find(self, identity: Identity, ident: str) -> tuple[Appeal, int]:
        keeper = self._engine.keeper
        appeal = await asyncio.to_thread(keeper.ledger.appeal, ident) if keeper is not None and len(ident) <= ID_LIMIT else None
        if appeal is None or appeal.decision.account != identity.account:
            raise unknown()
        return appeal, 200

    def _told(self, appeal: Appeal, status: int, root: str) -> Answer:
        place = f"{root}{self._engine.appeals_path}/{appeal.id}"
        told = {"appeal": appeal.id, "self": place, "decision": appeal.decision.id, "status": appeal.status, "filed": _iso(appeal.at)}
        if appeal.status != "open":
            told |= {"answered": _iso(appeal.answered), "answer": appeal.answer}
        body = orjson.dumps({**told, "next": NEXT[appeal.status]})
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store")]
        return Answer(status, body, [*headers, (b"location", place.encode())] if status == 202 else headers)


async def _body(receive: Receive) -> bytes:
    held = HeldBody(receive)
    await held.take(BODY_LIMIT)
    if held.end == "too_large":
        raise Refused(413, "too-large", "Too large", f"An appeal has at most {BODY_LIMIT} bytes.")
    return held.raw()


def _filing(raw: bytes) -> Filing:
    try:
        filing = msgspec.json.decode(raw, type=Filing)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        detail = f'Send a JSON object such as {{"decision": "...", "reason": "..."}}. {str(error)[:200]}'
        raise Refused(400, "unreadable", "Unreadable", detail) from None
    if not 0 < len(filing.decision) <= ID_LIMIT:
        raise unknown()
    return filing


def _unidentified(detail: str) -> Refused:
    return Refused(401, "unidentified", "Not identified", detail, headers=[(b"www-authenticate", b"Bearer")])


def _iso(at: float) -> str:
    return datetime.datetime.fromtimestamp(int(at), datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
