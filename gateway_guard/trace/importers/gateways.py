"""Logs of gateways and proxies: LiteLLM, Envoy (and its AI Gateway), nginx; recordings of a browser or a debugging proxy (HAR); spans of OpenTelemetry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import msgspec

from gateway_guard.trace.exchanges import Exchange
from gateway_guard.trace.importers.made import CHAT, EMBEDDINGS, Broken, bearer, body, dig, first, moment, response, text, whole

_PATHS = {"embedding": EMBEDDINGS, "aembedding": EMBEDDINGS, "embeddings": EMBEDDINGS, "responses": "/v1/responses", "aresponses": "/v1/responses"}
_PATHS |= {"text_completion": "/v1/completions", "atext_completion": "/v1/completions", "anthropic_messages": "/v1/messages"}
_PARTS = ("stream", "max_tokens", "max_completion_tokens", "n", "temperature", "tools", "logprobs", "reasoning_effort")


def litellm(record: Mapping[str, Any], number: int, starts: float, account: str) -> Exchange:
    """A StandardLoggingPayload, or a row of LiteLLM_SpendLogs: the account is the hash of its key."""
    began, ended = moment(_time(record, "startTime")), record.get("endTime")
    key = first(record, "api_key") or dig(record, "metadata", "user_api_key_hash") or account
    failed = text(record.get("status")) == "failure"
    asked = record.get("model_parameters")
    parts = {name: asked[name] for name in _PARTS if name in asked} if isinstance(asked, Mapping) else {}
    path = _PATHS.get(text(record.get("call_type")), CHAT)
    given, output = whole(record.get("prompt_tokens")), None if failed else whole(record.get("completion_tokens"))
    return Exchange(
        id=text(first(record, "id", "request_id")) or f"litellm-{number}",
        ts=began,
        client=text(first(record, "requester_ip_address") or dig(record, "metadata", "requester_ip_address")),
        path=path,
        headers=bearer(key),
        body=body(record.get("model"), **_said(record.get("messages"), path), **parts),
        response=response(began, moment(ended) if ended else None, status=500 if failed else 200, input_tokens=given, output_tokens=output),
    )


def _said(messages: Any, path: str) -> dict[str, Any]:
    """What was asked, under the name that the endpoint has for it; empty when it was not stored."""
    if path in (EMBEDDINGS, "/v1/responses"):
        return {"input": messages or ""}
    return {"prompt": messages or ""} if path == "/v1/completions" else {"messages": messages if isinstance(messages, list) else []}


def envoy(record: Mapping[str, Any], number: int, starts: float, account: str) -> Exchange:
    """An access log as JSON: `start_time`, `method`, `path`, `response_code`, `duration` (ms); with the AI Gateway also the model and its tokens."""
    began = moment(_time(record, "start_time"))
    took = first(record, "duration")
    who = first(record, "authorization", "x-api-key", "x_api_key") or account
    return Exchange(
        id=text(first(record, "request_id", "x-request-id")) or f"envoy-{number}",
        ts=began,
        client=_host(first(record, "downstream_remote_address", "x-forwarded-for", "x_forwarded_for")),
        method=text(first(record, "method", ":method")) or "POST",
        path=_path(first(record, "x-envoy-origin-path", "path", ":path")),
        headers=[*_agent(record), *bearer(_secret(who))],
        body=body(first(record, "genai_model_name", "llm_request_model"), messages=[]),
        response=response(
            began,
            None if took is None else began + moment(took) / 1000.0,
            status=whole(record.get("response_code")),
            input_tokens=whole(first(record, "genai_tokens_input", "llm_input_token")),
            output_tokens=whole(first(record, "genai_tokens_output", "llm_output_token")),
        ),
    )


def nginx(record: Mapping[str, Any], number: int, starts: float, account: str) -> Exchange:
    """A `log_format ... escape=json` whose fields have the names of nginx's variables: `msec` or `time_iso8601`, written when the request ends."""
    ended, took = moment(_time(record, "msec", "time_iso8601")), first(record, "request_time")
    began = ended - (moment(took) if took is not None else 0.0)
    who = first(record, "http_authorization", "http_x_api_key") or account
    raw = text(record.get("request_body"))
    return Exchange(
        id=text(first(record, "request_id", "http_x_request_id")) or f"nginx-{number}",
        ts=round(began, 6),
        client=text(first(record, "remote_addr")),
        method=text(first(record, "request_method")) or "POST",
        path=_path(first(record, "request_uri", "uri")),
        headers=[*([("user-agent", text(record["http_user_agent"]))] if text(record.get("http_user_agent")) else []), *bearer(_secret(who))],
        body=_json(raw) if raw else body("", messages=[]),
        response=response(began, ended, status=whole(record.get("status"))),
    )


