"""Habits of writing that mean the same: each has two ways, and how often a text shows either can be counted.

Nothing here says anything about the subject of an answer, so whoever is asked for one way rather than the other gets the same answer. The table is part of the
marks: an entry that is changed or moved changes what clusters are marked by, and outputs that were marked before are no longer recognised.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Kind = Literal["form", "words", "order"]
KINDS: tuple[Kind, ...] = ("form", "words", "order")


class Habit(NamedTuple):
    """`asks` for one way or the other, `seen` finds it. `form` is layout and punctuation, `words` a choice of word, `order` how a text is put together."""

    kind: Kind
    asks: tuple[str, str]
    seen: tuple[re.Pattern[str], re.Pattern[str]]


def _habit(kind: Kind, asks: tuple[str, str], one: str, other: str) -> Habit:
    return Habit(kind, asks, (re.compile(one, re.IGNORECASE | re.MULTILINE), re.compile(other, re.IGNORECASE | re.MULTILINE)))


def _word(one: str, other: str) -> Habit:
    """Two words for one thing, in any of their forms."""
    asks = tuple(f'prefer "{mine.split("|")[0]}" to "{theirs.split("|")[0]}"' for mine, theirs in ((one, other), (other, one)))
    return _habit("words", (asks[0], asks[1]), rf"\b(?:{one})\b", rf"\b(?:{other})\b")


HABITS: tuple[Habit, ...] = (
    _habit("form", ("mark list items with a hyphen", "mark list items with an asterisk"), r"^[ ]{0,8}- \S", r"^[ ]{0,8}\* \S"),
    _habit("form", ('number steps as "1."', 'number steps as "1)"'), r"^[ ]{0,8}\d{1,2}\. \S", r"^[ ]{0,8}\d{1,2}\) \S"),
    _habit("form", ("emphasise with two asterisks", "emphasise with two underscores"), r"\*\*\w", r"(?<!\w)__\w"),
    _habit("form", ("set asides off with dashes", "set asides off with round brackets"), r" [–—] |\w—\w", r" \(\w"),
    _habit("form", ("put a comma before the last item of a list in a sentence", "put no comma before the last item of a list in a sentence"),
           r"\w, \w+, (?:and|or) ", r"\w, \w+ (?:and|or) "),
    _habit("form", ('write "%"', 'write "percent"'), r"\d ?%", r"\d percent\b"),
    _word(r"for example|for instance", r"e\.g"),
    _word(r"start|starts|started|starting", r"begin|begins|began|beginning"),
    _word(r"about", r"roughly"),
    _word(r"usually", r"typically"),
    _word(r"therefore", r"so"),
    _word(r"help|helps|helped|helping", r"assist|assists|assisted|assisting"),
    _word(r"choose|chooses|choosing|chosen", r"pick|picks|picking|picked"),
    _word(r"make sure|makes sure|making sure", r"ensure|ensures|ensuring"),
    _word(r"several", r"a few"),
    _word(r"whole", r"entire"),
    _word(r"because", r"since"),
    _habit("order", ('contract ("don\'t", "it\'s")', 'write out ("do not", "it is")'), r"\b\w+n't\b|\b(?:it|that|there|you|we)'(?:s|re)\b",
           r"\b(?:do|does|is|are|can|will|would|should|did|was|were|could) ?not\b|\b(?:it|that|there) is\b"),
    _habit("order", ('address the reader as "you"', 'speak of reader and writer as "we"'), r"\byou(?:r|rs)?\b", r"\b(?:we|our|ours|let's)\b"),
    _habit("order", ('begin a closing sentence with "In short,"', 'begin a closing sentence with "Overall,"'),
           r"(?:^|[.!?]\s)In short\b", r"(?:^|[.!?]\s)Overall\b"),
    _habit("order", ('go on in a list of steps with "Next,"', 'go on in a list of steps with "Then,"'),
           r"(?:^|[.!?]\s|\d[.)] |[-*] )Next\b", r"(?:^|[.!?]\s|\d[.)] |[-*] )Then\b"),
    _habit("order", ('introduce warnings with "Note that"', 'introduce warnings with "Keep in mind that"'), r"\bNote that\b", r"\bKeep in mind that\b"),
)  # fmt: skip


def ways(text: str) -> list[int]:
    """For each habit the way that the text has more often: 1 the first, -1 the second, 0 neither. A text is one vote, however long it is."""
    counts = [tuple(sum(1 for _ in way.finditer(text)) for way in habit.seen) for habit in HABITS]
    return [(one > other) - (one < other) for one, other in counts]
