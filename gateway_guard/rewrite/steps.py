"""Which steps an answer goes through."""

from __future__ import annotations

from collections.abc import Sequence

from gateway_guard.rewrite.answer import INFLATED, Rewriter
from gateway_guard.rewrite.choices import Choices
from gateway_guard.rewrite.loss import NONE, Loss
from gateway_guard.rewrite.messages import BoundMessages, Messages
from gateway_guard.rewrite.responses import BoundResponses, Responses
from gateway_guard.rewrite.seal import Sealer
from gateway_guard.rewrite.shape import Step


def steps(dialect: str, loss: Loss, sealer: Sealer) -> list[Step]:
    """First the server's own state is bound, then the answer is made poorer. Embeddings say nothing that could be: they have no steps."""
    found: list[Step] = []
    if dialect == "anthropic.messages":
        found += [BoundMessages(sealer)] if sealer.binds else []
        found += [Messages(loss, sealer)] if loss != NONE else []
    elif dialect == "openai.responses":
        found += [BoundResponses(sealer)] if sealer.binds else []
        found += [Responses(loss, sealer)] if loss != NONE else []
    elif dialect in {"openai.chat", "openai.completions"}:
        found += [Choices(loss)] if loss != NONE else []
    return found


def is_stream(content_type: str, *, streaming: bool) -> bool:
    """Whether an answer of this type is a stream of events; what was asked decides where the type does not tell."""
    kind = _media_type(content_type)
    return kind == "text/event-stream" or (streaming and not kind)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def rewriter(found: Sequence[Step], content_type: str, content_encoding: str, *, streaming: bool) -> Rewriter | None:
    """For an answer of this type and coding; None where it cannot be read. `streaming` decides where the type does not tell."""
    kind, coding = _media_type(content_type), content_encoding.strip().lower()
    streams = is_stream(content_type, streaming=streaming)
    if not (streams or kind in {"", "application/json"}) or coding not in INFLATED | {"", "identity"}:
        return None
    return Rewriter(found, streams=streams, inflates=coding in INFLATED)
