"""What an analysis found, as a file: for `gateway-guard clusters` and `gateway-guard explain`, and for programs."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec

from gateway_guard.assembly import Parts
from gateway_guard.errors import UsageError
from gateway_guard.gate import Gate
from gateway_guard.replay.clusters import Found
from gateway_guard.replay.standing import Ground
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.view import View

VERSION: Literal[1] = 1


class Past(msgspec.Struct, frozen=True):
    """The history that was looked at: its `requests` by `accounts`, from `since` to `at` (seconds since 1970)."""

    requests: int
    accounts: int
    since: float
    at: float


class Analysis(msgspec.Struct, frozen=True, kw_only=True, tag_field="made_by", tag="gateway-guard analyse"):
    """`policy` its name and digest · `calibrated` the calibration's digest (empty: there is none that vouches for the budget) · `clusters` to read, with the
    operator's own names · `view` the same for programs, with all members, by keyed hashes.
    """

    v: Literal[1] = VERSION
    policy: tuple[str, str]
    history: Past
    calibrated: str
    clusters: list[Found]
    view: View


def encode(analysis: Analysis) -> bytes:
    """The file's bytes."""
    return msgspec.json.format(msgspec.json.encode(analysis, order="deterministic"), indent=2) + b"\n"


def is_analysis(path: str | Path) -> bool:
    """Whether a file is an analysis: told by its first bytes."""
    try:
        with open(path, "rb") as stream:
            return b'"made_by": "gateway-guard analyse"' in stream.read(64)
    except OSError:
        return False


def read(path: str | Path) -> Analysis:
    """The analysis in a file, or UsageError."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Analysis)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except msgspec.DecodeError as error:
        raise UsageError(f"{path}: is not what `gateway-guard analyse --out` wrote ({error})") from None


def ground(path: str | Path, found: Analysis, parts: Parts) -> Ground:
    """A gate with the analysis's view: what can be said of an account or a cluster at the end of a replay can be said of it here."""
    gate = Gate(parts.rules, MemoryStore(1))
    gate.view = found.view
    return Ground(gate, parts.directory.name if parts.directory else str, str(path))
