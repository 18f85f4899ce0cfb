"""The real clients, over a real socket: they raise their typed exceptions from our bodies, obey our retry headers, and read what we recorded."""

from __future__ import annotations

import itertools
import json
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import anthropic
import openai
import pytest
from starlette.types import Receive, Scope, Send

from gateway_guard.dialects import DIALECTS, ratelimit
from gateway_guard.dialects.body import parse
from gateway_guard.facts import Asks
from gateway_guard.ports import Dialect, LimitShown
from gateway_guard.reading import Turn
from tests.served import served

RECORDED = Path(__file__).parent / "recorded"
NAMES = list(DIALECTS)
Headers = list[tuple[bytes, bytes]]


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: Headers = []  # noqa: RUF012
    kind: bytes = b"application/json"


class Upstream:
    """Plays each case's answers in order, the last one again and again, and notes what came and when."""

    def __init__(self) -> None:
        self.scripts: dict[str, list[Answer]] = {}
        self.bodies: dict[str, list[bytes]] = defaultdict(list)
        self.times: dict[str, list[float]] = defaultdict(list)
        self.port = 0
        self._cases = itertools.count()

    def case(self, *answers: Answer) -> str:
        name = f"case-{next(self._cases)}"
        self.scripts[name] = list(answers)
        return name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        case = dict(scope["headers"])[b"x-case"].decode()
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        self.bodies[case].append(body)
        self.times[case].append(time.monotonic())
        script = self.scripts[case]
        answer = script.pop(0) if len(script) > 1 else script[0]
        await send({"type": "http.response.start", "status": answer.status, "headers": [(b"content-type", answer.kind), *answer.headers]})
        await send({"type": "http.response.body", "body": answer.body})


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    app = Upstream()
    with served(app) as port:
        app.port = port
        yield app


class Clients(NamedTuple):
    """Both clients of a case."""

    upstream: Upstream
    case: str
    retries: int = 0
    strict: bool = True

    def _options(self, http_client: Any) -> dict[str, Any]:
        """Over plain HTTP: loading the machine's certificates would take longer than the test."""
        made = http_client(verify=False)
        return {
            "http_client": made,
            "api_key": "sk-test",
            "max_retries": self.retries,
            "default_headers": {"x-case": self.case},
            "_strict_response_validation": self.strict,
        }

    def of_openai(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.upstream.port}/v1", **self._options(openai.DefaultHttpxClient))

    def of_openai_async(self) -> openai.AsyncOpenAI:
        return openai.AsyncOpenAI(base_url=f"http://127.0.0.1:{self.upstream.port}/v1", **self._options(openai.DefaultAsyncHttpxClient))

    def of_anthropic(self) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=f"http://127.0.0.1:{self.upstream.port}", **self._options(anthropic.DefaultHttpxClient))

    def of_anthropic_async(self) -> anthropic.AsyncAnthropic:
        return anthropic.AsyncAnthropic(base_url=f"http://127.0.0.1:{self.upstream.port}", **self._options(anthropic.DefaultAsyncHttpxClient))


HI: Any = [{"role": "user", "content": "hi"}]
CALLS: dict[str, Callable[[Any], Any]] = {
    "openai.chat": lambda client: client.chat.completions.create(model="m", messages=HI),
    "openai.responses": lambda client: client.responses.create(model="m", input="hi"),
    "openai.completions": lambda client: client.completions.create(model="m", prompt="hi"),
    "openai.embeddings": lambda client: client.embeddings.create(model="m", input="hi"),
    "anthropic.messages": lambda client: client.messages.create(model="m", max_tokens=5, messages=HI),
}
STREAMS: dict[str, Callable[[Any], Any]] = {
    "openai.chat": lambda client: client.chat.completions.create(model="m", messages=HI, stream=True, stream_options={"include_usage": True}),
    "openai.responses": lambda client: client.responses.create(model="m", input="hi", stream=True),
    "openai.completions": lambda client: client.completions.create(model="m", prompt="hi", stream=True),
    "anthropic.messages": lambda client: client.messages.create(model="m", max_tokens=5, messages=HI, stream=True),
}


def call(name: str, clients: Clients) -> Any:
    with clients.of_anthropic() if name == "anthropic.messages" else clients.of_openai() as client:
        return CALLS[name](client)


async def call_async(name: str, clients: Clients) -> Any:
    async with clients.of_anthropic_async() if name == "anthropic.messages" else clients.of_openai_async() as client:
        made: Awaitable[Any] = CALLS[name](client)
        return await made


