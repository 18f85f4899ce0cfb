"""Leading reasoning and ends of sentences in a text, in pieces of any size."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.rewrite.loss import Loss
from gateway_guard.rewrite.sentence import SLACK, Sentence
from gateway_guard.rewrite.text import Text
from gateway_guard.rewrite.think import Think

HIDE = Loss(hide=True, trace=True)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("<think>a</think>b", "b"),
        ("\n <think>a\n</think>\n\nb", "b"),
        ("<think>a</think><think>c</think>b", "b"),
        ("<think>a</think> <reasoning>c</reasoning> b", "b"),
        ("[THINK]a[/THINK]b", "b"),
        ("<seed:think>a</seed:think>b", "b"),
        ("<think></think>b", "b"),
        ("<think>a < b </thin> </think>b", "b"),
        ("<think>never ended", ""),
        ("<think>a</think>", ""),
        ("plain", "plain"),
        ("\n\nplain", "\n\nplain"),
        ("the tag <think>x</think> is shown", "the tag <think>x</think> is shown"),
        ("<thinker>a</thinker>", "<thinker>a</thinker>"),
        ("<thi", "<thi"),
        ("<", "<"),
        ("", ""),
        (" " * 90, " " * 90),
        ("```\n<think>a</think>", "```\n<think>a</think>"),
        ("<think>a</think>b <think>c</think>", "b <think>c</think>"),
    ],
)
def test_reasoning_at_the_beginning_is_taken(text: str, left: str) -> None:
    for size in (1, 2, 3, 7, 1000):
        think = Think()
        assert "".join(think.feed(text[i : i + size]) for i in range(0, len(text), size)) + think.end() == left, size


@pytest.mark.parametrize(
    ("text", "length", "left", "cut"),
    [
        ("One. Two. Three.", 5, "One. Two.", True),
        ("One. Two. Three.", 3, "One.", True),
        ("One. Two.", 9, "One. Two.", False),
        ("One. Two.", 6, "One. Two.", False),
        ("One. Two.\n", 6, "One. Two.", False),
        ("It is 3.5 kW, e.g. here. More.", 5, "It is 3.5 kW, e.g.", True),
        ('He said "Stop." Then he went.', 10, 'He said "Stop."', True),
        ("Wait... what?! Yes.", 8, "Wait... what?!", True),
        ("一。二。三。", 3, "一。二。", True),
        ("- one\n- two\n- three", 8, "- one\n- two", True),
        ("No end at all", 5, "No end at all", False),
    ],
)
def test_a_text_ends_with_a_sentence(text: str, length: int, left: str, cut: bool) -> None:
    for size in (1, 2, 3, 7, 1000):
        sentence = Sentence(length)
        assert "".join(sentence.feed(text[i : i + size]) for i in range(0, len(text), size)) == left, size
        assert sentence.cut == cut


def test_a_text_without_sentences_ends_at_a_space_or_anywhere() -> None:
    words, run = "word " * 500, "x" * 5000
    assert len(Sentence(40).feed(words)) == 40 + SLACK + 4
    assert len(Sentence(40).feed(run)) == 40 + 2 * SLACK


@given(
    text=st.text('ab. \n!?。"<think>/', max_size=200),
    length=st.integers(1, 60),
    cuts=st.lists(st.integers(0, 200), max_size=20),
)
def test_in_any_pieces_the_same(text: str, length: int, cuts: list[int]) -> None:
    loss = HIDE._replace(length=length)
    ends = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieced, whole = Text(loss), Text(loss)
    out = "".join(pieced.feed(text[a:b]) for a, b in pairwise(ends)) + pieced.end()
    assert (out, pieced.cut, pieced.thought) == (whole.whole(text), whole.cut, whole.thought)
    assert out.strip() in text


@given(text=st.text(max_size=300), length=st.integers(1, 400))
def test_nothing_is_added_and_the_beginning_is_kept(text: str, length: int) -> None:
    left = Sentence(length).feed(text)
    assert text.startswith(left)
    assert len(left) >= min(length, len(text.rstrip()))
    assert len(left) <= length + 2 * SLACK
