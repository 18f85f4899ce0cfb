"""The middleware as an ASGI application sees it: what passes untouched, what is refused, and that everything ends settled."""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
import signal
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.types import Message, Receive, Scope, Send

from gateway_guard import GatewayGuard
from gateway_guard.errors import PolicyError, UsageError
from gateway_guard.view import Cluster, Standing, View
from tests.fakes import BEARER, CHAT, KEY, Call, ModelServer, answer, call, chat, events, policy_file, start, streamed

pytestmark = pytest.mark.anyio
IN_FLIGHT = "quotas:\n  flight: {limit: 1 in flight}\n"


def guard(app: Any, folder: Path, text: str = "") -> GatewayGuard:
    return GatewayGuard(app, policy_file(folder, text), key=KEY)


async def test_lifespan_websockets_and_unguarded_paths_pass_untouched(tmp_path: Path) -> None:
    seen: list[tuple[Scope, Receive, Send]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    async def receive() -> Message:
        raise AssertionError("nothing may be taken")

    async def send(message: Message) -> None:
        raise AssertionError("nothing may be sent")

    mounted = guard(app, tmp_path)
    scopes: list[Scope] = [
        {"type": "lifespan"},
        {"type": "websocket", "path": CHAT},
        {"type": "http", "method": "POST", "path": "/v1/models", "headers": []},
        {"type": "http", "method": "GET", "path": CHAT, "headers": []},
    ]
    for scope in scopes:
        await mounted(scope, receive, send)
    assert [s for s, _, _ in seen] == scopes
    assert all(s is scope and r is receive for (s, r, _), scope in zip(seen, scopes, strict=True))
    assert all(d is send for s, _, d in seen if s["type"] != "lifespan")


VARIANTS = ["/v1//chat/completions", "//v1/chat/completions", "/v1/chat/completions/", "/v1/./chat/completions", "/v1/x/../chat/completions"]


async def test_what_was_recorded_is_on_disk_before_the_server_hears_that_it_may_end(tmp_path: Path) -> None:
    """An application without a lifespan loses nothing either: its guard goes on recording."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await ModelServer()(scope, receive, send)
            return
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        await send({"type": "lifespan.shutdown.complete"})

    mounted = guard(app, tmp_path, "record: {decisions: d.jsonl}\n")
    inbox: asyncio.Queue[Message] = asyncio.Queue()
    written: list[bytes] = []

    async def send(message: Message) -> None:
        written.append(b"".join(content for name, content in contents(tmp_path).items() if name.startswith("d.")))

    lifespan = asyncio.create_task(mounted({"type": "lifespan"}, inbox.get, send))
    inbox.put_nowait({"type": "lifespan.startup"})
    assert (await call(mounted).run()).status == 200
    inbox.put_nowait({"type": "lifespan.shutdown"})
    await lifespan
    assert [content.count(b"\n") for content in written] == [0, 1]


@pytest.mark.parametrize("path", VARIANTS)
async def test_a_path_that_a_server_may_normalise_is_guarded(path: str, tmp_path: Path) -> None:
    assert (await call(guard(ModelServer(), tmp_path), headers=[], path=path).run()).status == 401


async def test_the_application_gets_the_same_body_and_the_client_the_same_answer(tmp_path: Path) -> None:
    server = ModelServer()
    body = chat("a" * 5000)
    got = await call(guard(server, tmp_path), [body[:1], body[1:100], body[100:]]).run()
    assert server.bodies == [body]
    assert (got.status, got.body) == (200, answer())
    assert got.headers["content-length"] == str(len(answer()))
    assert len(got.headers["x-gateway-guard-decision"]) == 20


async def test_a_stream_is_never_held_back(tmp_path: Path) -> None:
    """Each part has reached the client before the application makes the next one."""
    sent: list[int] = []

    async def script(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, b"text/event-stream")
        for chunk in events():
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            sent.append(len(request.sent))
        await send({"type": "http.response.body", "body": b""})

    request = call(guard(ModelServer(script), tmp_path), chat(stream=True))
    got = await request.run()
    assert sent == [2, 3, 4]
    assert got.chunks == [*events(), b""]


async def test_two_guards_may_be_mounted(tmp_path: Path) -> None:
    inner = guard(ModelServer(streamed(events())), tmp_path, "quotas:\n  minute: {limit: 5/min}\n")
    outer = GatewayGuard(inner, policy_file(tmp_path, "quotas:\n  minute: {limit: 2/min}\n", "outer.yaml"), key=KEY)
    answers = [await call(outer, chat(stream=True)).run() for _ in range(3)]
    assert [a.status for a in answers] == [200, 200, 429]
    names = [name for name, _ in answers[0].raw_headers]
    assert len(names) == len(set(names)), "each header once"
    assert answers[0].headers["x-ratelimit-limit-requests"] == "2", "the caller sees the outer guard's figures"


async def test_a_client_that_leaves_before_its_body_is_complete_reaches_nobody(tmp_path: Path) -> None:
    server = ModelServer()
    request = Call(guard(server, tmp_path), CHAT, [chat()[:10]], BEARER, more=True)
    request.leave()
    assert not (await request.run()).started
    assert server.bodies == []


async def test_the_application_sees_the_client_leave_and_the_reservation_comes_back(tmp_path: Path) -> None:
    async def script(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, b"text/event-stream")
        await send({"type": "http.response.body", "body": events()[0], "more_body": True})
        server.messages.append(await receive())

    server = ModelServer(script)
    mounted = guard(server, tmp_path, IN_FLIGHT)
    for _ in range(3):
        request = call(mounted, chat(stream=True))
        request.leave()
        assert (await request.run()).status == 200
        assert server.messages[-1]["type"] == "http.disconnect"


@pytest.mark.parametrize("stage", ["before", "between", "after"])
async def test_an_application_that_raises_is_settled_and_its_error_goes_on(stage: str, tmp_path: Path) -> None:
    async def script(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        if stage != "before":
            await start(send)
        if stage == "after":
            await send({"type": "http.response.body", "body": answer()})
        raise RuntimeError("broken")

    mounted = guard(ModelServer(script), tmp_path, IN_FLIGHT)
    for _ in range(3):
        with pytest.raises(RuntimeError, match="broken"):
            await call(mounted).run()


async def test_a_send_that_fails_and_a_task_that_is_cancelled_are_settled(tmp_path: Path) -> None:
    async def hang(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await asyncio.Event().wait()

    mounted = guard(ModelServer(hang), tmp_path, IN_FLIGHT)
    for _ in range(3):
        request = call(mounted)
        task = asyncio.create_task(request.run())
        await request.received.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    request = call(mounted)

    async def gone(message: Message) -> None:
        raise OSError("the client has gone")

    for _ in range(2):
        with pytest.raises(OSError, match="gone"):
            await mounted(request._scope, call(mounted)._inbox.get, gone)


BROKEN: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("no JSON", b"{"),
    ("trailing data", chat() + b"x"),
    ("a list", b"[]"),
    ("a byte order mark", b"\xef\xbb\xbf" + chat()),
    ("invalid UTF-8", chat("@").replace(b"@", b"\xff")),
    ("a lone surrogate", chat("@").replace(b"@", b"\\ud800")),
    ("NaN", chat(temperature=0).replace(b":0", b":NaN")),
    ("deep nesting", b'{"model":"m","messages":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
    ("a duplicate key", b'{"model":"m","model":"n","messages":[]}'),
    ("a duplicate key far down", b'{"model":"m","messages":[{"role":"user","content":"a","content":"b"}]}'),
    ("a duplicate key in disguise", b'{"model":"m","mod\\u0065l":"n","messages":[]}'),
    ("messages that are no list", b'{"model":"m","messages":{}}'),
    ("a model that is no text", b'{"model":7,"messages":[]}'),
    ("a huge number", b'{"model":"m","messages":[],"max_tokens":1e400}'),
    ("a huge integer", b'{"model":"m","messages":[],"max_tokens":' + b"9" * 400 + b"}"),
    ("a maximum that is a text", b'{"model":"m","messages":[],"max_tokens":"7"}'),
    ("a negative maximum", b'{"model":"m","messages":[],"max_tokens":-1}'),
]


@pytest.mark.parametrize(("name", "body"), BROKEN, ids=[name for name, _ in BROKEN])
async def test_what_cannot_be_read_is_refused_in_the_dialect(name: str, body: bytes, tmp_path: Path) -> None:
    server = ModelServer()
    got = await call(guard(server, tmp_path), body).run()
    assert (got.status, server.bodies) == (400, [])
    assert got.json()["error"]["type"] == "invalid_request_error"
    anthropic = await call(guard(server, tmp_path), body, path="/v1/messages", headers=[(b"x-api-key", b"k")]).run()
    assert (anthropic.status, anthropic.json()["type"]) == (400, "error")


async def test_what_may_pass_unread_is_still_counted(tmp_path: Path) -> None:
    server = ModelServer()
    mounted = guard(server, tmp_path, "guard: {unreadable: pass}\nquotas:\n  minute: {limit: 2/min}\n")
    assert [(await call(mounted, b"{").run()).status for _ in range(3)] == [200, 200, 429]
    assert server.bodies == [b"{", b"{"]


async def test_an_ambiguous_body_that_may_pass_is_forwarded_as_it_was_read(tmp_path: Path) -> None:
    server = ModelServer()
    mounted = guard(server, tmp_path, "guard: {unreadable: pass}\n")
    await call(mounted, b'{"model":"cheap","model":"dear","messages":[]}').run()
    assert server.bodies == [b'{"model":"dear","messages":[]}']
    assert dict(server.scopes[0]["headers"])[b"content-length"] == b"30"


async def test_a_body_over_the_cap_is_refused_before_it_is_read(tmp_path: Path) -> None:
    server = ModelServer()
    mounted = guard(server, tmp_path, "guard: {body_limit: 100}\n")
    declared = Call(mounted, CHAT, [], [*BEARER, (b"content-length", b"101")], more=True)
    assert (await declared.run()).status == 413
    streamed_in = await call(mounted, [b"x" * 60, b"x" * 60, b"x" * 60]).run()
    assert (streamed_in.status, server.bodies) == (413, [])
    assert streamed_in.json()["error"]["code"] == "request_too_large"


async def test_gzip_is_read_and_handed_on_plain(tmp_path: Path) -> None:
    server = ModelServer()
    body = chat("b" * 1000)
    headers = [*BEARER, (b"content-encoding", b"gzip")]
    assert (await call(guard(server, tmp_path), gzip.compress(body), headers=headers).run()).status == 200
    assert server.bodies == [body]
    assert b"content-encoding" not in dict(server.scopes[0]["headers"])


@pytest.mark.parametrize(
    ("body", "coding", "status"),
    [
        (gzip.compress(b" " * 10_000_000), b"gzip", 413),
        (gzip.compress(chat())[:-4], b"gzip", 400),
        (chat(), b"gzip", 400),
        (chat(), b"br", 400),
        (gzip.compress(gzip.compress(chat())), b"gzip, gzip", 400),
    ],
)
async def test_odd_codings_are_refused(body: bytes, coding: bytes, status: int, tmp_path: Path) -> None:
    headers = [*BEARER, (b"content-encoding", coding)]
    assert (await call(guard(ModelServer(), tmp_path), body, headers=headers).run()).status == status


async def test_shadow_never_acts(tmp_path: Path) -> None:
    server = ModelServer()
    mounted = guard(server, tmp_path, "guard: {body_limit: 1000}\nquotas:\n  minute: {limit: 1/min}\n")
    policy = policy_file(tmp_path)
    policy.write_text(policy.read_text().replace("enforce", "shadow") + "guard: {body_limit: 1000}\nquotas:\n  minute: {limit: 1/min}\n")
    mounted = GatewayGuard(server, policy, key=KEY)
    bodies = [chat(), chat(), b"{", b'{"model":"m","model":"n","messages":[]}', b"y" * 2000, b""]
    for body in bodies:
        assert (await call(mounted, body).run()).status == 200
        assert (await call(mounted, body, headers=[]).run()).status == 200
    assert server.bodies == [b for body in bodies for b in (body, body)]


async def test_a_refusal_says_what_an_openai_client_needs(tmp_path: Path) -> None:
    mounted = guard(ModelServer(), tmp_path, "quotas:\n  minute: {limit: 1/min}\n  day: {limit: 1M tokens/day}\n")
    first, second = [await call(mounted).run() for _ in range(2)]
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert second.status == 429
    assert 59 <= int(second.headers["retry-after"]) <= 60
    assert 59_000 <= int(second.headers["retry-after-ms"]) <= 60_000
    assert second.headers["x-should-retry"] == "true"
    assert '"minute";q=1;w=60;qu="requests"' in second.headers["ratelimit-policy"]
    assert '"minute";r=0;t=60' in second.headers["ratelimit"]
    error = second.json()["error"]
    detail = error["gateway_guard"]
    assert detail["decision"] == second.headers["x-gateway-guard-decision"]
    assert (detail["quota"], detail["left"], detail["limit"]) == ("minute", 0, 1)
    assert detail["decision"] in error["message"]
    assert "minute" in error["message"]


async def test_a_refusal_says_what_an_anthropic_client_needs(tmp_path: Path) -> None:
    mounted = guard(ModelServer(), tmp_path, "quotas:\n  minute: {limit: 1/min}\n")
    body = orjson.dumps({"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hello"}]})
    headers = [(b"x-api-key", b"sk-bob")]
    first, second = [await call(mounted, body, path="/v1/messages", headers=headers).run() for _ in range(2)]
    assert first.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert (second.status, second.json()["error"]["type"]) == (429, "rate_limit_error")


async def test_a_delayed_request_is_served_and_leaves_when_its_client_leaves(tmp_path: Path) -> None:
    server = ModelServer()
    mounted = guard(server, tmp_path, "throttle: {wait: 60s}\nquotas:\n  second: {limit: 1000/min, burst: 1}\n  flight: {limit: 2 in flight}\n")
    assert (await call(mounted).run()).status == 200
    assert (await call(mounted).run()).status == 200, "held for a few hundredths of a second"
    slow = guard(server, tmp_path, "throttle: {wait: 60s}\nquotas:\n  second: {limit: 1/min, burst: 1}\n  flight: {limit: 2 in flight}\n")
    assert (await call(slow).run()).status == 200
    request = call(slow)
    request.leave()
    assert not (await asyncio.wait_for(request.run(), 5)).started
    assert len(server.bodies) == 3


async def test_hundreds_at_once_never_overspend_and_leak_nothing(tmp_path: Path) -> None:
    """Every request asks for 10 tokens and uses them; 25 of 400 fit, whatever the order in which they start and end."""
    running, most = 0, 0

    async def script(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(len(server.bodies) % 7):
            await asyncio.sleep(0)
        await start(send)
        await send({"type": "http.response.body", "body": answer(output=10, given=0)})
        running -= 1

    server = ModelServer(script)
    text = "reservation: {output: 10}\nquotas:\n  day: {limit: 250 output tokens/day, reserve: asked}\n  flight: {limit: 5 in flight}\n"
    mounted = guard(server, tmp_path, text)
    served = 0
    for _ in range(20):
        answers = await asyncio.gather(*(call(mounted, chat(max_tokens=10)).run() for _ in range(20)))
        served += sum(a.status == 200 for a in answers)
    assert most <= 5
    assert served == 25


DIM = """signals: {coordination: {}, harvest: {}}
profiles: {terse: {max_tokens: 50, strip: [logprobs, choices]}}
ladder: [{id: dim, at: 2, do: degrade, profile: terse}]
"""


@pytest.mark.parametrize(("mode", "asked"), [("enforce", {"max_tokens": 50}), ("shadow", {"max_tokens": 500, "n": 3})])
async def test_a_degraded_request_asks_for_less_and_the_answer_says_so(mode: str, asked: dict[str, int], tmp_path: Path) -> None:
    server = ModelServer()
    mounted = guard(server, tmp_path, DIM.replace("profile: terse", f"profile: terse, mode: {mode}"))
    account = mounted.engine.intake.identifier.identify_key("sk-alice").account
    standing = Standing("c1", 1.0, 2.0, 2.0, ("content", "identity"))
    mounted.engine.gate.view = View(1, 1.0, {account: standing}, {"c1": Cluster("c1", 9)}, "calibrated")
    got = await call(mounted, chat(max_tokens=500, n=3)).run()
    assert got.status == 200
    sent = orjson.loads(server.bodies[0])
    assert {name: sent[name] for name in ("max_tokens", "n") if name in sent} == asked
    assert dict(server.scopes[0]["headers"]).get(b"content-length", b"%d" % len(server.bodies[0])) == b"%d" % len(server.bodies[0])
    assert got.headers.get("x-gateway-guard-degraded") == ("max_tokens=50, n" if mode == "enforce" else None)
    other = await call(mounted, chat(max_tokens=500), headers=[(b"authorization", b"Bearer sk-bob")]).run()
    assert (orjson.loads(server.bodies[1])["max_tokens"], "x-gateway-guard-degraded" in other.headers) == (500, False)


async def test_a_changed_policy_is_adopted_and_a_bad_one_is_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mounted = guard(ModelServer(), tmp_path, "quotas:\n  minute: {limit: 10/min}\n")
    for _ in range(4):
        assert (await call(mounted).run()).status == 200
    path = policy_file(tmp_path, "quotas:\n  minute: {limit: 5/min}\n")
    await reloaded(mounted, path, 1)
    assert [(await call(mounted).run()).status for _ in range(2)] == [200, 429], "four of five were spent already"
    path.write_text("version: 1\nname: test\nmode: enforce\nquotas:\n  minute: {limit: many}\n")
    with caplog.at_level(logging.ERROR, "gateway_guard"):
        await reloaded(mounted, path, 2)
    assert "policy.yaml:5" in caplog.text
    assert "last good one" in caplog.text
    assert (await call(mounted).run()).status == 429


async def test_sighup_reloads_what_looks_unchanged(tmp_path: Path) -> None:
    mounted = guard(ModelServer(), tmp_path, "quotas:\n  minute: {limit: 10/min}\n")
    before = mounted.engine.gate.rules
    mounted.engine._looked = 0.0
    os.kill(os.getpid(), signal.SIGHUP)
    mounted.engine.watch()
    assert mounted.engine._reloading is not None
    await mounted.engine._reloading
    assert mounted.engine.gate.rules is not before
    mounted.engine._looked = 0.0
    mounted.engine.watch()
    assert mounted.engine._reloading is None, "once for each signal"


async def test_a_policy_that_changes_while_a_body_comes_strips_its_own_headers(tmp_path: Path) -> None:
    """Whoever begins a request before a reload cannot state an identity after it."""
    server = ModelServer()
    mounted = guard(server, tmp_path)
    folder = tmp_path / "other"
    folder.mkdir()
    other = guard(server, folder, "identity: {header: {account: x-account}, trusted_proxies: [10.0.0.0/8]}\n")

    async def reloading(scope: Scope, receive: Receive, send: Send) -> None:
        async def taken() -> Message:
            mounted.engine.intake = other.engine.intake
            return await receive()

        await mounted(scope, taken, send)

    assert (await call(reloading, headers=[*BEARER, (b"x-account", b"acme")]).run()).status == 200
    assert b"x-account" not in dict(server.scopes[0]["headers"])


async def reloaded(mounted: GatewayGuard, path: Path, stamp: int) -> None:
    os.utime(path, (stamp, stamp))
    engine = mounted.engine
    engine._looked = 0.0
    engine.watch()
    assert engine._reloading is not None
    await engine._reloading


async def test_it_mounts_without_arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_GUARD_POLICY", str(policy_file(tmp_path)))
    monkeypatch.setenv("GATEWAY_GUARD_KEY", "0123456789abcdef" * 4)
    assert (await call(GatewayGuard(ModelServer())).run()).status == 200


def test_it_does_not_start_unguarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_GUARD_POLICY", raising=False)
    with pytest.raises(UsageError, match="GATEWAY_GUARD_POLICY"):
        GatewayGuard(ModelServer())
    with pytest.raises(PolicyError):
        guard(ModelServer(), tmp_path, "quotass: {}\n")


async def test_no_prompt_leaves_a_trace(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What was asked is in no answer of ours, no log record, no decision; the key is in no file at all."""
    mark, secret = "xyzzy-marked-prompt", b"sk-marked-secret"
    text = "record: {decisions: d.jsonl, exchanges: e.jsonl}\nquotas:\n  minute: {limit: 1/min}\n"
    mounted = guard(ModelServer(), tmp_path, text)
    headers = [(b"authorization", b"Bearer " + secret)]
    with caplog.at_level(logging.DEBUG):
        answers = [await call(mounted, body, headers=headers).run() for body in (chat(mark), chat(mark), b'{"' + mark.encode(), mark.encode())]
    await mounted.engine.close()
    assert [a.status for a in answers] == [200, 429, 400, 400]
    for got in answers[1:]:
        assert mark.encode() not in got.body + repr(got.headers).encode()
    assert mark not in caplog.text
    written = contents(tmp_path)
    assert len(written) >= 3
    for name, content in written.items():
        assert secret not in content, name
        assert mark.encode() not in content or name.startswith("e."), name


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
