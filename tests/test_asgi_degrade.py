"""Degraded and slowed answers as an ASGI server sees them: headers, lengths, what is counted, how they end; and state that comes back."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import orjson
import pytest
from starlette.types import Receive, Scope, Send

from gateway_guard import GatewayGuard
from gateway_guard.asgi.departure import ClientLeft
from gateway_guard.trace.decisions import DecisionRow, read_decisions
from gateway_guard.view import Cluster, Standing, View
from tests.fakes import BEARER, KEY, Answer, ModelServer, Script, call, chat, events, policy_file, start, streamed
from tests.rich import ANSWERS, HIDDEN, SAYS, SIGNED, STREAMS, THINKS, message, message_events, response, sse

pytestmark = pytest.mark.anyio
CHAT_ANSWER = ANSWERS["openai.chat"][0]
BOB = [(b"authorization", b"Bearer sk-bob"), (b"content-type", b"application/json")]
EVIDENCE = "signals: {coordination: {}, harvest: {}}\n"
MESSAGES = "/v1/messages"


def degrading(profile: str, **rung: str) -> str:
    more = "".join(f", {name}: {value}" for name, value in rung.items())
    return f"{EVIDENCE}profiles: {{p: {{{profile}}}}}\nladder: [{{id: dim, at: 2, do: degrade, profile: p{more}}}]\n"


def guard(app: Any, folder: Path, text: str, *, confidence: float = 0.9, keys: tuple[str, ...] = ("sk-alice",)) -> GatewayGuard:
    """With these accounts found to be one actor."""
    return found(GatewayGuard(app, policy_file(folder, text), key=KEY), confidence, keys)


def found(mounted: GatewayGuard, confidence: float = 0.9, keys: tuple[str, ...] = ("sk-alice",)) -> GatewayGuard:
    standing = Standing("c1", 1.0, 2.0, 2.0, ("content", "identity"))
    accounts = [mounted.engine.intake.identifier.identify_key(key).account for key in keys]
    mounted.engine.gate.view = View(1, 1.0, dict.fromkeys(accounts, standing), {"c1": Cluster("c1", 9, confidence=confidence)}, "calibrated")
    return mounted


def answering(body: Any, *headers: tuple[bytes, bytes], kind: bytes = b"application/json", status: int = 200, pieces: int = 1) -> Script:
    raw = body if isinstance(body, bytes) else orjson.dumps(body)

    async def script(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, kind, status, (b"content-length", b"%d" % len(raw)), *headers)
        size = -(-len(raw) // pieces)
        for i in range(0, len(raw), size):
            await send({"type": "http.response.body", "body": raw[i : i + size], "more_body": i + size < len(raw)})

    return script


def logged(folder: Path) -> list[DecisionRow]:
    return [row for path in folder.glob("log*.jsonl") for row in read_decisions(path)]


async def test_a_whole_answer_tells_its_new_length_and_the_true_usage_is_settled(tmp_path: Path) -> None:
    server = ModelServer(answering(CHAT_ANSWER, (b"etag", b'"x"'), pieces=3))
    mounted = guard(server, tmp_path, degrading("strip: [reasoning, usage], round_usage: 1000") + "quotas: {day: {limit: 1M tokens/day}}\n")
    got = await call(mounted, chat(logprobs=True), headers=[*BEARER, (b"accept-encoding", b"gzip, br")]).run()
    assert got.headers["content-length"] == str(len(got.body))
    assert "etag" not in got.headers
    assert THINKS not in got.body.decode()
    assert got.json()["usage"] == {"prompt_tokens": 1000, "completion_tokens": 1000, "total_tokens": 2000}
    assert got.headers["x-gateway-guard-degraded"] == "reasoning, usage, usage=~1000"
    assert [value for name, value in server.scopes[0]["headers"] if name == b"accept-encoding"] == [b"identity"]
    engine = mounted.engine
    assert engine.gate.store.forecast(engine.intake.identifier.identify_key("sk-alice").account) == 83.0


async def test_a_stream_is_not_held_up(tmp_path: Path) -> None:
    """Each event is out before the next one comes in."""
    raw = STREAMS["openai.chat"][0]
    chunks = [event + b"\n\n" for event in raw.split(b"\n\n") if event]
    sent: list[int] = []

    async def script(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        await start(send, b"text/event-stream")
        for chunk in chunks:
            before = len(asking.sent)
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            if b'"content":"' in chunk:
                sent.append(len(asking.sent) - before)
        await send({"type": "http.response.body", "body": b""})

    asking = call(guard(ModelServer(script), tmp_path, degrading("strip: [reasoning], length: 5000")), chat(stream=True))
    got = await asking.run()
    chunks_out = [orjson.loads(line[6:]) for line in got.body.splitlines() if line.startswith(b"data: {")]
    assert "".join(choice["delta"].get("content") or "" for chunk in chunks_out for choice in chunk["choices"]) == SAYS
    assert set(sent) == {1}
    assert "content-length" not in got.headers


@pytest.mark.parametrize(("confidence", "told"), [(0.98, True), (0.99, False)])
async def test_silence_takes_confidence_and_is_in_the_log(confidence: float, told: bool, tmp_path: Path) -> None:
    text = degrading("strip: [reasoning], notice: false, silent_from: 99%") + "record: {decisions: log.jsonl}\n"
    mounted = guard(ModelServer(answering(CHAT_ANSWER)), tmp_path, text, confidence=confidence)
    got = await call(mounted).run()
    await mounted.engine.close()
    assert ("x-gateway-guard-degraded" in got.headers) == told
    [row] = logged(tmp_path)
    assert (row.action, row.profile, row.silent) == ("degrade", "p", not told)


async def test_gzip_from_a_server_that_was_asked_for_none_is_inflated(tmp_path: Path) -> None:
    server = ModelServer(answering(gzip.compress(orjson.dumps(CHAT_ANSWER)), (b"content-encoding", b"gzip")))
    got = await call(guard(server, tmp_path, degrading("strip: [reasoning]"))).run()
    assert "content-encoding" not in got.headers
    assert (got.json()["choices"][0]["message"]["content"], THINKS in got.body.decode()) == (SAYS, False)


async def test_what_cannot_be_read_passes_and_is_counted(tmp_path: Path) -> None:
    mounted = guard(ModelServer(answering(b"\x01\x02", (b"content-encoding", b"br"))), tmp_path, degrading("strip: [reasoning]"))
    got = await call(mounted).run()
    assert (got.body, got.headers["content-encoding"], mounted.engine.counts["answer_unread"]) == (b"\x01\x02", "br", 1)


async def test_an_error_of_the_server_passes_as_it_is(tmp_path: Path) -> None:
    error = {"error": {"message": "no such model", "reasoning": "kept"}}
    got = await call(guard(ModelServer(answering(error, status=404)), tmp_path, degrading("strip: [reasoning]"))).run()
    assert (got.status, got.json()) == (404, error)


async def test_an_application_that_fails_half_way_leaves_no_half_answer(tmp_path: Path) -> None:
    async def script(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        await start(send)
        await send({"type": "http.response.body", "body": b'{"choices": [', "more_body": True})
        raise RuntimeError("lost")

    asking = call(guard(ModelServer(script), tmp_path, degrading("strip: [reasoning]")))
    with pytest.raises(RuntimeError, match="lost"):
        await asking.run()
    assert asking.sent == []


@pytest.mark.parametrize(("mode", "more"), [("shadow", ""), ("enforce", "exemptions: [{id: e, accounts: [sk-alice], until: 2099-01-01, reason: test}]\n")])
async def test_in_shadow_and_for_the_exempt_nothing_changes(mode: str, more: str, tmp_path: Path) -> None:
    server = ModelServer(answering(CHAT_ANSWER))
    path = policy_file(tmp_path, degrading("strip: [reasoning], max_tokens: 50", pace="1/min", in_flight="1") + more)
    path.write_text(path.read_text().replace("mode: enforce", f"mode: {mode}"))
    mounted = found(GatewayGuard(server, path, key=KEY))
    got = await call(mounted, chat(max_tokens=500)).run()
    assert got.json() == CHAT_ANSWER
    assert orjson.loads(server.bodies[0])["max_tokens"] == 500
    assert "x-gateway-guard-degraded" not in got.headers
    assert mounted.engine.counts["degrade"] == 1


async def test_a_slowed_stream_goes_out_event_by_event(tmp_path: Path) -> None:
    server = ModelServer(streamed([b"".join(events())[:33], b"".join(events())[33:]]))
    text = f"{EVIDENCE}ladder: [{{id: slow, at: 2, do: throttle, pace: 1000/s}}]\n"
    got = await call(guard(server, tmp_path, text), chat(stream=True)).run()
    assert [chunk for chunk in got.chunks if chunk] == events()
    assert got.headers["x-gateway-guard-degraded"] == "pace=1000/s"


@pytest.mark.parametrize("listens", [False, True])
async def test_a_client_that_leaves_a_slowed_stream_ends_it(listens: bool, tmp_path: Path) -> None:
    """Whether the application listens for that or not; and what the request held is given back."""
    left = asyncio.Event()

    async def script(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        if not listens:
            await streamed(events())(server, scope, receive, send)
            return
        sending = asyncio.ensure_future(streamed(events())(server, scope, receive, send))
        assert (await receive())["type"] == "http.disconnect"
        left.set()
        with pytest.raises(ClientLeft):
            await sending

    text = f"{EVIDENCE}quotas: {{flight: {{limit: 1 in flight}}}}\nladder: [{{id: slow, at: 2, do: throttle, pace: 1/min}}]\n"
    mounted = guard(ModelServer(script), tmp_path, text)
    asking = call(mounted, chat(stream=True))
    running = asyncio.ensure_future(asking.run())
    while len(asking.sent) < 2:
        asking.received.clear()
        await asking.received.wait()
    busy = await call(mounted, chat(stream=True)).run()
    asking.leave()
    if listens:
        await running
    else:
        with pytest.raises(ClientLeft):
            await running
    assert (busy.status, left.is_set(), len(asking.sent)) == (429, listens, 2)
    again = call(mounted, chat())
    finishing = asyncio.ensure_future(again.run())
    while not again.sent:
        again.received.clear()
        await again.received.wait()
    assert again.sent[0]["status"] == 200
    finishing.cancel()
    await asyncio.gather(finishing, return_exceptions=True)


async def test_a_rung_caps_how_many_requests_of_an_actor_run_at_once(tmp_path: Path) -> None:
    """The members of a cluster are one actor; somebody else is not held up."""
    go, running = asyncio.Event(), asyncio.Event()

    async def script(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        if dict(scope["headers"])[b"authorization"] == b"Bearer sk-alice":
            running.set()
            await go.wait()
        await answering(CHAT_ANSWER)(server, scope, receive, send)

    text = f"{EVIDENCE}ladder: [{{id: slow, at: 2, do: throttle, in_flight: 1}}]\n"
    mounted = guard(ModelServer(script), tmp_path, text, keys=("sk-alice", "sk-bob"))
    first = asyncio.ensure_future(call(mounted).run())
    await running.wait()
    second = await call(mounted, headers=BOB).run()
    other = await call(mounted, headers=[(b"authorization", b"Bearer sk-carol")]).run()
    go.set()
    assert [(await first).status, second.status, other.status] == [200, 429, 200]
    assert second.json()["error"]["gateway_guard"]["quota"] == "rung.slow"
    assert (await call(mounted, headers=BOB).run()).status == 200, "what has ended is not held"


# State that comes back.
TURNS = [{"role": "user", "content": "hello"}]


def asks(said: Any = None, *, first: str = "hello", **more: Any) -> bytes:
    turns = [{"role": "user", "content": first}] + ([{"role": "assistant", "content": said}, {"role": "user", "content": "and?"}] if said else [])
    return orjson.dumps({"model": "m", "max_tokens": 9, "messages": turns, **more})


async def exchange(mounted: GatewayGuard, body: bytes, headers: Any = BEARER, path: str = MESSAGES) -> Answer:
    return await call(mounted, body, path=path, headers=headers).run()


def binding(rules: str, folder: Path, script: Script | None = None, more: str = "") -> tuple[GatewayGuard, ModelServer]:
    server = ModelServer(script or answering(message()))
    return guard(server, folder, f"binding: {{{rules}}}\n{more}"), server


async def test_bound_state_comes_back_to_its_account_alone(tmp_path: Path) -> None:
    mounted, server = binding("to: account", tmp_path)
    said = (await exchange(mounted, asks())).json()["content"]
    assert said[0]["signature"] != SIGNED["signature"]
    assert said[1]["data"] != HIDDEN["data"]
    assert said[0]["thinking"] == SIGNED["thinking"]
    assert (await exchange(mounted, asks(said))).status == 200
    assert orjson.loads(server.bodies[-1])["messages"][1]["content"] == message()["content"], "the server meets its own blocks"
    got = await exchange(mounted, asks(said), BOB)
    assert (got.status, len(server.bodies)) == (400, 2)
    assert got.json()["error"]["type"] == "invalid_request_error"
    assert got.json()["error"]["details"]["error_code"] == "foreign_state"
    assert "was issued to another account or conversation" in got.json()["error"]["message"]
    assert got.headers["x-should-retry"] == "false"


@pytest.mark.parametrize("stream", [False, True])
async def test_streamed_or_whole_the_same_state_leaves(stream: bool, tmp_path: Path) -> None:
    script = streamed([sse(message_events(message()), named=True)]) if stream else answering(message())
    mounted, _ = binding("to: account", tmp_path, script)
    got = await exchange(mounted, asks(stream=stream))
    sealed, _ = binding("to: account", tmp_path)
    for block in (await exchange(sealed, asks())).json()["content"][:2]:
        assert (block.get("signature") or block["data"]).encode() in got.body
    assert SIGNED["signature"].encode() not in got.body


def altered(blob: str) -> str:
    return blob[:40] + ("A" if blob[40] != "A" else "B") + blob[41:]


@pytest.mark.parametrize(
    ("rules", "change", "status", "reason"),
    [
        ("to: account", altered, 400, "state.altered"),
        ("to: account", lambda blob: blob[:-4], 400, "state.altered"),
        ("to: account", lambda blob: blob + "AAAA", 400, "state.altered"),
        ("to: account", lambda blob: "ggState1", 400, "state.altered"),
        ("to: account", lambda blob: "ggState1é", 400, "state.altered"),
        ("to: account", lambda blob: blob[3:], 200, ""),
        ("to: account, unbound: refuse", lambda blob: blob[3:], 400, "state.unbound"),
        ("to: account, unbound: refuse", lambda blob: SIGNED["signature"], 400, "state.unbound"),
        ("to: account, unbound: record", lambda blob: SIGNED["signature"], 200, "signal.foreign_state"),
        ("to: account, foreign: record", altered, 200, "signal.foreign_state"),
    ],
)
async def test_altered_cut_and_unbound_state(rules: str, change: Any, status: int, reason: str, tmp_path: Path) -> None:
    mounted, _ = binding(rules, tmp_path, more="signals: {foreign_state: {}}\nrecord: {decisions: log.jsonl}\n")
    said = (await exchange(mounted, asks())).json()["content"]
    said[0]["signature"] = change(said[0]["signature"])
    assert (await exchange(mounted, asks(said))).status == status
    await mounted.engine.close()
    last = logged(tmp_path)[-1]
    assert last.reasons[:1] == ([reason] if reason else [])


async def test_recorded_only_it_is_opened_all_the_same(tmp_path: Path) -> None:
    mounted, server = binding("to: account, foreign: record", tmp_path)
    said = (await exchange(mounted, asks())).json()["content"]
    assert (await exchange(mounted, asks(said), BOB)).status == 200
    assert orjson.loads(server.bodies[-1])["messages"][1]["content"] == message()["content"]


async def test_who_is_exempt_is_not_refused_for_state(tmp_path: Path) -> None:
    mounted, server = binding("to: account", tmp_path, more="exemptions: [{id: e, accounts: [sk-bob], until: 2099-01-01, reason: test}]\n")
    said = (await exchange(mounted, asks())).json()["content"]
    assert (await exchange(mounted, asks(said), BOB)).status == 200
    assert orjson.loads(server.bodies[-1])["messages"][1]["content"] == message()["content"]


async def test_bound_to_its_conversation(tmp_path: Path) -> None:
    mounted, _ = binding("to: account, conversation: true", tmp_path)
    said = (await exchange(mounted, asks())).json()["content"]
    assert (await exchange(mounted, asks(said))).status == 200
    assert (await exchange(mounted, asks(said, first="another beginning"))).status == 400


async def test_an_organisation_shares_its_state(tmp_path: Path) -> None:
    (tmp_path / "accounts.csv").write_text("key,account,org,plan\nsk-alice,alice,lab,default\nsk-bob,bob,lab,default\nsk-eve,eve,,default\n")
    mounted, _ = binding("to: org", tmp_path, more="identity: {directory: accounts.csv}\n")
    said = (await exchange(mounted, asks())).json()["content"]
    statuses = [(await exchange(mounted, asks(said), [(b"authorization", b"Bearer " + key)])).status for key in (b"sk-bob", b"sk-eve")]
    assert statuses == [200, 400]


async def test_what_was_bound_is_opened_after_binding_is_switched_off(tmp_path: Path) -> None:
    mounted, _ = binding("to: account", tmp_path)
    said = (await exchange(mounted, asks())).json()["content"]
    other, server = binding("to: 'off'", tmp_path)
    assert (await exchange(other, asks(said), BOB)).status == 200
    assert orjson.loads(server.bodies[-1])["messages"][1]["content"] == message()["content"]
    assert (await exchange(other, asks())).json() == message()


async def test_shadow_opens_and_refuses_nobody(tmp_path: Path) -> None:
    mounted, _ = binding("to: account", tmp_path)
    said = (await exchange(mounted, asks())).json()["content"]
    path = tmp_path / "policy.yaml"
    path.write_text(path.read_text().replace("mode: enforce", "mode: shadow"))
    server = ModelServer(answering(message()))
    shadow = GatewayGuard(server, path, key=KEY)
    got = await exchange(shadow, asks(said), BOB)
    assert (got.status, got.json()) == (200, message())
    assert orjson.loads(server.bodies[-1])["messages"][1]["content"] == message()["content"]
    assert shadow.engine.counts["deny"] == 1


@pytest.mark.parametrize("encrypted", [True, False])
async def test_reasoning_items_of_the_responses_api(encrypted: bool, tmp_path: Path) -> None:
    """Encrypted ones are bound; where the trace itself was in the item, a profile that hides it seals it, and it comes back."""
    whole = response(encrypted=encrypted)
    mounted, server = binding("to: account", tmp_path, answering(whole), degrading("strip: [reasoning]") if not encrypted else "")
    said = (await exchange(mounted, orjson.dumps({"model": "m", "input": "hi"}), path="/v1/responses")).json()["output"]
    assert said[0]["encrypted_content"].startswith("ggState1")
    back = orjson.dumps({"model": "m", "input": [*said, {"role": "user", "content": "and?"}]})
    assert (await exchange(mounted, back, path="/v1/responses")).status == 200
    sent = orjson.loads(server.bodies[-1])["input"][0]
    assert (sent["encrypted_content"], sent.get("content")) == (whole["output"][0]["encrypted_content"], whole["output"][0].get("content"))
    got = await exchange(mounted, back, BOB, path="/v1/responses")
    assert (got.status, got.json()["error"]["code"]) == (400, "foreign_state")


async def test_state_that_is_hidden_and_bound_opens_to_the_very_block(tmp_path: Path) -> None:
    mounted, server = binding("to: account, unbound: refuse", tmp_path, more=degrading("strip: [reasoning]"))
    said = (await exchange(mounted, asks())).json()["content"]
    assert [block["type"] for block in said] == ["redacted_thinking", "redacted_thinking", "text"]
    said[0]["cache_control"] = {"type": "ephemeral"}
    assert (await exchange(mounted, asks(said))).status == 200
    sent = orjson.loads(server.bodies[-1])["messages"][1]["content"]
    assert sent == [{**SIGNED, "cache_control": {"type": "ephemeral"}}, HIDDEN, said[2]]
    assert (await exchange(mounted, asks(said), BOB)).status == 400
