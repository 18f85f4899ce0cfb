"""POST /v1/embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway_guard.dialects import asks
from gateway_guard.dialects.conversation import Conversation
from gateway_guard.dialects.fields import text
from gateway_guard.dialects.meter import Grammar
from gateway_guard.dialects.openai import OpenAI
from gateway_guard.dialects.plain import prompts
from gateway_guard.dialects.tally import Tally, tell_openai
from gateway_guard.dialects.words import OPENAI
from gateway_guard.reading import Reading

KNOWN = asks.fields(("model", "input"), {})
# Answers are megabytes of numbers with the usage at the end: parsing them all would hold up every other request.
KEPT = 64 * 1024


class Answer(msgspec.Struct, gc=False):
    """All that matters of an answer."""

    usage: Any = None


answer_of = msgspec.json.Decoder(Answer).decode


def answer(body: bytes, tally: Tally) -> None:
    """A whole answer."""
    tell_openai(answer_of(body).usage, tally)


class OpenAIEmbeddings(OpenAI):
    """Embeddings: nothing is said, so there is no output to count."""

    name = "openai.embeddings"
    path = "/v1/embeddings"
    grammar = Grammar(answer, answer, tell_openai, speaks=False, cap=KEPT)

    def read(self, body: Mapping[str, Any]) -> Reading:
        """The body, understood."""
        asks.asked(body, KNOWN, OPENAI)
        model = text(body, "model", OPENAI)
        talk = Conversation(OPENAI)
        if body.get("input") is None:
            raise OPENAI.missing(("input",))
        prompts(body, "input", talk)
        return talk.reading(body, model=model, tools=None, bits=0, ask_tokens=0, streaming=False)
