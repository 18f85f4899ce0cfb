"""Elicitation families: does the prompt ask for what training sets are made of?

A family is a combination of cues that stand close together, never one phrase: many honest people ask for reasons, and some for a rubric. Cues are plain
words, in any of the listed languages. No pattern but a class of single signs is ever compiled from the lists, so no list can make this slow.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from gateway_guard.fingerprint import text
from gateway_guard.fingerprint.lists import ElicitFamily

PASSAGE = 1000
CLOSE = 500
# All bytes but those that lead a character of a script that writes without spaces.
_NARROW = bytes(code for code in range(256) if code != 0xE0 and not 0xE3 <= code <= 0xED)


class Elicits:
    """Finds the families of a list. A passage is looked at for the first cues of all families; only if one is there, for all the others."""

    def __init__(self, families: Iterable[ElicitFamily]) -> None:
        self._families: list[tuple[int, int, int, int]] = []  # bit, needs, kind of the first cue, all kinds
        self._first, self._other = _Cues(), _Cues()
        kind = 1
        for family in families:
            first = kind
            for cues in family.cues:
                for cue in cues:
                    (self._first if kind == first else self._other).add(cue, kind)
                kind <<= 1
            self._families.append((family.bit, family.needs, first, kind - first))
        self._words = self._first.words | self._other.words

    def found(self, passages: Sequence[bytes]) -> int:
        """Bit set of the families found in any of the folded passages."""
        bits = 0
        for passage in passages:
            if self._judge(passage):
                for start in range(0, max(1, len(passage) - CLOSE // 2), CLOSE // 2):
                    bits |= self._judge(passage[start : start + CLOSE])
        return bits

    def _judge(self, passage: bytes) -> int:
        """Without a family's first cue there is no family."""
        words = passage.split()
        known = self._words.intersection(words)
        wide = not passage.isascii() and bool(passage.translate(None, _NARROW))
        if not wide and self._first.words.isdisjoint(known):
            return 0
        line = b" " + b" ".join(words) + b" "
        kinds = self._first.held(known, line, wide=wide)
        if not kinds:
            return 0
        kinds |= self._other.held(known, line, wide=wide)
        bits = 0
        for bit, needs, first, every in self._families:
            if kinds & first and (kinds & every).bit_count() >= needs:
                bits |= bit
        return bits


class _Cues:
    """Cues by their longest word, with the kind of each; those of scripts without spaces by their first sign, which a class of signs looks for."""

    def __init__(self) -> None:
        self.words: frozenset[bytes] = frozenset()
        self._spaced: dict[bytes, list[tuple[bytes, int]]] = {}
        self._unspaced: dict[str, list[tuple[str, int]]] = {}
        self._signs = re.compile("(?!)")

    def add(self, cue: str, kind: int) -> None:
        """Know a cue."""
        words = text.folded(cue).split()
        if not words:
            return
        phrase = b" ".join(words)
        if _unspaced(cue):
            self._unspaced.setdefault(phrase.decode()[0], []).append((phrase.decode(), kind))
            self._signs = re.compile(f"[{re.escape(''.join(self._unspaced))}]")
        else:
            self._spaced.setdefault(max(words, key=len), []).append((b"" if len(words) == 1 else b" " + phrase + b" ", kind))
            self.words = frozenset(self._spaced)

    def held(self, known: frozenset[bytes], line: bytes, *, wide: bool) -> int:
        """Bit set of the kinds of cue that the line holds, whose words are `known`; `wide`: it has script without spaces."""
        kinds = 0
        for word in self.words & known:
            for phrase, kind in self._spaced[word]:
                if not kinds & kind and phrase in line:
                    kinds |= kind
        return kinds | self._unspaced_held(line.decode("utf-8", "replace")) if wide else kinds

    def _unspaced_held(self, line: str) -> int:
        kinds = 0
        for sign in set(self._signs.findall(line)):
            for phrase, kind in self._unspaced[sign]:
                if not kinds & kind and phrase in line:
                    kinds |= kind
        return kinds


def _unspaced(cue: str) -> bool:
    return any("\u2e80" <= sign <= "\u9fff" or "\uac00" <= sign <= "\ud7af" or "\u0e00" <= sign <= "\u0eff" for sign in cue)


def passages(head: bytes, tail: bytes) -> list[bytes]:
    """The beginning and the end of a folded text, each about `PASSAGE` bytes. Cues count together only within `CLOSE` bytes."""
    whole = head + tail
    return [whole] if len(whole) <= PASSAGE else [whole[:PASSAGE], whole[-PASSAGE:]]
