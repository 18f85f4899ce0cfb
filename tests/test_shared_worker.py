"""Workers around one server: one analyst at a time, nothing counted twice, nothing lost on takeover, views that reach everybody."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis

from gateway_guard.analysis.analyst import Analyst
from gateway_guard.errors import StoreError
from gateway_guard.facts import Event, Fingerprint, Identity, RequestFacts, Seen
from gateway_guard.gate import Gate
from gateway_guard.policy.judge import compile_policy
from gateway_guard.policy.model import Policy
from gateway_guard.shared_worker import SharedWorker
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.stores.redis import Naming
from gateway_guard.stores.redis.crew import Beat, Crew
from gateway_guard.view import Cluster, Standing, View
from tests.member import Counting
from tests.servers import BINARIES, Server, running

pytestmark = pytest.mark.anyio

REFRESH = 100.0
# Longer than a step takes on the busiest machine.
LEAD = 30.0


class Seat:
    """A worker with all that a test wants to look at. Its clock is a number."""

    def __init__(self, server: Server, name: str) -> None:
        self.client = Redis.from_url(server.url)
        self.crew = Crew(lambda: self.client, Naming("t"), name, lead=LEAD)
        self.gate = Gate(compile_policy(Policy(version=1, name="test"), "digest"), MemoryStore())
        self.at = 1000.0
        self.analysts: list[Counting] = []
        self.worker = SharedWorker(self.crew, self.gate, lambda: self.at, REFRESH, self._analyst)

    def _analyst(self, view: View) -> Analyst:
        self.analysts.append(Counting(view))
        return self.analysts[-1]

    async def lead_ends(self) -> None:
        """The lease of whoever leads runs out, without a word of his."""
        assert 0 < await self.client.pttl("t:{crew}:leader") <= 1000 * self.crew.lead
        await self.client.delete("t:{crew}:leader")

    async def step(self, forward: float = 0.0) -> None:
        self.at += forward
        await self.worker.step()


@pytest.fixture(params=BINARIES)
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    with running(request.param, tmp_path) as started:
        yield started


@asynccontextmanager
async def seats(server: Server, *names: str) -> AsyncIterator[list[Seat]]:
    async with AsyncExitStack() as stack:
        found = [Seat(server, name) for name in names]
        for seat in found:
            stack.push_async_callback(seat.client.aclose)
            stack.push_async_callback(seat.worker.close)
        yield found


def seen(number: int) -> Seen:
    return Seen(RequestFacts(f"r{number}", 1000.0 + number, Identity(f"{number % 7:020d}"), "openai.chat", "m", Fingerprint(client=1, template=number)))


async def test_one_leads_and_everybody_goes_by_its_view(server: Server) -> None:
    async with seats(server, "a", "b", "c") as crew:
        for seat in crew:
            await seat.step()
        assert [seat.worker.token for seat in crew] == [1, 0, 0]
        assert crew[2].worker.workers == 3
        for number, seat in enumerate(crew):
            seat.worker(seen(number))
            await seat.worker.tell()
        await crew[0].step(REFRESH)
        assert sorted(crew[0].analysts[0].told) == ["r0", "r1", "r2"]
        for seat in crew[1:]:
            await seat.step()
        assert [seat.gate.view.id for seat in crew] == [1, 1, 1]


async def test_who_takes_over_has_all_events_once_and_builds_on_the_view(server: Server) -> None:
    """The leader dies without a word; the second refresh after that is the successor's."""
    async with seats(server, "a", "b") as (first, second):
        await first.step()
        for number in range(10):
            first.worker(seen(number))
        await first.worker.tell()
        await first.step(REFRESH)
        second.worker(seen(10))
        await second.worker.tell()
        second.at = first.at
        await second.step()
        assert second.worker.token == 0
        await second.lead_ends()
        await second.step()
        await second.step(REFRESH)
        assert [seat.worker.token for seat in (first, second)] == [1, 2]
        assert sorted(second.analysts[0].told) == sorted(f"r{number}" for number in range(11))
        assert second.gate.view.id == 2


async def test_a_leader_that_was_asleep_changes_nothing(server: Server) -> None:
    """Split brain: the old leader wakes up, believes that it still leads, and concludes."""
    async with seats(server, "old", "new") as (old, new):
        await old.step()
        await new.lead_ends()
        await new.step()
        await new.step(REFRESH)
        assert not await old.crew.publish(View(99, 1.0), old.worker.token)
        assert not await new.crew.publish(View(new.gate.view.id, 1.0), new.worker.token), "nor is a view published that is not newer"
        await old.step(REFRESH)
        assert (old.worker.token, old.gate.view.id) == (0, 1)
        assert (await new.crew.view()) == new.gate.view


async def test_an_entry_that_was_written_twice_counts_once(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    async with seats(server, "a") as [seat]:
        await seat.step()
        whole = seat.crew.tell

        async def lost(number: int, events: list[Event]) -> None:
            await whole(number, events)
            raise StoreError("cut off", retryable=True)

        seat.worker(seen(1))
        monkeypatch.setattr(seat.crew, "tell", lost)
        with pytest.raises(StoreError):
            await seat.worker.tell()
        monkeypatch.setattr(seat.crew, "tell", whole)
        seat.worker(seen(2))
        await seat.worker.tell()
        await seat.step()
        assert seat.analysts[0].told == ["r1", "r2"]


async def test_views_are_heard_of_at_once(server: Server) -> None:
    """The loop of a worker wakes up by the message, not at its next beat."""
    async with seats(server, "a", "b") as (leader, follower):
        follower.worker._beat = 3600.0
        await leader.step()
        follower.worker.start()
        async with asyncio.timeout(10):
            while not (await leader.client.pubsub_numsub("t:{crew}:views"))[0][1]:
                pass
            await leader.step(REFRESH)
            while follower.gate.view.id != 1:
                await leader.crew.view()


async def test_a_view_is_published_whole(server: Server) -> None:
    async with seats(server, "a") as [seat]:
        await seat.step()
        view = View(7, 12.0, {"x": Standing("c", 1.0, 2.0, 3.0, ("content",))}, {"c": Cluster("c", 3, 0.9)}, "cal")
        assert await seat.crew.publish(view, seat.worker.token)
        assert await seat.crew.view() == view
        await seat.client.hset("t:{crew}:view", "view", b"1 not a frame")
        with pytest.raises(StoreError, match="cannot be read"):
            await seat.crew.view()


async def test_events_that_are_too_old_are_trimmed(server: Server) -> None:
    """In whole nodes of the stream, which hold a hundred entries."""
    async with seats(server, "a") as [seat]:
        seat.crew._history = -3600.0
        for number in range(250):
            await seat.crew.tell(number + 1, [seen(number)])
        assert await seat.client.xlen("t:{crew}:events") <= 150


async def test_a_worker_that_is_silent_is_counted_no_more(server: Server) -> None:
    async with seats(server, "a", "b") as (one, other):
        await other.step()
        await one.step()
        assert one.worker.workers == 2
        one.crew._alive = 0.001
        await one.step()
        assert one.worker.workers == 1


async def test_a_worker_ends_although_a_cancellation_is_lost(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client library may take one for its own; the task goes on then, and has to be asked again."""
    lost: list[str] = []

    async def deaf(self: Crew, *, leads: bool) -> Beat:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            if lost:
                raise
            lost.append(self.sender)
        return Beat(1, 0, 0)

    async with seats(server, "a") as [one]:
        monkeypatch.setattr(Crew, "beat", deaf)
        one.worker.start()
        await asyncio.sleep(0)
        async with asyncio.timeout(20):
            await one.worker.close()
    assert lost == ["a"]
