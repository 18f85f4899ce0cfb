"""Links: the same conversation going on elsewhere is seen, and nothing else is."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.fingerprint import conversation
from gateway_guard.fingerprint.keyed import Keyed
from gateway_guard.reading import Turn

KEYED = Keyed(b"0123456789abcdef")


def answer(n: int, letters: int = 220) -> str:
    return (f"Answer {'abcdefghij'[n % 10] * 3} " + f"goes on for a while {'qrstuvwxyz'[n % 10] * 2}, ") * (letters // 20)


def talk(turns: int, letters: int = 220) -> list[Turn]:
    """A conversation in which the model answered last."""
    return [
        Turn("user", f"What is to be known of the {'klmnopqrst'[n // 2] * 16}?") if n % 2 == 0 else Turn("assistant", answer(n, letters)) for n in range(turns)
    ]


def asked(turns: list[Turn], question: str) -> tuple[int, ...]:
    return conversation.links([*turns, Turn("user", question)], KEYED)


def test_a_conversation_that_goes_on_keeps_its_links() -> None:
    """What one account was sent is known again when another one goes on from there."""
    first, second = asked(talk(2), "And then?"), asked(talk(4), "Thanks, why?")
    assert len(first) == 1
    assert second[0] == first[0]
    assert len(second) == 2


def test_each_request_links_to_the_one_before() -> None:
    requests = [asked(talk(2 * n), "next") for n in range(1, 9)]
    assert all(set(one) & set(other) for one, other in pairwise(requests))
    assert {len(links) for links in requests[3:]} == {conversation.LINKS}


def test_the_links_do_not_depend_on_how_much_is_sent_along() -> None:
    """Clients drop old turns, or replace them by a summary."""
    whole = talk(12)
    assert asked(whole[4:], "go on") == asked(whole, "go on")
    assert set(asked([Turn("user", "Summary of what was said: nothing much."), *whole[8:]], "go on")) & set(asked(whole, "go on"))


def test_the_new_question_does_not_matter() -> None:
    assert asked(talk(4), "Why?") == asked(talk(4), "Restore the steps that were left out.")


def test_layout_and_role_names_do_not_matter() -> None:
    again = [Turn("model" if turn.role == "assistant" else "user", f"  {turn.text.upper()}\n") for turn in talk(4)]
    assert asked(again, "go on") == asked(talk(4), "go on")


def test_the_question_before_the_answer_matters() -> None:
    assert asked([Turn("user", "Something else is asked here, isn't it, my dear friend?"), talk(2)[1]], "go on") != asked(talk(2), "go on")


@pytest.mark.parametrize(
    "turns",
    [
        [],
        [Turn("user", "Hi")],
        [Turn("user", "Hi"), Turn("assistant", "Hello! How can I help you today?"), Turn("user", "What time is it?")],
        [Turn("assistant", answer(1)), Turn("user", "Who goes there?")],
        [Turn("user", answer(1)), Turn("user", answer(2)), Turn("user", answer(3))],
        [Turn("user", "Look it up"), Turn("tool", answer(1)), Turn("user", "and?")],
        [Turn("user", answer(0)), Turn("assistant", ""), Turn("user", "and?")],
        [Turn("user", answer(0)), Turn("assistant", "Yes."), Turn("user", "and?")],
        [Turn("user", "Go on"), Turn("assistant", answer(1)), Turn("user", "and?")],
    ],
)
def test_no_proof_no_link(turns: list[Turn]) -> None:
    """Greetings, a character's opening line, what users said, tool results, empty and short answers, and an answer to nothing in particular prove nothing."""
    assert conversation.links(turns, KEYED) == ()


def test_short_answers_link_once_enough_has_been_said() -> None:
    few = talk(10, letters=60)
    assert asked(few[:2], "next") == ()
    assert asked(few, "next")


def test_tool_calls_between_the_words_do_not_break_a_link() -> None:
    agent = [
        Turn("user", "Repair the build of the engine in the other branch"),
        Turn("assistant", answer(1)),
        Turn("tool", "error: 17 files"),
        Turn("assistant", answer(2)),
        Turn("tool", "ok"),
    ]
    plain = [turn for turn in agent if turn.role != "tool"]
    assert conversation.links(agent, KEYED) == conversation.links(plain, KEYED) != ()


@given(st.lists(st.tuples(st.sampled_from(["user", "assistant", "model", "tool", "function", ""]), st.text(st.characters(), max_size=300)), max_size=60))
def test_bounded_and_never_an_error(turns: list[tuple[str, str]]) -> None:
    found = conversation.links([Turn(role, text) for role, text in turns], KEYED)
    assert len(found) <= conversation.LINKS
    assert all(1 <= link < 2**63 for link in found)


def test_blobs_are_known_again() -> None:
    long = "Ab0+" * 5000
    assert conversation.blobs(["one", "", long], KEYED) == (*conversation.blobs(["one"], KEYED), *conversation.blobs([long], KEYED))
    assert conversation.blobs([long], KEYED) != conversation.blobs([long[:-1] + "?"], KEYED)
    assert conversation.blobs([long], KEYED) != conversation.blobs([long + long], KEYED)
    assert len(conversation.blobs([str(n) for n in range(50)], KEYED)) == conversation.LINKS
