"""The dialects that there are, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from gateway_guard.dialects.anthropic_messages import AnthropicMessages
from gateway_guard.dialects.openai_chat import OpenAIChat
from gateway_guard.dialects.openai_completions import OpenAICompletions
from gateway_guard.dialects.openai_embeddings import OpenAIEmbeddings
from gateway_guard.dialects.openai_responses import OpenAIResponses
from gateway_guard.errors import UsageError
from gateway_guard.ports import Dialect

ALL: tuple[Dialect, ...] = (OpenAIChat(), OpenAIResponses(), OpenAICompletions(), OpenAIEmbeddings(), AnthropicMessages())
DIALECTS: Mapping[str, Dialect] = MappingProxyType({dialect.name: dialect for dialect in ALL})


def get(name: str) -> Dialect:
    """The dialect of this name."""
    try:
        return DIALECTS[name]
    except KeyError:
        raise UsageError(f"There is no dialect {name!r}. The dialects are {', '.join(DIALECTS)}.") from None