RAISED: Mapping[int, tuple[type[openai.APIStatusError], type[anthropic.APIStatusError], str, str]] = {
    400: (openai.BadRequestError, anthropic.BadRequestError, "invalid_request_error", "invalid_request_error"),
    401: (openai.AuthenticationError, anthropic.AuthenticationError, "authentication_error", "authentication_error"),
    403: (openai.PermissionDeniedError, anthropic.PermissionDeniedError, "permission_error", "permission_error"),
    404: (openai.NotFoundError, anthropic.NotFoundError, "not_found_error", "not_found_error"),
    413: (openai.APIStatusError, anthropic.ContentTooLargeError, "invalid_request_error", "request_too_large"),
    429: (openai.RateLimitError, anthropic.RateLimitError, "rate_limit_error", "rate_limit_error"),
    500: (openai.InternalServerError, anthropic.InternalServerError, "server_error", "api_error"),
    503: (openai.InternalServerError, anthropic.ServiceUnavailableError, "server_error", "overloaded_error"),
}
DETAILS = {"decision": "d-1", "quota": "requests-per-minute", "left": 0, "retry_after_s": 1.5}


def refusal(dialect: Dialect, status: int, *headers: tuple[bytes, bytes]) -> Answer:
    body = dialect.error(status, "some_code", "Rate limit reached: “m” – wait.", param="messages[0]", details=DETAILS, request_id="req-7")
    return Answer(status, body, [(dialect.request_id_header, b"req-7"), *headers])


def check_openai(error: openai.APIStatusError, status: int, kind: str) -> None:
    assert (error.status_code, error.type, error.code, error.param) == (status, kind, "some_code", "messages[0]")
    assert str(error) == f"Error code: {status} - Rate limit reached: “m” – wait."
    assert error.request_id == "req-7"
    assert isinstance(error.body, dict)
    assert error.body["gateway_guard"] == DETAILS


def check_anthropic(error: anthropic.APIStatusError, status: int, kind: str) -> None:
    assert (error.status_code, error.type, error.error_code) == (status, kind, "some_code")
    assert error.api_message == "Rate limit reached: “m” – wait."
    assert error.request_id == "req-7"
    assert isinstance(error.body, dict)
    assert error.body["error"]["gateway_guard"] == DETAILS
    assert error.body["request_id"] == "req-7"


@pytest.mark.parametrize("status", RAISED)
@pytest.mark.parametrize("name", NAMES)
def test_refusals_become_typed_exceptions(upstream: Upstream, name: str, status: int) -> None:
    clients = Clients(upstream, upstream.case(refusal(DIALECTS[name], status)))
    of_openai, of_anthropic, openai_type, anthropic_type = RAISED[status]
    if name == "anthropic.messages":
        with pytest.raises(of_anthropic) as caught:
            call(name, clients)
        check_anthropic(caught.value, status, anthropic_type)
    else:
        with pytest.raises(of_openai) as raised:
            call(name, clients)
        check_openai(raised.value, status, openai_type)


@pytest.mark.anyio
@pytest.mark.parametrize("name", NAMES)
async def test_refusals_become_typed_exceptions_of_the_async_clients(upstream: Upstream, name: str) -> None:
    for status in (400, 401, 403, 429, 503):
        clients = Clients(upstream, upstream.case(refusal(DIALECTS[name], status)))
        of_openai, of_anthropic, openai_type, anthropic_type = RAISED[status]
        with pytest.raises((of_openai, of_anthropic)) as caught:
            await call_async(name, clients)
        if isinstance(caught.value, anthropic.APIStatusError):
            check_anthropic(caught.value, status, anthropic_type)
        else:
            assert isinstance(caught.value, openai.APIStatusError)
            check_openai(caught.value, status, openai_type)


@pytest.mark.parametrize("name", STREAMS)
def test_a_refused_stream_raises_before_its_first_event(upstream: Upstream, name: str) -> None:
    clients = Clients(upstream, upstream.case(refusal(DIALECTS[name], 429)))
    client = clients.of_anthropic() if name == "anthropic.messages" else clients.of_openai()
    with client, pytest.raises((openai.RateLimitError, anthropic.RateLimitError)):
        STREAMS[name](client)


