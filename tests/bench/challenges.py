"""What a challenge costs the guard, and what it costs the caller."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

from gateway_guard.challenge.desk import Desk
from gateway_guard.challenge.grants import MemoryGrants
from gateway_guard.challenge.work import solve
from gateway_guard.decision import Action, Decision
from gateway_guard.policy.model import Policy
from gateway_guard.stores.memory import MemoryStore
from tests.bench.contenders import KEY

NOW = 1_800_000_000.0
TIMES = 200


def costs() -> dict[str, float]:
    """Microseconds of CPU for each step at the guard, medians."""
    return asyncio.run(_costs("sha256")) | {"a proof of scrypt taken": asyncio.run(_costs("scrypt", 20))["a proof of sha256 taken"]}


def solving() -> dict[str, float]:
    """Seconds of CPU that a caller spends on the default effort of 0.2 s, means of some."""
    desk = _desk({"work": {}}), _desk({"work": {"algorithm": "scrypt"}})
    return {f"solving {name}": asyncio.run(_solved(one)) for name, one in zip(("sha256", "scrypt"), desk, strict=True)}


def _desk(rule: dict[str, Any]) -> Desk:
    ladder = [{"id": "prove", "at": 1, "do": "challenge", "challenge": "work"}]
    policy = Policy.model_validate({"version": 1, "name": "bench", "challenges": {"work": rule}, "ladder": ladder})
    return Desk(policy, KEY, MemoryStore(), MemoryGrants())


def _decision(number: int) -> Decision:
    return Decision(f"{number:020x}", NOW, "a" * 20, Action.CHALLENGE, Action.CHALLENGE, rung="prove", cluster="c-1")


async def _costs(algorithm: str, times: int = TIMES) -> dict[str, float]:
    desk = _desk({"work": {"effort": "1ms", "algorithm": algorithm}})
    offers = [await desk.offer(_decision(number), 1, 0.0) for number in range(times)]
    proofs = iter([solve(offer.puzzle) for offer in offers if offer.puzzle is not None])
    passes = [await desk.redeem(next(proofs), NOW + number / 1000) for number in range(times // 2)]
    tokens = iter([given.token for given in passes])
    number = iter(range(times, 10 * times))
    return {
        "a challenge stated": await _median(lambda: desk.offer(_decision(next(number)), 1, 0.0), times // 2),
        "a proof of sha256 taken": await _median(lambda: desk.redeem(next(proofs), NOW + 1), times // 2),
        "a pass read first": await _median(lambda: desk.met("a" * 20, "c-1", next(tokens), NOW + 1), times // 2),
        "a pass read again": await _median(lambda: desk.met("a" * 20, "c-1", passes[0].token, NOW + 1), times // 2),
    }


async def _median(step: Callable[[], Awaitable[object]], times: int) -> float:
    spent = []
    for _ in range(times):
        began = time.process_time()
        await step()
        spent.append((time.process_time() - began) * 1e6)
    return statistics.median(spent)


async def _solved(desk: Desk, times: int = 10) -> float:
    offers = [await desk.offer(_decision(number), 1, 0.0) for number in range(times)]
    began = time.process_time()
    for offer in offers:
        assert offer.puzzle is not None
        solve(offer.puzzle)
    return (time.process_time() - began) / times
