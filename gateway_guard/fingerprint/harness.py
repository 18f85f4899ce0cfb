"""What thousands of honest people send because their program does: known sentences and tools, left out of every content fingerprint."""

from __future__ import annotations

from collections.abc import Iterable

from gateway_guard.fingerprint import text

OPENING = 24
SHORTEST = 8
SLACK = 60


class Harness:
    """Knows sentences by how they begin and how long they are at most: an own text that only begins like a known one stays an own text."""

    def __init__(self, prompts: Iterable[str], blocks: Iterable[str], tools: Iterable[str]) -> None:
        self._longest: dict[bytes, int] = {}
        for prompt in prompts:
            self._learn(text.folded(prompt))
            self._learn(text.impersonal(prompt))
        self.blocks = tuple(blocks)
        self.tools = frozenset(tools)

    def _learn(self, fold: bytes) -> None:
        for part in fold.split(b"\n"):
            sentence = text.letters(part)
            if len(sentence) >= SHORTEST:
                opening = sentence[:OPENING]
                self._longest[opening] = max(self._longest.get(opening, 0), len(sentence) + SLACK)

    def knows(self, sentence: bytes) -> bool:
        """Whether this sentence (given without gaps) is a known one, or a version of it."""
        return len(sentence) <= self._longest.get(sentence[:OPENING], 0)
