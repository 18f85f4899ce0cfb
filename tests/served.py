"""Real servers on loopback for tests: an ASGI application under uvicorn, and a server of scripted bytes."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn
from starlette.types import ASGIApp

PATIENCE = 10.0


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.ready.set()


@contextmanager
def served(app: ASGIApp | uvicorn.Config) -> Iterator[int]:
    """Serve `app` in a thread; gives the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    config = app if isinstance(app, uvicorn.Config) else uvicorn.Config(app, log_level="critical")
    config.timeout_graceful_shutdown = 1
    server = _Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    try:
        assert server.ready.wait(PATIENCE), "the server did not start"
        yield listening.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        listening.close()


class Wire:
    """One connection in raw bytes."""

    def __init__(self, connection: socket.socket) -> None:
        connection.settimeout(PATIENCE)
        self._socket = connection
        self._buffer = b""

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def until(self, mark: bytes) -> bytes:
        """Everything up to and including `mark`; ends early when the peer closes."""
        while mark not in self._buffer:
            part = self._socket.recv(65536)
            if not part:
                break
            self._buffer += part
        end = self._buffer.find(mark) + len(mark) if mark in self._buffer else len(self._buffer)
        taken, self._buffer = self._buffer[:end], self._buffer[end:]
        return taken

    def rest(self) -> bytes:
        """Everything until the peer closes."""
        while part := self._socket.recv(65536):
            self._buffer += part
        return self._buffer

    def closed(self) -> bool:
        """Wait for the peer to close. False when something else came instead."""
        try:
            return self._socket.recv(1) == b""
        except ConnectionResetError:
            return True

    def request(self) -> bytes:
        """One whole request: head, and body by its length or its last chunk."""
        head = self.until(b"\r\n\r\n")
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            return head + self.until(b"0\r\n\r\n")
        if b"content-length: " not in lower:
            return head
        length = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(self._buffer) < length and (part := self._socket.recv(65536)):
            self._buffer += part
        body, self._buffer = self._buffer[:length], self._buffer[length:]
        return head + body


@contextmanager
def connect(port: int) -> Iterator[Wire]:
    """A client's connection."""
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as connection:
        yield Wire(connection)


class Scripted:
    """A server that answers each connection by `script(wire)` in a thread of its own, and keeps what went wrong there."""

    def __init__(self, script: Callable[[Wire], None]) -> None:
        self._script = script
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.connections = 0
        self.asked = threading.Event()
        self.done = threading.Event()
        self.trouble: list[BaseException] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            self.asked.set()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                self._script(Wire(connection))
            except BaseException as error:
                self.trouble.append(error)
            finally:
                self.done.set()

    def __enter__(self) -> Scripted:
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        assert self.trouble == []
