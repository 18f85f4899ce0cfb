"""Messages, gathered in one pass: who said what, what is opaque, and about how many tokens it all is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from gateway_guard.dialects import asks
from gateway_guard.dialects.fields import AUDIO_TOKENS, BYTES_PER_TOKEN, FILE_TOKENS, IMAGE_TOKENS, octets, spelling, weight
from gateway_guard.dialects.words import Path, Words
from gateway_guard.reading import Reading, Turn

SYSTEM = frozenset({"system", "developer"})
MODEL = frozenset({"assistant"})
TOOL = frozenset({"tool", "function"})
MESSAGE_KEYS = frozenset({"role", "content", "tool_calls", "function_call"})
# What an assistant's message holds beside its content: counted, not read.
BESIDE = ("tool_calls", "function_call", "reasoning_content", "reasoning")
PART_KEYS = frozenset({"type", "text"})
IMAGE_TYPES = ("image", "image_url", "input_image", "computer_screenshot")
TEXT_TYPES = ("text", "input_text", "output_text")


class Conversation:
    """What has been gathered so far. `octets` of text and `tokens` of media make the estimate."""

    __slots__ = ("asks", "blobs", "octets", "system", "tokens", "turns", "words")

    def __init__(self, words: Words) -> None:
        self.words = words
        self.system: list[str] = []
        self.turns: list[Turn] = []
        self.blobs: list[str] = []
        self.octets = 0
        self.tokens = 0
        self.asks = 0

    def messages(self, messages: list[Any], name: str) -> None:
        """Role and content, again and again. The common form is handled without a call."""
        turns, system = self.turns, self.system
        size = 0
        for index, message in enumerate(messages):
            if type(message) is not dict:
                raise self.words.wrong_type((name, index), "object", message)
            role, content = message.get("role"), message.get("content")
            if len(message) != 2 or type(role) is not str:
                role, said, other = self._message(message, (name, index))
            elif type(content) is str:
                said, other = content, 0
            elif type(content) is list:
                said, other = self._parts(content, (name, index, "content"))
            else:
                role, said, other = self._message(message, (name, index))
            size += len(said) if said.isascii() else octets(said)
            if role in SYSTEM:
                system.append(said)
            else:
                turns.append(Turn(role, said, other))
        self.octets += size

    def say(self, role: str, said: str, other: int = 0) -> None:
        """One message, already taken apart."""
        self.octets += octets(said)
        if role in SYSTEM:
            self.system.append(said)
        else:
            self.turns.append(Turn(role, said, other))

    def reading(self, body: Mapping[str, Any], *, model: str, tools: Any, bits: int, ask_tokens: int, streaming: bool) -> Reading:
        """All of it as a value."""
        size = self.octets + (weight(tools) if tools else 0)
        turns = tuple(self.turns)
        return Reading(
            model,
            current(turns),
            "\n".join(self.system),
            turns,
            tools or None,
            tuple(self.blobs),
            tuple(body),
            bits | self.asks,
            ask_tokens,
            -(-size // BYTES_PER_TOKEN) + self.tokens,
            streaming,
        )

    def content(self, content: Any, path: Path) -> tuple[str, int]:
        """The text of a message's content, and how many of its parts are not text."""
        if type(content) is str:
            return content, 0
        if content is None:
            return "", 0
        if type(content) is not list:
            raise self.words.wrong_type(path, "string or array of objects", content)
        return self._parts(content, path)

    def _parts(self, parts: list[Any], path: Path) -> tuple[str, int]:
        said: list[str] = []
        for index, part in enumerate(parts):
            if type(part) is dict and len(part) == 2 and type(part.get("text")) is str and type(part.get("type")) is str:
                said.append(part["text"])
                continue
            text = self._part(part, path, index)
            if text is not None:
                said.append(text)
        return said[0] if len(said) == 1 else "\n".join(said), len(parts) - len(said)

    def _message(self, message: dict[str, Any], path: Path) -> tuple[str, str, int]:
        """A message with more to it than a role and a string."""
        spelling(message, MESSAGE_KEYS, self.words, path)
        role = message.get("role")
        if type(role) is not str:
            raise self.words.missing((*path, "role")) if role is None else self.words.wrong_type((*path, "role"), "string", role)
        said, other = self.content(message.get("content"), (*path, "content"))
        for key in BESIDE:
            beside = message.get(key)
            if beside:
                self.octets += weight(beside)
                other += len(beside) if key == "tool_calls" and isinstance(beside, list) else 1
        return role, said, other

    def _part(self, part: Any, path: Path, index: int) -> str | None:
        """The text of one part, None when it is something else."""
        if type(part) is str:  # some servers take bare strings
            return part
        if type(part) is not dict:
            raise self.words.wrong_type((*path, index), "object", part)
        spelling(part, PART_KEYS, self.words, (*path, index))
        kind, text = part.get("type"), part.get("text")
        if type(text) is str:
            return text
        if kind in TEXT_TYPES:
            where = (*path, index, "text")
            raise self.words.missing(where) if text is None else self.words.wrong_type(where, "string", text)
        take = PARTS.get(kind, _weighed) if type(kind) is str else _weighed
        take(self, part)
        return None


