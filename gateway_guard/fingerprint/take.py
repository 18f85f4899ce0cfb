"""A request's fingerprint: everything that is kept of its content and its client, as keyed integers."""

from __future__ import annotations

from typing import TypeVar

from gateway_guard.facts import Fingerprint
from gateway_guard.fingerprint import content, conversation, elicits, text
from gateway_guard.fingerprint.client import MOST, VALUE, ClientShape, Headers, program, single
from gateway_guard.fingerprint.harness import Harness
from gateway_guard.fingerprint.keyed import Keyed
from gateway_guard.fingerprint.lists import Lists
from gateway_guard.fingerprint.oddities import READ, odd
from gateway_guard.fingerprint.system import mark, tools
from gateway_guard.reading import Reading

MEMORY = 2048
LARGEST = 4000
_MATERIAL = frozenset({"messages", "input", "prompt", "system", "instructions", "model"})

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")
_System = tuple[int, tuple[int, ...], int]
_Client = tuple[int, int, int]


class Fingerprinter:
    """Pure: the same key, lists, reading and headers give the same integers on every machine.

    What recurs in nearly every request (system prompts, header sets) is worked out once and remembered, prompts by digest;
    forgetting changes nothing but the time it takes.
    """

    def __init__(self, key: bytes, lists: Lists) -> None:
        self._keyed = Keyed(key)
        self._harness = Harness(lists.prompts, lists.blocks, lists.tools)
        self._elicits = elicits.Elicits(lists.families)
        self._shape = ClientShape(lists.proxy_headers, self._keyed)
        self._ja4 = lists.ja4.lower().encode()
        self._read = READ | {self._ja4}
        self._systems: dict[bytes, _System] = {}
        self._clients: dict[tuple[object, ...], _Client] = {}

    def take(self, reading: Reading, headers: Headers) -> Fingerprint:
        """The fingerprint of one request. Never raises on any text."""
        keyed, harness = self._keyed, self._harness
        client, version, odd = self._client(headers)
        system, rules, asked = self._system(reading.system)
        turn = text.without_code(text.without_blocks(text.clipped(reading.current), harness.blocks))
        head, tail = text.edges(turn)
        letters = text.letters(head + tail)
        return Fingerprint(
            client=client,
            version=version,
            shape=self._parameters(reading),
            system=system,
            tools=tools(reading.tools, harness, keyed) if reading.tools else 0,
            template=content.template(turn, letters, keyed),
            sketch=content.near(letters, keyed),
            thread=conversation.links(reading.turns, keyed) if len(reading.turns) > 1 else (),
            blobs=conversation.blobs(reading.blobs, keyed) if reading.blobs else (),
            elicits=asked | self._elicits.found(elicits.passages(head, tail)),
            odd=odd,
            length=len(reading.current),
            templates=content.templates(head + tail, harness, keyed),
            rules=rules,
        )

    def _system(self, prompt: str) -> _System:
        """Number, sentences and elicitation of a system prompt."""
        if not prompt:
            return 0, (), 0
        prompt = text.clipped(prompt)
        digest = self._keyed.digest("memory", prompt.encode("utf-8", "replace"))
        found = self._systems.get(digest)
        if found is None:
            made = mark(prompt, self._harness, self._keyed)
            found = made.system, made.rules, self._elicits.found(elicits.passages(made.fold, b""))
            _remember(self._systems, digest, found)
        return found

    def _client(self, headers: Headers) -> _Client:
        """Client, version, oddities. Remembered by the names and those values that are read: no credential is kept."""
        seen = tuple((name, value[:VALUE]) if name in self._read else name for name, value in headers[:MOST])
        found = self._clients.get(seen)
        if found is None:
            values = single(headers)
            what = program(values)
            found = self._shape.client(headers, what), self._shape.version(what), odd(headers, values, what, self._ja4)
            if sum(len(name) for name, _ in headers[:MOST]) <= LARGEST:  # else a few thousand giant headers fill the memory
                _remember(self._clients, seen, found)
        return found

    def _parameters(self, reading: Reading) -> int:
        names = sorted({name[:VALUE] for name in reading.parameters[:MOST] if name not in _MATERIAL})
        return self._keyed.number("shape", "\n".join([str(int(reading.asks)), *names]).encode("utf-8", "replace"))


def _remember(memory: dict[_Key, _Value], key: _Key, value: _Value) -> None:
    """Bounded: when it is full it starts anew."""
    if len(memory) >= MEMORY:
        memory.clear()
    memory[key] = value
