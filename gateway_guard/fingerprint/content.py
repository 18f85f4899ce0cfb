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
SKETCHED = 64
MASKED = 600
_SLOT = re.compile(r'"[^"\n]{1,200}"|“[^”\n]{1,200}”|https?://\S+')


def masked(turn: str) -> bytes:
    """The letters of a short text without what fills its slots: quoted pieces, addresses, and names (where capitals mean names, as they do not in German)."""
    turn = _SLOT.sub(" ", turn)
    named, count = text.NAME.subn(" ", turn)
    return text.letters(text.folded(named if count * 5 <= turn.count(" ") + 1 else turn))


def template(turn: str, letters: bytes, keyed: Keyed) -> int:
    """One number for the whole turn, numbers and (in a short one) names and quotes masked; 0 when it is too short to tell anything."""
    if len(turn) <= MASKED:
        letters = masked(turn)
    return keyed.number("template", letters) if len(letters) >= text.SENTENCE else 0


def templates(fold: bytes, harness: Harness, keyed: Keyed) -> tuple[int, ...]:
    """Numbers of the sentences near either end that are not a harness's. Where one stands does not matter: prefix, suffix and system prompt meet."""
    return tuple(keyed.number("sentence", sentence) for sentence in text.ends(fold, AT_EACH_END, harness.knows))


def near(letters: bytes, keyed: Keyed) -> tuple[int, ...]:
    """The near-duplicate sketch; empty when the text is too short for one to mean anything."""
    return sketch.of(letters, keyed.salts) if len(letters) >= SKETCHED else ()
