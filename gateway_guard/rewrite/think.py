"""Reasoning that a server leaves in the text itself, in tags at its beginning: `<think>...</think>answer`, however it is split.

Only what stands at the very beginning is taken away: a tag further on is what the model says about tags. At most a tag's length is held back.
"""

from __future__ import annotations

TAGS = {f"<{name}>": f"</{name}>" for name in ("think", "thinking", "thought", "reasoning", "seed:think")} | {"[THINK]": "[/THINK]"}
LONGEST = max(map(len, TAGS))
# White space before a tag, at most.
BLANK = 64


class Think:
    """Takes the leading reasoning off a text. `taken`: there was some."""

    __slots__ = ("_close", "_held", "_open", "taken")

    def __init__(self) -> None:
        self._held = ""
        self._close = ""
        self._open = True  # a tag may still come
        self.taken = False

    def feed(self, text: str) -> str:
        """What is left of `text`, with what had been held back."""
        if not self._open and not self._close:
            return text
        self._held += text
        while self._open or self._close:
            if self._close:
                if not self._inside():
                    return ""
            elif not self._begins():
                break
        if self._open:
            return ""
        out, self._held = self._held, ""
        return out.lstrip() if self.taken and out else out

    def end(self) -> str:
        """What is still held back: the beginning of a tag that never came. What is inside of one stays reasoning."""
        out, self._held = ("" if self._close else self._held), ""
        self._open, self._close = False, ""
        return out.lstrip() if self.taken else out

    def _inside(self) -> bool:
        """Drop up to the closing tag. False when it has not come yet."""
        before, closed, after = self._held.partition(self._close)
        if not closed:
            self._held = before[-(len(self._close) - 1) :]
            return False
        self._held, self._close, self._open = after.lstrip(), "", True
        return True

    def _begins(self) -> bool:
        """Whether a tag begins the text. What can be none any more ends the waiting."""
        bare = self._held.lstrip()
        for opening, closing in TAGS.items():
            if bare.startswith(opening):
                self._held, self._close, self._open, self.taken = bare[len(opening) :], closing, False, True
                return True
        if (bare and not any(opening.startswith(bare) for opening in TAGS)) or (not bare and len(self._held) > BLANK and not self.taken):
            self._open = False
        elif not bare and self.taken:
            self._held = ""
        return False
