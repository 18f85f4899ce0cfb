"""A worker as a process of its own, to be killed: it sends events without end, says which of them were taken, and analyses when it leads."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Sequence

import msgspec
from redis.asyncio import Redis

from gateway_guard.analysis.analyst import Analyst
from gateway_guard.facts import Event, Fingerprint, Identity, RequestFacts, Seen
from gateway_guard.gate import Gate
from gateway_guard.policy.judge import compile_policy
from gateway_guard.policy.model import Policy
from gateway_guard.shared_worker import SharedWorker
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.stores.redis import Naming
from gateway_guard.stores.redis.crew import Crew
from gateway_guard.view import View

# Seconds between views, and after which a silent leader leads no more: long for the busiest machine.
REFRESH, LEAD = 0.5, 4.0


class Said(msgspec.Struct):
    """A line of a member's: `sent` were taken by the stream · `view` is in force · `told` is all that its analyst was told, when it is asked to end."""

    sent: list[str] = []
    view: int = 0
    token: int = 0
    told: list[str] = []


def say(said: Said) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(said) + b"\n")
    sys.stdout.buffer.flush()


class Counting(Analyst):
    """Remembers what it was told."""

    def __init__(self, view: View) -> None:
        super().__init__(view=view)
        self.told: list[str] = []

    def observe(self, event: Event) -> None:
        super().observe(event)
        assert isinstance(event, Seen)
        self.told.append(event.facts.id)


class Talking(Crew):
    """Says what was taken."""

    async def tell(self, number: int, events: Sequence[Event]) -> None:
        await super().tell(number, events)
        say(Said(sent=[event.facts.id for event in events if isinstance(event, Seen)]))


async def main(url: str, name: str) -> None:
    """Until standard input ends."""
    client = Redis.from_url(url)
    gate = Gate(compile_policy(Policy(version=1, name="test"), "digest"), MemoryStore())
    analysts: list[Counting] = []

    def make(view: View) -> Analyst:
        analysts.append(Counting(view))
        return analysts[-1]

    worker = SharedWorker(Talking(lambda: client, Naming("t"), name, lead=LEAD), gate, time.time, REFRESH, make)
    listening = threading.Thread(target=sys.stdin.read, daemon=True)
    listening.start()
    number, known = 0, (0, 0)
    while listening.is_alive():
        number += 1
        worker(Seen(RequestFacts(f"{name}{number}", time.time(), Identity(f"{number % 7:020d}"), "openai.chat", "m", Fingerprint(client=1, template=number))))
        await worker.tell()
        await worker.step()
        if known != (gate.view.id, worker.token):
            known = gate.view.id, worker.token
            say(Said(view=gate.view.id, token=worker.token))
    # What was sent last is read once more.
    await worker.step()
    say(Said(view=gate.view.id, token=worker.token, told=analysts[-1].told if analysts else []))
    await worker.close()
    await client.aclose()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
