"""Ending a text with a sentence. Nothing is held back: what is to come decides only whether it goes out itself."""

from __future__ import annotations

ENDS = frozenset(".!?…。！？")
# In scripts without spaces the mark itself ends a sentence.
WIDE = frozenset("。！？")
CLOSERS = "\"')]}*_`”’»」』"
# A text without sentences (a table, code) ends at a space this far beyond its length, or anywhere twice as far.
SLACK = 400


class Sentence:
    """Lets text through until `length` characters and the sentence then under way are out. `cut`: something was kept back."""

    __slots__ = ("_closed", "_left", "_over", "_wide", "cut")

    def __init__(self, length: int) -> None:
        self._left = length
        self._closed = False  # the text so far ends with the end of a sentence
        self._wide = False
        self._over = False
        self.cut = False

    def feed(self, text: str) -> str:
        """What of `text` goes out."""
        if self._over:
            self.cut = self.cut or (not text.isspace() and bool(text))
            return ""
        within = max(self._left, 0)
        self._note(text[:within])
        for index in range(within, len(text)):
            if self._ends_before(text[index], index - self._left):
                self._over = True
                return text[:index] + self.feed(text[index:])
            self._note(text[index])
        self._left -= len(text)
        return text

    def _ends_before(self, character: str, beyond: int) -> bool:
        space = character.isspace()
        if self._closed and (space or (self._wide and character not in CLOSERS and character not in ENDS)):
            return True
        return character == "\n" or (space and beyond >= SLACK) or beyond >= 2 * SLACK

    def _note(self, text: str) -> None:
        """Remember how the text ends; quotes and brackets that close belong to the sentence."""
        bare = text.rstrip(CLOSERS)
        if bare:
            self._closed = bare[-1] in ENDS
            self._wide = bare[-1] in WIDE
