"""Marks from end to end: a guarded model is asked for them, real SDKs never notice, and the check finds them in what a client has gathered."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import openai
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Receive, Scope, Send

from gateway_guard import GatewayGuard
from gateway_guard.provenance.habits import HABITS
from gateway_guard.provenance.marker import Marks
from gateway_guard.rewrite.answer import Rewriter
from gateway_guard.rewrite.decoy import DECOYS, ENDED
from gateway_guard.trace.decisions import DecisionRow, read_decisions
from gateway_guard.view import Cluster, Standing, View
from tests.commands import command
from tests.fakes import BEARER, KEY, ModelServer, call, policy_file, start, streamed
from tests.rich import block_events, sse
from tests.served import served
from tests.writer import written

DECOY = re.compile(r"reserved_[a-z2-7]{8}")
TOOLS: Any = [{"name": "look", "description": "Looks", "input_schema": {"type": "object", "properties": {}}}]
FUNCTIONS: Any = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}]
ITEMS: Any = [{"type": "function", "name": "look", "parameters": {"type": "object", "properties": {}}, "strict": False}]
SAYS = "Put the kettle on."
# What the model server does: it calls the decoy alone, after some words, or before a real call.
DOES = ("alone", "words", "call")


def chat_parts(does: str, decoy: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    calls = [{"id": f"call_{n}", "type": "function", "function": {"name": name, "arguments": "{}"}} for n, name in enumerate((decoy, "look"))]
    calls = calls if does == "call" else calls[:1]
    said = SAYS if does == "words" else None
    head: dict[str, Any] = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    choice = {"index": 0, "message": {"role": "assistant", "content": said, "tool_calls": calls}, "finish_reason": "tool_calls"}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": said and ""}, *([{"content": said}] if said else [])]
    for n, one in enumerate(calls):
        deltas.append({"tool_calls": [{"index": n, **one, "function": {**one["function"], "arguments": ""}}]})  # type: ignore[dict-item]
        deltas.append({"tool_calls": [{"index": n, "function": {"arguments": "{}"}}]})
    events = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]})
    return {**head, "object": "chat.completion", "choices": [choice]}, events


def message_parts(does: str, decoy: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    blocks: list[dict[str, Any]] = [{"type": "text", "text": SAYS}] if does == "words" else []
    blocks += [{"type": "tool_use", "id": f"toolu_{n}", "name": name, "input": {"a": 1}} for n, name in enumerate((decoy, "look"))][
        : 2 if does == "call" else 1
    ]
    usage = {"input_tokens": 3, "output_tokens": 5}
    head = {"id": "msg_1", "type": "message", "role": "assistant", "model": "m", "stop_sequence": None, "usage": usage}
    events = [{"type": "message_start", "message": {**head, "content": [], "stop_reason": None}}]
    events += [event for index, block in enumerate(blocks) for event in block_events(index, block)]
    events += [{"type": "message_delta", "delta": {"stop_reason": "tool_use", "stop_sequence": None}, "usage": usage}, {"type": "message_stop"}]
    return {**head, "content": blocks, "stop_reason": "tool_use"}, events


def response_parts(does: str, decoy: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    spoken = {"type": "output_text", "text": SAYS, "annotations": [], "logprobs": []}
    items: list[dict[str, Any]] = [{"id": "m1", "type": "message", "role": "assistant", "status": "completed", "content": [spoken]}] if does == "words" else []
    names = (decoy, "look")[: 2 if does == "call" else 1]
    items += [
        {"id": f"f{n}", "type": "function_call", "status": "completed", "call_id": f"k{n}", "name": name, "arguments": "{}"} for n, name in enumerate(names)
    ]
    head = {"id": "r1", "object": "response", "created_at": 1, "model": "m", "parallel_tool_calls": True, "tool_choice": "auto", "tools": []}
    whole = {**head, "status": "completed", "output": items, "error": None, "incomplete_details": None, "instructions": None, "metadata": {}}
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {**whole, "output": [], "status": "in_progress"}}]
    for n, item in enumerate(items):
        where = {"output_index": n, "item_id": item["id"]}
        empty = {**item, "content": []} if item["type"] == "message" else {**item, "arguments": ""}
        events.append({"type": "response.output_item.added", "output_index": n, "item": empty})
        if item["type"] == "message":
            inside = {**where, "content_index": 0}
            events.append({"type": "response.content_part.added", **inside, "part": {**spoken, "text": ""}})
            events.append({"type": "response.output_text.delta", **inside, "delta": SAYS, "logprobs": []})
            events.append({"type": "response.output_text.done", **inside, "text": SAYS, "logprobs": []})
            events.append({"type": "response.content_part.done", **inside, "part": spoken})
        else:
            events.append({"type": "response.function_call_arguments.delta", **where, "delta": "{}"})
            events.append({"type": "response.function_call_arguments.done", **where, "arguments": "{}", "name": item["name"]})
        events.append({"type": "response.output_item.done", "output_index": n, "item": item})
    events.append({"type": "response.completed", "response": whole})
    return whole, [{**event, "sequence_number": n} for n, event in enumerate(events)]


PARTS: dict[str, Callable[[str, str], tuple[dict[str, Any], list[dict[str, Any]]]]] = {
    "openai.chat": chat_parts,
    "anthropic.messages": message_parts,
    "openai.responses": response_parts,
}
NAMED = {"openai.chat": False, "anthropic.messages": True, "openai.responses": True}
PATHS = {"/v1/chat/completions": "openai.chat", "/v1/messages": "anthropic.messages", "/v1/responses": "openai.responses"}


async def model(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    asked = orjson.loads(server.bodies[-1])
    dialect = PATHS[scope["path"]]
    decoy = DECOY.search(str(asked.get("tools", [])))
    assert decoy is not None
    first = (asked.get("messages") or asked["input"])[-1]["content"]
    whole, events = PARTS[dialect](first if first in DOES else "words", decoy[0])
    if asked.get("stream"):
        raw = sse(events, named=NAMED[dialect], done=dialect == "openai.chat")
        await streamed([raw[i : i + 61] for i in range(0, len(raw), 61)])(server, scope, receive, send)
    else:
        await start(send)
        await send({"type": "http.response.body", "body": orjson.dumps(whole)})


MARKING = (
    "signals: {coordination: {}, harvest: {}}\n"
    "ladder: [{id: dim, at: 2, do: degrade, profile: marked}]\n"
    "profiles: {marked: {marks: [habits, tools]}}\n"
    "record: {decisions: log.jsonl, audit: audit.jsonl}\n"
)


def guard(app: Any, folder: Path, *, confidence: float = 0.99, text: str = MARKING) -> GatewayGuard:
    found = GatewayGuard(app, policy_file(folder, text), key=KEY)
    standing = Standing("c1", 1.0, 2.0, 2.0, ("content", "identity"))
    account = found.engine.intake.identifier.identify_key("sk-alice").account
    found.engine.gate.view = View(1, 1.0, {account: standing}, {"c1": Cluster("c1", 9, confidence=confidence)}, "calibrated")
    return found


class Guarded(NamedTuple):
    port: int
    server: ModelServer
    marks: Marks

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="sk-alice", max_retries=0)

    def anthropic(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=f"http://127.0.0.1:{self.port}", api_key="sk-alice", max_retries=0)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    server = ModelServer(model)
    mounted = guard(server, tmp_path_factory.mktemp("marked"))
    with served(mounted) as port:
        yield Guarded(port, server, mounted.engine.intake.marker.of("c1"))


@pytest.mark.parametrize("does", DOES)
def test_openai_chats_never_see_the_decoy(guarded: Guarded, does: str) -> None:
    with guarded.openai() as client:
        turns: list[Any] = [{"role": "user", "content": does}]
        whole = client.chat.completions.create(model="m", messages=turns, tools=FUNCTIONS)
        with client.chat.completions.stream(model="m", messages=turns, tools=FUNCTIONS) as stream:
            final = stream.get_final_completion()
        turns += [final.choices[0].message.model_dump(exclude_none=True, exclude={"parsed"}), {"role": "user", "content": "words"}]
        again = client.chat.completions.create(model="m", messages=turns, tools=FUNCTIONS)
    assert not DECOY.search(f"{whole}{final}{again}")
    for one in (whole.choices[0], final.choices[0]):
        assert [c.function.name for c in one.message.tool_calls or [] if c.type == "function"] == (["look"] if does == "call" else [])
        assert (one.finish_reason, one.message.content) == {"alone": ("stop", ENDED), "words": ("stop", SAYS), "call": ("tool_calls", None)}[does]


@pytest.mark.parametrize("does", DOES)
def test_anthropic_messages_never_see_the_decoy(guarded: Guarded, does: str) -> None:
    with guarded.anthropic() as client:
        turns: list[Any] = [{"role": "user", "content": does}]
        whole = client.messages.create(model="m", max_tokens=99, messages=turns, tools=TOOLS)
        with client.messages.stream(model="m", max_tokens=99, messages=turns, tools=TOOLS) as stream:
            final = stream.get_final_message()
        assert not DECOY.search(f"{whole}{final}")
    for one in (whole, final):
        said = [getattr(block, "text", "") or getattr(block, "name", "") for block in one.content]
        assert (one.stop_reason, said) == {"alone": ("end_turn", [ENDED]), "words": ("end_turn", [SAYS]), "call": ("tool_use", ["look"])}[does]


@pytest.mark.parametrize("does", DOES)
def test_openai_responses_never_see_the_decoy(guarded: Guarded, does: str) -> None:
    with guarded.openai() as client:
        asked: Any = [{"role": "user", "content": does}]
        whole = client.responses.create(model="m", input=asked, tools=ITEMS, store=False)
        with client.responses.stream(model="m", input=asked, tools=ITEMS, store=False) as stream:
            spoken = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            final = stream.get_final_response()
    assert not DECOY.search(f"{whole}{final}")
    for one in (whole, final):
        assert (one.output_text, [i.name for i in one.output if i.type == "function_call"]) == (
            {"alone": ENDED, "words": SAYS, "call": ""}[does],
            ["look"] if does == "call" else [],
        )
    assert spoken == final.output_text


@pytest.mark.parametrize("dialect", PARTS)
@given(data=st.data())
def test_a_stream_without_its_decoy_is_the_same_whatever_way_it_is_split(dialect: str, data: st.DataObject) -> None:
    does = data.draw(st.sampled_from(DOES))
    raw = sse(PARTS[dialect](does, "reserved_aaaaaaaa")[1], named=NAMED[dialect])
    cuts = sorted(data.draw(st.lists(st.integers(0, len(raw)), max_size=12)))
    pieces = [raw[a:b] for a, b in zip([0, *cuts], [*cuts, len(raw)], strict=True)]

    def through(parts: list[bytes]) -> bytes:
        rewriter = Rewriter([DECOYS[dialect]("reserved_aaaaaaaa")], streams=True)
        return b"".join(out for part in parts for out in rewriter.feed(part)) + b"".join(rewriter.finish())

    assert through(pieces) == through([raw])
    assert b"reserved_" not in through(pieces)
    other = Rewriter([DECOYS[dialect]("reserved_bbbbbbbb")], streams=True)
    assert b"".join([*other.feed(raw), *other.finish()]) == raw, "an answer without the decoy goes out as it came"


def logged(folder: Path) -> list[DecisionRow]:
    return [row for path in folder.glob("log*.jsonl") for row in read_decisions(path)]


async def obedient(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
    """A model that does what it is told, habit by habit, and has its own taste where it is told nothing."""
    system = orjson.loads(server.bodies[-1])["messages"][0]
    told = system["content"] if system["role"] == "system" else ""
    ways = [(habit.asks[0] in told) - (habit.asks[1] in told) for habit in HABITS]
    [said] = written(ways, 1, follows=0.8, seed=len(server.bodies))
    await start(send)
    answer = {"choices": [{"index": 0, "message": {"role": "assistant", "content": said}, "finish_reason": "stop"}]}
    await send({"type": "http.response.body", "body": orjson.dumps(answer)})


@pytest.mark.anyio
async def test_what_was_gathered_through_the_guard_is_recognised(tmp_path: Path) -> None:
    """The suspect says again what it was trained on; the innocent one had its answers from an account that is in no cluster."""
    mounted = guard(ModelServer(obedient), tmp_path)
    body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "Tea?"}]})
    for name, key in (("suspect", b"Bearer sk-alice"), ("innocent", b"Bearer sk-bob")):
        answers = [await call(mounted, body, headers=[(b"authorization", key), (b"content-type", b"application/json")]).run() for _ in range(60)]
        notices = {answer.headers.get("x-gateway-guard-degraded") for answer in answers}
        assert notices == ({"provenance=habits"} if name == "suspect" else {None}), "it is told"
        lines = [orjson.dumps({"text": answer.json()["choices"][0]["message"]["content"]}) for answer in answers]
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    await mounted.engine.close()
    assert [row.marked for row in logged(tmp_path)] == [True] * 60 + [False] * 60

    told = {
        name: orjson.loads(command(tmp_path, "provenance", "check", str(tmp_path / f"{name}.jsonl"), "--controls", "20000", "--json", *more).stdout)
        for name, more in {"suspect": (), "innocent": ("--cluster", "c1")}.items()
    }
    assert [(f["cluster"], f["found"]) for f in told["suspect"]["findings"]] == [("c1", True)], "the audit log says which clusters were marked"
    assert [f["found"] for f in told["innocent"]["findings"]] == [False]


@pytest.mark.anyio
@pytest.mark.parametrize(("confidence", "marked"), [(0.94, False), (0.95, True)])
async def test_marks_take_confidence(confidence: float, marked: bool, tmp_path: Path) -> None:
    server = ModelServer(obedient)
    mounted = guard(server, tmp_path, confidence=confidence)
    answer = await call(mounted, orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "Tea?"}]}), headers=BEARER).run()
    assert ("x-gateway-guard-degraded" in answer.headers, b"style alone" in server.bodies[-1]) == (marked, marked)
    await mounted.engine.close()
