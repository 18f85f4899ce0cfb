"""The measuring itself: interleaved rounds, so that a slow moment of the machine hits every contender alike."""

from __future__ import annotations

import asyncio
import gc
import itertools
import statistics
import time
from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from tests.bench.contenders import Contender, contenders
from tests.bench.requests import bodies, keys, one, scopes

SIZES = (1024, 8 * 1024, 64 * 1024)
ROUNDS = 11
A_ROUND = 120

Traffic = Iterator[tuple[object, bytes]]


def show(console: Console) -> None:
    """Measure and print."""
    entries = contenders()
    medians = asyncio.run(_measure(entries))
    table = Table(title="CPU time for a request, in µs: the whole, and what is added to what it stands on", title_justify="left")
    table.add_column("")
    for size in SIZES:
        table.add_column(f"{size // 1024} KB", justify="right")
        table.add_column("added", justify="right", style="bold")
    for entry in entries:
        cells = []
        for size in SIZES:
            whole = medians[entry.name, size]
            cells += [f"{whole:.0f}", f"{whole - medians[entry.base, size]:.0f}" if entry.base else ""]
        table.add_row(entry.name, *cells)
    console.print(table)
    for size in SIZES:
        over = medians["guard, 1,000 accounts", size] - medians["body held + orjson", size]
        base = medians["BaseHTTPMiddleware no-op", size] - medians["bare application", size]
        console.print(f"{size // 1024:>3} KB: the guard adds {over:.0f} µs to 'body held + orjson'; a BaseHTTPMiddleware that does nothing adds {base:.0f} µs.")


async def _measure(entries: list[Contender]) -> dict[tuple[str, int], float]:
    traffic = {(entry.name, size): _traffic(entry, size) for entry in entries for size in SIZES}
    for entry in entries:
        await _run(entry, traffic[entry.name, SIZES[0]], max(A_ROUND, entry.accounts))
    samples: dict[tuple[str, int], list[float]] = {key: [] for key in traffic}
    gc.collect()
    for _ in range(ROUNDS):
        for size in SIZES:
            for entry in entries:
                samples[entry.name, size].append(await _run(entry, traffic[entry.name, size], A_ROUND))
    return {key: statistics.median(found) for key, found in samples.items()}


def _traffic(entry: Contender, size: int) -> Traffic:
    texts = bodies(size)
    return zip(scopes(keys(entry.accounts or 1_000), len(texts[0])), itertools.cycle(texts), strict=False)


async def _run(entry: Contender, traffic: Traffic, count: int) -> float:
    """Microseconds of CPU for a request, what is put off to after the answer included."""
    prepared = list(itertools.islice(traffic, count))
    began = time.thread_time()
    for scope, body in prepared:
        status = await one(entry.app, scope, body)  # type: ignore[arg-type]
        await asyncio.sleep(0)
        assert status == 200, (entry.name, status)
    return (time.thread_time() - began) / count * 1e6