Take = Callable[[Conversation, dict[str, Any]], None]


def found(talk: Conversation, content: Any) -> None:
    """What a tool found: counted, not read, for it is not what the caller asked."""
    for part in content if isinstance(content, list) else [content]:
        if isinstance(part, dict) and part.get("type") in IMAGE_TYPES:
            talk.asks |= asks.IMAGES
            talk.tokens += IMAGE_TOKENS
        elif part is not None:
            talk.octets += weight(part)


def current(turns: tuple[Turn, ...]) -> str:
    """What the caller has said since the model, or a tool, spoke last. Words put into the model's mouth at the end do not hide it."""
    if not turns:
        return ""
    last = turns[-1]
    if last.role == "user" and (len(turns) == 1 or turns[-2].role in MODEL):
        return last.text
    end = len(turns)
    while end and turns[end - 1].role in MODEL:
        end -= 1
    start = end
    while start and turns[start - 1].role not in MODEL and turns[start - 1].role not in TOOL:
        start -= 1
    return "\n".join(turn.text for turn in turns[start:end] if turn.text)


def _weighed(talk: Conversation, part: dict[str, Any]) -> None:
    talk.octets += weight(part)


def _image(talk: Conversation, _: dict[str, Any]) -> None:
    talk.asks |= asks.IMAGES
    talk.tokens += IMAGE_TOKENS


def _audio(talk: Conversation, _: dict[str, Any]) -> None:
    talk.asks |= asks.AUDIO
    talk.tokens += AUDIO_TOKENS


def _file(talk: Conversation, part: dict[str, Any]) -> None:
    source = part.get("source")
    if isinstance(source, dict) and source.get("type") in ("text", "content"):
        _weighed(talk, part)
    else:
        talk.tokens += FILE_TOKENS


def _thinking(talk: Conversation, part: dict[str, Any]) -> None:
    thought, signature = part.get("thinking"), part.get("signature")
    if isinstance(thought, str):
        talk.octets += octets(thought)
    if isinstance(signature, str) and signature:
        talk.blobs.append(signature)


def _redacted(talk: Conversation, part: dict[str, Any]) -> None:
    data = part.get("data")
    if isinstance(data, str) and data:
        talk.blobs.append(data)
        talk.octets += len(data)


def _tool_result(talk: Conversation, part: dict[str, Any]) -> None:
    found(talk, part.get("content"))


PARTS: dict[str, Take] = {
    "image": _image,
    "image_url": _image,
    "input_image": _image,
    "audio": _audio,
    "input_audio": _audio,
    "file": _file,
    "input_file": _file,
    "document": _file,
    "thinking": _thinking,
    "redacted_thinking": _redacted,
    "tool_result": _tool_result,
}
