"""The top-level fields of a body, gone through once: what they ask for beside an answer, and whether any is misspelt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from gateway_guard.dialects.words import Words
from gateway_guard.facts import Asks

# Plain integers: combining flag members costs ten times as much.
STREAM = int(Asks.STREAM)
USAGE_IN_STREAM = int(Asks.USAGE_IN_STREAM)
TOOLS = int(Asks.TOOLS)
LOGPROBS = int(Asks.LOGPROBS)
REASONING = int(Asks.REASONING)
IMAGES = int(Asks.IMAGES)
AUDIO = int(Asks.AUDIO)
JSON = int(Asks.JSON)

Look = Callable[[Any], int]


def fields(decided: Iterable[str], looks: Mapping[str, Look]) -> dict[str, Look | None]:
    """All the fields that a dialect knows by name: some are decided on, some tell what is asked for, some both."""
    return {**dict.fromkeys(decided), **looks}


def asked(body: Mapping[str, Any], known: Mapping[str, Look | None], words: Words) -> int:
    """The bits of all fields of `body`; a field that differs from a known one by case alone is refused (see `spelling`)."""
    bits = 0
    for key in body:
        if key in known:
            look = known[key]
            if look is not None:
                bits |= look(body[key])
        elif (meant := key.casefold()) in known:
            raise words.unknown((key,), meant)
    return bits


def stream(value: Any) -> int:
    """`stream` (its type is checked elsewhere)."""
    return STREAM if value is True else 0


def stream_options(value: Any) -> int:
    """`include_usage`."""
    return USAGE_IN_STREAM if isinstance(value, dict) and value.get("include_usage") is True else 0


def tools(value: Any) -> int:
    """Tool definitions, none of which may be there."""
    return TOOLS if value else 0


def logprobs(value: Any) -> int:
    """A switch in one API; in another a number, where 0 still gives the chosen token's."""
    return LOGPROBS if value is not None and value is not False else 0


def top_logprobs(value: Any) -> int:
    """How many alternatives: 0 is none."""
    return LOGPROBS if value else 0


def effort(value: Any) -> int:
    """`reasoning_effort`."""
    return REASONING if value and value != "none" else 0


def reasoning(value: Any) -> int:
    """`reasoning`: an object with an effort or a budget."""
    if not isinstance(value, dict) or value.get("effort") == "none" or value.get("enabled") is False:
        return 0
    return REASONING


def thinking(value: Any) -> int:
    """`thinking`: enabled or adaptive, unless it says disabled."""
    return REASONING if isinstance(value, dict) and value.get("type") != "disabled" else 0


def output_format(value: Any) -> int:
    """`response_format` and its like: JSON unless it is plain text."""
    return JSON if isinstance(value, dict) and value.get("type") in ("json_object", "json_schema") else 0


def nested_format(value: Any) -> int:
    """An object with a `format` in it."""
    return output_format(value.get("format")) if isinstance(value, dict) else 0


def modalities(value: Any) -> int:
    """Kinds of output."""
    return AUDIO if isinstance(value, list) and "audio" in value else 0


def include(value: Any) -> int:
    """What is to be included in the answer."""
    if not isinstance(value, list):
        return 0
    bits = LOGPROBS if "message.output_text.logprobs" in value else 0
    return bits | (REASONING if "reasoning.encrypted_content" in value else 0)
