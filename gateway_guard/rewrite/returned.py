"""State that a client sends back: whose it is, and the request as the model server is to read it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from gateway_guard.facts import STATES
from gateway_guard.rewrite.seal import NOBODY, Opened, Seals, is_sealed
from gateway_guard.rewrite.shape import Event, loaded


def verdict(blobs: Sequence[str], owner: bytes, seals: Seals) -> str:
    """The most telling of all blobs of a request, one of `STATES`. Altered is also what was cut short, or sealed under another key."""
    return max((_judged(blob, owner, seals) for blob in blobs), key=STATES.index, default="own")


def restored(dialect: str, body: Event, seals: Seals) -> Event:
    """`body`, a copy where it changes, with everything that is sealed opened. What cannot be opened stays, and the server refuses it."""
    if dialect == "anthropic.messages":
        return {**body, "messages": [_message(message, seals) for message in body["messages"]]}
    if dialect == "openai.responses" and isinstance(body.get("input"), list):
        return {**body, "input": [_item(item, seals) for item in body["input"]]}
    return body


def _judged(blob: str, owner: bytes, seals: Seals) -> str:
    if not is_sealed(blob):
        return "unbound"
    opened = seals.open(blob)
    if opened is None:
        return "altered"
    if opened.owner == NOBODY:
        return "unbound" if opened.kind == "blob" else "own"
    return "own" if opened.owner == owner else "foreign"


def _message(message: Any, seals: Seals) -> Any:
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list):
        return message
    return {**message, "content": [new for block in content for new in _block(block, seals)]}


def _block(block: Any, seals: Seals) -> Iterable[Any]:
    """A block as it was; none for one of which only the place was kept."""
    kind = block.get("type") if isinstance(block, dict) else None
    if kind not in {"thinking", "redacted_thinking"}:
        return [block]
    name = "signature" if kind == "thinking" else "data"
    opened = _opened(block.get(name), seals)
    if opened is None:
        return [block]
    if opened.kind == "block":
        whole = loaded(opened.content)
        return [_again({**whole, **_marks(block)}, seals)] if whole else []
    return [{**block, name: opened.content.decode("utf-8", "surrogatepass")}]


def _again(block: Event, seals: Seals) -> Event:
    """A block whose own signature was bound before it was sealed."""
    inner = _opened(block.get("signature"), seals)
    return block if inner is None else {**block, "signature": inner.content.decode("utf-8", "surrogatepass")}


def _marks(block: Event) -> Event:
    """What the client has put onto the block itself."""
    return {name: block[name] for name in ("cache_control",) if name in block}


def _item(item: Any, seals: Seals) -> Any:
    opened = _opened(item.get("encrypted_content"), seals) if isinstance(item, dict) else None
    if opened is None:
        return item
    if opened.kind == "blob":
        return {**item, "encrypted_content": opened.content.decode("utf-8", "surrogatepass")}
    return {**item, "encrypted_content": None, **loaded(opened.content)}


def _opened(blob: Any, seals: Seals) -> Opened | None:
    return seals.open(blob) if isinstance(blob, str) and is_sealed(blob) else None


def bears_seal(blobs: Iterable[str]) -> bool:
    """Whether any of the blobs of a request is sealed."""
    return any(map(is_sealed, blobs))
