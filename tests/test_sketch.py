"""Sketches: what they estimate, and that where a passage stands does not matter."""

from __future__ import annotations

import hashlib
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard import sketch

KEYS = sketch.salts(hashlib.blake2b(b"one", digest_size=48).digest())
OTHERS = sketch.salts(hashlib.blake2b(b"two", digest_size=48).digest())
WORDS = [bytes(random.Random(n).choices(b"abcdefghijklmnopqrstuvwxyz", k=7)) for n in range(4000)]


def prose(seed: int, words: int) -> bytes:
    return b"".join(random.Random(seed).choices(WORDS, k=words))


def exact(one: bytes, other: bytes) -> tuple[float, float]:
    """Jaccard and containment of the grams themselves."""
    a, b = (set(sketch.grams(text, KEYS).tolist()) for text in (one, other))
    return len(a & b) / len(a | b), len(a & b) / len(a)


def test_the_same_for_ever() -> None:
    """Stored fingerprints must stay comparable: these numbers never change."""
    assert sketch.of(b"thequickbrownfoxjumpsoverthelazydogandthenonce", KEYS) == (
        67867789213584072,
        687943394149391465,
        2419809104956279722,
        4261967217618858595,
        5555710890885882630,
        6544799451961846679,
        9019472221249627488,
    )


@given(st.binary(max_size=3000))
def test_bounded_sorted_and_within_63_bits(text: bytes) -> None:
    found = sketch.of(text, KEYS)
    assert len(found) <= sketch.SIZE
    assert list(found) == sorted(set(found))
    assert all(0 <= value < 2**63 for value in found)


@given(st.binary(max_size=sketch.GRAM - 1))
def test_too_short_a_text_has_none(text: bytes) -> None:
    assert sketch.of(text, KEYS) == ()


@given(st.lists(st.integers(0, 2**64 - 1), max_size=400), st.lists(st.integers(0, 2**64 - 1), max_size=400))
def test_the_union_of_sketches_is_the_sketch_of_the_union(one: list[int], other: list[int]) -> None:
    first, second, both = (sketch.smallest(np.array(values, dtype=np.uint64)) for values in (one, other, one + other))
    assert sketch.union((first, second)) == tuple(sorted(set(both))) or len({value >> 1 for value in one + other}) < len(set(one + other))


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=600))
def test_the_smallest_are_the_smallest(values: list[int]) -> None:
    """The short cut for many values must not lose any."""
    assert sketch.smallest(np.array(values, dtype=np.uint64)) == tuple(value >> 1 for value in sorted(set(values))[: sketch.SIZE])


def test_a_few_values_over_and_over_are_found_too() -> None:
    """The short cut expects many distinct values; a text that repeats itself has few."""
    assert len(sketch.of(prose(1, 12) * 50, KEYS)) == sketch.SIZE
    assert [len(sketch.of(unit * 2000, KEYS)) <= len(unit) for unit in (b"a", b"ab", b"abc", b"abcdefg")] == [True] * 4


def test_another_key_gives_unrelated_sketches() -> None:
    assert not set(sketch.of(prose(1, 300), KEYS)) & set(sketch.of(prose(1, 300), OTHERS))


@pytest.mark.parametrize(("shared", "own"), [(100, 0), (80, 20), (50, 50), (20, 80), (0, 100)])
def test_estimates_are_close_on_the_average(shared: int, own: int) -> None:
    errors, misses = [], []
    for seed in range(60):
        common = prose(seed, shared)
        one, other = common + prose(1000 + seed, own), prose(2000 + seed, own) + common
        jaccard, share = exact(one, other)
        a, b = sketch.of(one, KEYS), sketch.of(other, KEYS)
        errors.append(sketch.resemblance(a, b) - jaccard)
        misses.append(sketch.containment(a, b) - share)
    assert abs(float(np.mean(errors))) < 0.05
    assert abs(float(np.mean(misses))) < 0.06


def test_an_instruction_is_contained_in_every_prompt_that_carries_it() -> None:
    instruction = prose(7, 60)
    alone = sketch.of(instruction, KEYS)
    carried = [sketch.containment(alone, sketch.of(instruction + prose(100 + seed, 30), KEYS)) for seed in range(40)]
    strange = [sketch.containment(alone, sketch.of(prose(100 + seed, 90), KEYS)) for seed in range(40)]
    assert float(np.mean(carried)) > 0.9
    assert max(strange) == 0.0


def test_prefix_and_suffix_meet() -> None:
    """At least one value in common, whichever end the instruction stands at."""
    instruction = prose(9, 40)
    met = [bool(set(sketch.of(instruction + prose(seed, 30), KEYS)) & set(sketch.of(prose(seed + 500, 30) + instruction, KEYS))) for seed in range(40)]
    assert all(met)


@pytest.mark.parametrize(("one", "other", "expected"), [((), (), 0.0), ((1,), (), 0.0), ((1, 2), (1, 2), 1.0), ((1, 2), (2, 3), 1 / 3)])
def test_resemblance_of_small_sketches(one: tuple[int, ...], other: tuple[int, ...], expected: float) -> None:
    assert sketch.resemblance(one, other) == expected
    assert sketch.resemblance(other, one) == expected


def test_containment_compares_only_what_both_cover() -> None:
    """A long text keeps only its smallest hashes: what lies beyond them tells nothing against the short one."""
    long = tuple(range(0, 160, 10))
    assert sketch.containment((10, 20, 1000), long) == 1.0
    assert sketch.containment((10, 25, 1000), long) == 0.5
    assert sketch.containment((1000,), long) == 0.0
