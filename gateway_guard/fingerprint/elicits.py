"""Elicitation families: does the prompt ask for what training sets are made of?

A family is a combination of cues that stand close together, never one phrase: many honest people ask for reasons, and some for a rubric. Cues are plain
words, in any of the listed languages. No pattern is ever compiled from the lists, so no list can make this slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from gateway_guard.fingerprint import text
from gateway_guard.fingerprint.lists import ElicitFamily

PASSAGE = 1000
CLOSE = 500
# All bytes but those that lead a character of a script that writes without spaces.
_NARROW = bytes(code for code in range(256) if code != 0xE0 and not 0xE3 <= code <= 0xED)
_Text = TypeVar("_Text", bytes, str)


class Elicits:
    """Finds the families of a list: one look at each word of a passage; if a first cue's is there, at all cues whose longest word or first sign is."""

    def __init__(self, families: Iterable[ElicitFamily]) -> None:
        self._families: list[tuple[int, int, int, int]] = []  # bit, needs, kind of the first cue, all kinds
        self._spaced: dict[bytes, list[tuple[bytes, int]]] = {}
        self._unspaced: dict[str, list[tuple[str, int]]] = {}
        kind = 1
        for family in families:
            first = kind
            for cues in family.cues:
                for cue in cues:
                    self._add(cue, kind)
                kind <<= 1
            self._families.append((family.bit, family.needs, first, kind - first))
        firsts = sum(first for _, _, first, _ in self._families)
        self._words, self._signs = frozenset(self._spaced), frozenset(self._unspaced)
        self._anchors = frozenset(word for word, cues in self._spaced.items() if any(kind & firsts for _, kind in cues))

    def _add(self, cue: str, kind: int) -> None:
        words = text.folded(cue).split()
        if not words:
            return
        phrase = b" ".join(words)
        if _unspaced(cue):
            self._unspaced.setdefault(phrase.decode()[0], []).append((phrase.decode(), kind))
        else:
            self._spaced.setdefault(max(words, key=len), []).append((b"" if len(words) == 1 else b" " + phrase + b" ", kind))

    def found(self, passages: Sequence[bytes]) -> int:
        """Bit set of the families found in any of the folded passages."""
        bits = 0
        for passage in passages:
            if self._judge(passage):
                for start in range(0, max(1, len(passage) - CLOSE // 2), CLOSE // 2):
                    bits |= self._judge(passage[start : start + CLOSE])
        return bits

    def _judge(self, passage: bytes) -> int:
        kinds = self._kinds(passage)
        bits = 0
        for bit, needs, first, every in self._families if kinds else ():
            if kinds & first and (kinds & every).bit_count() >= needs:
                bits |= bit
        return bits

    def _kinds(self, passage: bytes) -> int:
        """Bit set of the kinds of cue that the passage holds."""
        words = passage.split()
        wide = bool(passage.translate(None, _NARROW))
        if not wide and self._anchors.isdisjoint(words):
            return 0
        line = b" " + b" ".join(words) + b" "
        kinds = _held(self._spaced, self._words.intersection(words), line)
        return kinds | self._unspaced_kinds(line.decode("utf-8", "replace")) if wide else kinds

    def _unspaced_kinds(self, line: str) -> int:
        return _held(self._unspaced, self._signs.intersection(line), line)


def _held(cues: Mapping[_Text, Sequence[tuple[_Text, int]]], firsts: Iterable[_Text], line: _Text) -> int:
    kinds = 0
    for first in firsts:
        for phrase, kind in cues[first]:
            if not kinds & kind and phrase in line:
                kinds |= kind
    return kinds


def _unspaced(cue: str) -> bool:
    return any("\u2e80" <= sign <= "\u9fff" or "\uac00" <= sign <= "\ud7af" or "\u0e00" <= sign <= "\u0eff" for sign in cue)


def passages(head: bytes, tail: bytes) -> list[bytes]:
    """The beginning and the end of a folded text, each about `PASSAGE` bytes. Cues count together only within `CLOSE` bytes."""
    whole = head + tail
    return [whole] if len(whole) <= PASSAGE else [whole[:PASSAGE], whole[-PASSAGE:]]
