"""The client's side: solves what is reasonable, once for all who wait, for the right origin and credential, and never gets in the SDK's way."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import anyio
import httpx
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.challenge.work import RATES, Puzzle, part_holds, taken_apart
from gateway_guard.client import ChallengeAuth
from gateway_guard.client.instructions import Instructions, instructions

PATH = "/.well-known/gateway-guard/challenge"
ASKS = f'proof_of_work;algorithm=sha256;work=200;path="{PATH}";token="a.b.c"'
PERSON = 'step_up;url="https://console.example.com/verify?challenge=a.b.c"'


class Sent(NamedTuple):
    """A request as it was when it came; the flow sends the same object again."""

    path: str
    headers: dict[str, str]


class GuardedServer:
    """Answers as a guard would, from memory, and counts."""

    def __init__(self, asks: str = ASKS, library: Any = httpx, *, redeems: int = 200) -> None:
        self.asks = asks
        self.redeems = redeems
        self.library = library
        self.requests: list[Sent] = []
        self.redeemed: list[str] = []
        self.passes: set[str] = set()
        self.lock = threading.Lock()

    def __call__(self, request: Any) -> Any:
        with self.lock:
            self.requests.append(Sent(request.url.path, dict(request.headers)))
        if request.url.path == PATH:
            return self._redeem(request)
        if request.headers.get("x-gateway-guard-pass", "") in self.passes:
            return self.library.Response(200, json={"served": request.content.decode()})
        return self.library.Response(403, headers={"x-gateway-guard-challenge": self.asks}, json={"error": {"code": "challenge_required"}})

    def _redeem(self, request: Any) -> Any:
        found = taken_apart(httpx.Response(200, content=request.content).json()["proof"])
        assert found is not None
        assert all(part_holds(Puzzle(found[0], "sha256", 200), part, nonce) for part, nonce in enumerate(found[1]))
        with self.lock:
            self.redeemed.append(found[0])
            self.passes.add(f"pass-{len(self.redeemed)}")
            return self.library.Response(self.redeems, json={"pass": f"pass-{len(self.redeemed)}"})

    async def later(self, request: Any) -> Any:
        await asyncio.sleep(0)
        return self(request)

    def client(self, auth: Any) -> Any:
        return self.library.Client(transport=self.library.MockTransport(self), auth=auth, base_url="https://api.example.com")

    def async_client(self, auth: Any) -> Any:
        return self.library.AsyncClient(transport=self.library.MockTransport(self.later), auth=auth, base_url="https://api.example.com")


def ask(client: Any, key: str = "sk-a", base: str = "") -> Any:
    return client.post(f"{base}/v1/chat/completions", json={"n": 1}, headers={"authorization": f"Bearer {key}"})


@pytest.mark.parametrize("library", [httpx, httpx2])
def test_a_challenge_is_met_once_for_many_requests(library: Any) -> None:
    server = GuardedServer(library=library)
    with server.client(ChallengeAuth()) as client:
        answers = [ask(client) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200] * 3
    assert answers[0].json() == {"served": '{"n":1}'}, "the body is sent again, whole"
    assert [request.path for request in server.requests] == ["/v1/chat/completions", PATH, *["/v1/chat/completions"] * 3]
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sk-a"}


@pytest.mark.parametrize("library", [httpx, httpx2])
@pytest.mark.anyio
async def test_the_same_asynchronously(library: Any) -> None:
    server = GuardedServer(library=library)
    async with server.async_client(ChallengeAuth()) as client:
        assert [(await ask(client)).status_code for _ in range(3)] == [200] * 3
    assert len(server.redeemed) == 1


def test_threads_wait_for_one_of_them() -> None:
    server = GuardedServer()
    with server.client(ChallengeAuth()) as client, ThreadPoolExecutor(8) as pool:
        assert [answer.status_code for answer in pool.map(lambda _: ask(client), range(24))] == [200] * 24
    assert len(server.redeemed) == 1


@pytest.mark.anyio
async def test_tasks_wait_for_one_of_them() -> None:
    server = GuardedServer()
    async with server.async_client(ChallengeAuth()) as client:
        answers = await asyncio.gather(*(ask(client) for _ in range(24)))
    assert [answer.status_code for answer in answers] == [200] * 24
    assert len(server.redeemed) == 1


def test_one_flow_serves_several_loops() -> None:
    server, auth = GuardedServer(), ChallengeAuth()

    async def both() -> list[int]:
        async with server.async_client(auth) as client:
            return [answer.status_code for answer in await asyncio.gather(ask(client), ask(client))]

    assert [asyncio.run(both()) for _ in range(3)] == [[200, 200]] * 3
    assert len(server.redeemed) == 1


def test_a_pass_is_for_one_credential_at_one_origin() -> None:
    server = GuardedServer()
    with server.client(ChallengeAuth()) as client:
        ask(client)
        for key, base in (("sk-b", ""), ("sk-a", "https://other.example.com"), ("sk-a", "http://api.example.com"), ("sk-a", "https://api.example.com:8443")):
            before = len(server.requests)
            assert ask(client, key, base).status_code == 200
            assert "x-gateway-guard-pass" not in server.requests[before].headers
    assert len(server.redeemed) == 5


def test_a_pass_that_has_ended_is_replaced() -> None:
    server = GuardedServer()
    with server.client(ChallengeAuth()) as client:
        ask(client)
        server.passes.clear()
        assert ask(client).status_code == 200
        assert ask(client).status_code == 200
    assert len(server.redeemed) == 2


def test_a_guard_that_takes_no_proof_is_believed_in_the_end() -> None:
    """Bounded: two proofs for a request, then the refusal is the SDK's to tell."""
    server = GuardedServer(redeems=403)
    with server.client(ChallengeAuth()) as client:
        assert ask(client).status_code == 403
    assert (len(server.redeemed), len(server.requests)) == (2, 5)


