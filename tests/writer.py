"""Writes texts with habits: stands for a model that was asked for them, or has learnt them from one that was."""

from __future__ import annotations

import random
from collections.abc import Sequence

from gateway_guard.provenance.habits import HABITS

# How each habit looks, the first way and the second, in the order of the table.
SHOWN: tuple[tuple[str, str], ...] = (
    ("- the kettle\n- the cup", "* the kettle\n* the cup"),
    ("1. Fill it.\n2. Boil it.", "1) Fill it.\n2) Boil it."),
    ("It is **very** hot.", "It is __very__ hot."),
    ("The pot – an old one – leaks.", "The pot (an old one) leaks."),
    ("Bring milk, sugar, and lemon along.", "Bring milk, sugar and lemon along."),
    ("Fill it to 80% at most.", "Fill it to 80 percent at most."),
    ("Take a herb, for example mint.", "Take a herb, e.g. mint."),
    ("The water starts to sing.", "The water begins to sing."),
    ("Wait about a minute.", "Wait roughly a minute."),
    ("Green tea is usually milder.", "Green tea is typically milder."),
    ("Therefore warm the cup.", "So warm the cup."),
    ("A lid helps.", "A lid assists."),
    ("Choose a small leaf.", "Pick a small leaf."),
    ("Make sure of the lid.", "Ensure a tight lid."),
    ("Steep it several times.", "Steep it a few times."),
    ("Use the whole leaf.", "Use the entire leaf."),
    ("Mind the steam, because steam burns.", "Mind the steam, since steam burns."),
    ("Don't stir.", "Do not stir."),
    ("Now your cup waits.", "Now our cup waits."),
    ("In short, patience.", "Overall, patience."),
    ("Next, pour.", "Then, pour."),
    ("Note that steel cools fast.", "Keep in mind that steel cools fast."),
)
assert len(SHOWN) == len(HABITS)


def written(ways: Sequence[int], number: int, *, follows: float = 1.0, seed: int = 0) -> list[str]:
    """`number` texts that show half of all habits each; where `ways` has one it is followed in this share of cases, else a taste that all models share."""
    rng = random.Random(seed)
    return ["\n\n".join(_shown(place, ways[place], follows, rng) for place in rng.sample(range(len(HABITS)), len(HABITS) // 2)) for _ in range(number)]


def _shown(place: int, way: int, follows: float, rng: random.Random) -> str:
    if way and rng.random() < follows:
        return SHOWN[place][way < 0]
    # Half of the habits nearly everybody writes in one way, the others as it comes.
    return SHOWN[place][rng.random() < (0.5, 0.1, 0.9)[place % 3]]
