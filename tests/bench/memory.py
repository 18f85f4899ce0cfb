"""Bytes that the memory store keeps for an account that it knows."""

from __future__ import annotations

import asyncio
import datetime
import gc
import tracemalloc

from gateway_guard.assembly import assemble
from gateway_guard.facts import Identity, RequestFacts, Usage
from gateway_guard.gate import Gate
from gateway_guard.stores.memory import MemoryStore
from tests.bench.contenders import KEY, POLICY

ACCOUNTS = 20_000
BEGINNING = 1_800_000_000.0


def bytes_an_account() -> float:
    """Under balanced.yaml, after one request of each account, answered and settled."""
    parts = assemble(POLICY, KEY, today=datetime.date(2026, 1, 1))
    gate = Gate(parts.rules, MemoryStore(parts.rules.policy.accounts))
    asyncio.run(_requests(gate, 0, 100))
    gc.collect()
    tracemalloc.start()
    try:
        asyncio.run(_requests(gate, 100, ACCOUNTS))
        gc.collect()
        return tracemalloc.get_traced_memory()[0] / ACCOUNTS
    finally:
        tracemalloc.stop()


async def _requests(gate: Gate, first: int, count: int) -> None:
    for number in range(first, first + count):
        at = BEGINNING + number / 1000
        identity = Identity(account=f"{number:020x}", plan="pro")
        decision = await gate.decide(RequestFacts(id=f"{number:x}", at=at, identity=identity, dialect="openai.chat", model="tiny-1", input_tokens=200))
        await gate.settle(decision, Usage(input=200, output=100), at)
