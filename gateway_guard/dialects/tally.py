"""What an answer has used: told by the server where it tells, estimated from what it said where it does not."""

from __future__ import annotations

from typing import Any

from gateway_guard.dialects.fields import BYTES_PER_TOKEN, octets, weight
from gateway_guard.facts import Usage

# No answer uses more; a number above this is a mistake or a lie, and would empty every budget it is settled against.
MOST = 100_000_000

# Under these names an answer carries what the model said. Names, ids and opaque blobs are not speech.
SPEECH = frozenset(
    {
        "arguments",
        "code",
        "content",
        "delta",
        "output_text",
        "partial_json",
        "reasoning",
        "reasoning_content",
        "refusal",
        "summary",
        "text",
        "thinking",
        "transcript",
    }
)


class Tally:
    """What is known so far. `input`, `output` and `reasoning` as told, -1 where they are not; the cache counts are prompt tokens that an API tells
    beside its `input`; `said` and, within it, `thought` are octets; `void`: an error, which used nothing. Where nothing is said (embeddings) the output is 0.
    """

    __slots__ = ("cache_read", "cache_written", "input", "output", "reasoning", "said", "thought", "void")

    def __init__(self, *, speaks: bool = True) -> None:
        self.input = -1
        self.output = self.reasoning = -1 if speaks else 0
        self.cache_read = self.cache_written = 0
        self.said = 0
        self.thought = 0
        self.void = False

    def copy(self) -> Tally:
        """One that can be added to without changing this one."""
        other = Tally()
        for name in self.__slots__:
            setattr(other, name, getattr(self, name))
        return other

    def say(self, text: Any) -> None:
        """Part of the answer."""
        if type(text) is str:
            self.said += octets(text)
        elif text is not None:
            self.said += speech(text)

    def think(self, text: Any) -> None:
        """Part of the reasoning, which is part of the output."""
        before = self.said
        self.say(text)
        self.thought += self.said - before

    def usage(self, input_tokens: int) -> Usage:
        """All in all; `input_tokens` is what the request was estimated at."""
        if self.void:
            return Usage(estimated=True)
        prompt = self.input + self.cache_read + self.cache_written if self.input >= 0 else -1
        # A prompt of nothing is a server that does not count it.
        told = prompt > 0 or (prompt == 0 and input_tokens == 0)
        output = self.output if self.output >= 0 else tokens(self.said)
        reasoning = self.reasoning if self.reasoning >= 0 else tokens(self.thought)
        return Usage(prompt if told else input_tokens, output, reasoning if reasoning < output else output, not told or self.output < 0)


def tokens(size: int) -> int:
    """An estimate from octets."""
    return -(-size // BYTES_PER_TOKEN)


def number(value: Any) -> int:
    """A count that a server may have meant; -1 for anything else."""
    return value if type(value) is int and 0 <= value <= MOST else -1


def tell_openai(usage: Any, tally: Tally) -> None:
    """`usage` of the OpenAI APIs, under the older names or the newer ones."""
    if not isinstance(usage, dict):
        return
    prompt = _either(usage, "prompt_tokens", "input_tokens")
    output = _either(usage, "completion_tokens", "output_tokens")
    if prompt >= 0:
        tally.input = prompt
    if output >= 0:
        # Some servers leave reasoning out of the output, but never out of the total.
        beyond = number(usage.get("total_tokens")) - prompt if prompt >= 0 else -1
        tally.output = beyond if beyond > output else output
    details = usage.get("completion_tokens_details") or usage.get("output_tokens_details")
    if isinstance(details, dict):
        reasoning = number(details.get("reasoning_tokens"))
        tally.reasoning = reasoning if reasoning >= 0 else tally.reasoning


def tell_anthropic(usage: Any, tally: Tally, *, final: bool = True) -> None:
    """`usage` of the Messages API. Before the end the output is not counted yet, and numbers left out stay as they were."""
    if not isinstance(usage, dict):
        return
    for name, key in (("input", "input_tokens"), ("cache_written", "cache_creation_input_tokens"), ("cache_read", "cache_read_input_tokens")):
        value = number(usage.get(key))
        if value >= 0:
            setattr(tally, name, value)
    output = number(usage.get("output_tokens"))
    if final and output >= 0:
        tally.output = output
    details = usage.get("output_tokens_details")
    if final and isinstance(details, dict):
        tally.reasoning = number(details.get("thinking_tokens"))


def speech(value: Any) -> int:
    """Octets of what is said somewhere in `value`: strings under the names in `SPEECH`, and tools' inputs."""
    size = 0
    waiting = [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif isinstance(value, dict):
            for key, inner in value.items():
                if isinstance(inner, str):
                    size += octets(inner) if key in SPEECH else 0
                elif key == "input":
                    size += weight(inner)
                else:
                    waiting.append(inner)
    return size


def _either(usage: dict[str, Any], name: str, newer: str) -> int:
    value = number(usage.get(name))
    return value if value >= 0 else number(usage.get(newer))
