"""What a calibration is, and its file: what is usual here, and from where on benign accounts would be hit more than the declared budget allows."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import msgspec
import numpy as np

from gateway_guard.analysis.reference import UNKNOWN, Reference
from gateway_guard.analysis.tests import Norms
from gateway_guard.errors import UsageError

VERSION = 2


class Limits(msgspec.Struct, frozen=True):
    """Scores are told relative to these: 0 is the point beyond which at most the budget's share of benign accounts is expected.

    `small` are (size, harvest limit) of groups of so many accounts, up to the next size listed: by chance three people look like anything sooner than thirty.
    """

    coordination: float = 0.0
    harvest: float = 3.5
    small: tuple[tuple[int, float], ...] = ()

    def harvest_at(self, size: int) -> float:
        """The harvest limit of a group of `size` accounts."""
        fitting = [limit for least, limit in self.small if least <= size] or [limit for _, limit in self.small[:1]]
        return fitting[-1] if fitting else self.harvest


@dataclass(frozen=True, slots=True)
class Calibration:
    """`at` end of the benign history, `span` its length in seconds · `digest` of all the rest · `accounts`, `events`, `groups` it rests on ·
    `suspects` groups and `suspected` accounts that stood out and were left out · `budget` share of benign accounts a week that may be hit ·
    `bound` what the history can vouch for; a bound above the budget leaves everything in shadow.
    """

    at: float = 0.0
    span: float = 0.0
    digest: str = ""
    accounts: int = 0
    events: int = 0
    groups: int = 0
    suspects: int = 0
    suspected: int = 0
    budget: float = 0.0005
    bound: float = 1.0
    reference: Reference = UNKNOWN
    norms: Norms = field(default_factory=Norms)
    limits: Limits = field(default_factory=Limits)
    scores: tuple[float, ...] = ()

    @property
    def name(self) -> str:
        """The digest where the history vouches for the budget, else empty: then a view says that it is not calibrated."""
        return self.digest if self.bound <= self.budget else ""


class _File(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    digest: str
    at: float
    span: float
    accounts: int
    events: int
    groups: int
    suspects: int
    suspected: int
    budget: float
    bound: float
    norms: Norms
    limits: Limits
    scores: tuple[float, ...]
    ties: float
    tokens: str
    sharers: str
    pairs: str
    together: str


def sealed(calibration: Calibration) -> Calibration:
    """With the digest of its content."""
    return replace(calibration, digest=blake2b(encode(replace(calibration, digest="")), digest_size=8).hexdigest())


def encode(calibration: Calibration) -> bytes:
    """The file's bytes: JSON, one field a line; number columns are little-endian in base64."""
    told = calibration.reference
    columns = {"tokens": told.token, "sharers": told.sharers, "pairs": told.joint, "together": told.together}
    packed: dict[str, Any] = {name: _packed(column) for name, column in columns.items()}
    plain: dict[str, Any] = {name: getattr(calibration, name) for name in _File.__struct_fields__ if name not in packed and name not in ("version", "ties")}
    return msgspec.json.format(msgspec.json.encode(_File(version=VERSION, ties=told.ties, **plain, **packed)), indent=1)


def decode(raw: bytes) -> Calibration:
    """The calibration in a file, or UsageError."""
    try:
        file = msgspec.json.decode(raw, type=_File)
        sharers, together = _column(file.sharers).astype(np.int64), _column(file.together).astype(np.int64)
        reference = Reference(_column(file.tokens), sharers, file.accounts, _column(file.pairs), together, file.ties)
    except (msgspec.DecodeError, ValueError) as error:
        raise UsageError(f"the calibration cannot be read ({error}): make it again with `gateway-guard calibrate`") from None
    if file.version != VERSION:
        raise UsageError(f"the calibration has version {file.version}, this program reads {VERSION}: make it again with `gateway-guard calibrate`")
    plain = {name: getattr(file, name) for name in _File.__struct_fields__ if name not in ("version", "ties", "tokens", "sharers", "pairs", "together")}
    calibration = Calibration(reference=reference, **plain)
    if sealed(calibration).digest != file.digest:
        raise UsageError("the calibration's digest does not fit its content: it was changed after it was made; make it again with `gateway-guard calibrate`")
    return calibration


def _packed(column: Any) -> str:
    return base64.b64encode(column.astype("<u8").tobytes()).decode()


def _column(text: str) -> Any:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype="<u8").astype(np.uint64)
