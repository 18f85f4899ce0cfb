"""The conversation so far: links that show it going on under another account, and opaque blobs that come back.

Theory of operation. An answer of some length, with the turns just before it, exists once in the world; the account that sends it back as
history is the account that got it, or got it from there. So each of the last assistant turns gives a link: a hash of the passage that ends with it and
reaches back, to a user turn, until it holds `ENOUGH` letters of assistant text and `ASKED` of user text. Greetings, short standard answers and
"go on" are no proof and never make a link by themselves. A link depends on its passage alone, not on how far back the conversation is sent: clients that
drop old turns, summarise them or change the system prompt still give the same links.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from gateway_guard.fingerprint import text
from gateway_guard.fingerprint.keyed import Keyed
from gateway_guard.reading import Turn

LINKS = 4
ENOUGH = 160
ASKED = 32
REACH = 10
LOOKED_AT = 24
_TURN_EDGE = 200
_BLOB_EDGE = 1024
_ASSISTANT = frozenset({"assistant", "model", "ai"})

_Said = tuple[bool, bytes]


def links(turns: Sequence[Turn], keyed: Keyed) -> tuple[int, ...]:
    """Numbers of the last few passages, oldest first."""
    told = (_said(turn) for turn in turns[-LOOKED_AT:] if turn.text and (turn.role == "user" or turn.role in _ASSISTANT))
    said = [turn for turn in told if turn[1]]
    answers = [at for at, (answer, _) in enumerate(said) if answer][-LINKS:]
    return tuple(keyed.number("thread", passage) for passage in _passages(said, answers))


def _said(turn: Turn) -> _Said:
    head, tail = text.edges(turn.text, _TURN_EDGE)
    return turn.role in _ASSISTANT, text.letters(head) + text.letters(tail)


def _passages(said: Sequence[_Said], answers: Sequence[int]) -> Iterator[bytes]:
    for end in answers:
        start = _start(said, end)
        if start is not None:
            yield b"\n".join((b"a" if answer else b"u") + letters for answer, letters in said[start : end + 1])


def _start(said: Sequence[_Said], end: int) -> int | None:
    """Where the passage that ends at `end` begins, None when too little was said or the beginning is not there."""
    held = asked = 0
    for at in range(end, max(-1, end - REACH), -1):
        answer, letters = said[at]
        if answer:
            held += len(letters)
            continue
        asked += len(letters)
        if held >= ENOUGH and asked >= ASKED:
            return at
    return None


def blobs(found: Sequence[str], keyed: Keyed) -> tuple[int, ...]:
    """Numbers of the last few opaque blobs."""
    return tuple(keyed.number("blob", f"{len(blob)} {blob[:_BLOB_EDGE]}{blob[-_BLOB_EDGE:]}".encode("utf-8", "replace")) for blob in found[-LINKS:] if blob)
