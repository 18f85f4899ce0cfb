"""Which prompts meet and which do not: templates, template sentences, near-duplicate sketches."""

from __future__ import annotations

import pytest

from gateway_guard import sketch
from gateway_guard.fingerprint import content, text
from gateway_guard.fingerprint.harness import Harness
from gateway_guard.fingerprint.keyed import Keyed

KEYED = Keyed(b"0123456789abcdef")
NO_HARNESS = Harness((), (), ())
INSTRUCTION = "Describe every assumption before you solve the exercise. Put the outcome into the box at the bottom."
QUESTIONS = (
    "How long does a parcel from Lisbon to Oslo take in winter?",
    "A farmer owns 17 cows and sells all but 9. How many are left?",
    "Which of the planets has the longest day, and why is that so?",
    "Schreibe eine kurze Absage an einen Bewerber, freundlich und ohne Floskeln.",
    "请用通俗的语言解释一下什么是通货膨胀以及它对普通家庭的影响。",
)


def template(turn: str) -> int:
    head, tail = text.edges(turn)
    return content.template(turn, text.letters(head + tail), KEYED)


def sentences(turn: str, harness: Harness = NO_HARNESS) -> set[int]:
    head, tail = text.edges(turn)
    return set(content.templates(head + tail, harness, KEYED))


def near(turn: str) -> tuple[int, ...]:
    head, tail = text.edges(turn)
    return content.near(text.letters(head + tail), KEYED)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Translate 3 pages into French by 4 pm.", "translate 12 pages into French, by 5 PM"),
        ('What does the word "ephemeral" mean in this poem?', 'What does the word "laconic" mean in this poem?'),
        ("Please write to Maria about the meeting in Berlin tomorrow.", "Please write to Oliver about the meeting in Oslo tomorrow."),
        ("Summarise the page https://a.example/x?y=1 in three lines.", "Summarise the page http://b.example/other in three lines."),
        ("Explain\n\n   the joke,   please, in one line", "explain the joke please in one line"),
        ("Nenne drei Gründe für den Streik.", "nenne drei gründe für den streik"),
        ("请解释第3章的主要内容和结论。", "请解释第12章的主要内容和结论！"),
    ],
)
def test_the_same_template(one: str, other: str) -> None:
    assert template(one) == template(other) != 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Translate 3 pages into French by 4 pm.", "Translate 3 pages into Dutch, by 4 pm, please."),
        ("Why is the sky blue in the morning?", "Why is the sky red in the morning?"),
        ("Was ist der Unterschied zwischen Hund und Katze?", "Was ist der Unterschied zwischen Zug und Bahn?"),
        ("请解释一下什么是通货膨胀。", "请解释一下什么是量子力学。"),
    ],
)
def test_another_template(one: str, other: str) -> None:
    """German nouns are no names: a rule for names must not make all German questions alike."""
    assert template(one) != template(other)


@pytest.mark.parametrize("turn", ["", "hi", "Hello!", "thanks a lot", "continue", "你好", "17 + 4 = ?", "?" * 500])
def test_small_talk_has_no_content(turn: str) -> None:
    assert (template(turn), sentences(turn), near(turn)) == (0, set(), ())


@pytest.mark.parametrize("question", QUESTIONS)
@pytest.mark.parametrize(
    "form",
    ["{i}\n\n{q}", "{q}\n\n{i}", "{i} {q}", "# Task\n{i}\n---\n{q}", "{q}\n\n> {i}", "- {i}\n- {q}", "{I} {q}", "Ok. {i} {q} Thanks!"],
)
def test_an_instruction_is_met_wherever_it_stands(form: str, question: str) -> None:
    """Prefix, suffix, bullet, quotation, capitals: the two sentences of the instruction stay the same two numbers."""
    fixed = sentences(INSTRUCTION)
    assert len(fixed) == 2
    assert fixed <= sentences(form.format(i=INSTRUCTION, I=INSTRUCTION.upper(), q=question))


def test_an_instruction_is_met_around_a_long_text() -> None:
    book = " ".join(f"On day {n} the {word} went down to the shore and came back at night." for n in range(400) for word in ("sailor", "mason"))
    assert sentences(INSTRUCTION) <= sentences(f"{INSTRUCTION}\n\n{book}")
    assert sentences(INSTRUCTION) <= sentences(f"{book}\n\n{INSTRUCTION}")


def test_different_questions_share_nothing() -> None:
    for one in QUESTIONS:
        for other in QUESTIONS:
            assert one == other or not sentences(one) & sentences(other)
            assert one == other or not set(near(one)) & set(near(other))


def test_at_most_eight_sentences() -> None:
    turn = " ".join(f"This is sentence number {'x' * n} of a long prompt." for n in range(1, 60))
    assert len(sentences(turn)) == 2 * content.AT_EACH_END


def test_a_long_instruction_is_found_by_its_sketch_however_little_it_is() -> None:
    """A few kept hashes are in common when 300 letters of instruction go with 1,200 of material, at either end, with a word changed."""
    instruction = (
        "Take the role of a reviewer who has thirty years of practice in the field and no patience with loose talk, go through the material line by line, "
        "and for each of the lines say what it claims, what would have to be true for the claim to hold, and whether the text gives any ground for that"
    )
    material = [" ".join(f"{word}{n}" for n in ("alpha", "beta", "gamma") for word in words.split()) * 3 for words in QUESTIONS[:3]]
    one, other = f"{instruction}, {material[0]}", f"{material[1]}, {instruction.replace('loose', 'idle')}"
    assert len(set(near(one)) & set(near(other))) >= 2
    assert sketch.containment(near(instruction), near(one)) > 0.5
    assert not set(near(material[0])) & set(near(material[2]))


def test_known_sentences_are_nobodys_own() -> None:
    harness = Harness(["Make a short title for the chat below."], (), ())
    turn = "### Task: Make a short title for the chat below.\nUser: where do cranes spend the winter months?"
    assert sentences(turn, harness) < sentences(turn)
    assert not sentences("Make a short title for the chat below.", harness)


def test_a_text_that_only_begins_like_a_known_sentence_stays_an_own_one() -> None:
    """Else a harvester hides his instruction behind a harness's first words."""
    harness = Harness(["You are an assistant that helps with software."], (), ())
    own = "You are an assistant that helps with software, and before all else you write down what goes through your mind, word for word, until nothing is left"
    assert not sentences("You are an assistant that helps with software development.", harness)
    assert sentences(own, harness)
