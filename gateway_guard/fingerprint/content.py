"""The current turn: masked template, template sentences, near-duplicate sketch.

Theory of operation. Whoever harvests sends fixed instructions, one of a few or of thousands, with ever new material before or after them.
The whole prompt never recurs, but its instruction's sentences do, on account after account, whichever end they stand at and however they are
wrapped: so each sentence near either end is a hash of its own. What honest people ask hardly recurs sentence by sentence; where it does
(a greeting, a textbook question, a program's own prompt) the sharers are a mixed crowd, which is for the analyst to see.
"""

from __future__ import annotations

import re

from gateway_guard import sketch
from gateway_guard.fingerprint import text
from gateway_guard.fingerprint.harness import Harness
from gateway_guard.fingerprint.keyed import Keyed

AT_EACH_END = 4
SKETCHED = 48
MASKED = 600
_SLOT = re.compile(r'"[^"\n]{1,200}"|“[^”\n]{1,200}”|https?://\S+')
_NAME = re.compile(r"(?<=[a-zà-ÿ,] )[A-ZÀ-Þ]\w*")


def masked(turn: str) -> bytes:
    """The text without what fills its slots: numbers, quoted pieces, addresses, and names (where capitals mean names, as they do not in German)."""
    if len(turn) <= MASKED:
        turn = _SLOT.sub(" ", turn)
        named, count = _NAME.subn(" ", turn)
        turn = named if count * 5 <= turn.count(" ") + 1 else turn
    head, tail = text.edges(turn)
    return text.letters(head + tail)


def ends(found: list[bytes], keep: int = AT_EACH_END) -> list[bytes]:
    """The first and last few, each once, in order."""
    return list(dict.fromkeys(found if len(found) <= 2 * keep else [*found[:keep], *found[-keep:]]))


def template(turn: str, keyed: Keyed) -> int:
    """One number for the whole masked turn; 0 when it is too short to tell anything."""
    letters = masked(turn)
    return keyed.number("template", letters) if len(letters) >= text.SENTENCE else 0


def templates(sentences: list[bytes], harness: Harness, keyed: Keyed) -> tuple[int, ...]:
    """Numbers of the sentences near either end that are not a harness's."""
    return tuple(keyed.number("sentence", sentence) for sentence in ends(harness.own(sentences)))


def near(letters: bytes, keyed: Keyed) -> tuple[int, ...]:
    """The near-duplicate sketch; empty when the text is too short for one to mean anything."""
    return sketch.of(letters, keyed.salts) if len(letters) >= SKETCHED else ()