def har(document: Any, starts: float, account: str) -> Iterator[Exchange]:
    """HAR 1.2: requests with their headers and bodies, as a browser or a debugging proxy saved them."""
    for number, entry in enumerate(dig(document, "log", "entries") or ()):
        began, took = moment(_time(entry, "startedDateTime")), entry.get("time")
        headers = [(text(h.get("name")).lower(), text(h.get("value"))) for h in dig(entry, "request", "headers") or ()]
        headers = [(name, value) for name, value in headers if not name.startswith(":")]
        known = any(name in ("authorization", "x-api-key") for name, _ in headers)
        status, ended = whole(dig(entry, "response", "status")), began + float(took) / 1000.0 if took else None
        yield Exchange(
            id=f"har-{number}",
            ts=began,
            client="",
            method=text(dig(entry, "request", "method")) or "POST",
            path=_path(dig(entry, "request", "url")),
            headers=headers if known else [*headers, *bearer(account)],
            body=_json(text(dig(entry, "request", "postData", "text"))),
            response=response(began, ended, status=status or None, **_usage(text(dig(entry, "response", "content", "text")))),
        )


def otel(document: Any, starts: float, account: str) -> Iterator[Exchange]:
    """OTLP as JSON: spans with `gen_ai.operation.name` chat, text_completion or embeddings. The account is `user.id`, or `enduser.id`."""
    for number, (span, told) in enumerate(_spans(document)):
        operation = text(told.get("gen_ai.operation.name"))
        if operation not in ("chat", "text_completion", "embeddings"):
            continue
        began, ended = (int(span.get(name) or 0) / 1e9 for name in ("startTimeUnixNano", "endTimeUnixNano"))
        path, failed = _PATHS.get(operation, CHAT), bool(told.get("error.type"))
        limits = {name: told.get(f"gen_ai.request.{name}") for name in ("max_tokens", "temperature")}
        given, output = whole(told.get("gen_ai.usage.input_tokens")), whole(told.get("gen_ai.usage.output_tokens"))
        yield Exchange(
            id=text(span.get("spanId")) or f"otel-{number}",
            ts=began,
            client=text(first(told, "client.address")),
            path=path,
            headers=bearer(first(told, "user.id", "enduser.id") or account),
            body=body(told.get("gen_ai.request.model"), **_said(_messages(told.get("gen_ai.input.messages")), path), **limits),
            response=response(began, ended or None, status=500 if failed else 200, input_tokens=given, output_tokens=output),
        )


def _spans(document: Any) -> Iterator[tuple[Mapping[str, Any], dict[str, Any]]]:
    for resource in dig(document, "resourceSpans") or ():
        for scope in resource.get("scopeSpans") or ():
            for span in scope.get("spans") or ():
                yield span, {text(one.get("key")): _value(one.get("value")) for one in span.get("attributes") or ()}


def _value(told: Any) -> Any:
    """OTLP writes 64-bit integers as texts."""
    if not isinstance(told, Mapping):
        return None
    if "intValue" in told:
        return int(told["intValue"])
    return next((told[name] for name in ("stringValue", "doubleValue", "boolValue") if name in told), None)


def _messages(told: Any) -> list[dict[str, str]]:
    """Messages of parts, as the conventions have them, as an API has them. Without content recorded there are none."""
    try:
        found = msgspec.json.decode(told) if isinstance(told, str) else []
    except msgspec.DecodeError:
        return []
    out = []
    for message in found if isinstance(found, list) else ():
        parts = [text(part.get("content")) for part in message.get("parts") or () if part.get("type") == "text"]
        out.append({"role": text(message.get("role")) or "user", "content": "\n".join(parts)})
    return out


def _usage(answer: str) -> dict[str, int | None]:
    """The usage that a whole answer tells, in either API's words."""
    try:
        usage = dig(msgspec.json.decode(answer), "usage") if answer.startswith("{") else None
    except msgspec.DecodeError:
        usage = None
    if not isinstance(usage, Mapping):
        return {}
    return {
        "input_tokens": whole(first(usage, "prompt_tokens", "input_tokens")),
        "output_tokens": whole(first(usage, "completion_tokens", "output_tokens")),
    }


def _time(record: Mapping[str, Any], *names: str) -> Any:
    found = first(record, *names)
    if found is None:
        raise Broken(f"has no {' or '.join(names)}")
    return found


def _path(told: Any) -> str:
    return urlsplit(text(told)).path or "/"


def _host(told: Any) -> str:
    """An address without its port; of several, the first."""
    one = text(told).split(",", maxsplit=1)[0].strip()
    if one.startswith("["):
        return one[1:].partition("]")[0]
    return one.rpartition(":")[0] if one.count(":") == 1 else one


def _secret(told: Any) -> str:
    return text(told).removeprefix("Bearer ").strip()


def _agent(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    agent = text(first(record, "user_agent", "user-agent"))
    return [("user-agent", agent)] if agent else []


def _json(sent: str) -> msgspec.Raw:
    """A body as it was sent; what is no JSON is kept as a text."""
    try:
        msgspec.json.decode(sent)
    except msgspec.DecodeError:
        return msgspec.Raw(msgspec.json.encode(sent))
    return msgspec.Raw(sent.encode())
