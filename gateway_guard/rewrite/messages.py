"""Answers of the Messages API, made poorer.

Thinking becomes `redacted_thinking`, which every client knows how to keep and send back: the whole block, text and signature, is sealed into it and
restored on its way back, so that the server meets the very block that it signed. (Blanking the text would not do: a server that finds a signature over
another text refuses the conversation for good.) A thinking block goes out when it ends; as nobody is to see it, nobody waits for it. Blocks that are empty
once their reasoning is gone are left out, since the API takes no empty texts back, and the blocks behind them move up.
"""

from __future__ import annotations

from typing import Any

from gateway_guard.rewrite import counts
from gateway_guard.rewrite.loss import Loss
from gateway_guard.rewrite.seal import Sealer
from gateway_guard.rewrite.shape import Event, dict_at, dicts, number_at, text_at, written
from gateway_guard.rewrite.text import Text

# No model thinks longer. Of a block beyond it, its place is all that is kept.
LONGEST = 4 * 1024 * 1024


class Thought:
    """A thinking block that is gathered while it streams."""

    __slots__ = ("block", "pieces", "size")

    def __init__(self, block: Event) -> None:
        self.block = block
        self.pieces = [text_at(block, "thinking")]
        self.size = len(self.pieces[0])

    def add(self, delta: Event) -> None:
        """A piece of its text, or its signature."""
        piece = text_at(delta, "thinking")
        self.size += len(piece)
        if piece and self.size <= LONGEST:
            self.pieces.append(piece)
        if isinstance(delta.get("signature"), str):
            self.block["signature"] = delta["signature"]

    def whole(self) -> Event:
        """The block as it would stand in an answer that is not streamed."""
        if self.size > LONGEST:
            return {}
        return {**self.block, "thinking": "".join(self.pieces)}


class Said:
    """A text block on its way. Its beginning waits for something to be said."""

    __slots__ = ("begun", "start", "text")

    def __init__(self, start: Event, loss: Loss) -> None:
        self.start = start
        self.text = Text(loss)
        self.begun = False


class Messages:
    """One message, whole or streamed."""

    def __init__(self, loss: Loss, sealer: Sealer) -> None:
        self._loss = loss
        self._sealer = sealer
        self._open: dict[int, Thought | Said] = {}
        self._left_out = 0
        self._cut = False

    def answer(self, body: Event) -> None:
        """A whole answer, in place."""
        content = body.get("content")
        if isinstance(content, list):
            body["content"] = [block for block in content if not isinstance(block, dict) or self._block(block)]
        self._ended(body)
        self._counted(body)

    def event(self, event: Event) -> list[Event] | None:
        """One event of a stream."""
        match event.get("type"):
            case "content_block_start":
                return self._started(event)
            case "content_block_delta":
                return self._grown(event)
            case "content_block_stop":
                return self._stopped(event)
            case "message_start":
                self._counted(dict_at(event, "message"))
                return [event]
            case "message_delta":
                self._ended(dict_at(event, "delta"))
                self._counted(event)
                return [event]
        return None

    def _block(self, block: Event) -> bool:
        """Change a block. False when nothing is left of it."""
        if self._hides(block):
            self._hide(block)
        elif self._loss.texts and block.get("type") == "text" and text_at(block, "text"):
            text = Text(self._loss)
            block["text"] = text.whole(block["text"])
            self._cut = self._cut or text.cut
            return bool(block["text"])
        return True

    def _started(self, event: Event) -> list[Event] | None:
        index, block = number_at(event, "index"), dict_at(event, "content_block")
        if self._hides(block):
            self._open[index] = Thought(block)
            return []
        if not self._loss.texts or block.get("type") != "text":
            return self._moved(event)
        said = self._open[index] = Said(event, self._loss)
        first, block["text"] = text_at(block, "text"), ""
        return self._say(said, index, said.text.feed(first))

    def _grown(self, event: Event) -> list[Event] | None:
        index, delta = number_at(event, "index"), dict_at(event, "delta")
        match self._open.get(index):
            case Thought() as thought:
                thought.add(delta)
                return []
            case Said() as said if delta.get("type") == "text_delta":
                return self._say(said, index, said.text.feed(text_at(delta, "text")))
            case Said() as said if not said.begun or said.text.cut:
                return []  # a citation of what is not said
        return self._moved(event)

    def _stopped(self, event: Event) -> list[Event] | None:
        index = number_at(event, "index")
        match self._open.pop(index, None):
            case Thought() as thought:
                block = thought.whole()
                self._hide(block)
                start = {"type": "content_block_start", "index": index - self._left_out, "content_block": block}
                return [start, {**event, "index": index - self._left_out}]
            case Said() as said:
                last = self._say(said, index, said.text.end())
                self._cut = self._cut or said.text.cut
                if not said.begun:
                    self._left_out += 1
                    return []
                return [*last, {**event, "index": index - self._left_out}]
        return self._moved(event)

    def _say(self, said: Said, index: int, text: str) -> list[Event]:
        if not text:
            return []
        place = index - self._left_out
        start = [] if said.begun else [{**said.start, "index": place}]
        said.begun = True
        return [*start, {"type": "content_block_delta", "index": place, "delta": {"type": "text_delta", "text": text}}]

    def _moved(self, event: Event) -> list[Event] | None:
        """The same, in its place among the blocks that are left."""
        return [{**event, "index": number_at(event, "index") - self._left_out}] if self._left_out else None

    def _hides(self, block: Event) -> bool:
        return self._loss.hide and block.get("type") == "thinking"

    def _hide(self, block: Event) -> None:
        """Seal a thinking block. One that the server has already left without text tells nothing and stays."""
        if block and not block.get("thinking"):
            return
        sealed = self._sealer.block(written(block))
        block.clear()
        block |= {"type": "redacted_thinking", "data": sealed}

    def _ended(self, holder: Event) -> None:
        """A message that was ended early ended for its length."""
        if self._cut and holder.get("stop_reason") == "end_turn":
            holder["stop_reason"] = "max_tokens"

    def _counted(self, holder: Event) -> None:
        if self._loss.usage:
            counts.poorer(holder.get("usage"), self._loss)


class BoundMessages:
    """Signatures and redacted thinking, bound to their owner."""

    def __init__(self, sealer: Sealer) -> None:
        self._sealer = sealer

    def answer(self, body: Event) -> None:
        """A whole answer, in place."""
        for block in dicts(body.get("content")):
            self._bind(block)

    def event(self, event: Event) -> list[Event] | None:
        """One event of a stream: a blob is in one piece there."""
        changed = self._bind(dict_at(event, "content_block")) or self._bind(dict_at(event, "delta"))
        return [event] if changed else None

    def _bind(self, holder: Event) -> bool:
        changed = False
        for name in ("signature", "data") if holder.get("type") in BEARERS else ():
            blob: Any = holder.get(name)
            if isinstance(blob, str) and blob:
                holder[name] = self._sealer.blob(blob)
                changed = changed or holder[name] != blob
        return changed


BEARERS = frozenset({"thinking", "redacted_thinking", "signature_delta"})
