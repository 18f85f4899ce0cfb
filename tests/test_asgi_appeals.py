"""The appeals endpoint: one's own decisions only, bounded, limited, and the same answer for what is somebody else's as for what does not exist."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway_guard import GatewayGuard
from gateway_guard.errors import StoreError
from tests.fakes import BEARER, KEY, Answer, Call, ModelServer, call, policy_file

pytestmark = pytest.mark.anyio
PATH = "/.well-known/gateway-guard/appeals"
POLICY = "quotas: {day: {limit: 1/day}}\nstate: state.sqlite\n"
MALLORY = [(b"authorization", b"Bearer sk-mallory")]


async def refused(guard: GatewayGuard) -> str:
    """The id of a refusal of alice's."""
    for _ in range(2):
        answer = await call(guard).run()
    assert answer.status == 429
    found: str = answer.json()["error"]["gateway_guard"]["decision"]
    return found


async def post(guard: GatewayGuard, body: Any, headers: Any = BEARER, *, path: str = PATH, method: str = "POST") -> Answer:
    return await Call(guard, path, [body if isinstance(body, bytes) else orjson.dumps(body)], headers, method=method).run()


def guarded(folder: Path, text: str = POLICY) -> GatewayGuard:
    return GatewayGuard(ModelServer(), policy_file(folder, text), key=KEY)


async def test_an_appeal_is_taken_once(tmp_path: Path) -> None:
    guard = guarded(tmp_path)
    decision = await refused(guard)
    first = await post(guard, {"decision": decision, "reason": "please"})
    again = await post(guard, {"decision": decision, "reason": "please!"})
    assert (first.status, again.status) == (202, 200)
    assert first.json() == again.json()
    shown = await post(guard, b"", path=first.json()["self"], method="GET")
    assert (shown.status, shown.json()) == (200, first.json())
    assert guard.engine.keeper is not None
    assert [one.reason for one in guard.engine.keeper.ledger.appeals()] == ["please"]
    await guard.engine.close()


async def test_what_is_somebody_elses_is_like_what_does_not_exist(tmp_path: Path) -> None:
    guard = guarded(tmp_path)
    decision = await refused(guard)
    assert guard.engine.keeper is not None
    guard.engine.keeper._turn()  # written by now, and found by its id whoever asks
    mine = await post(guard, {"decision": decision})
    answers = [
        await post(guard, {"decision": decision}, MALLORY),
        await post(guard, {"decision": "0" * 20}, MALLORY),
        await post(guard, b"", MALLORY, path=mine.json()["self"], method="GET"),
        await post(guard, b"", MALLORY, path=PATH + "/a-" + "0" * 20, method="GET"),
        await post(guard, b"", MALLORY, path=PATH + "/" + "0" * 999, method="GET"),
        await post(guard, {"decision": "0" * 999}, MALLORY),
    ]
    assert {(answer.status, answer.body) for answer in answers} == {(404, answers[0].body)}
    assert decision not in answers[0].body.decode()
    await guard.engine.close()


@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        (b"{", BEARER, 400, "unreadable"),
        (b"[]", BEARER, 400, "unreadable"),
        (b'{"decision": 7}', BEARER, 400, "unreadable"),
        (b'{"decision": "d", "prompt": "text"}', BEARER, 400, "unreadable"),
        (b"[" * 8000, BEARER, 400, "unreadable"),
        (b"x" * 9000, BEARER, 413, "too-large"),
        (b'{"decision": "d"}', [], 401, "unidentified"),
        (b'{"decision": "d"}', [*BEARER, (b"x-api-key", b"another")], 401, "unidentified"),
        (b'{"decision": ""}', BEARER, 404, "unknown-decision"),
    ],
)
async def test_problems_are_told_as_rfc_9457_has_it(body: bytes, headers: Any, status: int, code: str, tmp_path: Path) -> None:
    guard = guarded(tmp_path)
    answer = await post(guard, body, headers)
    told = answer.json()
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert (told["status"], told["type"], bool(told["title"]), bool(told["detail"])) == (status, f"urn:gateway-guard:problem:{code}", True, True)
    await guard.engine.close()


@pytest.mark.parametrize(("method", "path", "allow"), [("GET", PATH, "POST"), ("DELETE", PATH + "/a-1", "GET"), ("POST", PATH + "/a-1", "GET")])
async def test_other_methods_are_refused(method: str, path: str, allow: str, tmp_path: Path) -> None:
    guard = guarded(tmp_path)
    answer = await post(guard, b"", path=path, method=method)
    assert (answer.status, answer.headers["allow"]) == (405, allow)


async def test_appeals_have_a_quota_of_their_own(tmp_path: Path) -> None:
    guard = guarded(tmp_path, POLICY + "appeals: {limit: 2/hour}\n")
    decision = await refused(guard)
    assert [(await post(guard, {"decision": "none"})).status for _ in range(3)] == [404, 404, 429]
    limited = await post(guard, {"decision": decision})
    assert (limited.status, int(limited.headers["retry-after"]) > 1000) == (429, True)
    assert (await post(guard, {"decision": decision}, MALLORY)).status == 404
    await guard.engine.close()


async def test_a_reason_is_bounded_and_escaped(tmp_path: Path) -> None:
    guard = guarded(tmp_path)
    decision = await refused(guard)
    await post(guard, {"decision": decision, "reason": "<script>\x1b[31m\u202eevil\n\U000e0041" + "a" * 5000})
    assert guard.engine.keeper is not None
    (kept,) = guard.engine.keeper.ledger.appeals()
    assert kept.reason.startswith("\\u003cscript\\u003e\\u001b[31m\\u202eevil\\u000a\\U000e0041aaa")
    assert (len(kept.reason) < 1100, kept.reason.isprintable()) == (True, True)
    await guard.engine.close()


async def test_a_path_of_ones_own_and_none(tmp_path: Path) -> None:
    guard = guarded(tmp_path, POLICY + "appeals: {path: /appeal}\n")
    decision = await refused(guard)
    assert (await post(guard, {"decision": decision}, path="/appeal")).status == 202
    assert (await post(guard, {"decision": decision})).status == 200, "the application's own"
    assert isinstance(guard.app, ModelServer)
    assert guard.app.scopes[-1]["path"] == PATH
    await guard.engine.close()
    off = guarded(tmp_path, POLICY + "appeals: {path: null}\n")
    await refused(off)
    assert "appeals" not in (await call(off).run()).json()["error"]["gateway_guard"]
    await post(off, b"")
    assert isinstance(off.app, ModelServer)
    assert off.app.scopes[-1]["path"] == PATH
    await off.engine.close()


async def test_without_a_state_file_nobody_is_sent_to_appeal(tmp_path: Path) -> None:
    guard = guarded(tmp_path, "quotas: {day: {limit: 1/day}}\n")
    await refused(guard)
    assert "appeals" not in (await call(guard).run()).json()["error"]["gateway_guard"]
    assert (await post(guard, b"{}")).status == 200, "the application's own"


async def test_a_state_file_that_fails_costs_no_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guard = guarded(tmp_path)
    decision = await refused(guard)

    def full(*_: object) -> None:
        raise StoreError("state.sqlite: disk full", retryable=True) from sqlite3.OperationalError()

    assert guard.engine.keeper is not None
    monkeypatch.setattr(guard.engine.keeper.ledger, "file", full)
    answer = await post(guard, {"decision": decision})
    assert (answer.status, answer.headers["retry-after"]) == (503, "60")
    assert (await call(guard, headers=MALLORY).run()).status == 200
    await guard.engine.close()
