"""The stand-alone proxy over real sockets: what crosses it, what does not, and how each side learns of the other's end."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway_guard.__main__ import main
from gateway_guard.cli.serve import configured, guarded_proxy
from gateway_guard.dialects import DIALECTS
from gateway_guard.errors import UsageError
from gateway_guard.policy.model import UpstreamRules
from gateway_guard.proxy import ClientLeft, Front, Proxy, UpstreamTransport
from gateway_guard.proxy.headers import to_client, to_upstream
from tests.served import PATIENCE, Scripted, Wire, connect, served

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHAT = "/v1/chat/completions"


@contextmanager
def proxied(upstream: str | int, **rules: float) -> Iterator[int]:
    """A proxy in front of `upstream` (a port or an address); gives its port."""
    address = f"http://127.0.0.1:{upstream}" if isinstance(upstream, int) else upstream
    proxy = Proxy(address, UpstreamRules.model_validate(rules), paths={CHAT: DIALECTS["openai.chat"], "/v1/messages": DIALECTS["anthropic.messages"]})
    with served(configured(Front(proxy), log_level="critical")) as port:
        yield port


def answering(answer: bytes, kept: list[bytes] | None = None, *, times: int = 1) -> Callable[[Wire], None]:
    """A script that reads a request, keeps it, and answers; `times` on a connection."""

    def script(wire: Wire) -> None:
        for _ in range(times):
            request = wire.request()
            if kept is not None:
                kept.append(request)
            wire.send(answer)

    return script


def ask(upstream_answer: bytes, request: bytes, *, base: str = "") -> tuple[bytes, bytes]:
    """What the server was sent, and what the client got, for one raw request."""
    kept: list[bytes] = []
    with Scripted(answering(upstream_answer, kept)) as upstream, proxied(f"http://127.0.0.1:{upstream.port}{base}") as port, connect(port) as wire:
        wire.send(request)
        got = wire.rest()
    return (kept[0] if kept else b""), got.replace(str(upstream.port).encode(), b"PORT")


def fields(message: bytes) -> list[tuple[bytes, bytes]]:
    """The header fields of a raw message, in order."""
    head = message.split(b"\r\n\r\n")[0]
    return [(name.lower(), value.strip()) for name, _, value in (line.partition(b":") for line in head.split(b"\r\n")[1:])]


def values(message: bytes, name: bytes) -> list[bytes]:
    return [value for field, value in fields(message) if field == name]


# What crosses


def test_hop_by_hop_fields_of_the_request_stay_here() -> None:
    """RFC 9110 section 7.6.1: the connection's own fields end here, and so does what `Connection` lists."""
    sent, _ = ask(
        OK,
        b"GET /v1/models HTTP/1.1\r\nHost: api.example\r\nConnection: close, X-Trace\r\nX-Trace: 1\r\nTE: trailers\r\nTrailer: x-sum\r\n"
        b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic eDp5\r\nX-Kept: yes\r\n\r\n",
    )
    names = {name for name, _ in fields(sent)}
    assert names == {b"host", b"x-kept", b"via", b"forwarded", b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host"}


def test_connection_cannot_take_away_what_the_guard_has_judged() -> None:
    """`Connection: authorization` would have the server read another request than the guard did."""
    sent, _ = ask(
        OK,
        b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close, authorization, content-type\r\n"
        b"Authorization: Bearer k\r\nContent-Type: text/plain\r\nContent-Length: 1\r\n\r\nx",
    )
    assert values(sent, b"authorization") == [b"Bearer k"]
    assert values(sent, b"content-type") == [b"text/plain"]


def test_nothing_is_added_that_the_caller_did_not_send() -> None:
    """No accept-encoding of our own: the server would compress for a client that cannot read it."""
    sent, _ = ask(OK, b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx")
    assert not {b"accept", b"accept-encoding", b"user-agent", b"content-type", b"cookie"} & {name for name, _ in fields(sent)}


def test_the_server_learns_who_asked_and_by_which_name() -> None:
    """Chains are appended to; `Host` is the server's own."""
    sent, _ = ask(
        OK, b"GET /x HTTP/1.1\r\nHost: api.example\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.1\r\nForwarded: for=192.0.2.1\r\nVia: 1.1 edge\r\n\r\n"
    )
    assert values(sent, b"host")[0].startswith(b"127.0.0.1:")
    assert values(sent, b"x-forwarded-for") == [b"192.0.2.1, 127.0.0.1"]
    assert values(sent, b"forwarded") == [b'for=192.0.2.1, for=127.0.0.1;host="api.example";proto=http']
    assert values(sent, b"x-forwarded-host") == [b"api.example"]
    assert values(sent, b"via") == [b"1.1 edge, 1.1 gateway-guard"]


@pytest.mark.parametrize(("trusted", "scheme", "host"), [(False, b"http", b"api.example"), (True, b"https", b"public.example")])
def test_only_a_declared_proxy_may_say_which_scheme_and_host_were_asked(trusted: bool, scheme: bytes, host: bytes) -> None:
    """A client that could claim https would make the server set cookies and links as if it were."""
    headers = [(b"host", b"api.example"), (b"x-forwarded-proto", b"https"), (b"x-forwarded-host", b"public.example")]
    sent = dict(to_upstream({"headers": headers, "client": ("192.0.2.7", 1), "scheme": "http"}, b"model:8000", trusted=trusted))
    assert (sent[b"x-forwarded-proto"], sent[b"x-forwarded-host"]) == (scheme, host)


def test_a_host_cannot_write_forwarded_elements_of_its_own() -> None:
    """The quoting of RFC 7239 holds against quotes and backslashes; IPv6 is bracketed."""
    sent = dict(to_upstream({"headers": [(b"host", b'a";for=1.2.3.4\\')], "client": ("2001:db8::1", 1), "scheme": "http"}, b"m", trusted=False))
    assert sent[b"forwarded"] == b'for="[2001:db8::1]";host="a\\";for=1.2.3.4\\\\";proto=http'


def test_duplicates_and_order_of_the_request_are_kept() -> None:
    sent, _ = ask(OK, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-A: 1\r\nX-B: 2\r\nX-A: 3\r\n\r\n")
    assert [(name, value) for name, value in fields(sent) if name in (b"x-a", b"x-b")] == [(b"x-a", b"1"), (b"x-b", b"2"), (b"x-a", b"3")]


def test_the_answer_crosses_raw() -> None:
    """Coded bytes stay coded, each Set-Cookie stays its own, hop-by-hop fields stay behind, Date is the server's."""
    packed = gzip.compress(b"x" * 1000)
    _, got = ask(
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nConnection: X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=9\r\n"
        b"Date: Thu, 01 Jan 2026 00:00:00 GMT\r\nServer: model\r\nContent-Length: %d\r\n\r\n%s" % (len(packed), packed),
        b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAccept-Encoding: gzip\r\n\r\n",
    )
    assert got.endswith(b"\r\n\r\n" + packed)
    assert values(got, b"set-cookie") == [b"a=1", b"b=2"]
    assert values(got, b"date") == [b"Thu, 01 Jan 2026 00:00:00 GMT"]
    assert values(got, b"server") == [b"model"]
    assert values(got, b"content-length") == [str(len(packed)).encode()]
    assert not {b"x-hop", b"keep-alive", b"transfer-encoding"} & {name for name, _ in fields(got)}


def test_an_answer_without_a_date_gets_one() -> None:
    _, got = ask(OK, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert len(values(got, b"date")) == 1


@pytest.mark.parametrize(
    "status", [b"400 Bad Request", b"401 Unauthorized", b"429 Too Many Requests", b"500 Internal Server Error", b"503 Service Unavailable"]
)
def test_errors_of_the_server_are_passed_through(status: bytes) -> None:
    _, got = ask(
        b"HTTP/1.1 " + status + b'\r\nRetry-After: 7\r\nContent-Length: 9\r\n\r\n{"e": 1}\n', b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    assert got.startswith(b"HTTP/1.1 " + status)
    assert values(got, b"retry-after") == [b"7"]
    assert got.endswith(b'{"e": 1}\n')


@pytest.mark.parametrize(
    ("method", "answer"),
    [
        (b"HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n"),
        (b"GET", b"HTTP/1.1 204 No Content\r\n\r\n"),
        (b"GET", b"HTTP/1.1 304 Not Modified\r\netag: x\r\ncontent-length: 500\r\n\r\n"),
    ],
)
def test_answers_without_a_body_end_properly(method: bytes, answer: bytes) -> None:
    """The next request on the same connection is answered: nobody waits for a body that does not come."""
    with Scripted(answering(answer, times=2)) as upstream, proxied(upstream.port) as port, connect(port) as wire:
        for _ in range(2):
            wire.send(method + b" /x HTTP/1.1\r\nHost: a\r\n\r\n")
            assert wire.until(b"\r\n\r\n").startswith(answer[:12])


def test_a_body_of_known_length_keeps_its_length() -> None:
    sent, _ = ask(OK, b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 5\r\n\r\nhello")
    assert sent.endswith(b"\r\n\r\nhello")
    assert values(sent, b"content-length") == [b"5"]
    assert values(sent, b"transfer-encoding") == []


def test_a_long_body_arrives_whole() -> None:
    body = bytes(range(256)) * 4096
    sent, _ = ask(OK, b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
    assert sent.endswith(b"\r\n\r\n" + body)
    assert values(sent, b"transfer-encoding") == []


def test_expect_is_met_here() -> None:
    """A client that waits for `100 Continue` gets it from the proxy, which has to read the body anyway."""
    kept: list[bytes] = []
    with Scripted(answering(OK, kept)) as upstream, proxied(upstream.port) as port, connect(port) as wire:
        wire.send(b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert wire.until(b"\r\n\r\n").startswith(b"HTTP/1.1 100")
        wire.send(b"hi")
        assert wire.rest().endswith(b"ok")
    assert values(kept[0], b"expect") == []


def test_cookies_of_one_caller_are_not_sent_for_the_next() -> None:
    """A client library's cookie jar behind a proxy would hand one caller's session to another."""
    kept: list[bytes] = []
    answer = b"HTTP/1.1 200 OK\r\nset-cookie: session=secret\r\ncontent-length: 2\r\n\r\nok"
    with Scripted(answering(answer, kept, times=2)) as upstream, proxied(upstream.port) as port:
        for _ in range(2):
            httpx.get(f"http://127.0.0.1:{port}/x")
    assert len(kept) == 2
    assert values(kept[1], b"cookie") == []


# Streaming


def test_the_first_byte_goes_out_as_soon_as_it_comes_in() -> None:
    """The server sends its second event only when the client has got the first."""
    got_first = threading.Event()

    def script(wire: Wire) -> None:
        wire.request()
        wire.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\nb\r\ndata: one\n\n\r\n")
        assert got_first.wait(PATIENCE)
        wire.send(b"b\r\ndata: two\n\n\r\n0\r\n\r\n")

    with Scripted(script) as upstream, proxied(upstream.port) as port, httpx.stream("GET", f"http://127.0.0.1:{port}/x") as response:
        parts = response.iter_raw()
        assert next(parts) == b"data: one\n\n"
        got_first.set()
        assert b"".join(parts) == b"data: two\n\n"


def test_an_upload_is_not_held_back() -> None:
    """The client sends its second part only when the server has got the first."""
    got_first = threading.Event()

    def script(wire: Wire) -> None:
        assert b"transfer-encoding: chunked" in wire.until(b"\r\n\r\n").lower()
        wire.until(b"first")
        got_first.set()
        wire.until(b"0\r\n\r\n")
        wire.send(OK)

    with Scripted(script) as upstream, proxied(upstream.port) as port, connect(port) as wire:
        wire.send(b"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        assert got_first.wait(PATIENCE)
        wire.send(b"6\r\nsecond\r\n0\r\n\r\n")
        assert wire.rest().endswith(b"ok")


# Ends


def _waits_for_the_end(start: bytes) -> Callable[[Wire], None]:
    def script(wire: Wire) -> None:
        wire.request()
        if start:
            wire.send(start)
        assert wire.closed()

    return script


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n"], ids=["before the answer", "in the answer"])
def test_a_client_that_leaves_ends_the_request_to_the_server(start: bytes) -> None:
    """A model that goes on generating for nobody is the dearest leak of all."""
    with Scripted(_waits_for_the_end(start)) as upstream, proxied(upstream.port) as port:
        with connect(port) as wire:
            wire.send(b"GET /x HTTP/1.1\r\nHost: a\r\n\r\n")
            assert upstream.asked.wait(PATIENCE)
            assert not start or wire.until(b"one").endswith(b"one")
        assert upstream.done.wait(PATIENCE)


def test_a_client_that_leaves_in_its_upload_ends_the_request_to_the_server() -> None:
    got_first = threading.Event()

    def script(wire: Wire) -> None:
        wire.until(b"first")
        got_first.set()
        assert wire.until(b"nothing more comes") == b""

    with Scripted(script) as upstream, proxied(upstream.port) as port:
        with connect(port) as wire:
            wire.send(b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nfirst")
            assert got_first.wait(PATIENCE)
        assert upstream.done.wait(PATIENCE)


@pytest.mark.anyio
async def test_a_client_that_leaves_in_its_upload_is_not_answered() -> None:
    """What the guard is told is that the client left, not that the server failed."""
    parts = [{"type": "http.request", "body": b"first", "more_body": True}, {"type": "http.disconnect"}]
    scope: dict[str, Any] = {"type": "http", "method": "POST", "scheme": "http", "path": "/x", "query_string": b"", "headers": [], "client": None}
    said: list[Any] = []

    async def receive() -> Any:
        return parts.pop(0)

    async def send(message: Any) -> None:
        said.append(message)

    def script(wire: Wire) -> None:
        wire.until(b"nothing more comes")

    with Scripted(script) as upstream:
        transport = UpstreamTransport(1)
        with pytest.raises(ClientLeft):
            await Proxy(f"http://127.0.0.1:{upstream.port}", UpstreamRules(), transport=transport)(scope, receive, send)
        await transport.aclose()
    assert said == []


@pytest.mark.parametrize(
    "start",
    [b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n", b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\none"],
    ids=["chunked", "sized"],
)
def test_an_answer_that_breaks_off_breaks_off_for_the_client(start: bytes) -> None:
    """A clean end would pass half an answer off as the whole."""
    with (
        Scripted(answering(start)) as upstream,
        proxied(upstream.port) as port,
        httpx.stream("GET", f"http://127.0.0.1:{port}/x") as response,
    ):
        parts = response.iter_raw()
        assert next(parts) == b"one"
        with pytest.raises(httpx.RemoteProtocolError):
            next(parts)


# Failures


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def test_no_connection_is_a_502_in_the_callers_dialect() -> None:
    """Also with one place only: a request that came to nothing gives its place back."""
    with proxied(_free_port(), connections=1, pool_timeout=0.05) as port:
        openai = httpx.post(f"http://127.0.0.1:{port}{CHAT}", json={})
        anthropic = httpx.post(f"http://127.0.0.1:{port}/v1/messages", json={})
        other = httpx.get(f"http://127.0.0.1:{port}/metrics")
    assert [answer.status_code for answer in (openai, anthropic, other)] == [502, 502, 502]
    assert openai.json()["error"]["code"] == "server_unreachable"
    assert anthropic.json()["type"] == "error"
    assert "could not be reached" in other.json()["error"]["message"]
    assert "127.0.0.1" not in openai.text + anthropic.text + other.text


def test_no_answer_is_a_502() -> None:
    """The server hangs up, or speaks something else than HTTP."""
    for answer in (b"", b"220 mail.example ESMTP\r\n\r\n"):
        _, got = ask(answer, b"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert got.startswith(b"HTTP/1.1 502")


def test_silence_is_a_504() -> None:
    with Scripted(_waits_for_the_end(b"")) as upstream, proxied(upstream.port, read_timeout=0.05) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/x").status_code == 504


def test_a_server_that_takes_no_more_of_the_request_is_a_504() -> None:
    stop = threading.Event()

    def script(_: Wire) -> None:
        stop.wait(PATIENCE)

    with Scripted(script) as upstream, proxied(upstream.port, write_timeout=0.2) as port:
        assert httpx.post(f"http://127.0.0.1:{port}/x", content=b"x" * 32_000_000, timeout=PATIENCE).status_code == 504
        stop.set()


def test_a_server_may_think_longer_than_it_may_take_to_read() -> None:
    """The write time-out is over when the request has been written."""
    thinking = threading.Event()

    def script(wire: Wire) -> None:
        wire.request()
        thinking.wait(0.3)
        wire.send(OK)

    with Scripted(script) as upstream, proxied(upstream.port, write_timeout=0.1) as port:
        assert httpx.post(f"http://127.0.0.1:{port}/x", content=b"x" * 200_000).text == "ok"


def test_a_full_pool_is_a_503_that_says_when_to_come_back() -> None:
    with (
        Scripted(_waits_for_the_end(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx")) as upstream,
        proxied(upstream.port, connections=1, pool_timeout=0.05) as port,
    ):
        with httpx.stream("GET", f"http://127.0.0.1:{port}/x") as holding:
            assert holding.status_code == 200
            refused = httpx.get(f"http://127.0.0.1:{port}/x")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")


def test_a_connection_is_used_again_and_its_place_given_back() -> None:
    """One place, three requests in a row, one of them cut short by the server's silence."""
    with Scripted(answering(OK, times=3)) as upstream, proxied(upstream.port, connections=1) as port:
        assert [httpx.get(f"http://127.0.0.1:{port}/x").text for _ in range(3)] == ["ok", "ok", "ok"]
        assert upstream.connections == 1


# Only the one server


@pytest.mark.parametrize(
    "target",
    [b"/../secret", b"/v1/../../secret", b"/%2e%2e/secret", b"/v1/%2E./secret", b"/./x", b"http://127.0.0.1:9/x/../y", b"*"],
)
def test_a_path_that_leads_elsewhere_is_refused(target: bytes) -> None:
    sent, got = ask(OK, b"GET " + target + b" HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", base="/base")
    assert sent == b""
    assert got.startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (b"/v1/models?a=1&b=%20x", b"GET /base/v1/models?a=1&b=%20x HTTP/1.1"),
        (b"//evil.example/x", b"GET /base//evil.example/x HTTP/1.1"),
        (b"/@evil.example/x", b"GET /base/@evil.example/x HTTP/1.1"),
        (b"/a%2Fb", b"GET /base/a%2Fb HTTP/1.1"),
        (b"http://evil.example/x", b"GET /base/x HTTP/1.1"),
    ],
)
def test_every_target_is_a_path_on_the_one_server(target: bytes, line: bytes) -> None:
    sent, _ = ask(OK, b"GET " + target + b" HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", base="/base")
    assert sent.split(b"\r\n")[0] == line
    assert values(sent, b"host")[0].startswith(b"127.0.0.1:")


def test_redirects_are_the_clients_to_follow() -> None:
    """One into the server becomes one to the proxy; one to elsewhere is passed on as it is."""
    for location, seen in ((b"http://127.0.0.1:9/base/v1/x", b"/v1/x"), (b"http://elsewhere.example/y", b"http://elsewhere.example/y"), (b"/z", b"/z")):
        assert dict(to_client(307, [(b"Location", location)], b"http://127.0.0.1:9/base"))[b"location"] == seen
    with Scripted(answering(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:9/\r\ncontent-length: 0\r\n\r\n")) as upstream, proxied(upstream.port) as port:
        assert httpx.get(f"http://127.0.0.1:{port}/x").status_code == 302


def test_other_protocols_are_not_tunnelled() -> None:
    """`Upgrade` is the connection's own and is ignored, as any server may."""
    sent, got = ask(OK, b"GET /v1/realtime HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n")
    assert values(sent, b"upgrade") == []
    assert got.startswith(b"HTTP/1.1 200")


@pytest.mark.anyio
async def test_a_websocket_is_closed() -> None:
    """Under a server that speaks websockets, the caller is told instead of left to wait."""
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message["type"])

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    await Proxy("http://127.0.0.1:9", UpstreamRules())({"type": "websocket"}, receive, send)
    assert said == ["websocket.close"]


@pytest.mark.parametrize("address", ["model:8000", "ftp://model", "http://", "http://user:secret@model", "http://model/?x=1", "http://model:99999"])
def test_an_address_that_is_none_is_refused_at_the_start(address: str) -> None:
    with pytest.raises(UsageError, match="upstream"):
        Proxy(address, UpstreamRules())


# With the guard in front, as `gateway-guard serve` mounts it

ONE_AT_A_TIME = "version: 1\nname: test\nmode: enforce\nquotas:\n  running: {limit: 1 in flight}\n"
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n"


@contextmanager
def guarded(upstream: int, folder: Path) -> Iterator[str]:
    policy = folder / "policy.yaml"
    policy.write_text(ONE_AT_A_TIME)
    with served(configured(guarded_proxy(f"http://127.0.0.1:{upstream}", policy), log_level="critical")) as port:
        yield f"http://127.0.0.1:{port}"


QUESTION = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


def _ask_as(key: str, address: str) -> httpx.Response:
    return httpx.post(address + CHAT, json=QUESTION, headers={"authorization": f"Bearer {key}"})


def test_a_refused_request_does_not_reach_the_server(tmp_path: Path) -> None:
    with Scripted(answering(OK)) as upstream, guarded(upstream.port, tmp_path) as address:
        assert httpx.post(address + CHAT, json=QUESTION).status_code == 401
        assert httpx.post(address + CHAT, content=b"{", headers={"authorization": "Bearer k"}).status_code == 400
        assert upstream.connections == 0
        assert httpx.get(address + "/health").text == "ok"


def test_the_guard_holds_no_byte_back_and_tells_the_balance(tmp_path: Path) -> None:
    got_first = threading.Event()

    def script(wire: Wire) -> None:
        wire.request()
        wire.send(STREAM)
        assert got_first.wait(PATIENCE)
        wire.send(b"0\r\n\r\n")

    with Scripted(script) as upstream, guarded(upstream.port, tmp_path) as address:
        with httpx.stream("POST", address + CHAT, json={**QUESTION, "stream": True}, headers={"authorization": "Bearer k"}) as response:
            parts = response.iter_raw()
            assert next(parts) == b"one"
            # The account's one place is taken, other accounts' are not.
            assert _ask_as("k", address).status_code == 429
            got_first.set()
            assert b"".join(parts) == b""
        assert response.headers["x-gateway-guard-decision"]


@pytest.mark.parametrize("leaves", ["client", "server"])
def test_whoever_leaves_the_place_is_given_back(leaves: str, tmp_path: Path) -> None:
    """A reservation that outlived its request would lock the account out."""
    first = threading.Event()

    def script(wire: Wire) -> None:
        wire.request()
        if first.is_set():
            wire.send(OK)
            return
        first.set()
        wire.send(STREAM)
        if leaves == "client":
            assert wire.closed()

    with Scripted(script) as upstream, guarded(upstream.port, tmp_path) as address:
        with httpx.stream("POST", address + CHAT, json={**QUESTION, "stream": True}, headers={"authorization": "Bearer k"}) as response:
            parts = response.iter_raw()
            assert next(parts) == b"one"
            if leaves == "server":
                with pytest.raises(httpx.RemoteProtocolError):
                    next(parts)
        assert upstream.done.wait(PATIENCE)
        assert _ask_as("k", address).status_code == 200


def test_a_server_that_is_down_costs_the_caller_nothing(tmp_path: Path) -> None:
    with guarded(_free_port(), tmp_path) as address:
        assert [_ask_as("k", address).status_code for _ in range(3)] == [502, 502, 502]


# The command


@pytest.mark.parametrize(
    ("upstream", "policy", "code", "says"),
    [
        ("ftp://model", ONE_AT_A_TIME, 2, "give the model server's address"),
        ("http://model", "version: 1\nname: x\nquotass: {}\n", 1, "policy.yaml:3: "),
        ("http://model", None, 1, "cannot be read"),
    ],
)
def test_a_mistake_is_told_in_a_line(
    upstream: str, policy: str | None, code: int, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "policy.yaml"
    if policy is not None:
        file.write_text(policy)
    monkeypatch.setattr(sys, "argv", ["gateway-guard", "serve", "--upstream", upstream, "--policy", str(file)])
    assert main() == code
    assert says in capsys.readouterr().err


def test_the_command_serves_on_a_unix_socket_until_it_is_told_to_stop(tmp_path: Path) -> None:
    """Started as an operator starts it, asked over its socket, and ended by SIGTERM in good order."""
    policy, door = tmp_path / "policy.yaml", tmp_path / "door"
    policy.write_text(ONE_AT_A_TIME)
    with Scripted(answering(OK)) as upstream:
        address = f"http://127.0.0.1:{upstream.port}"
        command = [sys.executable, "-m", "gateway_guard", "serve", "--upstream", address, "--policy", str(policy), "--uds", str(door)]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            while "running on" not in process.stderr.readline():
                assert process.poll() is None
            with httpx.Client(transport=httpx.HTTPTransport(uds=str(door))) as client:
                assert client.get("http://guard/health").text == "ok"
            process.terminate()
            said = process.stderr.read()
    assert process.returncode == 0, said
    assert "shutdown complete" in said
    assert "Traceback" not in said
