"""Whole conversations of the real SDKs under every profile: no exception, no reasoning shown, and the model server meets its own blocks again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import httpx2
import openai
import orjson
import pytest
from starlette.types import Receive, Scope, Send

from gateway_guard import GatewayGuard
from gateway_guard.client import ChallengeAuth
from gateway_guard.view import Cluster, Standing, View
from tests.fakes import KEY, ModelServer, policy_file, start, streamed
from tests.rich import HIDDEN, SAYS, SIGNED, THINKS, TOOL, chat, chat_events, completion, completion_events, message, message_events, response, sse
from tests.rich import response_events as events_of_response
from tests.served import served

PROFILES = {
    "hidden": "strip: [reasoning]",
    "plain": "max_tokens: 2000, effort: low, strip: [logprobs, choices, reasoning, usage], round_usage: 50",
    "summed": "summary: true, effort: medium",
    "short": "length: 40",
    "least": "max_tokens: 60, effort: none, strip: [logprobs, choices, reasoning, usage], length: 40, round_usage: 100, models: {'*': small}, "
    "sampling: {remove: [seed], temperature: 1}, hint: {header: x-antidistillation, value: 'on'}",
}
# The same conversations where nothing is taken away: slowed, and once a proof has been shown.
RUNGS = {
    "slowed": "{id: slow, at: 2, do: throttle, scale: 0.5, in_flight: 8, pace: 2000/s}",
    "proved": "{id: prove, at: 2, do: challenge, challenge: work}",
}
DENIED = "{id: shut, at: 2, do: deny}"
EVIDENCE = "signals: {coordination: {}, harvest: {}}\n"
ASKED: Any = [{"role": "user", "content": "How is tea made?"}]
TOOLS: Any = [{"name": "look", "description": "Looks", "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}}}]
CALLED = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"city": "Oslo"}'}}


class Refused(Exception):
    """What the model server does not take."""


def as_signed(messages: list[Any]) -> None:
    """As the Messages API does: thinking comes back as it was signed, in front of the call that it led to."""
    for said in messages:
        blocks = said["content"] if said["role"] == "assistant" and isinstance(said["content"], list) else []
        for block in blocks:
            if block["type"] == "thinking" and block != SIGNED:
                raise Refused("`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified")
            if block["type"] == "redacted_thinking" and block != HIDDEN:
                raise Refused("`thinking` or `redacted_thinking` blocks in the latest assistant message cannot be modified")
            if block["type"] == "text" and not block["text"]:
                raise Refused("text content blocks must be non-empty")
        if any(block["type"] == "tool_use" for block in blocks) and blocks[0]["type"] not in {"thinking", "redacted_thinking"}:
            raise Refused("expected `thinking` or `redacted_thinking`, but found `tool_use`")


def as_reasoned(items: list[Any]) -> None:
    """As the Responses API does without a store: reasoning comes back, encrypted or with its trace, before what it led to."""
    for item in items:
        if item.get("type") == "reasoning" and not (item.get("encrypted_content") == "gAAAAABo" or (item.get("content") or [{}])[0].get("text")):
            raise Refused("the reasoning item cannot be used without its content")


async def model(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        return
    asked = orjson.loads(server.bodies[-1])
    stream = asked.get("stream", False)
    path = scope["path"]
    try:
        if path == "/v1/messages":
            as_signed(asked["messages"])
            whole = message(tool="tools" in asked and len(asked["messages"]) == 1)
            raw = sse(message_events(whole), named=True)
        elif path == "/v1/responses":
            as_reasoned([item for item in asked["input"] if isinstance(item, dict)] if isinstance(asked["input"], list) else [])
            whole = response(encrypted=asked["model"] != "open")
            raw = sse(events_of_response(whole), named=True)
        elif path == "/v1/completions":
            whole, raw = completion(), sse(completion_events(), done=True)
        else:
            whole, raw = _chat(asked)
    except Refused as error:
        await start(send, status=400)
        await send({"type": "http.response.body", "body": orjson.dumps({"error": {"message": str(error), "type": "invalid_request_error"}})})
        return
    if stream:
        await streamed([raw[i : i + 97] for i in range(0, len(raw), 97)])(server, scope, receive, send)
    else:
        await start(send)
        await send({"type": "http.response.body", "body": orjson.dumps(whole)})


def _chat(asked: Any) -> tuple[Any, bytes]:
    trace = {"reasoning_content": f"{THINKS} one"}
    whole, events = chat(trace), chat_events(trace)
    if "tools" in asked and len(asked["messages"]) == 1:
        whole["choices"][0] |= {"finish_reason": "tool_calls"}
        whole["choices"][0]["message"]["tool_calls"] = [CALLED]
        events[-3]["choices"][0]["delta"] = {"tool_calls": [{"index": 0, **CALLED}]}
        events[-2]["choices"][0]["finish_reason"] = "tool_calls"
    return whole, sse(events, done=True)


class Guarded(NamedTuple):
    port: int
    server: ModelServer
    profile: str
    guard: GatewayGuard

    @property
    def hides(self) -> bool:
        return self.profile in {"hidden", "plain", "least"}

    def openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="sk-a", max_retries=0, http_client=httpx2.Client(auth=self.auth()))

    def anthropic(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=f"http://127.0.0.1:{self.port}", api_key="sk-a", max_retries=0, http_client=httpx2.Client(auth=self.auth()))

    def auth(self) -> ChallengeAuth | None:
        return ChallengeAuth() if self.profile == "proved" else None

    def other(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(auth=self.auth())

    def check(self, *shown: Any) -> None:
        """Nothing of the reasoning is in what the client holds; and the answer is there."""
        dumped = "".join(str(one) for one in shown)
        assert (THINKS in dumped) != self.hides or self.profile == "summed", dumped
        assert SAYS[:40] in dumped


def climbed(guard: GatewayGuard, *keys: str) -> None:
    """The analyst has found these accounts."""
    standing = Standing("c1", 1.0, 2.0, 2.0, ("content", "identity"))
    accounts = [guard.engine.intake.identifier.identify_key(key).account for key in keys]
    guard.engine.gate.view = View(1, 1.0, dict.fromkeys(accounts, standing), {"c1": Cluster("c1", 9)}, "calibrated")


@pytest.fixture(params=[*PROFILES, *RUNGS])
def guarded(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Guarded]:
    if request.param in RUNGS:
        challenges = "challenges: {work: {work: {effort: 1ms}}}\n" if request.param == "proved" else ""
        policy = f"{EVIDENCE}{challenges}quotas: {{q: {{limit: 100/min}}}}\nladder: [{RUNGS[request.param]}]\n"
    else:
        policy = f"{EVIDENCE}ladder: [{{id: dim, at: 2, do: degrade, profile: p}}]\nprofiles: {{p: {{{PROFILES[request.param]}}}}}\n"
    binding = "binding: {to: account, conversation: true, unbound: refuse}\n" if request.param in {"plain", "summed", "proved"} else ""
    server = ModelServer(model)
    guard = GatewayGuard(server, policy_file(tmp_path, policy + binding), key=KEY)
    climbed(guard, "sk-a")
    with served(guard) as port:
        yield Guarded(port, server, request.param, guard)


THINKING: Any = {"type": "enabled", "budget_tokens": 1024}


def test_anthropic_uses_tools_and_thinks_over_several_turns(guarded: Guarded) -> None:
    with guarded.anthropic() as client:
        turns = list(ASKED)
        first = client.messages.create(model="m", max_tokens=4000, thinking=THINKING, tools=TOOLS, messages=turns)
        call = next(block for block in first.content if block.type == "tool_use")
        assert first.stop_reason == "tool_use"
        turns += [{"role": "assistant", "content": first.content}]
        turns += [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "-3 C"}]}]
        second = client.messages.create(model="m", max_tokens=4000, thinking=THINKING, tools=TOOLS, messages=turns)
        turns += [{"role": "assistant", "content": second.content}, {"role": "user", "content": "And then?"}]
        with client.messages.stream(model="m", max_tokens=4000, thinking=THINKING, messages=turns) as stream:
            spoken = "".join(stream.text_stream)
            third = stream.get_final_message()
        turns += [{"role": "assistant", "content": third.content}, {"role": "user", "content": "Thanks."}]
        last = client.messages.create(model="m", max_tokens=4000, thinking=THINKING, messages=turns)
    guarded.check(first, second, spoken, third, last)
    assert blocks(third) == blocks(last), "streamed or whole, the same blocks"
    assert [block.type for block in third.content][-1] == "text"
    assert third.stop_reason == ("max_tokens" if guarded.profile in {"short", "least"} else "end_turn")
    sent = orjson.loads(guarded.server.bodies[-1])["messages"]
    assert sent[1]["content"] == [SIGNED, HIDDEN, sent[1]["content"][2], TOOL]


def blocks(said: Any) -> list[Any]:
    """What a message holds, without what the SDK adds when it parses a stream."""
    return [{name: value for name, value in block.to_dict().items() if name != "parsed_output"} for block in said.content]


def test_anthropic_streams_tools(guarded: Guarded) -> None:
    with guarded.anthropic() as client, client.messages.stream(model="m", max_tokens=4000, thinking=THINKING, tools=TOOLS, messages=ASKED) as stream:
        final = stream.get_final_message()
    assert [block.input for block in final.content if block.type == "tool_use"] == [{"city": "Oslo"}]
    guarded.check(final)


def test_openai_chats_with_tools_over_several_turns(guarded: Guarded) -> None:
    tools: Any = [{"type": "function", "function": {"name": "look", "parameters": TOOLS[0]["input_schema"]}}]
    with guarded.openai() as client:
        turns = list(ASKED)
        first = client.chat.completions.create(model="m", messages=turns, tools=tools, logprobs=True, n=2, seed=3, reasoning_effort="high")
        choice = first.choices[0]
        assert choice.message.tool_calls
        turns += [choice.message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": "call_1", "content": "-3 C"}]
        second = client.chat.completions.create(model="m", messages=turns, tools=tools)
        with client.chat.completions.stream(model="m", messages=turns, stream_options={"include_usage": True}) as stream:
            third = stream.get_final_completion() if guarded.profile not in {"short", "least"} else list(stream)
        chunks = list(client.chat.completions.create(model="m", messages=turns, stream=True, logprobs=True))
    guarded.check(first, second, third, "".join(c.choices[0].delta.content or "" for c in chunks if c.choices))
    assert (choice.finish_reason, second.choices[0].finish_reason) == ("tool_calls", "length" if guarded.profile in {"short", "least"} else "stop")
    assert chunks[-1].usage is not None


def test_openai_responses_over_several_turns(guarded: Guarded) -> None:
    """Without a store, as those who keep no data use it."""
    for name in ("m", "open"):
        with guarded.openai() as client:
            items: list[Any] = [*ASKED]
            first = client.responses.create(model=name, input=items, include=["reasoning.encrypted_content"], store=False, reasoning={"summary": "auto"})
            items += [item.model_dump(exclude_none=True) for item in first.output]
            items += [{"role": "user", "content": "And then?"}]
            streamed = list(client.responses.create(model=name, input=items, stream=True, store=False))
            last = streamed[-1]
            assert last.type == ("response.incomplete" if guarded.profile in {"short", "least"} else "response.completed")
            items += [item.model_dump(exclude_none=True) for item in last.response.output] + [{"role": "user", "content": "Thanks."}]
            with client.responses.stream(model=name, input=items, store=False) as stream:
                spoken = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        guarded.check(first, spoken)
        assert THINKS not in str(streamed) or not guarded.hides
        assert last.response.output_text.startswith(first.output_text)
        sent = orjson.loads(guarded.server.bodies[-1])["input"]
        assert [item.get("type") for item in sent] == [None, "reasoning", "message", None, "reasoning", "message", None]


def test_openai_completions(guarded: Guarded) -> None:
    with guarded.openai() as client:
        whole = client.completions.create(model="m", prompt="Tea", logprobs=2)
        chunks = list(client.completions.create(model="m", prompt="Tea", stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks if chunk.choices) == whole.choices[0].text
    guarded.check(whole)


@pytest.mark.anyio
async def test_the_asynchronous_clients(guarded: Guarded) -> None:
    base = f"http://127.0.0.1:{guarded.port}"
    async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="sk-a", max_retries=0, http_client=guarded.other()) as client:
        chunks = [chunk async for chunk in await client.chat.completions.create(model="m", messages=ASKED, stream=True)]
        events = [event async for event in await client.responses.create(model="m", input="tea", stream=True)]
        whole = await client.responses.create(model="m", input="tea")
    async with anthropic.AsyncAnthropic(base_url=base, api_key="sk-a", max_retries=0, http_client=guarded.other()) as other:
        async with other.messages.stream(model="m", max_tokens=4000, thinking=THINKING, messages=ASKED) as stream:
            final = await stream.get_final_message()
        again = await asyncio.gather(*(other.messages.create(model="m", max_tokens=4000, thinking=THINKING, messages=ASKED) for _ in range(3)))
    guarded.check("".join(c.choices[0].delta.content or "" for c in chunks if c.choices), chunks, events[-1], whole, final)
    assert [blocks(one) for one in again] == [blocks(final)] * 3


def test_what_is_poorer_is_told(guarded: Guarded) -> None:
    with guarded.anthropic() as client:
        raw = client.messages.with_raw_response.create(model="m", max_tokens=4000, thinking=THINKING, messages=ASKED)
    told = raw.headers.get("x-gateway-guard-degraded", "")
    assert ("reasoning" in told) == (guarded.profile not in {"short", *RUNGS})
    assert "pace" not in told, "that holds for streams"
    assert guarded.profile in RUNGS or raw.headers["content-length"] == str(len(raw.http_response.content))
    if guarded.profile == "least":
        assert dict(guarded.server.scopes[-1]["headers"])[b"x-antidistillation"] == b"on"
        assert raw.parse().usage.output_tokens == 100


@pytest.mark.anyio
async def test_where_nothing_is_served_every_call_raises_the_one_documented_error(tmp_path: Path) -> None:
    guard = GatewayGuard(server := ModelServer(model), policy_file(tmp_path, f"{EVIDENCE}ladder: [{DENIED}]\n"), key=KEY)
    climbed(guard, "sk-a")
    with served(guard) as port:
        base = f"http://127.0.0.1:{port}"
        with openai.OpenAI(base_url=f"{base}/v1", api_key="sk-a") as client, anthropic.Anthropic(base_url=base, api_key="sk-a") as other:
            for ask in (
                lambda: client.chat.completions.create(model="m", messages=ASKED),
                lambda: client.chat.completions.create(model="m", messages=ASKED, stream=True),
                lambda: client.responses.create(model="m", input="tea", stream=True),
                lambda: client.completions.create(model="m", prompt="tea"),
                lambda: other.messages.create(model="m", max_tokens=99, messages=ASKED, tools=TOOLS),
                lambda: other.messages.create(model="m", max_tokens=99, messages=ASKED, stream=True),
            ):
                with pytest.raises((openai.PermissionDeniedError, anthropic.PermissionDeniedError), match="Access is suspended") as refused:
                    ask()
                assert isinstance(refused.value, openai.PermissionDeniedError | anthropic.PermissionDeniedError)
                assert refused.value.response.headers["x-gateway-guard-decision"] in str(refused.value)
        async with openai.AsyncOpenAI(base_url=f"{base}/v1", api_key="sk-a") as later:
            with pytest.raises(openai.PermissionDeniedError):
                await later.responses.create(model="m", input="tea")
    assert server.bodies == [], "with its usual retries an SDK asks once, and the model server is asked nothing"
