"""Live replays: recorded requests against a real guarded server on loopback, and the answers beside the decisions."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from httpx import URL
from msgspec import structs
from starlette.types import Receive, Scope, Send

from gateway_guard import GatewayGuard
from gateway_guard.decision import Action, Decision
from gateway_guard.errors import UsageError
from gateway_guard.replay.answers import expected
from gateway_guard.replay.resend import has_text, request
from gateway_guard.replay.target import checked, read_credentials
from gateway_guard.trace.exchanges import Exchange
from tests.commands import Told, command
from tests.fakes import KEY, ModelServer, policy_file, start, streamed
from tests.fakes import events as sse
from tests.logs import exchange, log
from tests.served import PATIENCE, served

POLICY = """
quotas: {minute: {limit: 60/min, burst: 5}}
analysis: {enabled: false}
"""
SECRET = "sk-staging-one-secret"


def recorded(count: int = 8, *, key: str = "sk-live-one", gap: float = 0.01, **body: Any) -> list[Exchange]:
    return [exchange(n, key=key, after=n * gap, **body) for n in range(count)]


def files(folder: Path, exchanges: list[Exchange], policy: str = POLICY) -> list[str]:
    """A log, a policy, a directory and credentials; the words of a replay of them."""
    policy_file(folder, policy)
    source = log(folder / "log.jsonl.zst", exchanges)
    (folder / "accounts.csv").write_text(f"key,account\nsk-live-one,acme\nsk-live-two,bolt\n{SECRET},acme\n")
    credentials = folder / "staging.csv"
    credentials.write_text(f"account,key\nacme,{SECRET}\n")
    credentials.chmod(0o600)
    return [str(source), "--accounts", str(folder / "accounts.csv"), "--credentials", str(credentials), "--report", str(folder / "r.json")]


@pytest.fixture
def staging(tmp_path: Path) -> Iterator[Callable[..., tuple[int, ModelServer]]]:
    """Makes guarded servers on loopback; gives the port and the model server behind the guard."""
    with ExitStack() as stack:

        def made(policy: str = POLICY, server: ModelServer | None = None, *, guarded: bool = True) -> tuple[int, ModelServer]:
            folder = tmp_path / "deployment"
            folder.mkdir(exist_ok=True)
            model = server or ModelServer()
            (folder / "accounts.csv").write_text(f"key,account\n{SECRET},acme\n")
            app = GatewayGuard(model, policy_file(folder, policy), directory=folder / "accounts.csv", key=KEY) if guarded else model
            return stack.enter_context(served(app)), model

        yield made


def sent(folder: Path, port: int, words: list[str], *more: str) -> tuple[Told, dict[str, Any]]:
    told = command(folder, "replay", *words, "--target", f"http://127.0.0.1:{port}", *more)
    report = folder / "r.json"
    return told, json.loads(report.read_text()) if report.exists() else {}


def test_the_same_policy_answers_as_it_decides(tmp_path: Path, staging: Callable[..., tuple[int, ModelServer]]) -> None:
    port, model = staging()
    told, found = sent(tmp_path, port, files(tmp_path, recorded()))
    assert told.returncode == 0, told.stderr
    assert found["answers"] == {"served": {"served": 5}, "throttled": {"throttled": 3}}
    assert (found["complete"], found["requests"], found["sent"], found["agree"], found["differ"]) == (True, 8, 8, 8, 0)
    assert (found["statuses"], found["waits"], found["waits_differ"]) == ({"200": 5, "429": 3}, 3, 0)
    assert "8 answers as decided, 0 otherwise" in " ".join(told.stdout.split())
    assert json.loads(model.bodies[0])["messages"][0]["content"].startswith("question")
    headers = [dict(scope["headers"]) for scope in model.scopes if scope["type"] == "http"]
    assert {one[b"authorization"] for one in headers} == {b"Bearer " + SECRET.encode()}
    assert SECRET not in told.stdout + told.stderr + (tmp_path / "r.json").read_text()


def test_another_policy_there_is_told_and_fails(tmp_path: Path, staging: Callable[..., tuple[int, ModelServer]]) -> None:
    port, _ = staging(POLICY.replace("burst: 5", "burst: 2"))
    told, found = sent(tmp_path, port, files(tmp_path, recorded()))
    assert (told.returncode, found["differ"]) == (1, 3)
    assert found["answers"] == {"served": {"served": 2, "throttled": 3}, "throttled": {"throttled": 3}}
    assert found["affected"] == [{"account": "acme", "requests": 8, "differ": 3, "mostly": "served, answered throttled"}]
    assert "3 of 8 answers are not as decided" in told.stderr
    assert sent(tmp_path, port, files(tmp_path, recorded(2)), "--tolerate", "100%")[0].returncode == 0


def test_what_has_no_credential_or_no_text_is_not_sent(tmp_path: Path, staging: Callable[..., tuple[int, ModelServer]]) -> None:
    port, model = staging()
    bare = structs.replace(exchange(9, key="sk-live-one", after=0.2), body=msgspec.Raw(b'{"model":"m","messages":[]}'))
    odd = structs.replace(exchange(10, after=0.3), path="/v1/models", method="GET")
    _, found = sent(tmp_path, port, files(tmp_path, [*recorded(2), exchange(8, key="sk-live-two", after=0.1), bare, odd]))
    assert found["skipped"] == {"no credential": 1, "no text": 1, "unguarded": 1}
    assert (found["requests"], found["sent"], len(model.bodies)) == (5, 2, 2)


def test_speed_hastens_both_sides(tmp_path: Path, staging: Callable[..., tuple[int, ModelServer]]) -> None:
    """Eight requests in seventy seconds are within the quota; in a tenth of a second they are not, here as there."""
    port, _ = staging()
    words = files(tmp_path, recorded(gap=10.0))
    told, found = sent(tmp_path, port, words, "--speed", "700")
    assert (told.returncode, found["answers"], found["speed"]) == (0, {"served": {"served": 5}, "throttled": {"throttled": 3}}, 700.0)


def test_bounds_hold(tmp_path: Path) -> None:
    """At most so many at once, at most so many in all, and no answer is waited for longer than it may take."""
    running, most, pair = [0], [0], asyncio.Barrier(2)

    async def slow(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        running[0] += 1
        most[0] = max(most[0], running[0])
        await pair.wait()
        running[0] -= 1
        await streamed(sse())(server, scope, receive, send)

    with served(ModelServer(slow)) as port:
        words = files(tmp_path, recorded(20, gap=0.0))
        told, found = sent(tmp_path, port, words, "--in-flight", "2", "--max-requests", "6")
    assert (found["sent"], most[0]) == (6, 2)
    assert (told.returncode, "no guard stands there" in told.stderr) == (1, True)

    async def silent(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await start(send)
            await asyncio.Event().wait()

    with served(ModelServer(silent)) as port:
        told, found = sent(tmp_path, port, words, "--timeout", "0.2", "--max-requests", "1")
    assert (told.returncode, found["failures"]) == (1, {"ReadTimeout": 1})
    assert "does not answer (ReadTimeout)" in told.stderr


def test_a_model_server_s_own_refusal_is_not_the_guards(tmp_path: Path, staging: Callable[..., tuple[int, ModelServer]]) -> None:
    async def busy(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await start(send, b"application/json", 429)
            await send({"type": "http.response.body", "body": b'{"error":"overloaded"}'})

    port, _ = staging(server=ModelServer(busy))
    told, found = sent(tmp_path, port, files(tmp_path, recorded(2)))
    assert (told.returncode, found["answers"], found["statuses"]) == (0, {"served": {"served": 2}}, {"429": 2})


def test_denied_and_degraded_are_told_apart() -> None:
    """By status, by the challenge's header, by the notice of a degraded answer."""
    plain = Decision("x", 0.0, "a", Action.ALLOW, Action.ALLOW)
    cases = {
        "served": plain,
        "degraded": structs.replace(plain, action=Action.DEGRADE),
        "throttled": structs.replace(plain, action=Action.THROTTLE, served=False),
        "challenged": structs.replace(plain, action=Action.CHALLENGE, served=False),
        "denied": structs.replace(plain, action=Action.DENY, served=False),
        "refused": structs.replace(plain, action=Action.DENY, served=False, reasons=("state.foreign",)),
    }
    assert {label: expected(decision) for label, decision in cases.items()} == {label: label for label in cases}
    assert expected(structs.replace(plain, action=Action.DEGRADE, silent=True)) == "served"
    assert expected(structs.replace(plain, action=Action.THROTTLE, wait=2.0)) == "served"


