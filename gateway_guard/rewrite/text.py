"""One text of an answer on its way: without leading reasoning, ended with a sentence."""

from __future__ import annotations

from gateway_guard.rewrite.loss import Loss
from gateway_guard.rewrite.sentence import Sentence
from gateway_guard.rewrite.think import Think


class Text:
    """Fed in pieces or whole, it comes out the same. `cut`: it was ended early · `changed`: anything was taken · `out`: characters that went out."""

    __slots__ = ("_sentence", "_think", "changed", "out")

    def __init__(self, loss: Loss) -> None:
        self._think = Think() if loss.trace else None
        self._sentence = Sentence(loss.length) if loss.length else None
        self.changed = False
        self.out = 0

    @property
    def cut(self) -> bool:
        """Whether it was ended before its end."""
        return self._sentence is not None and self._sentence.cut

    @property
    def thought(self) -> bool:
        """Whether reasoning was taken off its beginning."""
        return self._think is not None and self._think.taken

    def feed(self, text: str) -> str:
        """What of the next piece goes out now."""
        left = self._limited(self._think.feed(text) if self._think is not None else text)
        self.changed = self.changed or left != text
        return left

    def end(self) -> str:
        """What had been held back, at the end."""
        return self._limited(self._think.end()) if self._think is not None else ""

    def whole(self, text: str) -> str:
        """All of it at once."""
        return self.feed(text) + self.end()

    def _limited(self, text: str) -> str:
        text = self._sentence.feed(text) if self._sentence is not None and text else text
        self.out += len(text)
        return text
