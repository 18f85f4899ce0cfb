"""An answer on its way to the client, rewritten: a whole one when it is complete, a stream event by event.

Theory of operation. Steps know the APIs; here is what they have in common. A stream is cut into events; each goes through the steps, and out again before the
next: nothing else is held back, whatever the chunks that it comes in, and two ways of splitting a stream give the same bytes. An answer in gzip is
inflated; in another coding, or with no JSON in it, it passes as it is (`unread` tells).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from gateway_guard.rewrite.blocks import Block, Blocks
from gateway_guard.rewrite.shape import Event, Step, loaded, written

# A longer answer that is not streamed passes as it is.
CAP = 16 * 1024 * 1024
PIECE = 64 * 1024
GZIP_OR_ZLIB = 47
# Of so many events that do not go out one leaves a comment, so that nobody between takes the connection for idle.
QUIET = 16
COMMENT = b":\n\n"
INFLATED = frozenset({"gzip", "x-gzip", "deflate"})


class Rewriter:
    """One answer. `feed` and `finish` give the parts that go out now, `streams` of them events. `unread`: it could not be rewritten."""

    __slots__ = ("_blocks", "_body", "_inflating", "_quiet", "_steps", "streams", "unread")

    def __init__(self, steps: Sequence[Step], *, streams: bool, inflates: bool = False) -> None:
        self._steps = steps
        self.streams = streams
        self._blocks = Blocks()
        self._body = bytearray()
        self._inflating = zlib.decompressobj(GZIP_OR_ZLIB) if inflates else None
        self._quiet = 0
        self.unread = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """What `chunk` completes."""
        return [part for piece in self._plain(chunk) for part in self._fed(piece)]

    def finish(self) -> list[bytes]:
        """What is left at the end."""
        if self.streams:
            rest = self._blocks.rest()
            return self._last(rest) if rest is not None else []
        body, self._body = bytes(self._body), bytearray()
        return [self._whole(body)] if body else []

    def _plain(self, chunk: bytes) -> Iterator[bytes]:
        """The chunk inflated, a piece at a time: a small one can be the beginning of a very long answer."""
        if self._inflating is None:
            yield chunk
            return
        while chunk and not self._inflating.eof:
            try:
                yield self._inflating.decompress(chunk, PIECE)
            except zlib.error:  # what came before stands for all there was
                self.unread = True
                return
            chunk = self._inflating.unconsumed_tail

    def _fed(self, piece: bytes) -> list[bytes]:
        if self.streams:
            return [part for block in self._blocks.feed(piece) for part in self._event(block)]
        if self.unread:
            return [piece]
        self._body += piece
        if len(self._body) <= CAP:
            return []
        self.unread = True
        held, self._body = bytes(self._body), bytearray()
        return [held]

    def _whole(self, raw: bytes) -> bytes:
        body = _object(raw)
        if body is None:
            self.unread = True
            return raw
        for step in self._steps:
            step.answer(body)
        return written(body)

    def _event(self, block: Block) -> list[bytes]:
        event = _object(block.data)
        if event is None:  # a comment, or [DONE]
            return [block.raw]
        events, changed = [event], False
        for step in self._steps:
            after = [step.event(event) for event in events]
            changed = changed or any(new is not None for new in after)
            events = [out for old, new in zip(events, after, strict=True) for out in ([old] if new is None else new)]
        if not changed:
            return [block.raw]
        return [_sent(event, block.name) for event in events] or self._silence()

    def _last(self, block: Block) -> list[bytes]:
        """An event without its end. Half of one is no event, and could be the half that was to be taken away."""
        if block.data.lstrip().startswith(b"{") and _object(block.data) is None:
            return []
        return self._event(block)

    def _silence(self) -> list[bytes]:
        self._quiet += 1
        return [COMMENT] if self._quiet % QUIET == 1 else []


def _object(data: bytes) -> Event | None:
    try:
        found = loaded(data) if data else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _sent(event: Event, name: bytes) -> bytes:
    """An event; where the API names events beside their data, by its type as it is now."""
    line = b"data: " + written(event) + b"\n\n"
    kind = event.get("type")
    return b"event: " + (kind.encode() if isinstance(kind, str) else name) + b"\n" + line if name else line