def test_ctrl_c_leaves_a_partial_report(tmp_path: Path, staging: Callable[..., tuple[int, ModelServer]]) -> None:
    asked = threading.Semaphore(0)

    async def counted(server: ModelServer, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await streamed(sse())(server, scope, receive, send)
            asked.release()

    port, _ = staging(server=ModelServer(counted))
    words = files(tmp_path, [*recorded(3), exchange(99, key="sk-live-one", after=3600.0)])
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "GATEWAY_GUARD_KEY": KEY.decode()}
    line = [sys.executable, "-m", "gateway_guard", "replay", *words, "--policy", str(tmp_path / "policy.yaml"), "--target", f"http://127.0.0.1:{port}"]
    with subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert [asked.acquire(timeout=PATIENCE) for _ in range(3)] == [True] * 3
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")
    assert b"PARTIAL: interrupted" in out
    found = json.loads((tmp_path / "r.json").read_text())
    assert (found["complete"], found["stopped"]) == (False, "interrupted")
    assert found["answers"] == {"served": {"served": found["sent"]}}


def test_a_mistake_is_told_in_one_line_and_nothing_is_sent(tmp_path: Path) -> None:
    words = files(tmp_path, recorded(2))
    here = ["--target", "http://127.0.0.1:9"]
    open_file = tmp_path / "open.csv"
    open_file.write_text(f"account,key\nacme,{SECRET}\n")
    open_file.chmod(0o644)
    strangers = tmp_path / "strangers.csv"
    strangers.write_text(f"account,key\nnobody,{SECRET}\n")
    strangers.chmod(0o600)
    assert command(tmp_path, "replay", words[0], "--trace", str(tmp_path / "t.ggt")).returncode == 0
    textless = log(tmp_path / "textless.jsonl", [structs.replace(one, body=msgspec.Raw(b'{"model":"m","messages":[]}')) for one in recorded(2)])
    cases: list[tuple[list[str], int, str]] = [
        ([*words, "--target", "http://api.example.com"], 2, "declare it with `--allow-host api.example.com` if it is a staging deployment"),
        ([*words, "--target", "file:///etc/passwd"], 2, "is no address of a deployment"),
        ([*words, "--target", "http://me:secret@127.0.0.1"], 2, "an address holds no credentials"),
        ([words[0], *here], 2, "give the accounts' keys in staging as --credentials FILE"),
        ([words[0], *here, "--credentials", str(open_file)], 2, f"others can read the credentials (mode 0644): run `chmod 600 {open_file}`"),
        ([*words[:3], *here, "--credentials", str(strangers)], 1, "none of its accounts has a credential in --credentials"),
        ([str(tmp_path / "t.ggt"), *words[1:], *here], 2, "t.ggt: has no text to send, or cannot be read twice"),
        ([str(textless), *words[1:], *here], 1, "has no request with a text to send: record one with `record.exchanges`"),
        ([*words, *here, "--decisions", "d.jsonl"], 2, "leave --decisions, --trace and --labels out"),
        ([*words, *here], 1, "http://127.0.0.1:9: does not answer (ConnectError)"),
    ]
    for line, code, says in cases:
        told = command(tmp_path, "replay", *line)
        assert (told.returncode, says in told.stderr, len(told.stderr.splitlines())) == (code, True, 1), told.stderr
        assert SECRET not in told.stdout + told.stderr


