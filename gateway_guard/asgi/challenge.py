"""Challenges at the edge: what a challenged caller is told, where proofs are taken, and which passes a request shows.

The status is 403: 401 would make programs throw their credential away, which is good, and 429 makes them try again by themselves, which does not help.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import orjson
from starlette.types import Receive, Scope, Send

from gateway_guard.asgi.body import HeldBody
from gateway_guard.asgi.problem import MEDIA, headers_of, problem
from gateway_guard.asgi.respond import DECISION
from gateway_guard.challenge.desk import Offer
from gateway_guard.challenge.work import PARTS
from gateway_guard.decision import Decision
from gateway_guard.dialects.ratelimit import quoted
from gateway_guard.errors import ProofRefused, StoreError
from gateway_guard.facts import Identity
from gateway_guard.intake import PASS
from gateway_guard.ports import Dialect

if TYPE_CHECKING:
    from gateway_guard.asgi.engine import Engine

CHALLENGE = b"x-gateway-guard-challenge"
CODE = "challenge_required"
TITLE = "A challenge is to be met first"
BODY_LIMIT = 16_384
Headers = list[tuple[bytes, bytes]]


class Proof(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a caller, or the operator's web hook, sends."""

    proof: str


async def met(engine: Engine, identity: Identity, token: str) -> tuple[str, ...]:
    """The rungs whose challenge this caller has met. Of whom the view knows nothing, nothing is asked."""
    desk, standing = engine.desk, engine.gate.view.standings.get(identity.account)
    if desk is None or standing is None:
        return ()
    return await desk.met(identity.account, standing.cluster, token, engine.clock())


async def ask(engine: Engine, scope: Scope, send: Send, dialect: Dialect, decision: Decision) -> None:
    """Answer a request that is not served until a challenge is met."""
    gate, desk = engine.gate, engine.desk
    assert desk is not None  # noqa: S101 - there is one whenever a rung challenges
    cluster = gate.view.clusters.get(decision.cluster)
    bound = next((rung.at for rung in gate.rules.policy.ladder if rung.id == decision.rung), decision.score)
    offer = await desk.offer(decision, cluster.size if cluster is not None else 1, decision.score - bound)
    path = scope.get("root_path", "") + desk.path
    detail, told = _detail(decision, offer, path), _told(decision, offer, path)
    if engine.appeals_path:
        told["appeals"] = scope.get("root_path", "") + engine.appeals_path
    own = [(DECISION, decision.id.encode()), (CHALLENGE, _header(offer, path)), (b"x-should-retry", b"false")]
    if any(name == b"accept" and MEDIA in value.lower() for name, value in scope["headers"]):
        await _send(send, 403, *_problem(403, CODE, TITLE, detail, own, **told))
        return
    body = dialect.error(403, CODE, detail, details=told, request_id=decision.id)
    await _send(send, 403, body, _json_headers(body, own))


async def redeem(engine: Engine, scope: Scope, receive: Receive, send: Send) -> None:
    """The endpoint that gives a pass for a proof."""
    await _send(send, *await _redeemed(engine, scope, receive))


async def _redeemed(engine: Engine, scope: Scope, receive: Receive) -> tuple[int, bytes, Headers]:
    desk = engine.desk
    if desk is None or scope["method"] != "POST":
        return 405, *_problem(405, "method", "Wrong method", "POST a proof here to get a pass.", [(b"allow", b"POST")])
    held = HeldBody(receive)
    await held.take(BODY_LIMIT)
    if held.end == "too_large":
        return 413, *_problem(413, "too-large", "Too large", f"A proof has at most {BODY_LIMIT} bytes.")
    try:
        given = await desk.redeem(msgspec.json.decode(held.raw(), type=Proof).proof, at := engine.clock())
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 400, *_problem(400, "unreadable", "Unreadable", 'Send a JSON object such as {"proof": "..."}.')
    except ProofRefused as refused:
        return refused.status, *_problem(refused.status, refused.code, "No pass for this", refused.message)
    except StoreError:
        return 503, *_problem(503, "try-again", "Not now", "Proofs cannot be taken at the moment. Try again in some seconds.", [(b"retry-after", b"5")])
    body = orjson.dumps({"pass": given.token, "header": PASS.decode(), "expires_in": int(given.expires - at)})
    return 200, body, _json_headers(body)


def _told(decision: Decision, offer: Offer, path: str) -> dict[str, Any]:
    """What a program needs to go on."""
    told: dict[str, Any] = {"token": offer.token, "expires_in": int(offer.expires - decision.at), "redeem": path, "header": PASS.decode()}
    if offer.puzzle is None:
        told = {"kind": "step_up", "url": offer.url, **told}
    else:
        told = {"kind": "proof_of_work", "algorithm": offer.puzzle.algorithm, "work": offer.puzzle.work, "parts": PARTS, **told}
    return {"decision": decision.id, "action": decision.action.label, "challenge": told}


def _detail(decision: Decision, offer: Offer, path: str) -> str:
    if offer.puzzle is None:
        return f"Before this account is served again, a person has to go to {offer.url} . Decision {decision.id}."
    how = "gateway_guard.client.ChallengeAuth does so by itself"
    return f"Before this account is served again, it has to show a proof of work: solve the challenge and POST it to {path} ({how}). Decision {decision.id}."


def _header(offer: Offer, path: str) -> bytes:
    """All that a client needs, without reading the body: a structured field (RFC 9651), an item with parameters."""
    if offer.puzzle is None:
        return f"step_up;url={quoted(offer.url)}".encode()
    puzzle = offer.puzzle
    return f"proof_of_work;algorithm={puzzle.algorithm};work={puzzle.work};path={quoted(path)};token={quoted(offer.token)}".encode()


def _problem(status: int, code: str, title: str, detail: str, more: Headers | None = None, **members: Any) -> tuple[bytes, Headers]:
    body = problem(status, code.replace("_", "-"), title, detail, **members)
    return body, headers_of(body, more or [])


def _json_headers(body: bytes, more: Headers | None = None) -> Headers:
    return [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), (b"cache-control", b"no-store"), *(more or [])]


async def _send(send: Send, status: int, body: bytes, headers: Headers) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
