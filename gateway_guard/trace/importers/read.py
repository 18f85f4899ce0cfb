"""Reads a file in one of the known formats, record by record. Broken records are skipped and counted."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from gateway_guard.errors import TrafficError
from gateway_guard.trace.exchanges import Exchange
from gateway_guard.trace.importers import gateways, traces
from gateway_guard.trace.importers.made import Broken, ordered
from gateway_guard.trace.lines import Lines

KEPT = 5
# A HAR file, or an export of spans, is one document: it is read whole.
WHOLE = 1 << 30
NO_TEXT = "no prompts and no headers: quotas can be replayed, the analyst finds nothing in it"
NOBODY = "no accounts: give --account to charge everything to one, else every request is nobody's"

One = Callable[[Mapping[str, Any], int, float, str], Exchange]
Many = Callable[[Any, float, str], Iterator[Exchange]]


class Kind(NamedTuple):
    """A format: how its records lie in the file, what makes an exchange of one, and what it `lacks`. `relative`: its times count from its beginning."""

    form: str
    make: One | Many
    lacks: tuple[str, ...]
    relative: bool = False


KINDS: dict[str, Kind] = {
    "litellm": Kind("json lines", gateways.litellm, ("no headers of clients", "prompts only if LiteLLM was told to store them")),
    "envoy": Kind("json lines", gateways.envoy, ("no prompts", "no usage without the AI Gateway's fields", "accounts only if the format logs a credential")),
    "nginx": Kind("json lines", gateways.nginx, ("no usage: it is imputed at replay", "prompts only if `request_body` is logged", "accounts only if keys are")),
    "har": Kind("document", gateways.har, ("no addresses of clients", "usage only of answers that were not streamed")),
    "otel": Kind("document", gateways.otel, ("no headers of clients", "prompts only if `gen_ai.input.messages` was recorded", "accounts only as `user.id`")),
    "burstgpt": Kind("csv", traces.burstgpt, (NO_TEXT, NOBODY), relative=True),
    "azure": Kind("csv", traces.azure, (NO_TEXT, NOBODY, "no models and no latencies")),
    "mooncake": Kind("json lines", traces.mooncake, (NO_TEXT, NOBODY, "no models and no latencies"), relative=True),
}


class Import:
    """Iterates over the exchanges of a file. `broken` records are skipped, the first five are told in `problems`. `starts`: when a relative trace begins."""

    def __init__(self, path: str | Path, kind: str, *, starts: float = 0.0, account: str = "") -> None:
        self.broken = 0
        self.problems: list[str] = []
        self._kind = KINDS[kind]
        self._starts = starts
        self._account = account
        self._lines = Lines(path, cap=WHOLE)

    def __iter__(self) -> Iterator[Exchange]:
        made = self._document() if self._kind.form == "document" else self._records()
        yield from ordered(made)

    def _records(self) -> Iterator[Exchange]:
        for number, record in self._rows():
            try:
                yield self._kind.make(record, number, self._starts, self._account)  # type: ignore[arg-type,misc,call-arg]
            except (Broken, TypeError, AttributeError, msgspec.MsgspecError) as error:
                self._skip(number, str(error))

    def _rows(self) -> Iterator[tuple[int, Mapping[str, Any]]]:
        if self._kind.form == "csv":
            yield from enumerate(csv.DictReader(line.decode("utf-8-sig", "replace") for line in self._lines if line is not None), 2)
            return
        for number, line in enumerate(self._lines, 1):
            if line is None or not line.strip():
                continue
            try:
                record = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                self._skip(number, str(error))
                continue
            # An export of a table may be one list.
            yield from ((number, one) for one in (record if isinstance(record, list) else [record]))

    def _document(self) -> Iterator[Exchange]:
        """One document, or one on each line, as collectors write spans."""
        lines = [line for line in self._lines if line is not None and line.strip()]
        try:
            documents = [msgspec.json.decode(b"\n".join(lines))]
        except msgspec.DecodeError:
            documents = [msgspec.json.decode(line) for line in lines if _is_json(line)]
        if not documents:
            raise TrafficError(f"{self._lines.name}: is not JSON")
        for number, document in enumerate(documents, 1):
            try:
                yield from self._kind.make(document, self._starts, self._account)  # type: ignore[arg-type,misc,call-arg]
            except (Broken, TypeError, AttributeError, ValueError) as error:
                self._skip(number, str(error))

    def _skip(self, number: int, why: str) -> None:
        self.broken += 1
        if len(self.problems) < KEPT:
            self.problems.append(f"{self._lines.name}:{number}: {why}")


def _is_json(line: bytes) -> bool:
    try:
        msgspec.json.decode(line)
    except msgspec.DecodeError:
        return False
    return True
