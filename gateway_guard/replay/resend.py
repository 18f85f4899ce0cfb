"""Sends recorded requests to a staging deployment, at the recorded pace times a speed, and hands over what it answered.

Theory of operation. Requests go out when they are due, however slow the answers are, as callers did: a deployment that cannot keep up shows it by answers that
fail, and by requests that could only be sent too late once `in_flight` are under way. Answers are read as they stream and dropped; of a refusal so much is
looked at as it takes to see whether the guard itself speaks. Redirects are not followed, and no proxy of the environment is used: requests go where they were
meant to go, or nowhere.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple

import httpx
import msgspec
from aiolimiter import AsyncLimiter

from gateway_guard.replay.answers import Got
from gateway_guard.trace.exchanges import Exchange

DECISION, DEGRADED, CHALLENGE = (f"x-gateway-guard-{name}" for name in ("decision", "degraded", "challenge"))
# What a recorder wrote in the place of a secret.
HIDDEN = re.compile(r"\b(hashed|account):[0-9a-f]{20}")
_LINE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
# A refusal of the guard is shorter by far.
REFUSAL = 64 * 2**10
CREDENTIALS = ("authorization", "x-api-key", "api-key")
# Between client and server, or about the connection, or secret: not of the request itself.
_OWN = frozenset((
    *CREDENTIALS, "host", "content-length", "transfer-encoding", "content-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "expect",
    "proxy-authorization", "proxy-connection", "cookie", "forwarded", "via", "accept-encoding", "x-auth-token", "x-goog-api-key", "x-amz-security-token",
    "x-gateway-guard-pass",
))  # fmt: skip


class Planned(NamedTuple):
    """A request to be sent `due` seconds after the beginning, under `key`."""

    due: float
    exchange: Exchange
    key: str


class Bounds(NamedTuple):
    """`rate` requests a second at most · `in_flight` at once · `timeout` seconds without a sign of life, `most` for a whole answer."""

    rate: float = 50.0
    in_flight: int = 100
    timeout: float = 60.0
    most: float = 900.0


# Takes an answer, and the seconds that its request was sent too late.
Taker = Callable[[Got, float], None]


class Resend:
    """Sends what is planned. `stop` ends it: nothing more is sent, and what runs is given up."""

    def __init__(self, target: str, bounds: Bounds) -> None:
        self._target = httpx.URL(target)
        self._bounds = bounds
        self._stop = asyncio.Event()

    def stop(self) -> None:
        """End it."""
        self._stop.set()

    async def run(self, planned: AsyncIterator[tuple[Planned, Taker]]) -> bool:
        """Send all; each answer goes to the taker that came with its request. False when it was stopped."""
        bounds, loop = self._bounds, asyncio.get_running_loop()
        pace, free = AsyncLimiter(max(1.0, bounds.rate), max(1.0, 1.0 / bounds.rate)), asyncio.Semaphore(bounds.in_flight)
        limits = httpx.Limits(max_connections=bounds.in_flight, max_keepalive_connections=bounds.in_flight)
        tasks: set[asyncio.Task[None]] = set()
        async with httpx.AsyncClient(timeout=bounds.timeout, limits=limits, trust_env=False, follow_redirects=False) as client:
            began = loop.time()
            try:
                async for one, take in planned:
                    if not await self._until(began + one.due) or not await self._unless_stopped(free.acquire()):
                        return False
                    if not await self._unless_stopped(pace.acquire()):
                        return False
                    task = loop.create_task(self._one(client, one, take, max(0.0, loop.time() - began - one.due)))
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    task.add_done_callback(lambda _: free.release())
                if tasks and not await self._unless_stopped(asyncio.wait(tasks)):
                    return False
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        return not self._stop.is_set()

    async def _until(self, at: float) -> bool:
        """Wait until `at`. False when stopped before."""
        wait = at - asyncio.get_running_loop().time()
        if wait > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), wait)
        return not self._stop.is_set()

    async def _unless_stopped(self, step: Coroutine[Any, Any, Any]) -> bool:
        """Take a step that may take long. False when stopped before it was done."""
        done, stopped = asyncio.ensure_future(step), asyncio.ensure_future(self._stop.wait())
        try:
            await asyncio.wait((done, stopped), return_when=asyncio.FIRST_COMPLETED)
            return done.done() and not self._stop.is_set()
        finally:
            for one in (done, stopped):
                one.cancel()
            await asyncio.gather(done, stopped, return_exceptions=True)

    async def _one(self, client: httpx.AsyncClient, one: Planned, take: Taker, late: float) -> None:
        try:
            async with asyncio.timeout(self._bounds.most):
                answer = await client.send(request(self._target, one.exchange, one.key), stream=True)
                try:
                    got = await _read(answer)
                finally:
                    await answer.aclose()
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError) as error:
            got = Got("failed", why=type(error).__name__)
        except TimeoutError:
            got = Got("failed", why="took too long")
        take(got, late)


def request(target: httpx.URL, exchange: Exchange, key: str) -> httpx.Request:
    """The recorded request as it is sent: its path under the target's, its headers in their order, the staging `key` where the recorded credential was."""
    place = next((name for name, _ in exchange.headers if name.lower() in CREDENTIALS), "authorization")
    held = f"Bearer {key}" if place.lower() == "authorization" else key
    headers = [(name, value) for name, value in exchange.headers if _is_kept(name, value)]
    url = target.copy_with(raw_path=(target.path.rstrip("/") + exchange.path).encode("ascii", "replace"))
    return httpx.Request(exchange.method, url, headers=[*headers, (place, held)], content=exchange.octets)


def has_text(exchange: Exchange) -> bool:
    """Whether there is something to send: a body with what a model would be asked. Logs of other gateways often have none."""
    try:
        found = msgspec.json.decode(exchange.octets, type=_Body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return any(part not in (b"", b"null", b"[]", b'""') for part in map(bytes, (found.messages, found.input, found.prompt)))


class _Body(msgspec.Struct):
    messages: msgspec.Raw = msgspec.Raw(b"")
    input: msgspec.Raw = msgspec.Raw(b"")
    prompt: msgspec.Raw = msgspec.Raw(b"")


def _is_kept(name: str, value: str) -> bool:
    lower = name.lower()
    return not (lower in _OWN or lower.startswith("x-forwarded-") or HIDDEN.search(value) or not _LINE.fullmatch(value))


async def _read(answer: httpx.Response) -> Got:
    """What an answer is. Its text is dropped as it comes."""
    ident = answer.headers.get(DECISION, "")
    head, told = b"", bool(ident) and answer.status_code >= 400
    async for part in answer.aiter_raw():
        if told and len(head) < REFUSAL:
            head += part[: REFUSAL - len(head)]
    label = _refused(answer) if told and ident.encode() in head else "degraded" if DEGRADED in answer.headers else "served" if ident else "unguarded"
    return Got(label, answer.status_code, _wait(answer.headers))


def _refused(answer: httpx.Response) -> str:
    if answer.status_code == 403:
        return "challenged" if CHALLENGE in answer.headers else "denied"
    return "throttled" if answer.status_code == 429 else "refused"


def _wait(headers: httpx.Headers) -> float | None:
    for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
        text = headers.get(name, "")
        if text.isdecimal() and len(text) < 12:
            return int(text) * unit
    return None
