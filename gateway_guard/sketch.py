"""Near-duplicate sketches: the sixteen smallest keyed hashes of a text's byte grams.

Theory of operation. One in `SHARE` runs of `GRAM` bytes is hashed; of all distinct hashes the `SIZE` smallest are kept. Which grams these are depends
on the key and on the run alone, so two texts that share a passage tend to keep the same hashes of it, whatever stands around it: one kept hash
in common is a passage of at least `GRAM` bytes in common. The kept hashes of a union are the smallest of both, which gives the estimates below.
Bytes, not words: Chinese and Japanese have no spaces, and 32 bytes are about ten of their characters or six English words.
SimHash was tried instead and fails as soon as a fixed instruction is followed by varying text.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

SIZE = 16
GRAM = 32
SHARE = 4
_SPAN = 2**64
_WORD = 8
_TAKEN = np.uint64(_SPAN // SHARE)
_HALF = np.uint64(32)

Hashes = NDArray[np.uint64]


def salts(material: bytes) -> Hashes:
    """Six secret odd multipliers out of 48 bytes of key material."""
    return np.frombuffer(material[:48], dtype="<u8").astype(np.uint64) | np.uint64(1)


def grams(text: bytes, keys: Hashes) -> Hashes:
    """Keyed hashes of one in `SHARE` of the runs of `GRAM` bytes; which ones depends on how a run begins, never on where it stands.

    Four products are summed and mixed: that cannot be undone, not even with the keys.
    """
    count = len(text) - GRAM + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    # Copied once, because every step over words that overlap in memory would do so again.
    words: NDArray[Any] = np.ndarray((count + GRAM - _WORD,), dtype="<u8", buffer=text, strides=(1,)).copy()
    (at,) = (words[:count] * keys[0] < _TAKEN).nonzero()
    hashes: Hashes = words[at] * keys[1]
    hashes += words[_WORD:][at] * keys[2]
    hashes += words[2 * _WORD :][at] * keys[3]
    hashes += words[3 * _WORD :][at] * keys[4]
    hashes ^= hashes >> _HALF
    hashes *= keys[5]
    return hashes


def smallest(hashes: Hashes, size: int = SIZE) -> tuple[int, ...]:
    """The `size` smallest distinct hashes, in order, as 63-bit integers."""
    if hashes.size > 8 * size:
        few = set(hashes[hashes < np.uint64(_SPAN * 3 * size // hashes.size)].tolist())
        if len(few) >= size:
            return _narrow(few, size)
    return _narrow(set(hashes.tolist()), size)


def _narrow(hashes: set[int], size: int) -> tuple[int, ...]:
    return tuple([value >> 1 for value in sorted(hashes)[:size]])


def of(text: bytes, keys: Hashes) -> tuple[int, ...]:
    """The sketch of a text."""
    return smallest(grams(text, keys))


def union(sketches: Iterable[Sequence[int]], size: int = SIZE) -> tuple[int, ...]:
    """The sketch that all the texts together would have."""
    return tuple(sorted(set(itertools.chain.from_iterable(sketches)))[:size])


def resemblance(one: Sequence[int], other: Sequence[int], size: int = SIZE) -> float:
    """Estimated Jaccard similarity of the two texts' grams: shared / all, 0..1."""
    both = union((one, other), size)
    if not both:
        return 0.0
    return len(set(both) & set(one) & set(other)) / len(both)


def containment(part: Sequence[int], whole: Sequence[int], size: int = SIZE) -> float:
    """Estimated share of `part`'s grams that `whole` has too, 0..1. Only the range that both sketches cover is compared."""
    reach = min((sketch[-1] for sketch in (part, whole) if len(sketch) >= size), default=None)
    inside = [value for value in part if reach is None or value <= reach]
    if not inside:
        return 0.0
    return len(set(inside) & set(whole)) / len(inside)
