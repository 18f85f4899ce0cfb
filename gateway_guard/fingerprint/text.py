"""Text made comparable: case, digits, punctuation and layout folded away, cut into sentences.

Only the first and last `EDGE` characters are looked at: an instruction that is sent with ever new material stands before or after it,
and what stands in the middle of a book costs nothing. Everything here is linear in the text.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

EDGE = 2000
SENTENCE = 20
_LETTERS = b"abcdefghijklmnopqrstuvwxyz"
_ENDS = b".!?:;\n\r\x0b\x0c"
# Lower case for letters, a line end for whatever ends a sentence or a label, a space for all else that is ASCII.
_FOLD = bytes(ord(chr(code).lower()) if chr(code).isalpha() and code < 128 else 10 if code in _ENDS else 32 if code < 128 else code for code in range(256))
# The same for the parts of Unicode where other scripts have their punctuation; the lead byte keeps it from matching inside a character.
_WIDE_END = re.compile("[。！？：；…।؟؛\u2028\u2029]")
_WIDE_SPACE = re.compile("[\u00a0-\u00bf\u02b0-\u036f\u2000-\u206f\u3000-\u303f\uff01-\uff0f\uff1a-\uff20\uff3b-\uff40\uff5b-\uff65\ufe00-\ufe4f\U000e0000-\U000e007f]")
# Letters that look like others: full width, circled, mathematical.
_DISGUISED = re.compile("[\uff10-\uff19\uff21-\uff3a\uff41-\uff5a\u2460-\u24ff\U0001d400-\U0001d7ff]")


def folded(text: str) -> bytes:
    """Lower-case words parted by spaces, sentences and lines parted by line ends."""
    if text.isascii():
        return text.encode().translate(_FOLD)
    if _DISGUISED.search(text):
        text = unicodedata.normalize("NFKC", text)
    text = _WIDE_SPACE.sub(" ", _WIDE_END.sub("\n", text.lower()))
    return text.encode("utf-8", "replace").translate(_FOLD)


def letters(fold: bytes) -> bytes:
    """A folded text without any gap: neither wrapping nor spacing nor joints between sentences matter."""
    return fold.translate(None, b" \n")


class Edges(NamedTuple):
    """The folded beginning and end of a text. A short text is all `head`."""

    head: bytes
    tail: bytes


def edges(text: str, edge: int = EDGE) -> Edges:
    """The first and last `edge` characters, folded; a sentence that the cut goes through is left out."""
    if len(text) <= 2 * edge:
        return Edges(folded(text), b"")
    head, tail = folded(text[:edge]), folded(text[-edge:])
    return Edges(head[: head.rfind(b"\n") + 1] or head, tail[tail.find(b"\n") + 1 :])


def sentences(fold: bytes) -> list[bytes]:
    """The sentences and lines that are long enough to say something, without gaps."""
    parts = (part.translate(None, b" ") for part in fold.split(b"\n"))
    return [part for part in parts if len(part) >= SENTENCE]


def without_code(text: str) -> str:
    """The text outside fenced blocks: code is material, not instruction."""
    return text if "```" not in text else "\n".join(text.split("```")[::2])


def without_blocks(text: str, tags: Iterable[str]) -> str:
    """The text outside `<tag>...</tag>` of the given tags; an unclosed block is left as it is."""
    if "</" not in text:
        return text
    for tag in tags:
        text = _cut(text, f"<{tag}>", f"</{tag}>")
    return text


def _cut(text: str, start: str, end: str) -> str:
    at = text.find(start)
    if at < 0:
        return text
    kept, after = [], 0
    while at >= 0:
        close = text.find(end, at)
        if close < 0:
            break
        kept.append(text[after:at])
        after = close + len(end)
        at = text.find(start, after)
    return "\n".join([*kept, text[after:]])
