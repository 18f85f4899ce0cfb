"""The conversation so far: links that show it going on under another account, and opaque blobs that come back.

Theory of operation. An answer of some length, with the turns just before it, exists once in the world; the account that sends it back as
history is the account that got it, or got it from there. So each of the last assistant turns gives a link: a hash of the passage that ends with it and
reaches back, to a user turn, until it holds `ENOUGH` letters of assistant text and `ASKED` of user text. Greetings, short standard answers and
"go on" are no proof and never make a link by themselves. A link depends on its passage alone, not on how far back the conversation is sent: clients that
drop old turns, summarise them or change the system prompt still give the same links.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def links(turns: Sequence[Turn], keyed: Keyed) -> tuple[int, ...]:
    """Numbers of the last few passages, oldest first."""
    said = _Said(turns)
    passages = []
    end = answers = 0
    while answers < LINKS and (turn := said.back(end)) is not None:
        if turn[0]:
            answers += 1
            start = _start(said, end)
            if start is not None:
                passages.append(b"\n".join((b"a" if answer else b"u") + letters for answer, letters in reversed(said.known[end : start + 1])))
        end += 1
    return tuple([keyed.number("thread", passage) for passage in reversed(passages)])


class _Said:
    """What was said, from the last turn backward: folded as far back as somebody asks, since most conversations are longer than a few links reach."""

    def __init__(self, turns: Sequence[Turn]) -> None:
        looked_at = reversed(turns[-LOOKED_AT:])
        self._rest = (_said(turn) for turn in looked_at if turn.text and (turn.role == "user" or turn.role in _ASSISTANT))
        self.known: list[tuple[bool, bytes]] = []

    def back(self, count: int) -> tuple[bool, bytes] | None:
        """The turn so many before the last one that says something: whether it is an answer, and its letters. None before the first."""
        while len(self.known) <= count:
            turn = next(self._rest, None)
            if turn is None:
                return None
            if turn[1]:
                self.known.append(turn)
        return self.known[count]


def _said(turn: Turn) -> tuple[bool, bytes]:
    head, tail = text.edges(turn.text, _TURN_EDGE)
    return turn.role in _ASSISTANT, text.letters(head) + text.letters(tail)


def _start(said: _Said, end: int) -> int | None:
    """How far back the passage begins that ends at `end`, None when too little was said or the beginning is not there."""
    held = asked = 0
    for back in range(end, end + REACH):
        turn = said.back(back)
        if turn is None:
            return None
        answer, letters = turn
        if answer:
            held += len(letters)
            continue
        asked += len(letters)
        if held >= ENOUGH and asked >= ASKED:
            return back
    return None


def blobs(found: Sequence[str], keyed: Keyed) -> tuple[int, ...]:
    """Numbers of the last few opaque blobs."""
    return tuple(keyed.number("blob", f"{len(blob)} {blob[:_BLOB_EDGE]}{blob[-_BLOB_EDGE:]}".encode("utf-8", "replace")) for blob in found[-LINKS:] if blob)
