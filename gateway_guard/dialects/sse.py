"""Server-sent events, cut out of a byte stream that may be split anywhere.

Lines end in LF, CRLF or CR. The `data` lines of an event are joined; an empty line ends it. Comments and other fields are passed over: the APIs
repeat the event's name in the data. Each byte is looked at once, whatever the pieces; a line or an event beyond `CAP` is let go, and only its
length and its end are kept.
"""

from __future__ import annotations

from gateway_guard.dialects.tail import Tail

CAP = 4 * 1024 * 1024


class Events:
    """The data of each event, as soon as it is complete."""

    __slots__ = ("_carriage", "_data", "_held", "_line", "_tail", "cap", "lost")

    def __init__(self, cap: int = CAP) -> None:
        self.cap = cap
        self.lost: list[Tail] = []
        self._line = bytearray()
        self._data: list[bytes] = []
        self._held = 0
        self._carriage = False
        self._tail: Tail | None = None

    def feed(self, chunk: bytes) -> list[bytes]:
        """The events that `chunk` completes. Those that were too long appear in `lost` instead."""
        if b"\r" in chunk or self._carriage:
            chunk = self._unified(chunk)
        first, *lines = chunk.split(b"\n")
        if not lines:
            self._keep(first)
            return []
        events: list[bytes] = []
        self._end(self._ended(first), events)
        last = lines.pop()
        for line in lines:
            self._end(line, events)
        if last:
            self._keep(last)
        return events

    def pending(self) -> bytes:
        """The data of the event that has begun and not ended."""
        line = bytes(self._line)
        return b"\n".join([*self._data, line[5:]]) if line.startswith(b"data:") else b"\n".join(self._data)

    def _unified(self, chunk: bytes) -> bytes:
        """One kind of line end. A CR at the very end waits: its LF may be the next byte."""
        if self._carriage:
            chunk = b"\r" + chunk
        self._carriage = chunk.endswith(b"\r")
        if self._carriage:
            chunk = chunk[:-1]
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _keep(self, piece: bytes) -> None:
        """The beginning of a line, or more of it."""
        if self._tail is not None:
            self._tail.add(piece)
        elif len(self._line) + len(piece) > self.cap:
            self._tail = Tail(bytes(self._line), piece)
            self._line.clear()
        else:
            self._line += piece

    def _ended(self, piece: bytes) -> bytes:
        """The whole line that `piece` ends; a comment in its place when it was too long."""
        if self._tail is None and not self._line:
            return piece
        self._keep(piece)
        if self._tail is not None:
            self.lost.append(self._tail)
            self._tail = None
            return b":"
        line = bytes(self._line)
        self._line.clear()
        return line

    def _end(self, line: bytes, events: list[bytes]) -> None:
        if line.startswith(b"data:"):
            self._hold(line[5:])
        elif not line and self._data:
            events.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
            self._data.clear()
            self._held = 0

    def _hold(self, data: bytes) -> None:
        self._held += len(data)
        if self._held > self.cap:
            self.lost.append(Tail(*self._data, data))
            self._data.clear()
            self._held = 0
        else:
            self._data.append(data)
