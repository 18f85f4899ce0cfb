"""Other formats as exchange logs: small samples in the shape that each source publishes, and what becomes of them at replay."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway_guard.errors import TrafficError
from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import set_up
from gateway_guard.trace.exchanges import Exchange, ExchangeWriter
from gateway_guard.trace.importers.made import Broken, moment, ordered
from gateway_guard.trace.importers.read import KINDS, Import
from tests.fakes import KEY, policy_file
from tests.logs import exchange

AT = 1_700_000_000.0
LITELLM = {
    "id": "chatcmpl-1",
    "call_type": "acompletion",
    "status": "success",
    "startTime": AT,
    "endTime": AT + 1.5,
    "completionStartTime": AT + 0.4,
    "model": "gpt-4o",
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "metadata": {"user_api_key_hash": "88dc28d0", "requester_ip_address": "192.0.2.1"},
    "messages": [{"role": "user", "content": "hello"}],
    "model_parameters": {"max_tokens": 50, "stream": True, "extra_body": {}},
}
SPEND = {
    "request_id": "req-2",
    "call_type": "aembedding",
    "api_key": "77ab",
    "startTime": "2023-11-14T22:13:21.250Z",
    "endTime": "2023-11-14T22:13:22Z",
    "model": "e",
    "prompt_tokens": 5,
    "completion_tokens": 0,
    "messages": {},
}
ENVOY = {
    "start_time": "2023-11-14T22:13:20.000Z",
    "method": "POST",
    "x-envoy-origin-path": "/v1/chat/completions?x=1",
    "response_code": 200,
    "duration": 1500,
    "request_id": "e-1",
    "downstream_remote_address": "192.0.2.9:5555",
    "user_agent": "OpenAI/Python 1.0",
    "genai_model_name": "m",
    "genai_tokens_input": 11,
    "genai_tokens_output": 7,
    "authorization": "Bearer sk-one",
}
NGINX = {
    "msec": "1700000001.500",
    "request_time": "1.500",
    "remote_addr": "192.0.2.9",
    "request_method": "POST",
    "request_uri": "/v1/messages",
    "status": "200",
    "http_user_agent": "curl/8",
    "http_x_api_key": "sk-one",
    "request_body": '{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"hi"}]}',
}
HAR = {
    "log": {
        "version": "1.2",
        "entries": [
            {
                "startedDateTime": "2023-11-14T23:13:20.000+01:00",
                "time": 1500.0,
                "request": {
                    "method": "POST",
                    "url": "https://api.example/v1/chat/completions",
                    "headers": [{"name": ":method", "value": "POST"}, {"name": "Authorization", "value": "Bearer sk-one"}],
                    "postData": {"mimeType": "application/json", "text": '{"model":"m","messages":[{"role":"user","content":"hi"}]}'},
                },
                "response": {"status": 200, "content": {"text": '{"usage":{"prompt_tokens":11,"completion_tokens":7}}'}},
            }
        ],
    }
}


def attribute(key: str, **value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


OTEL = {
    "resourceSpans": [
        {
            "scopeSpans": [
                {
                    "spans": [
                        {"spanId": "tool", "startTimeUnixNano": "1", "attributes": [attribute("gen_ai.operation.name", stringValue="execute_tool")]},
                        {
                            "spanId": "00f067aa",
                            "startTimeUnixNano": "1700000000000000000",
                            "endTimeUnixNano": "1700000001500000000",
                            "attributes": [
                                attribute("gen_ai.operation.name", stringValue="chat"),
                                attribute("gen_ai.request.model", stringValue="m"),
                                attribute("gen_ai.request.max_tokens", intValue="50"),
                                attribute("gen_ai.usage.input_tokens", intValue="11"),
                                attribute("gen_ai.usage.output_tokens", intValue="7"),
                                attribute("gen_ai.input.messages", stringValue='[{"role":"user","parts":[{"type":"text","content":"hi"}]}]'),
                                attribute("user.id", stringValue="sk-one"),
                            ],
                        },
                    ]
                }
            ]
        }
    ]
}
BURST = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,0,1087,API log\n"
AZURE = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-14 22:13:20.1234567,374,44\n"
MOONCAKE = {"timestamp": 3500, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}
SAMPLES = {
    "litellm": json.dumps(LITELLM) + "\n" + json.dumps([SPEND]),
    "envoy": json.dumps(ENVOY),
    "nginx": json.dumps(NGINX),
    "har": json.dumps(HAR, indent=1),
    "otel": json.dumps(OTEL) + "\n" + json.dumps({"resourceSpans": []}),
    "burstgpt": BURST,
    "azure": AZURE,
    "mooncake": json.dumps(MOONCAKE),
}


def imported(folder: Path, kind: str, text: str | None = None, **more: Any) -> tuple[list[Exchange], Import]:
    path = folder / f"{kind}.txt"
    path.write_text(SAMPLES[kind] if text is None else text)
    found = Import(path, kind, **more)
    return list(found), found


def test_every_kind_has_a_sample_and_says_what_it_lacks() -> None:
    assert set(SAMPLES) == set(KINDS)
    assert all(kind.lacks for kind in KINDS.values())


@pytest.mark.parametrize("kind", ["litellm", "envoy", "har", "otel"])
def test_usage_and_times_are_those_of_the_source(tmp_path: Path, kind: str) -> None:
    one = imported(tmp_path, kind)[0][0]
    assert one.response is not None
    assert one.response.usage is not None
    assert (one.ts, one.response.latency_ms, one.response.status) == (AT, 1500.0, 200)
    assert (one.response.usage.input_tokens, one.response.usage.output_tokens) == (11, 7)
    assert one.path == "/v1/chat/completions"


def test_a_line_of_nginx_is_written_at_the_end_of_its_request(tmp_path: Path) -> None:
    (one,), _ = imported(tmp_path, "nginx")
    assert one.response is not None
    assert (one.ts, one.ends, one.path, one.client, one.response.usage) == (AT, AT + 1.5, "/v1/messages", "192.0.2.9", None)
    assert json.loads(one.octets)["max_tokens"] == 9
    assert ("authorization", "Bearer sk-one") in one.headers


def test_litellm_knows_the_key_by_its_hash_and_the_parameters(tmp_path: Path) -> None:
    (one, two), _ = imported(tmp_path, "litellm")
    assert (one.id, one.client, one.headers) == ("chatcmpl-1", "192.0.2.1", [("authorization", "Bearer 88dc28d0")])
    assert json.loads(one.octets) == {"model": "gpt-4o", "messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": 50}
    assert (two.id, two.path, two.ts, two.headers) == ("req-2", "/v1/embeddings", AT + 1.25, [("authorization", "Bearer 77ab")])


def test_spans_that_are_no_request_are_left_out_and_parts_become_messages(tmp_path: Path) -> None:
    (one,), _ = imported(tmp_path, "otel")
    assert json.loads(one.octets) == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50}


def test_published_traces_count_from_where_they_are_said_to_begin(tmp_path: Path) -> None:
    done, failed = imported(tmp_path, "burstgpt", starts=AT)[0]
    assert (done.ts, failed.ts) == (AT + 5, AT + 45)
    assert (done.response and done.response.status, failed.response and failed.response.status) == (200, 500)
    assert imported(tmp_path, "mooncake", starts=AT)[0][0].ts == AT + 3.5
    assert imported(tmp_path, "azure", starts=AT)[0][0].ts == pytest.approx(AT + 0.123456)


@pytest.mark.parametrize("kind", ["burstgpt", "azure", "mooncake"])
def test_nobody_is_invented(tmp_path: Path, kind: str) -> None:
    assert all(one.headers == [] for one in imported(tmp_path, kind)[0])
    assert all(one.headers == [("authorization", "Bearer all")] for one in imported(tmp_path, kind, account="all")[0])


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_imported_can_be_replayed(tmp_path: Path, kind: str) -> None:
    made, found = imported(tmp_path, kind, account="sk-all", starts=AT)
    with ExchangeWriter(tmp_path / "log.jsonl.zst") as writer:
        for one in made:
            writer.write(one)
    session = Session(set_up(str(tmp_path / "log.jsonl.zst"), policy_file(tmp_path, "quotas: {q: {limit: 9/min}}\nanalysis: {enabled: false}\n"), KEY))
    session.run(Outputs(), lambda: None)
    told = session.report(1.0)
    assert (told.traffic.requests, told.traffic.undecided, found.broken) == (len(made), {}, 0)
    assert told.accounts.accounts >= 1


@pytest.mark.parametrize("kind", ["litellm", "envoy", "nginx", "mooncake", "burstgpt", "azure"])
def test_broken_records_are_skipped_and_told(tmp_path: Path, kind: str) -> None:
    broken = (
        "\nnonsense,x,y\n" if KINDS[kind].form == "csv" else '\n{"half": \n{"startTime": "soon", "timestamp": "soon", "msec": "soon", "start_time": "soon"}\n'
    )
    made, found = imported(tmp_path, kind, SAMPLES[kind] + broken)
    assert len(made) == len(imported(tmp_path, kind)[0])
    assert found.broken == (1 if KINDS[kind].form == "csv" else 2)
    assert f"{kind}.txt:" in found.problems[0]


def test_a_document_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="is not JSON"):
        imported(tmp_path, "har", "<html>")


def test_logs_written_at_the_end_are_put_in_the_order_of_beginning() -> None:
    found = [exchange(n, after=after) for n, after in enumerate((3.0, 1.0, 2.0))]
    assert [one.id for one in ordered(found)] == ["x1", "x2", "x0"]


@pytest.mark.parametrize(
    ("told", "at"),
    [(5, 5.0), ("1700000000.5", AT + 0.5), ("2023-11-14T22:13:20Z", AT), ("2023-11-14 22:13:20", AT), ("2023-11-14T23:13:20.5000000+01:00", AT + 0.5)],
)
def test_times_in_the_ways_they_are_written(told: Any, at: float) -> None:
    assert moment(told) == at
    with pytest.raises(Broken):
        moment("yesterday")
