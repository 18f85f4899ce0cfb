"""The end of something too long to keep, and what may still be read from it."""

from __future__ import annotations

import json
from typing import Any

KEPT = 16 * 1024


class Tail:
    """How long it was, and its last bytes."""

    __slots__ = ("_end", "size")

    def __init__(self, *pieces: bytes) -> None:
        self.size = 0
        self._end = bytearray()
        for piece in pieces:
            self.add(piece)

    def add(self, piece: bytes) -> None:
        """More of it."""
        self.size += len(piece)
        self._end += piece[-KEPT:]
        if len(self._end) > 2 * KEPT:  # rarely, so that many small pieces cost no more than few large ones
            del self._end[:-KEPT]

    def usage(self) -> Any:
        """The object behind the last `"usage"` key, None when there is none.

        Quotes inside a JSON string are escaped, so a model cannot write this key; the APIs put it behind the text.
        """
        _, key, behind = bytes(self._end).rpartition(b'"usage"')
        if not key:
            return None
        try:
            return json.JSONDecoder().raw_decode(behind.decode("utf-8", "replace").lstrip().removeprefix(":").lstrip())[0]
        except (ValueError, RecursionError):
            return None
