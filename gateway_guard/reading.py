"""A request body as its dialect understood it. Holds text, so it lives only until the facts are made; it is never stored, logged or sent."""

from __future__ import annotations

from typing import Any

import msgspec


class Turn(msgspec.Struct, frozen=True, gc=False):
    """One message: `role` as the API names it, its `text` parts joined, and how many parts were not text."""

    role: str
    text: str
    other: int = 0


class Reading(msgspec.Struct, frozen=True, gc=False):
    """`current` the text of the current turn (tool results and media are counted, not read) · `turns` the conversation without the system
    prompt, in order, the current turn included · `tools` tool definitions as parsed · `blobs` opaque reasoning blobs and signatures ·
    `parameters` names of the top-level fields set, in body order · `asks` `Asks` bits · `ask_tokens` output maximum over all choices, 0 = none ·
    `input_tokens` estimate · `streaming`.
    """

    model: str
    current: str = ""
    system: str = ""
    turns: tuple[Turn, ...] = ()
    tools: Any = None
    blobs: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    asks: int = 0
    ask_tokens: int = 0
    input_tokens: int = 0
    streaming: bool = False
