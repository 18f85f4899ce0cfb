"""Prompts without roles: a string, several, or model tokens, which cannot be read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway_guard.dialects.conversation import Conversation
from gateway_guard.dialects.words import OPENAI

EXPECTED = "string, array of strings, array of integers or array of arrays of integers"


def prompts(body: Mapping[str, Any], key: str, talk: Conversation) -> int:
    """Take each prompt as a turn of the user's; how many there are."""
    given = body.get(key)
    if type(given) is str:
        talk.say("user", given)
        return 1
    if type(given) is not list:
        raise OPENAI.wrong_type((key,), EXPECTED, given)
    kinds = set(map(type, given))
    if kinds == {int}:
        _numbers(given, talk)
        return 1
    if not kinds <= {str, list}:
        raise OPENAI.wrong_type((key,), EXPECTED, given)
    for index, prompt in enumerate(given):
        if type(prompt) is str:
            talk.say("user", prompt)
        elif set(map(type, prompt)) <= {int}:
            _numbers(prompt, talk)
        else:
            raise OPENAI.wrong_type((key, index), "array of integers", prompt)
    return len(given)


def _numbers(prompt: list[int], talk: Conversation) -> None:
    talk.tokens += len(prompt)
    talk.say("user", "", 1)
