"""Elicitation families: does the prompt ask for what training sets are made of?

A family is a combination of cues that stand close together, never one phrase: many honest people ask for reasons, and some for a rubric. Cues are plain
words, in any of the listed languages. No pattern is ever compiled from the lists, so no list can make this slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from gateway_guard.fingerprint import text
from gateway_guard.fingerprint.lists import ElicitFamily

PASSAGE = 1200


class Elicits:
    """Finds the families of a list."""

    def __init__(self, families: Iterable[ElicitFamily]) -> None:
        self._families = [(family.bit, family.needs, [[_cue(cue) for cue in kind] for kind in family.cues]) for family in families]
        firsts = [cue for _, _, kinds in self._families for cue in kinds[0]]
        self._words = frozenset(cue.split()[0] for cue in firsts if cue.isascii())
        self._wide = tuple(cue.strip() for cue in firsts if not cue.isascii())

    def found(self, passages: Sequence[bytes]) -> int:
        """Bit set of the families found in any of the folded passages."""
        bits = 0
        for passage in passages:
            if self._may_hold(passage):
                bits |= self._judge(b" " + b" ".join(passage.split()) + b" ")
        return bits

    def _may_hold(self, passage: bytes) -> bool:
        if not self._words.isdisjoint(passage.split()):
            return True
        return not passage.isascii() and any(cue in passage for cue in self._wide)

    def _judge(self, words: bytes) -> int:
        bits = 0
        for bit, needs, kinds in self._families:
            if any(cue in words for cue in kinds[0]):
                bits |= bit if 1 + sum(any(cue in words for cue in kind) for kind in kinds[1:]) >= needs else 0
        return bits


def _cue(cue: str) -> bytes:
    """A cue as it stands in folded text. Scripts with spaces are matched by whole words, the others anywhere."""
    words = b" ".join(text.folded(cue).split())
    return words if _unspaced(cue) else b" " + words + b" "


def _unspaced(cue: str) -> bool:
    return any("\u2e80" <= sign <= "\u9fff" or "\uac00" <= sign <= "\ud7af" or "\u0e00" <= sign <= "\u0eff" for sign in cue)


def passages(head: bytes, tail: bytes) -> list[bytes]:
    """The beginning and the end of a folded text, each about `PASSAGE` bytes: cues count together only inside one of them."""
    whole = head + tail
    return [whole] if len(whole) <= PASSAGE else [whole[:PASSAGE], whole[-PASSAGE:]]
