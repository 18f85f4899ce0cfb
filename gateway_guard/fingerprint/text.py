"""Text made comparable: case, digits, punctuation and layout folded away, cut into sentences.

Only the first and last `EDGE` characters count (blocks and code are taken out of the first and last `REACH` before that): an instruction that is sent
with ever new material stands before or after it. Everything here is linear in the text and bounded.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import NamedTuple

EDGE = 2000
REACH = 16_000
SENTENCE = 20
_ENDS = b".!?:;\n\r\x0b\x0c"


# A word with a capital in mid-sentence. The space comes first so that the search runs from space to space.
NAME = re.compile(r" (?<=[a-zà-ÿ,&] )[A-ZÀ-Þ][a-zà-ÿ]\w*")
_PLACE = re.compile(r"[/~:](?:(?<![\w<].)[A-Za-z/]|//|\\)[^\s<>\"']*")
_DATES = frozenset(
    b"january february march april may june july august september october november december jan feb mar apr jun jul aug sep sept oct nov dec "
    b"monday tuesday wednesday thursday friday saturday sunday mon tue wed thu fri sat sun".split()
)


def _fold(code: int) -> int:
    if code in _ENDS:
        return 10
    if code >= 128:
        return code
    return ord(chr(code).lower()) if chr(code).isalpha() else 32


# Lower case for letters, a line end for whatever ends a sentence or a label, a space for all else that is ASCII.
_FOLD = bytes(map(_fold, range(256)))
_ASCII = bytes(range(128))
# The same beyond ASCII, on UTF-8: lead byte, the rest of the character, what it becomes. The lead byte keeps a pattern from matching inside a character.
_WIDE = tuple(
    (lead, re.compile(re.escape(lead) + b"(?:" + rest + b")", re.DOTALL), fold)
    for lead, rest, fold in (
        (b"\xc2", rb"\xad", b""),  # soft hyphen
        (b"\xc2", rb"[\x80-\xbf]", b" "),  # no-break space, guillemets
        (b"\xcc", rb"[\x80-\xbf]", b""),  # accents that belong to no letter
        (b"\xcd", rb"[\x80-\xaf]", b""),
        (b"\xe2", rb"\x80[\xa6\xa8\xa9]", b"\n"),  # ellipsis, line and paragraph separator
        (b"\xe2", rb"\x80[\x8b-\x8f\xaa-\xae]|\x81[\xa0-\xaf]", b""),  # zero-width and direction marks: put inside words to make them look new
        (b"\xe2", rb"[\x80\x81][\x80-\xbf]", b" "),  # dashes, quotes, bullets
        (b"\xe3", rb"\x80\x82", b"\n"),  # ideographic full stop
        (b"\xe3", rb"\x80[\x80-\xbf]", b" "),  # ideographic comma, brackets
        (b"\xef", rb"\xbc[\x81\x8e\x9a\x9b\x9f]|\xbd\xa1", b"\n"),  # full-width ! . : ; ?
        (b"\xef", rb"\xbc[\x80-\xa0\xbb-\xbf]|\xbd[\x80\x9b-\xa5]", b" "),
        (b"\xef", rb"\xb8[\x80-\xbf]|\xbb\xbf", b""),  # variation selectors, byte-order mark
        (b"\xf3", rb"\xa0[\x80-\x87][\x80-\xbf]", b""),  # tags: invisible letters
        (b"\xe0", rb"\xa5[\xa4\xa5]", b"\n"),  # danda
        (b"\xd8", rb"\x9f", b"\n"),  # Arabic question mark
    )
)
# The commonest of these as single signs, which are replaced ten times as fast.
_COMMON = (*((sign, "\n") for sign in "。？！：；"), *((sign, " ") for sign in "，、’“”—"))
# Letters that look like others (full width, circled, mathematical) or are put together from parts.
_DISGUISED = tuple(
    (lead, re.compile(re.escape(lead) + b"(?:" + rest + b")", re.DOTALL))
    for lead, rest in (
        (b"\xef", rb"\xbc[\x90-\x99\xa1-\xba]|\xbd[\x81-\x9a]"),
        (b"\xe2", rb"[\x91-\x93][\x80-\xbf]"),
        (b"\xf0", rb"\x9d[\x90-\x9f][\x80-\xbf]"),
        (b"\xcc", rb"[\x80-\xbf]"),
        (b"\xcd", rb"[\x80-\xaf]"),
    )
)


def folded(text: str) -> bytes:
    """Lower-case words parted by spaces, sentences and lines parted by line ends."""
    if text.isascii():
        return text.encode().translate(_FOLD)
    raw = _plain(text)
    rest = raw.translate(None, _ASCII)
    beyond = rest.decode()
    if beyond.lower() != beyond:
        # Only then is there more to lower than ASCII, which `_FOLD` does at a tenth of the cost. A sigma is lowered by what stands around it.
        raw = _plain(text.lower())
        rest = raw.translate(None, _ASCII)
    if any(lead in rest and pattern.search(rest) for lead, pattern in _DISGUISED):
        raw = unicodedata.normalize("NFKC", raw.decode()).lower().encode()
        rest = raw.translate(None, _ASCII)
    for lead, pattern, replaced in _WIDE:
        if lead in rest:
            raw = pattern.sub(replaced, raw)
    return raw.translate(_FOLD)


def _plain(text: str) -> bytes:
    for sign, fold in _COMMON:
        text = text.replace(sign, fold)
    return text.encode("utf-8", "replace")


def clipped(text: str) -> str:
    """The text without its far middle: whatever is done next costs the same for a book as for a page."""
    return text if len(text) <= 2 * REACH else f"{text[:REACH]}\n{text[-REACH:]}"


def letters(fold: bytes) -> bytes:
    """A folded text without any gap: neither wrapping nor spacing nor joints between sentences matter."""
    return fold.translate(None, b" \n")


class Edges(NamedTuple):
    """The folded beginning and end of a text. A short text is all `head`."""

    head: bytes
    tail: bytes


def edges(text: str, edge: int = EDGE, fold: Callable[[str], bytes] = folded) -> Edges:
    """The first and last `edge` characters, folded (half as many outside ASCII, where each says more); a sentence that is cut through is left out."""
    if not text.isascii():
        edge //= 2
    if len(text) <= 2 * edge:
        return Edges(fold(text), b"")
    head, tail = fold(text[:edge]), fold(text[-edge:])
    return Edges(head[: head.rfind(b"\n") + 1] or head, tail[tail.find(b"\n") + 1 :])


def ends(fold: bytes, keep: int, skip: Callable[[bytes], bool]) -> list[bytes]:
    """The first and the last few sentences and lines that are long enough to say something and not to be skipped, without gaps, each once."""
    parts = fold.split(b"\n")
    front, used = _collect(parts, keep, skip)
    back, _ = _collect(parts[: used - 1 : -1], keep, skip) if used < len(parts) else ([], 0)
    return list(dict.fromkeys([*front, *reversed(back)]))


def _collect(parts: list[bytes], keep: int, skip: Callable[[bytes], bool]) -> tuple[list[bytes], int]:
    """The first few, and how many parts were used up for them."""
    found: list[bytes] = []
    for at, part in enumerate(parts):
        sentence = part.translate(None, b" ") if len(part) >= SENTENCE else b""
        if len(sentence) >= SENTENCE and not skip(sentence):
            found.append(sentence)
            if len(found) == keep:
                return found, at + 1
    return found, len(parts)


def impersonal(text: str) -> bytes:
    """The folded text without dates, places and names: people who share a prompt differ in these."""
    fold = folded(NAME.sub(" ", _PLACE.sub(" ", text)))
    return b"\n".join(_undated(part) for part in fold.split(b"\n"))


def _undated(part: bytes) -> bytes:
    words = part.split()
    return part if _DATES.isdisjoint(words) else b" ".join(word for word in words if word not in _DATES)


def without_code(text: str) -> str:
    """The text outside fenced blocks: code is material, not instruction."""
    # A single sign is found ten times as fast as three.
    return text if "`" not in text or "```" not in text else "\n".join(text.split("```")[::2])


def without_blocks(text: str, tags: Iterable[str]) -> str:
    """The text outside `<tag>...</tag>` of the given tags; an unclosed block is left as it is."""
    if "<" not in text or "</" not in text:
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