def recorded(name: str) -> Answer:
    return Answer(200, (RECORDED / name / "answer.json").read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_the_clients_wait_as_long_as_they_are_told(upstream: Upstream, name: str) -> None:
    """150 ms, which neither client would choose by itself: its own first wait is longer."""
    case = upstream.case(refusal(DIALECTS[name], 429, *ratelimit.retry(0.15)), recorded(name))
    assert call(name, Clients(upstream, case, retries=2)) is not None
    first, second = upstream.times[case]
    assert 0.15 <= second - first < 0.37


@pytest.mark.anyio
@pytest.mark.parametrize("name", ["openai.chat", "anthropic.messages"])
async def test_the_async_clients_wait_as_long_as_they_are_told(upstream: Upstream, name: str) -> None:
    case = upstream.case(refusal(DIALECTS[name], 429, *ratelimit.retry(0.15)), recorded(name))
    assert await call_async(name, Clients(upstream, case, retries=2)) is not None
    first, second = upstream.times[case]
    assert 0.15 <= second - first < 0.37


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    "headers",
    [ratelimit.retry(0.05, again=False), ratelimit.retry(3600.0), ratelimit.retry(float("inf"))],
    ids=["told not to", "a long wait", "never"],
)
def test_the_clients_do_not_sit_out_what_is_hopeless(upstream: Upstream, name: str, headers: Headers) -> None:
    """A client that sleeps for an hour inside one call looks like a hang."""
    case = upstream.case(refusal(DIALECTS[name], 429, *headers))
    with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)):
        call(name, Clients(upstream, case, retries=2))
    assert len(upstream.times[case]) == 1


@pytest.mark.parametrize("name", NAMES)
def test_limit_headers_reach_the_caller(upstream: Upstream, name: str) -> None:
    limits = [LimitShown("rpm", "requests", 60, 12, 31.2, 60)]
    own = DIALECTS[name].limit_headers(limits, 1764066000.0)
    case = upstream.case(refusal(DIALECTS[name], 429, *own, *ratelimit.fields(limits)))
    with pytest.raises((openai.RateLimitError, anthropic.RateLimitError)) as caught:
        call(name, Clients(upstream, case))
    assert isinstance(caught.value, openai.APIStatusError | anthropic.APIStatusError)
    got = caught.value.response.headers
    assert got["ratelimit"] == '"rpm";r=12;t=32'
    for key, value in own:
        assert got[key.decode()] == value.decode()


def told(usage: Any) -> tuple[int, int]:
    """Input and output as the client's own types have them."""
    if isinstance(usage, anthropic.types.Usage):
        return usage.input_tokens + (usage.cache_creation_input_tokens or 0) + (usage.cache_read_input_tokens or 0), usage.output_tokens
    if isinstance(usage, openai.types.CompletionUsage):
        return usage.prompt_tokens, usage.completion_tokens
    if isinstance(usage, openai.types.create_embedding_response.Usage):
        return usage.prompt_tokens, 0
    return usage.input_tokens, usage.output_tokens


@pytest.mark.parametrize("name", NAMES)
def test_the_recorded_answers_are_what_the_clients_take(upstream: Upstream, name: str) -> None:
    """Strictly validated by the clients' own types; and the meter counts what the client is told."""
    answer = recorded(name)
    result = call(name, Clients(upstream, upstream.case(answer)))
    meter = DIALECTS[name].meter("application/json")
    meter.feed(answer.body)
    assert (meter.usage().input, meter.usage().output) == told(result.usage)
    assert not meter.usage().estimated


def last_usage(event: Any) -> Any:
    """The final usage that a stream's event carries, where it carries one."""
    usage = getattr(event, "usage", None) or getattr(getattr(event, "response", None), "usage", None)
    return None if event.__class__.__name__ == "RawMessageStartEvent" else usage


@pytest.mark.parametrize(
    ("name", "file"),
    [("openai.chat", "stream_with_usage"), ("openai.completions", "stream_with_usage"), ("openai.responses", "stream"), ("anthropic.messages", "stream")],
)
def test_the_recorded_streams_are_what_the_clients_take(upstream: Upstream, name: str, file: str) -> None:
    data = (RECORDED / name / f"{file}.sse").read_bytes()
    strict = name != "openai.completions"  # whose real chunks have a null that its types do not allow
    clients = Clients(upstream, upstream.case(Answer(200, data, kind=b"text/event-stream; charset=utf-8")), strict=strict)
    with clients.of_anthropic() if name == "anthropic.messages" else clients.of_openai() as client:
        usages = [usage for event in STREAMS[name](client) if (usage := last_usage(event)) is not None]
    meter = DIALECTS[name].meter("text/event-stream")
    meter.feed(data)
    output = usages[-1].output_tokens if hasattr(usages[-1], "output_tokens") else usages[-1].completion_tokens
    assert meter.usage().output == output


@pytest.mark.parametrize("name", NAMES)
def test_what_the_clients_send_is_read_without_a_second_parse(upstream: Upstream, name: str) -> None:
    case = upstream.case(recorded(name))
    call(name, Clients(upstream, case))
    [raw] = upstream.bodies[case]
    parsed = parse(raw)
    assert json.dumps(parsed.body, separators=(",", ":")).encode() == raw
    reading = DIALECTS[name].read(parsed.body)
    assert (reading.model, reading.current, reading.turns) == ("m", "hi", (Turn("user", "hi"),))
    assert reading.asks == Asks.NONE