@pytest.mark.parametrize(
    ("url", "allowed"),
    [("http://127.0.0.1:1", []), ("http://127.9.9.9", []), ("http://[::1]:80/base/", []), ("http://localhost", []), ("https://gw.stage", ["GW.stage"])],
)
def test_loopback_and_declared_hosts_may_be_sent_to(url: str, allowed: list[str]) -> None:
    assert checked(url, allowed) == url.rstrip("/")


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1.evil.com", "http://localhost.evil", "http://0x7f.1", "http://gw.stage", "http://169.254.169.254", "http://[::2]"]
)
def test_others_may_not_unless_it_is_said(url: str) -> None:
    with pytest.raises(UsageError, match="recorded prompts would be sent to"):
        checked(url, ["gw.stage.example"])
    assert checked(url, anywhere=True) == url


BAD_FILES = {
    "no column": ("name,key\na,b\n", "has no column `account`"),
    "no key": ("account,key\na,\n", ":2: an account and a key in plain characters are needed"),
    "two keys": ("account,key\na,k1\na,k2\n", ":3: another key for an account that has one already"),
    "a broken key": ("account,key\na,k\tk\n", ":2: an account and a key in plain characters are needed"),
    "empty": ("account,key\n", "holds no credentials"),
}


@pytest.mark.parametrize(("content", "says"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_of_credentials_is_refused(tmp_path: Path, content: str, says: str) -> None:
    path = tmp_path / "c.csv"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(UsageError) as refused:
        read_credentials(path)
    assert says in str(refused.value)
    assert "k1" not in str(refused.value)


def test_nothing_secret_of_the_recording_leaves(tmp_path: Path) -> None:
    """Cookies, hidden headers, what belongs to a connection, other credentials; and a path cannot lead to another host."""
    headers = [
        ("user-agent", "x/1"), ("X-Api-Key", "hashed:0123456789abcdef0123"), ("cookie", "a=b"), ("authorization", "Bearer sk-live"), ("host", "api.example"),
        ("content-length", "3"), ("via", "x"), ("x-account", "account:0123456789abcdef0123"), ("x-split", "a\r\nb"), ("anthropic-version", "1"),
    ]  # fmt: skip
    made = request(URL("http://127.0.0.1:1/base"), structs.replace(exchange(1), headers=headers, path="//evil.example/v1"), "sk-stage")
    assert (made.url.host, made.url.path) == ("127.0.0.1", "/base//evil.example/v1")
    sent_headers = [(name.decode(), value.decode()) for name, value in made.headers.raw if name.lower() not in (b"host", b"content-length")]
    assert sent_headers == [("user-agent", "x/1"), ("anthropic-version", "1"), ("X-Api-Key", "sk-stage")]
    assert made.headers["host"] == "127.0.0.1:1"


def test_what_a_model_would_be_asked_is_a_text() -> None:
    texts = {b'{"messages":[{}]}': True, b'{"input":"x"}': True, b'{"prompt":["x"]}': True, b'{"messages":[]}': False, b'{"model":"m"}': False, b"null": False}
    assert {body: has_text(structs.replace(exchange(1), body=msgspec.Raw(body))) for body in texts} == texts
