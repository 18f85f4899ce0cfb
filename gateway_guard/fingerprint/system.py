"""The system prompt and the tools: what is the caller's own once the known harness is taken away."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from gateway_guard.fingerprint import text
from gateway_guard.fingerprint.content import templates
from gateway_guard.fingerprint.harness import Harness
from gateway_guard.fingerprint.keyed import Keyed

SYSTEM_EDGE = 4000
OWN_LINE = 8
TOOLS = 128


class SystemMark(NamedTuple):
    """`system` number of the caller's own text, 0 = none · `rules` numbers of its sentences, in one domain with the turn's · `fold` that text, folded."""

    system: int
    rules: tuple[int, ...]
    fold: bytes


NOTHING = SystemMark(0, (), b"")


def mark(prompt: str, harness: Harness, keyed: Keyed) -> SystemMark:
    """What a system prompt says beyond its harness. Dates, places and names count for its sentences, not for the prompt as a whole."""
    prompt = text.without_blocks(prompt, harness.blocks)
    lines = [line for part in _own(prompt, text.impersonal, harness) if len(line := text.letters(part)) >= OWN_LINE]
    if sum(map(len, lines)) < text.SENTENCE:
        return NOTHING
    fold = b"\n".join(_own(prompt, text.folded, harness))
    return SystemMark(keyed.number("system", b"\n".join(lines)), templates(fold, harness, keyed), fold)


def _own(prompt: str, fold: Callable[[str], bytes], harness: Harness) -> list[bytes]:
    """The lines and sentences that no harness is known to send."""
    head, tail = text.edges(prompt, SYSTEM_EDGE, fold)
    return [part for part in (head + tail).split(b"\n") if len(part) >= OWN_LINE and not harness.knows(text.letters(part))]


def tools(found: Any, harness: Harness, keyed: Keyed) -> int:
    """One number for the tools that no harness is known to bring: their names and the names of their parameters, in any order. 0 = none."""
    if not isinstance(found, Sequence):
        return 0
    own = sorted({signature for name, signature in _signatures(found[:TOOLS]) if name not in harness.tools})
    return keyed.number("tools", "\n".join(own).encode("utf-8", "replace")) if own else 0


def _signatures(found: Sequence[Any]) -> Iterator[tuple[str, str]]:
    for tool in found:
        if not isinstance(tool, Mapping):
            continue
        inner = tool.get("function")
        spec = inner if isinstance(inner, Mapping) else tool
        name = spec.get("name") or spec.get("type")
        if isinstance(name, str):
            yield name, f"{name}({','.join(_parameters(spec))})"


def _parameters(spec: Mapping[str, Any]) -> list[str]:
    schema = spec.get("parameters") or spec.get("input_schema")
    properties = schema.get("properties") if isinstance(schema, Mapping) else None
    return sorted(str(name) for name in list(properties)[:TOOLS]) if isinstance(properties, Mapping) else []
