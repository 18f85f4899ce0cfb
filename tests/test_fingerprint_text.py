"""Folding: what does not matter about a text is gone, what matters is left, and none of it can be made slow."""

from __future__ import annotations

import importlib
import pkgutil
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import gateway_guard.fingerprint as package
from gateway_guard.fingerprint import text

# The interpreter's own reading of a pattern; it has no public name.
parser: Any = importlib.import_module("re._parser")
sre: Any = importlib.import_module("re._constants")


def never(_: bytes) -> bool:
    return False


@pytest.mark.parametrize(
    ("raw", "fold"),
    [
        ("Give THREE reasons.", "give three reasons\n"),
        ("Give 3 reasons, in 20 words", "give   reasons  in    words"),
        ("a-b_c (d)", "a b c  d "),
        ("first: second; third!\nfourth?", "first\n second\n third\n\nfourth\n"),
        ("Übung macht ÄRGER", "übung macht ärger"),
        ("“quoted” – and…so", " quoted    and\nso"),
        ("请写出完整的推理过程。然后给出答案！", "请写出完整的推理过程\n然后给出答案\n"),
        ("首先，分析问题：再回答；好吗？", "首先 分析问题\n再回答\n好吗\n"),
        ("理由を書いて、答えを出してください。", "理由を書いて 答えを出してください\n"),
        ("क्या? हाँ।", "क्या\n हाँ\n"),
        ("step\u00a0by\u00a0step", "step by step"),
        ("rea\u200bson\u00ading", "reasoning"),
        ("ＦＵＬＬ　ｗｉｄｔｈ", "full width"),
        ("𝐛𝐨𝐥𝐝 𝒔𝒄𝒓𝒊𝒑𝒕", "bold script"),
        ("cafe\u0301 a\u0336b\u0336", "café ab"),
        ("Ⓢtep", "step"),
        ("", ""),
    ],
)
def test_folding(raw: str, fold: str) -> None:
    assert text.folded(raw) == fold.encode()


@given(st.text(max_size=600))
def test_case_digits_and_layout_do_not_matter(raw: str) -> None:
    ascii_only = raw.encode("ascii", "ignore").decode()
    fold = text.letters(text.folded(ascii_only))
    assert text.letters(text.folded(ascii_only.upper())) == fold
    assert text.letters(text.folded("17, " + ascii_only.replace(" ", "\n\t ") + " (9)")) == fold


@given(st.text(st.characters(), max_size=600))
def test_any_text_can_be_folded(raw: str) -> None:
    text.folded(raw).decode()


def test_a_short_text_is_all_head() -> None:
    assert text.edges("One. Two.") == (b"one\n two\n", b"")


def test_of_a_long_text_both_ends_are_kept_without_the_sentences_that_are_cut() -> None:
    head, tail = text.edges("The first sentence. " + "middle " * 5000 + ". The last sentence.", edge=100)
    assert head == b"the first sentence\n"
    assert tail == b" the last sentence\n"


def test_a_long_text_without_any_sentence_keeps_its_ends() -> None:
    head, tail = text.edges("word " * 5000, edge=100)
    assert (len(head), len(tail)) == (100, 100)


def test_outside_ascii_half_as_many_characters_are_kept() -> None:
    head, tail = text.edges("слово " * 5000, edge=100)
    assert (len(head.decode()), len(tail.decode())) == (50, 50)


@pytest.mark.parametrize("size", [10, 31_999, 32_001, 1_000_000])
def test_what_is_looked_at_is_bounded(size: int) -> None:
    assert len(text.clipped("x" * size)) <= 2 * text.REACH + 1


def test_the_ends_are_the_first_and_last_sentences_that_say_something() -> None:
    said = [f"this is sentence number {name} of many" for name in "abcdefghij"]
    fold = text.folded(". ".join(["Hi", *said, "Thanks"]))
    kept = text.ends(fold, 2, never)
    assert kept == [sentence.replace(" ", "").encode() for sentence in (said[0], said[1], said[-2], said[-1])]


@pytest.mark.parametrize("count", range(7))
def test_no_sentence_is_counted_twice(count: int) -> None:
    """Neither where the two ends overlap nor where a sentence repeats itself."""
    said = [f"a sentence that is long enough {name}" for name in "abcdef"[:count]]
    kept = text.ends(text.folded(". ".join([*said, *said])), 3, never)
    assert len(kept) == len(set(kept)) == count


def test_skipped_sentences_make_room_for_others() -> None:
    fold = text.folded("This one is known to everybody. This one is the caller's own. And this one is one of his, too.")
    assert text.ends(fold, 1, lambda sentence: b"known" in sentence) == [b"thisoneisthecallersown", b"andthisoneisoneofhistoo"]


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        ("Fix this:\n```py\nx = 1\n```\nthanks", "Fix this:\n\n\nthanks"),
        ("no code", "no code"),
        ("never closed ```x = 1", "never closed "),
    ],
)
def test_code_is_taken_out(raw: str, left: str) -> None:
    assert text.without_code(raw) == left


@pytest.mark.parametrize(
    ("raw", "left"),
    [
        ("<env>cwd: /home/me</env>Do it", "\nDo it"),
        ("a<env>1</env>b<env>2</env>c", "a\nb\nc"),
        ("<env>never closed", "<env>never closed"),
        ("<env>1</env> and <env>never closed </x>", "\n and <env>never closed </x>"),
        ("<other>stays</other>", "<other>stays</other>"),
    ],
)
def test_blocks_are_taken_out(raw: str, left: str) -> None:
    assert text.without_blocks(raw, ["env"]) == left


def _patterns() -> list[re.Pattern[Any]]:
    found: list[re.Pattern[Any]] = []
    for module in pkgutil.iter_modules(package.__path__):
        for value in vars(importlib.import_module(f"{package.__name__}.{module.name}")).values():
            values = value if isinstance(value, tuple) else value.values() if isinstance(value, dict) else [value]
            for item in values:
                found += [part for part in (item if isinstance(item, tuple) else [item]) if isinstance(part, re.Pattern)]
    return found


def _nested(parsed: Any, inside: bool = False) -> bool:
    """Whether one unbounded repetition stands inside another: the shape that takes exponential time."""
    return any(_inner(code, argument, inside) for code, argument in parsed)


def _inner(code: Any, argument: Any, inside: bool) -> bool:
    if code in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        unbounded = argument[1] is sre.MAXREPEAT
        return (inside and unbounded) or _nested(argument[2], inside or unbounded)
    if code is sre.SUBPATTERN:
        return _nested(argument[3], inside)
    return code is sre.BRANCH and any(_nested(branch, inside) for branch in argument[1])


def test_no_pattern_repeats_a_repetition() -> None:
    patterns = _patterns()
    assert len(patterns) > 25
    assert [pattern.pattern for pattern in patterns if _nested(parser.parse(pattern.pattern, pattern.flags & re.DOTALL))] == []


def test_the_check_for_repeated_repetitions_finds_one() -> None:
    assert _nested(parser.parse(r"(a+)+b"))
    assert not _nested(parser.parse(r"(?:a{1,3}b)+"))
