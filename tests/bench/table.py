"""The measuring itself: interleaved rounds, so that a slow moment of the machine hits every contender alike."""

from __future__ import annotations

import asyncio
import gc
import itertools
import statistics
import time
from collections.abc import Iterator
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from starlette.types import Scope

from tests.bench.contenders import Contender, contenders
from tests.bench.requests import bodies, keys, one, scopes

SIZES = (1024, 8 * 1024, 64 * 1024)
ROUNDS = 11
A_ROUND = 120
GUARD, HELD, BASE_HTTP, BARE = "guard, 1,000 accounts", "body held + orjson", "BaseHTTPMiddleware no-op", "bare application"

Traffic = Iterator[tuple[Scope, bytes]]


class Spent(NamedTuple):
    """Microseconds of CPU: until the answer is out, and in all."""

    answered: float
    whole: float


Medians = dict[tuple[str, int], Spent]


def show(console: Console) -> None:
    """Measure and print."""
    entries = contenders()
    medians = asyncio.run(_measure(entries))
    console.print("CPU time for a request, in µs. On the way: until the answer is out. Added: to what it stands on.")
    console.print(_table(entries, medians, 0, "on the way"))
    console.print(_table(entries, medians, 1, "in all"))
    for size in SIZES:
        guard, held, base, bare = (medians[name, size] for name in (GUARD, HELD, BASE_HTTP, BARE))
        console.print(
            f"{size // 1024:>3} KB: the guard adds {guard.answered - held.answered:.0f} µs on the way ({guard.whole - held.whole:.0f} in all) to '{HELD}'; "
            f"a BaseHTTPMiddleware that does nothing adds {base.answered - bare.answered:.0f} ({base.whole - bare.whole:.0f}).",
            soft_wrap=True,
        )


def _table(entries: list[Contender], medians: Medians, column: int, title: str) -> Table:
    table = Table(box=None, padding=(0, 1), header_style="bold")
    table.add_column(title, no_wrap=True)
    for size in SIZES:
        table.add_column(f"{size // 1024} KB", justify="right")
        table.add_column("added", justify="right", style="bold")
    for entry in entries:
        cells = []
        for size in SIZES:
            spent = medians[entry.name, size][column]
            cells += [f"{spent:.0f}", f"{spent - medians[entry.base, size][column]:.0f}" if entry.base else ""]
        table.add_row(entry.name, *cells)
    return table


async def _measure(entries: list[Contender]) -> Medians:
    traffic = {(entry.name, size): _traffic(entry, size) for entry in entries for size in SIZES}
    for entry in entries:
        await _run(entry, traffic[entry.name, SIZES[0]], max(A_ROUND, entry.accounts))
    samples: dict[tuple[str, int], list[Spent]] = {key: [] for key in traffic}
    gc.collect()
    for _ in range(ROUNDS):
        for size in SIZES:
            for entry in entries:
                samples[entry.name, size].append(await _run(entry, traffic[entry.name, size], A_ROUND))
    return {key: Spent(*map(statistics.median, zip(*found, strict=True))) for key, found in samples.items()}


def _traffic(entry: Contender, size: int) -> Traffic:
    texts = bodies(size)
    return zip(scopes(keys(entry.accounts or 1_000), len(texts[0])), itertools.cycle(texts), strict=False)


async def _run(entry: Contender, traffic: Traffic, count: int) -> Spent:
    """The means of one round; what is put off to after the answer counts in all."""
    on_the_way = 0.0
    prepared = list(itertools.islice(traffic, count))
    began = time.thread_time()
    for scope, body in prepared:
        arrived = time.thread_time()
        status, answered = await one(entry.app, scope, body)
        on_the_way += answered - arrived
        await asyncio.sleep(0)
        assert status == 200, (entry.name, status)
    return Spent(on_the_way / count * 1e6, (time.thread_time() - began) / count * 1e6)
