"""`clusters --live` and `explain --live`: what a running guard goes by, read where it keeps it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import msgspec
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from gateway_guard import GatewayGuard
from gateway_guard.asgi.sharing import crew_of
from gateway_guard.stores.redis import SharedStore
from gateway_guard.view import Cluster, Standing, View
from tests.commands import command
from tests.fakes import KEY, ModelServer, chat, policy_file
from tests.served import served
from tests.servers import Server, running
from tests.test_appeals_live import ALICE, FAMILIES, guarded

OTHER = "b" * 20
SHARE = "quotas: {day: {limit: 1000/day}}\nclusters: {share: [day]}\n"


def paired(at: float) -> View:
    """Alice and another one act as one, and share a quota; they do not harvest."""
    standing = Standing("c-" + "1" * 12, at, 5.0, -1.0, FAMILIES, (3.0, 2.0), at)
    cluster = Cluster(standing.cluster, 2, 0.25, 5.0, -1.0, FAMILIES, born=at)
    return View(1, at, {ALICE: standing, OTHER: standing}, {cluster.id: cluster}, "calibrated")


class Closing:
    """The guard, closed with the server, on the server's loop."""

    def __init__(self, guard: GatewayGuard) -> None:
        self.guard = guard

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self.guard(scope, receive, send)
            return
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.guard.engine.close()
        await send({"type": "lifespan.shutdown.complete"})


@contextmanager
def shared(folder: Path) -> Iterator[tuple[int, Server, GatewayGuard]]:
    """A guard on a socket, whose view a leader has published on a real server, and which has served two requests of Alice."""
    with running("valkey 9.1", folder) as server:
        guard = GatewayGuard(ModelServer(), policy_file(folder, f"{SHARE}store: {{url: {server.url}, lease: 0%}}\n"), key=KEY)
        asyncio.run(published(folder, paired(guard.engine.clock())))
        with served(uvicorn.Config(Closing(guard), lifespan="on", loop="asyncio", log_level="critical")) as port:
            yield port, server, guard
            server.restart()


async def published(folder: Path, view: View) -> None:
    """As the worker that leads does."""
    guard = GatewayGuard(ModelServer(), folder / "policy.yaml", key=KEY)
    store = guard.engine.shared
    assert isinstance(store, SharedStore)
    crew = crew_of(store, guard.engine.gate.rules.policy)
    assert await crew.publish(view, (await crew.beat(leads=True)).token)
    await crew.leave()
    await guard.engine.close()


def test_a_guard_that_keeps_a_state_file_is_asked_by_it(tmp_path: Path) -> None:
    with guarded(tmp_path) as (_, guard):
        guard.engine.books.adopted(guard.engine.gate.rules.ranked(guard.engine.gate.view, View()))
        found = command(tmp_path, "clusters", "--live", "--json")
        assert found.returncode == 0, found.stderr
        assert "view 1, concluded" in found.stderr
        [one] = msgspec.json.decode(found.stdout)
        assert (one["id"], one["size"], one["members"]) == ("c-" + "1" * 12, 9, [ALICE])
        shown = command(tmp_path, "explain", "--live", "--account", "sk-alice")
        assert shown.returncode == 0, shown.stderr
        for part in (ALICE, "acts as one with 8 others", "rung shut (deny) from", "content +3.0, network +3.0", "It ends when"):
            assert part in shown.stdout
        assert "is in no cluster" in command(tmp_path, "explain", "--live", "--account", "sk-bob").stdout
        assert "there is no cluster c-9; there are: c-111111111111" in command(tmp_path, "explain", "--live", "--cluster", "c-9").stderr


def test_workers_that_share_a_server_are_asked_by_it_and_it_knows_what_is_owed(tmp_path: Path) -> None:
    with shared(tmp_path) as (port, server, guard):
        [one] = msgspec.json.decode(command(tmp_path, "clusters", "--live", "--json").stdout)
        assert (one["size"], one["members"]) == (2, sorted([ALICE, OTHER]))
        for _ in range(3):
            while guard.engine.gate.view.id != 1:
                ask(port)
            assert ask(port) == 200
        page = msgspec.json.decode(command(tmp_path, "explain", "--live", "--account", "sk-alice", "--json").stdout)
        [quota] = page["shared"]
        # 1,000 times 2^(1 - 0.25), and a quarter of that owed at the opening.
        assert quota["limit"] == pytest.approx(1681.79)
        assert quota["owed"] == pytest.approx(0.25 * 1681.79 + 3.0, abs=1.5)
        server.stop()
        down = command(tmp_path, "clusters", "--live")
        assert (down.returncode, down.stdout) == (2, "")
        assert "the server that the policy names does not answer" in down.stderr


def ask(port: int) -> int:
    return httpx.post(f"http://127.0.0.1:{port}/v1/chat/completions", content=chat(), headers={"authorization": "Bearer sk-alice"}).status_code


@pytest.mark.parametrize(
    ("policy", "words", "says"),
    [
        ("", ("clusters", "--live"), "the guard keeps its view to itself"),
        ("state: state.sqlite\n", ("clusters",), "give a report, or --live"),
        ("state: state.sqlite\n", ("clusters", "report.json", "--live"), "give a report, or --live"),
        ("state: state.sqlite\n", ("explain", "--live", "--id", "x"), "is explained from the recorded traffic"),
        ("state: state.sqlite\n", ("explain", "--account", "x"), "give the recorded traffic, or --live"),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_line(policy: str, words: tuple[str, ...], says: str, tmp_path: Path) -> None:
    policy_file(tmp_path, policy)
    refused = command(tmp_path, *words)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert says in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_guard_that_has_concluded_nothing_says_so(tmp_path: Path) -> None:
    guard = GatewayGuard(ModelServer(), policy_file(tmp_path, "state: state.sqlite\n"), key=KEY)
    assert "nothing is concluded yet" in command(tmp_path, "clusters", "--live").stderr
    asyncio.run(guard.engine.books.close())
