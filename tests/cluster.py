"""A Valkey cluster for tests: three nodes on this machine, each with a third of the slots."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from redis import Redis

from tests.servers import Server, free_port, running

NODES, SLOTS = 3, 16384


class Node(NamedTuple):
    """A server, and where it is reached."""

    server: Server
    port: int
    bus: int
    client: Redis


@contextmanager
def cluster(folder: Path) -> Iterator[list[Node]]:
    """Nodes that know each other. A script whose keys lie in several slots is refused, and one whose slot is another node's is sent there."""
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        nodes = [_node(folder / f"node{number}", stack) for number in range(NODES)]
        bounds = [SLOTS * number // NODES for number in range(NODES + 1)]
        for node, first, end in zip(nodes, bounds[:-1], bounds[1:], strict=True):
            node.client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, end - 1)  # type: ignore[no-untyped-call]
            nodes[0].client.execute_command("CLUSTER", "MEET", "127.0.0.1", node.port, node.bus)  # type: ignore[no-untyped-call]
        while not all(_is_whole(node.client) for node in nodes):
            pass
        yield nodes


def _node(folder: Path, stack: ExitStack) -> Node:
    port, bus = free_port(), free_port()
    # A cluster goes on without the slots of a node that is gone.
    options = ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--cluster-require-full-coverage", "no", "--cluster-node-timeout", "2000"]
    server = stack.enter_context(running("valkey 9.1", folder, "--port", str(port), *options))
    return Node(server, port, bus, stack.enter_context(Redis(unix_socket_path=str(server.path))))


def _is_whole(client: Redis) -> bool:
    info: bytes = client.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
    return b"cluster_state:ok" in info and f"cluster_known_nodes:{NODES}".encode() in info and b"cluster_slots_assigned:16384" in info
