"""What thousands of honest people send because their program does: known sentences and tools, left out of every content fingerprint."""

from __future__ import annotations

from collections.abc import Iterable

from gateway_guard.fingerprint import text

OPENING = 24


class Harness:
    """Knows sentences by how they begin."""

    def __init__(self, openings: Iterable[str], blocks: Iterable[str], tools: Iterable[str]) -> None:
        self._openings = frozenset(text.letters(text.folded(opening))[:OPENING] for opening in openings)
        self.blocks = tuple(blocks)
        self.tools = frozenset(tools)

    def knows(self, sentence: bytes) -> bool:
        """Whether a harness's sentence begins like this one (given without gaps)."""
        return sentence[:OPENING] in self._openings

    def own(self, sentences: Iterable[bytes]) -> list[bytes]:
        """The sentences that no harness is known to send."""
        return [sentence for sentence in sentences if not self.knows(sentence)]
