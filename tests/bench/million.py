"""A million accounts on one server: `python -m tests.bench.million`. Some minutes."""

from __future__ import annotations

import asyncio
import time

from redis import Redis

from tests.bench import shared

ACCOUNTS = 1_000_000


def main() -> None:
    """What INFO says of the memory, before and after."""
    with shared.server() as server, Redis(unix_socket_path=str(server.path)) as client:
        began = time.monotonic()
        each = asyncio.run(shared.bytes_an_account(server.url, ACCOUNTS))
        memory, keys = client.info("memory"), client.dbsize()
    used, resident = (memory[name] / 1e6 for name in ("used_memory", "used_memory_rss"))
    print(f"{server.kind}: {keys:,} keys, {each:.0f} bytes an account; used_memory {used:.0f} MB, used_memory_rss {resident:.0f} MB")
    print(f"decided, settled and reported in {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
