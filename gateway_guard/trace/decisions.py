"""The decision log: one row for each exchange, in the order of deciding (JSON lines, or Parquet with the `parquet` extra)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Literal, Protocol

import msgspec
from msgspec import structs

from gateway_guard.decision import Decision
from gateway_guard.errors import TrafficError
from gateway_guard.trace.lines import Lines
from gateway_guard.trace.output import Output
from gateway_guard.trace.parquet import Columns, Kind, Sheet, rows_of

Label = Literal["allow", "throttle", "degrade", "challenge", "deny"]


class DecisionRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One row. `action` is what was done, `enforced` true; or where nothing was done, what a fully enforcing policy would do, `enforced` false.

    Beside the fields that every reader knows: `wait_s` when a refused caller may come back (null: not by waiting) · `short` the quota that refused or delayed ·
    `rung` that acts and `score` of the ladder · `shadow` a rung beyond it that is only recorded, and what it `would` do · `view` the analyst's conclusion
    that was used · `policy` the policy's digest · `profile` how the answer was degraded, `silent` when its notice was left out, `marked` when it bears the
    cluster's marks · `candidate` the digest of the candidate policy, empty for none, and what it would have done, had it been in force: `candidate_action` and
    so on, named as above.
    """

    id: str
    ts: float
    account: str
    action: Label
    enforced: bool
    cluster: str | None
    reasons: list[str]
    served: bool
    delay_ms: float
    wait_s: float | None = 0.0
    short: str = ""
    rung: str = ""
    shadow: str = ""
    would: str = ""
    score: float = 0.0
    view: int = 0
    policy: str = ""
    profile: str = ""
    silent: bool = False
    marked: bool = False
    candidate: str = ""
    candidate_action: Label = "allow"
    candidate_served: bool = True
    candidate_delay_ms: float = 0.0
    candidate_short: str = ""
    candidate_rung: str = ""
    candidate_reasons: list[str] = []


LABELS: tuple[Label, ...] = ("allow", "throttle", "degrade", "challenge", "deny")
_KINDS: dict[str, Kind] = {"float": "number", "float | None": "number", "bool": "flag", "int": "count", "list[str]": "texts"}
COLUMNS: Columns = {name: _KINDS.get(str(kind), "text") for name, kind in DecisionRow.__annotations__.items()}
_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder(DecisionRow)


def row(decision: Decision, account: str, candidate: Decision | None = None) -> DecisionRow:
    """A decision as a row; `account` is the name to show."""
    found = _row(decision, account)
    if candidate is None:
        return found
    beside = _row(candidate, account)
    return structs.replace(
        found,
        candidate=beside.policy,
        candidate_action=beside.action,
        candidate_served=beside.served,
        candidate_delay_ms=beside.delay_ms,
        candidate_short=beside.short,
        candidate_rung=beside.rung,
        candidate_reasons=beside.reasons,
    )


def _row(decision: Decision, account: str) -> DecisionRow:
    wait = decision.wait
    return DecisionRow(
        id=decision.id,
        ts=decision.at,
        account=account,
        action=LABELS[decision.told],
        enforced=decision.enforced,
        cluster=decision.cluster or None,
        reasons=list(decision.reasons),
        served=decision.served,
        delay_ms=round(wait * 1000.0, 3) if decision.served and wait else 0.0,
        wait_s=_coming_back(wait) if not decision.served else 0.0,
        short=decision.short,
        rung=decision.rung,
        shadow=decision.shadow,
        would=decision.would.label if decision.shadow else "",
        score=round(decision.score, 4) if decision.score else 0.0,
        view=decision.view,
        policy=decision.policy,
        profile=decision.profile,
        silent=decision.silent,
        marked=decision.marked,
    )


def undecided(ident: str, at: float, code: str, *, passed: bool) -> DecisionRow:
    """The row of a request that never got as far as a decision: not guarded, so it is passed on; or not readable, or nobody's, and refused."""
    return DecisionRow(
        id=ident,
        ts=at,
        account="",
        action="allow" if passed else "deny",
        enforced=True,
        cluster=None,
        reasons=[f"request.{code}"],
        served=passed,
        delay_ms=0.0,
        wait_s=0.0 if passed else None,
    )


def _coming_back(wait: float) -> float | None:
    return round(wait, 3) if math.isfinite(wait) else None


def line(row: DecisionRow) -> bytes:
    """One line of a decision log."""
    return _ENCODER.encode(row) + b"\n"


class RowWriter(Protocol):
    """Takes rows and hands them to an output; `finish` comes before the output's commit."""

    def write(self, row: DecisionRow) -> None: ...

    def finish(self) -> None: ...


class _LineWriter:
    def __init__(self, output: Output) -> None:
        self._output = output

    def write(self, row: DecisionRow) -> None:
        self._output.write(line(row))

    def finish(self) -> None: ...


class _ParquetWriter:
    def __init__(self, output: Output) -> None:
        self._sheet = Sheet(output, COLUMNS)

    def write(self, row: DecisionRow) -> None:
        self._sheet.add(structs.astuple(row))

    def finish(self) -> None:
        self._sheet.finish()


def decisions_writer(output: Output) -> RowWriter:
    """A writer for the format that the output's name asks for: Parquet for `.parquet`, JSON lines otherwise."""
    return _ParquetWriter(output) if output.name.endswith(".parquet") else _LineWriter(output)


def read_decisions(path: str | Path, *, stream: BinaryIO | None = None) -> Iterator[DecisionRow]:
    """The rows of a decision log; a broken line is an error here, since a guard wrote it."""
    if str(path).endswith(".parquet"):
        yield from _parquet_rows(path)
        return
    yield from rows_in(Lines(path, stream=stream))


def rows_in(lines: Lines) -> Iterator[DecisionRow]:
    """The rows of a decision log of JSON lines."""
    for number, data in enumerate(lines, 1):
        try:
            yield _DECODER.decode(data or b"")
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise TrafficError(f"{lines.name}:{number}: is not a decision: {error}") from None


def _parquet_rows(path: str | Path) -> Iterator[DecisionRow]:
    for found in rows_of(path, "a decision log"):
        try:
            yield msgspec.convert(found, DecisionRow)
        except msgspec.ValidationError as error:
            raise TrafficError(f"{path}: is not a decision log: {error}") from None