TOO_MUCH = int(121 * RATES["sha256"] / 8)
LEFT_ALONE = {
    "too much work": ASKS.replace("work=200", f"work={TOO_MUCH}"),
    "absurd work": ASKS.replace("work=200", "work=" + "9" * 20),
    "no number": ASKS.replace("work=200", "work=1e3"),
    "nothing to do": ASKS.replace("work=200", "work=0"),
    "an unknown algorithm": ASKS.replace("sha256", "argon3"),
    "another host": ASKS.replace(PATH, "//evil.example.com/take"),
    "a whole URL": ASKS.replace(PATH, "https://evil.example.com/take"),
    "a path that leaves the line": ASKS.replace(PATH, "/a\\r\\nhost: evil"),
    "an unknown kind": ASKS.replace("proof_of_work", "riddle"),
    "a person, and nobody to tell": PERSON,
    "a longer header than there are": ASKS + ";x=" + "y" * 9000,
    "nothing": "",
}


@pytest.mark.parametrize("asks", LEFT_ALONE.values(), ids=LEFT_ALONE.keys())
def test_what_is_unreasonable_is_left_to_the_sdk(asks: str) -> None:
    server = GuardedServer(asks)
    with server.client(ChallengeAuth()) as client:
        answer = ask(client)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "challenge_required")
    assert len(server.requests) == 1


def test_how_much_is_reasonable_is_the_customers_to_say() -> None:
    server = GuardedServer(ASKS.replace("work=200", "work=2000000"))
    with server.client(ChallengeAuth(most=15.9)) as client:
        assert ask(client).status_code == 403
    assert instructions(server.asks).puzzle.seconds == 16.0  # type: ignore[union-attr]


@pytest.mark.parametrize(("done", "status"), [(True, 200), (False, 403)])
def test_a_person_may_be_told(done: bool, status: int) -> None:
    server = GuardedServer(PERSON)
    told: list[str] = []

    def tell(url: str) -> bool:
        told.append(url)
        server.passes.add("")  # whoever comes now is known
        return done

    with server.client(ChallengeAuth(on_step_up=tell)) as client:
        assert ask(client).status_code == status
    assert told == ["https://console.example.com/verify?challenge=a.b.c"]


@pytest.mark.anyio
async def test_a_cancelled_task_stops_its_solver() -> None:
    server = GuardedServer(ASKS.replace("work=200", f"work={10**12}"))
    before = threading.active_count()
    async with server.async_client(ChallengeAuth(most=1e9)) as client:
        with anyio.move_on_after(0.2) as scope:
            await ask(client)
        assert scope.cancelled_caught
        assert _within(5.0, lambda: not _solvers()), "the thread goes on for nobody"
        server.asks = ASKS
        assert (await ask(client)).status_code == 200, "and the lane is free again"
    assert threading.active_count() <= before + 2


def _solvers() -> list[str]:
    import sys  # noqa: PLC0415 - for this look only

    return [frame.f_code.co_name for frame in sys._current_frames().values() if frame.f_code.co_name in ("_solve_part", "_values")]


def _within(seconds: float, holds: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
    return False


def test_a_body_that_can_be_read_once_is_sent_twice() -> None:
    def parts() -> Iterator[bytes]:
        yield b"one "
        yield b"two"

    server = GuardedServer()
    with server.client(ChallengeAuth()) as client:
        answer = client.post("/v1/files", content=parts())
    assert answer.json() == {"served": "one two"}


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b'"x"', b"{}", b'{"pass": 5}', b'{"pass": ""}', b'{"pass": "a\\nb"}', b'{"pass": "\xc3\xa9"}', b'{"pass": "' + b"x" * 5000 + b'"}']
)
def test_what_is_no_pass_is_not_kept(answer: bytes) -> None:
    auth = ChallengeAuth()
    auth._keep("key", httpx.Response(200, content=answer))
    assert not auth._passes


def test_passes_are_bounded() -> None:
    auth = ChallengeAuth()
    for number in range(1000):
        auth._keep(f"{number}", httpx.Response(200, json={"pass": f"p{number}"}))
    assert len(auth._passes) == 256
    assert auth._passes["999"] == "p999"


@given(st.text(max_size=200) | st.text(alphabet='proof_wkste;="/.a1 ', max_size=200))
def test_any_header_is_read_without_an_error(header: str) -> None:
    found = instructions(header)
    assert found is None or isinstance(found, Instructions)
