"""Starts the model server and the guard as an operator would, as processes of their own, and stops them."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx

HERE = Path(__file__).parent
PATIENCE = 60.0


class Account(NamedTuple):
    """One line of the account directory."""

    name: str
    key: str


def accounts(names: Sequence[str]) -> dict[str, Account]:
    """An account with a key of its own for each name."""
    return {name: Account(name, f"sk-demo-{name}") for name in names}


def prepare(folder: Path, people: Sequence[Account]) -> None:
    """An empty folder with the policies and the account directory."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in ("policy.yaml", "tighter.yaml", "clusters.yaml"):
        shutil.copy(HERE / name, folder)
    lines = ["key,account", *(f"{person.key},{person.name}" for person in people)]
    (folder / "accounts.csv").write_text("\n".join(lines) + "\n")


@contextmanager
def running(folder: Path) -> Iterator[str]:
    """A model server with the guard in front; gives the address that clients use."""
    model, front = _free_ports(2)
    guard = ["-m", "gateway_guard", "serve", "--upstream", f"http://127.0.0.1:{model}", "--policy", str(folder / "policy.yaml"), "--port", str(front)]
    with _process(["-m", "examples.demo.model_server", str(model)]) as server, _process([*guard, "--log-level", "warning"]) as proxy:
        _await(f"http://127.0.0.1:{front}/v1/models", (server, proxy))
        yield f"http://127.0.0.1:{front}/v1"


def replay(folder: Path, policy: str, decisions: str) -> None:
    """Play the recording through `policy`; the decisions go to a file."""
    command = ["-m", "gateway_guard", "replay", str(recorded(folder, "exchanges")), "--policy", str(folder / policy), "--decisions", str(folder / decisions)]
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=False, cwd=_root())
    if done.returncode:
        raise SystemExit(f"the replay failed:\n{done.stdout}{done.stderr}")


def recorded(folder: Path, name: str) -> Path:
    """The first file of a log that rotates; the demonstration's never need a second."""
    return folder / f"{name}.000001.jsonl"


@contextmanager
def _process(arguments: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, *arguments], cwd=_root())
    try:
        yield process
    finally:
        process.terminate()
        process.wait(PATIENCE)


def _root() -> Path:
    return HERE.parent.parent


def _free_ports(count: int) -> list[int]:
    held = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def _await(url: str, processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Return when the whole way to the model server is open."""
    ends = time.monotonic() + PATIENCE
    while time.monotonic() < ends:
        if any(process.poll() is not None for process in processes):
            raise SystemExit("the demonstration cannot start: the message above says why")
        try:
            if httpx.get(url).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise SystemExit(f"the demonstration cannot start: no answer from {url} within {PATIENCE:.0f} seconds")
