"""`make bench`."""

from __future__ import annotations

import asyncio
import os
import platform

from rich.console import Console

from tests.bench import analyst, challenges, events, memory, shared, table, transport

console = Console(highlight=False)
machine = f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
console.print(f"{machine}. Medians of interleaved rounds: only ratios within one run count.\n", soft_wrap=True)
table.show(console)
console.print(f"\nMemory store, balanced.yaml: [bold]{memory.bytes_an_account():.0f} bytes[/] for a known account.")
console.print("\nThe proxy's way to the model server, µs of CPU for a request of 1 KB:")
for (name, lanes), spent in transport.compare().items():
    console.print(f"  {name:<12} {lanes:>3} at once: {spent:.0f}")
console.print("\nReplay, a second of CPU (a log is read by a second process, whose start and work count in):")
for name, speed in events.speeds().items():
    console.print(f"  {name:<36} {speed:>8,.0f}")
console.print("\nThe analyst, ten requests an account, a fifth of all in campaigns (s of CPU):")
for size in analyst.SIZES:
    cost = analyst.costs(size)
    console.print(f"  {size:>7,} accounts: the first conclusion {cost.first:.2f}, a refresh {cost.refresh:.2f}; {cost.clusters} clusters")
console.print("\nChallenges, at the guard (µs of CPU) and at the caller (s of CPU, default effort):")
for name, spent in challenges.costs().items():
    console.print(f"  {name:<36} {spent:>8,.0f}")
for name, spent in challenges.solving().items():
    console.print(f"  {name:<36} {spent:>8.2f}")
with shared.server() as server:
    console.print(f"\nA request decided and settled, {server.kind} on a unix socket, µs (of it CPU in this process):")
    for name, (median, cpu) in asyncio.run(shared.medians(server.url)).items():
        console.print(f"  {name:<24} {median:>6.0f}   ({cpu:.0f})")
    console.print("\nRequests a second against that one server, by 1, 2 and 4 workers:")
    for name, lease in (("leased", 0.02), ("exact", 0.0)):
        console.print(f"  {name:<24}" + "".join(f"{shared.throughput(server.url, lease, workers):>10,.0f}" for workers in (1, 2, 4)))
with shared.server() as server:
    console.print(f"\nThat server's memory: [bold]{asyncio.run(shared.bytes_an_account(server.url)):.0f} bytes[/] for a known account.")
