"""A request's fingerprint: everything that is kept of its content and its client, as keyed integers."""

from __future__ import annotations

from collections.abc import Sequence

from gateway_guard.facts import Fingerprint
from gateway_guard.fingerprint import content, conversation, elicits, system, text
from gateway_guard.fingerprint.client import ClientShape, program, single
from gateway_guard.fingerprint.harness import Harness
from gateway_guard.fingerprint.keyed import Keyed
from gateway_guard.fingerprint.lists import Lists
from gateway_guard.fingerprint.oddities import odd
from gateway_guard.reading import Reading

MEMORY = 2048
_MATERIAL = frozenset({"messages", "input", "prompt", "system", "instructions", "model"})


class Fingerprinter:
    """Pure: the same key, lists, reading and headers give the same integers on every machine."""

    def __init__(self, key: bytes, lists: Lists) -> None:
        self._keyed = Keyed(key)
        self._harness = Harness(lists.openings, lists.blocks, lists.tools)
        self._elicits = elicits.Elicits(lists.families)
        self._shape = ClientShape(lists.proxy_headers, self._keyed)
        self._ja4 = lists.ja4
        self._systems: dict[bytes, tuple[int, tuple[int, ...], int]] = {}

    def take(self, reading: Reading, headers: Sequence[tuple[bytes, bytes]]) -> Fingerprint:
        """The fingerprint of one request. Never raises on any text."""
        keyed, harness = self._keyed, self._harness
        values = single(headers)
        what = program(values)
        turn = text.without_code(text.without_blocks(reading.current, harness.blocks))
        head, tail = text.edges(turn)
        own, rules, asked = self._system(reading.system)
        return Fingerprint(
            client=self._shape.client(headers, what),
            version=self._shape.version(what),
            shape=self._parameters(reading),
            system=own,
            tools=system.tools(reading.tools, harness, keyed),
            template=content.template(turn, keyed),
            sketch=content.near(text.letters(head + tail), keyed),
            thread=conversation.links(reading.turns, keyed),
            blobs=conversation.blobs(reading.blobs, keyed),
            elicits=asked | self._elicits.found(elicits.passages(head, tail)),
            odd=odd(headers, values, what, self._ja4),
            length=len(reading.current),
            templates=content.templates(text.sentences(head + tail), harness, keyed),
            rules=rules,
        )

    def _system(self, prompt: str) -> tuple[int, tuple[int, ...], int]:
        """Number, sentences and elicitation of a system prompt. Programs send theirs again and again, so the last ones are remembered, by digest."""
        if not prompt:
            return 0, (), 0
        digest = self._keyed.digest("memory", prompt.encode("utf-8", "replace"))
        found = self._systems.get(digest)
        if found is None:
            mark = system.mark(prompt, self._harness, self._keyed)
            found = mark.system, mark.rules, self._elicits.found(elicits.passages(mark.fold, b""))
            if len(self._systems) >= MEMORY:
                self._systems.clear()
            self._systems[digest] = found
        return found

    def _parameters(self, reading: Reading) -> int:
        names = sorted({name for name in reading.parameters if name not in _MATERIAL})
        return self._keyed.number("shape", f"{int(reading.asks)}\n{chr(10).join(names[:64])}".encode("utf-8", "replace"))
