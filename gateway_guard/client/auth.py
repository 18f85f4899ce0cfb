"""`ChallengeAuth`: meets a guard's challenges below an SDK, which never sees them.

    client = openai.OpenAI(http_client=httpx.Client(auth=ChallengeAuth()))

Theory of operation. A request goes out as the SDK made it, with the pass that was given for its credential, if there is one. When the guard answers with a
challenge, the proof is computed, posted to the same origin, and the request is sent once more with the pass. Threads and tasks that are challenged at
the same time wait while one of them solves. The SDK's own authorization is not touched. Nothing is raised: what this client does not meet is the guard's
refusal, which the SDK gets as it came; an exception here would look like a broken connection to it, and be tried again.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Generator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import anyio
import anyio.to_thread
import httpx
from anyio.lowlevel import RunVar

from gateway_guard.challenge.work import solve
from gateway_guard.client.instructions import HEADER, Instructions, instructions

if TYPE_CHECKING:
    from httpx2 import Auth as NewerAuth
else:
    try:
        from httpx2 import Auth as NewerAuth
    except ImportError:  # no SDK here needs it

        class NewerAuth:
            """Stands in for httpx2's."""


PASS = "x-gateway-guard-pass"  # noqa: S105 - the name of a header
CREDENTIALS = ("authorization", "x-api-key", "api-key")
# Passes that are kept, challenges that are met for one request, locks that solvers share.
REMEMBERED, ROUNDS, LANES = 256, 2, 16
PASS_LIMIT = 4096


class ChallengeAuth(httpx.Auth, NewerAuth):
    """An auth flow for clients of httpx and of httpx2, sync and async; clients may share one.

    `most`: seconds of one plain core that a challenge may ask for on average; one that asks for more is not met. `on_step_up` is called (in an
    async client from a thread) with the URL of a page where a person has to go; when it returns true, the request is sent once more.
    """

    def __init__(self, *, most: float = 120.0, on_step_up: Callable[[str], bool] | None = None) -> None:
        self._most = most
        self._on_step_up = on_step_up
        self._passes: OrderedDict[str, str] = OrderedDict()
        self._keeping = threading.Lock()
        self._threads = [threading.Lock() for _ in range(LANES)]
        self._tasks: RunVar[list[anyio.Lock]] = RunVar("gateway_guard.client")

    def auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """The flow without a client's colour."""
        return self.sync_auth_flow(request)

    def sync_auth_flow(self, request: Any) -> Generator[Any, Any, None]:
        """As httpx drives it in a `Client`."""
        request.read()
        key = _key(request)
        for _ in range(ROUNDS):
            shown = self._show(request, key)
            asked = self._asked((yield request))
            if asked is None:
                return
            with self._threads[_lane(key)]:
                if self._passes.get(key, "") == shown:
                    proof = self._meet(asked, bool)
                    if proof is None:
                        return
                    if proof:
                        answer = yield _posting(request, asked, proof)
                        answer.read()
                        self._keep(key, answer)
        self._show(request, key)
        yield request

    async def async_auth_flow(self, request: Any) -> AsyncGenerator[Any, Any]:
        """As httpx drives it in an `AsyncClient`. Work is done in a thread, and ends when the task is cancelled."""
        await request.aread()
        key = _key(request)
        for _ in range(ROUNDS):
            shown = self._show(request, key)
            asked = self._asked((yield request))
            if asked is None:
                return
            async with self._lanes()[_lane(key)]:
                if self._passes.get(key, "") == shown:
                    proof = await self._met_aside(asked)
                    if proof is None:
                        return
                    if proof:
                        answer = yield _posting(request, asked, proof)
                        await answer.aread()
                        self._keep(key, answer)
        self._show(request, key)
        yield request

    def _asked(self, response: Any) -> Instructions | None:
        """What is to be done; None when the answer is to be taken as it is."""
        if response.status_code != 403 or HEADER not in response.headers:
            return None
        asked = instructions(response.headers[HEADER])
        if asked is None or (asked.puzzle is None and self._on_step_up is None) or (asked.puzzle is not None and asked.puzzle.seconds > self._most):
            return None
        return asked

    def _meet(self, asked: Instructions, stopped: Callable[[], bool]) -> str | None:
        """A proof; empty when a person has met the challenge; None when it is not met."""
        if asked.puzzle is not None:
            return solve(asked.puzzle, stopped)
        return "" if self._on_step_up is not None and self._on_step_up(asked.url) else None

    async def _met_aside(self, asked: Instructions) -> str | None:
        stop = threading.Event()
        try:
            return await anyio.to_thread.run_sync(self._meet, asked, stop.is_set, abandon_on_cancel=True)
        finally:
            stop.set()

    def _lanes(self) -> list[anyio.Lock]:
        """Locks of this event loop."""
        try:
            return self._tasks.get()
        except LookupError:
            self._tasks.set(made := [anyio.Lock() for _ in range(LANES)])
            return made

    def _show(self, request: Any, key: str) -> str:
        """Put the pass for this credential on the request."""
        held = self._passes.get(key, "")
        if held:
            request.headers[PASS] = held
        return held

    def _keep(self, key: str, answer: Any) -> None:
        """Remember the pass that was given."""
        try:
            held = json.loads(answer.content)["pass"] if answer.status_code == 200 else ""
        except (ValueError, KeyError, TypeError):
            return
        if not isinstance(held, str) or not 0 < len(held) <= PASS_LIMIT or not held.isascii() or not held.isprintable():
            return
        with self._keeping:
            self._passes.pop(key, None)
            self._passes[key] = held
            while len(self._passes) > REMEMBERED:
                self._passes.popitem(last=False)


def _key(request: Any) -> str:
    """A pass is for one origin and one credential."""
    url = request.url
    named = "\0".join((url.scheme, url.host, str(url.port), *(request.headers.get(name, "") for name in CREDENTIALS)))
    return blake2b(named.encode(), digest_size=16).hexdigest()


def _lane(key: str) -> int:
    return int(key, 16) % LANES


def _posting(request: Any, asked: Instructions, proof: str) -> Any:
    """The request that hands a proof in, at the origin that asked for it, with the same credential: servers on the way may want to see one."""
    kept = {name: request.headers[name] for name in (*CREDENTIALS, "user-agent") if name in request.headers}
    body = json.dumps({"proof": proof}).encode()
    url = request.url.copy_with(raw_path=asked.path.encode())
    headers = {**kept, "content-type": "application/json", "accept": "application/json"}
    return type(request)("POST", url, headers=headers, content=body, extensions=request.extensions)
