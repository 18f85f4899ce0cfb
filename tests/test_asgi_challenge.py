"""Challenges at the edge: what a challenged caller gets, the endpoint for proofs, and what of it reaches whom."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import jwt
import orjson
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import ASGIApp

from gateway_guard import GatewayGuard
from gateway_guard.asgi.middleware import GatewayGuard as Guard
from gateway_guard.challenge.work import Puzzle, solve
from gateway_guard.client.instructions import instructions
from tests.fakes import KEY, Answer, Call, ModelServer, call, chat, policy_file
from tests.test_challenge_sdks import LADDER, suspects

pytestmark = pytest.mark.anyio
PATH = "/.well-known/gateway-guard/challenge"
BEARER = (b"authorization", b"Bearer sk-a")
MESSAGE = orjson.dumps({"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hello"}]})
PERSON = LADDER.replace("{work: {effort: 10ms, most: 1s}}", '{step_up: {url: "https://console.example.com/verify", key_file: secret}}')
SECRET = b"a secret that the operator's pages share"


def guarded(folder: Path, policy: str = LADDER) -> tuple[Guard, ModelServer]:
    (folder / "secret").write_bytes(SECRET)
    server = ModelServer()
    guard = GatewayGuard(server, policy_file(folder, policy), key=KEY)
    guard.engine.gate.view = suspects("sk-a", "sk-b")
    return guard, server


async def ask(app: ASGIApp, *headers: tuple[bytes, bytes], key: bytes = b"sk-a", path: str = "/v1/chat/completions", body: bytes | None = None) -> Answer:
    own = [(b"authorization", b"Bearer " + key), (b"content-type", b"application/json"), *headers]
    return await call(app, body, path=path, headers=own).run()


async def hand_in(app: ASGIApp, proof: str, path: str = PATH) -> Answer:
    return await Call(app, path, [orjson.dumps({"proof": proof})], []).run()


def solved(answer: Answer) -> str:
    asked = instructions(answer.headers["x-gateway-guard-challenge"])
    assert asked is not None
    assert asked.puzzle is not None
    return solve(asked.puzzle)


async def a_pass(app: ASGIApp) -> tuple[bytes, bytes]:
    given = await hand_in(app, solved(await ask(app)))
    return given.json()["header"].encode(), given.json()["pass"].encode()


def written(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.glob("*.jsonl")}


async def test_a_challenged_request_is_told_all_that_a_program_needs(tmp_path: Path) -> None:
    guard, server = guarded(tmp_path)
    refused = await ask(guard)
    assert (refused.status, server.bodies) == (403, [])
    assert refused.headers["x-should-retry"] == "false"
    assert "retry-after" not in refused.headers
    assert refused.headers["cache-control"] == "no-store"
    error = refused.json()["error"]
    assert (error["code"], error["type"]) == ("challenge_required", "permission_error")
    told = error["gateway_guard"]
    assert told["decision"] == refused.headers["x-gateway-guard-decision"]
    assert told["decision"] in error["message"]
    assert told["action"] == "challenge"
    asked = instructions(refused.headers["x-gateway-guard-challenge"])
    assert asked is not None
    challenge = told["challenge"]
    assert asked.puzzle == Puzzle(challenge["token"], challenge["algorithm"], challenge["work"])
    assert (asked.path, challenge["redeem"], challenge["expires_in"], challenge["parts"]) == (PATH, PATH, 900, 8)


async def test_a_pass_opens_the_door_for_its_account_only(tmp_path: Path) -> None:
    guard, server = guarded(tmp_path)
    shown = await a_pass(guard)
    assert (await ask(guard, shown)).status == 200
    assert (await ask(guard, shown, key=b"sk-b")).status == 403, "a member's solution does not serve another one"
    assert (await ask(guard)).status == 403
    assert len(server.bodies) == 1


async def test_each_dialect_has_its_own_form(tmp_path: Path) -> None:
    guard, _ = guarded(tmp_path)
    refused = await ask(guard, path="/v1/messages", body=MESSAGE)
    held = refused.json()
    assert (refused.status, held["type"], held["error"]["type"]) == (403, "error", "permission_error")
    assert held["error"]["gateway_guard"]["challenge"]["kind"] == "proof_of_work"


async def test_problem_details_for_those_who_ask_for_them(tmp_path: Path) -> None:
    guard, _ = guarded(tmp_path)
    refused = await ask(guard, (b"accept", b"application/problem+json, application/json;q=0.5"))
    assert refused.headers["content-type"] == "application/problem+json"
    held = refused.json()
    assert (held["status"], held["type"]) == (403, "urn:gateway-guard:problem:challenge-required")
    assert held["detail"]
    assert held["challenge"]["token"]
    assert refused.headers["x-gateway-guard-challenge"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{}", 400),
        (b"[", 400),
        (b"[" * 10_000, 400),
        (b"\xff", 400),
        (b'{"proof": 5}', 400),
        (b'{"proof": "x", "more": 1}', 400),
        (b'{"proof": "x"}', 403),
        (b'{"proof": "\xc3\xa9~1.2.3.4.5.6.7.8"}', 403),
        (b'{"proof": "' + b"x" * 20_000 + b'"}', 413),
    ],
)
async def test_what_is_handed_in_wrongly_is_a_problem(tmp_path: Path, body: bytes, status: int) -> None:
    guard, _ = guarded(tmp_path)
    answer = await Call(guard, PATH, [body], []).run()
    assert (answer.status, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    assert answer.headers["cache-control"] == "no-store"


async def test_only_posting_hands_in(tmp_path: Path) -> None:
    guard, server = guarded(tmp_path)
    answer = await Call(guard, PATH, [b""], [], method="GET").run()
    assert (answer.status, answer.headers["allow"]) == (405, "POST")
    assert server.scopes == []


async def test_without_challenges_the_path_is_the_applications(tmp_path: Path) -> None:
    server = ModelServer()
    guard = GatewayGuard(server, policy_file(tmp_path, "quotas: {day: {limit: 9/day}}\n"), key=KEY)
    await Call(guard, PATH, [b"x"], []).run()
    assert server.bodies == [b"x"]


async def test_neither_pass_nor_its_order_reaches_the_model_server(tmp_path: Path) -> None:
    guard, server = guarded(tmp_path)
    await ask(guard, await a_pass(guard))
    await ask(guard, (b"x-gateway-guard-pass", b"nonsense"), key=b"sk-unsuspected")
    assert len(server.scopes) == 2
    assert not any(name == b"x-gateway-guard-pass" for scope in server.scopes for name, _ in scope["headers"])


async def test_a_mounted_guard_tells_the_whole_path(tmp_path: Path) -> None:
    guard, server = guarded(tmp_path)
    app = Starlette(routes=[Mount("/llm", guard)])
    refused = await ask(app, path="/llm/v1/chat/completions")
    asked = instructions(refused.headers["x-gateway-guard-challenge"])
    assert asked is not None
    assert asked.path == "/llm" + PATH
    given = (await hand_in(app, solved(refused), asked.path)).json()
    assert (await ask(app, (b"x-gateway-guard-pass", given["pass"].encode()), path="/llm/v1/chat/completions")).status == 200
    assert len(server.bodies) == 1


async def test_shadow_asks_nobody(tmp_path: Path) -> None:
    for policy in (LADDER.replace("challenge: work}", "challenge: work, mode: shadow}"), LADDER):
        guard, server = guarded(tmp_path, policy)
        if "mode: shadow" not in policy:
            path = tmp_path / "policy.yaml"
            path.write_text(path.read_text().replace("mode: enforce", "mode: shadow"))
            guard = GatewayGuard(server, path, key=KEY)
            guard.engine.gate.view = suspects("sk-a")
        assert (await ask(guard)).status == 200
        assert guard.engine.counts["challenge"] == 1


async def test_those_of_whom_nothing_is_known_are_asked_nothing(tmp_path: Path) -> None:
    guard, _ = guarded(tmp_path)
    assert (await ask(guard, key=b"sk-honest")).status == 200


async def test_a_profile_degrades_those_who_have_met_the_challenge(tmp_path: Path) -> None:
    policy = LADDER.replace("challenge: work}", "challenge: work, profile: plain}") + "profiles: {plain: {max_tokens: 5}}\n"
    guard, server = guarded(tmp_path, policy)
    served = await ask(guard, await a_pass(guard), body=chat("hello", max_tokens=500))
    assert "x-gateway-guard-degraded" in served.headers
    assert orjson.loads(server.bodies[0])["max_tokens"] == 5


async def test_an_operators_result_serves_the_account(tmp_path: Path) -> None:
    guard, _ = guarded(tmp_path, PERSON)
    refused = await ask(guard)
    told = refused.json()["error"]["gateway_guard"]["challenge"]
    asked = instructions(refused.headers["x-gateway-guard-challenge"])
    assert asked is not None
    assert asked.url == told["url"] == f"https://console.example.com/verify?challenge={told['token']}"
    assert told["url"] in refused.json()["error"]["message"]
    now = guard.engine.clock()
    given = await hand_in(guard, jwt.encode({"challenge": told["token"], "met": True, "iat": now, "exp": now + 60}, SECRET, "HS256"))
    assert given.status == 200
    assert (await ask(guard)).status == 200, "without a pass"
    assert (await ask(guard, key=b"sk-b")).status == 403


async def test_a_step_up_key_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(Exception, match=r"challenges\.work\.step_up\.key_file: .*nowhere: cannot be read"):
        guarded(tmp_path, PERSON.replace("key_file: secret", "key_file: nowhere"))


async def test_a_reloaded_policy_keeps_passes_and_grants(tmp_path: Path) -> None:
    """Unless their own rule has changed."""
    guard, _ = guarded(tmp_path)
    shown = await a_pass(guard)
    path = policy_file(tmp_path, LADDER + "quotas: {day: {limit: 9/day}}\n")
    await guard.engine._reload()
    assert "day" in guard.engine.gate.rules.policy.quotas
    assert (await ask(guard, shown)).status == 200
    path.write_text(path.read_text().replace("effort: 10ms", "effort: 11ms"))
    await guard.engine._reload()
    assert (await ask(guard, shown)).status == 403


async def test_recordings_tell_who_had_met_what_and_keep_no_pass(tmp_path: Path) -> None:
    guard, _ = guarded(tmp_path, LADDER + "record: {exchanges: log.jsonl, decisions: decisions.jsonl}\n")
    header = await a_pass(guard)
    await ask(guard, header)
    await guard.engine.close()
    texts = written(tmp_path)
    assert not any(header[1].decode() in text for text in texts.values())
    exchanges = [orjson.loads(line) for name, text in texts.items() if name.startswith("log") for line in text.splitlines()]
    assert [held.get("met") for held in exchanges] == [None, ["prove"]]
    decisions: list[dict[str, Any]] = [orjson.loads(line) for name, text in texts.items() if name.startswith("decisions") for line in text.splitlines()]
    assert [(held["action"], held["served"]) for held in decisions] == [("challenge", False), ("allow", True)]
    assert "pass.prove" in decisions[1]["reasons"]


async def test_many_challenges_at_once_are_independent(tmp_path: Path) -> None:
    guard, server = guarded(tmp_path)
    refused = await asyncio.gather(*(ask(guard) for _ in range(20)))
    tokens = {answer.json()["error"]["gateway_guard"]["challenge"]["token"] for answer in refused}
    assert len(tokens) == 20
    assert server.bodies == []
