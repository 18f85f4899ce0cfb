"""Server-sent events, cut out of a byte stream that may be split anywhere.

Lines end in LF, CRLF or CR. The `data` lines of an event are joined; an empty line ends it. Comments and other fields are passed over: the APIs
repeat the event's name in the data. Each byte is looked at once, whatever the pieces; a line or an event that grows beyond `CAP` is let go, and
only its length and its end are kept.
"""

from __future__ import annotations

from gateway_guard.dialects.tail import Tail

CAP = 4 * 1024 * 1024
# Stands for a line that was let go.
COMMENT = b":"


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
        whole = chunk.endswith(b"\n") and not (self._line or self._carriage or self._tail)  # as servers send them, nearly always
        lines = chunk.splitlines() if whole else self._completed(chunk)
        events: list[bytes] = []
        data = self._data
        for line in lines:
            if line.startswith(b"data:"):
                if data:
                    self._join(line[5:])
                else:
                    data.append(line[5:])
            elif not line and data:
                events.append(data[0] if len(data) == 1 else b"\n".join(data))
                data.clear()
                self._held = 0
        return events

    def pending(self) -> bytes:
        """The data of the event that has begun and not ended."""
        line = bytes(self._line)
        return b"\n".join([*self._data, line[5:]]) if line.startswith(b"data:") else b"\n".join(self._data)

    def _completed(self, chunk: bytes) -> list[bytes]:
        """The lines that `chunk` completes; what is left begins the next one."""
        if self._carriage:
            chunk = b"\r" + chunk
        self._carriage = chunk.endswith(b"\r")
        if self._carriage:  # its LF may be the next byte
            chunk = chunk[:-1]
        lines = chunk.splitlines()
        rest = b"" if not lines or chunk.endswith((b"\n", b"\r")) else lines.pop()
        if lines:
            lines[0] = self._ended(lines[0])
        if rest:
            self._keep(rest)
        return lines

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
        """The whole line that `piece` ends."""
        if self._tail is None and not self._line:
            return piece
        self._keep(piece)
        if self._tail is not None:
            self.lost.append(self._tail)
            self._tail = None
            return COMMENT
        line = bytes(self._line)
        self._line.clear()
        return line

    def _join(self, data: bytes) -> None:
        """A further line of an event's data: newlines do not let it grow beyond the cap either."""
        self._held = (self._held or len(self._data[0])) + len(data)
        if self._held > self.cap:
            self.lost.append(Tail(*self._data, data))
            self._data.clear()
            self._held = 0
        else:
            self._data.append(data)
