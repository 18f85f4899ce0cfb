"""What goes to the ledger script and what comes back: keys, operations, answers.

Theory of operation. The script (`ledger.lua`) carries out a batch of operations in one step. Which time counts is said with each batch: `live` takes
the server's clock, the one that all workers share, so that workers whose clocks differ by seconds cannot drain a bucket twice; the callers' `at`
then gives durations only (how long a hold lasts). Without `live` the callers' times count as they are: for virtual time.

Keys carry keyed hashes only: accounts, organisations, networks and clusters come as such, and whatever else a quota may be per (a model's name is the
caller's text) is hashed here. A subject's part in braces is the hash tag by which Redis Cluster places it.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Sequence
from hashlib import blake2b, sha1
from pathlib import Path
from struct import unpack
from typing import TYPE_CHECKING, NamedTuple
from zlib import crc32

import msgspec
from msgspec import structs

from gateway_guard.quota import Bill, Heir, Lines, Part

if TYPE_CHECKING:
    import asyncio

SCRIPT = (Path(__file__).parent / "ledger.lua").read_bytes()
# Redis names a script by its SHA-1.
DIGEST = sha1(SCRIPT, usedforsecurity=False).hexdigest()
# These come as keyed hashes.
HASHED = frozenset({"account", "org", "network", "cluster"})
CLUSTERS = crc32(b"clusters")
# What the key of a row's holds ends with.
HOLDS = ":held"
# The script's "never".
NEVER = 1e300
_packed = msgspec.msgpack.Encoder().encode


class Verb(enum.IntEnum):
    """What is asked of the ledger."""

    SPEND = 1
    ADJUST = 2
    PEEK = 3
    INHERIT = 4


class Inherited(NamedTuple):
    """`share` of what the bill's part number `source` owes goes to its part number `heir`; `lives`: it is off the source then."""

    heir: int
    source: int
    share: float
    lives: bool


class Operation(msgspec.Struct):
    """One thing to do. `patience` inf: charge in any case. `answer`: somebody waits for it. `owed`: whoever posted it counts it until it is carried out;
    `counted`: he has begun to.
    """

    verb: Verb
    bill: Bill
    at: float
    until: float = 0.0
    hold: str = ""
    patience: float = 0.0
    answer: asyncio.Future[Answer] | None = None
    owed: bool = True
    counted: bool = False
    shares: Sequence[Inherited] = ()


def inheritance(heirs: Sequence[Heir], at: float, version: int) -> Operation:
    """Debts moved to heirs, once for each version."""
    parts: list[Part] = []
    shares: list[Inherited] = []
    for heir in heirs:
        place = len(parts)
        parts.append(heir.part)
        for share in heir.shares:
            shares.append(Inherited(place, len(parts), share.part, share.lives))
            parts.append(structs.replace(heir.part, subject=share.source))
    return Operation(Verb.INHERIT, Bill(tuple(parts)), at, float(version), shares=shares)


class Answer(NamedTuple):
    """What came of an operation; `levels` are what is owed as of `times`, one for each part of the bill. A time below zero: the part's subject was never
    charged, and its bucket is still to open.
    """

    ok: bool
    wait: float
    short: int
    levels: tuple[float, ...]
    times: Sequence[float]


class Naming(NamedTuple):
    """How subjects become keys: `prefix`, and the `secret` of those hashes that are made here.

    `shelves`: slots of a Redis Cluster that they are spread over; 0: there is no cluster.
    """

    prefix: str = "gateway_guard"
    secret: bytes = b""
    shelves: int = 0

    def shelf(self, part: Part) -> int:
        """Where a part's key lies in a Redis Cluster: what is the account's is in one place."""
        per, subject = part.lines.per, part.subject
        if per == "cluster":
            # Debts move between clusters in one step: they lie together.
            return CLUSTERS % self.shelves
        return crc32((subject.partition("/")[0] if per == "account_model" else subject).encode("utf-8", "surrogatepass")) % self.shelves

    def row(self, part: Part) -> str:
        """The key of the row of a part's subject."""
        per, subject = part.lines.per, part.subject
        rest: str = per
        if per in HASHED:
            tag = subject
        elif per == "account_model":
            tag, _, model = subject.partition("/")
            rest = self._hash(model)
        else:
            tag = self._hash(subject)
        return f"{self.prefix}:{{{self.shelf(part)}}}:{tag}:{rest}" if self.shelves else f"{self.prefix}:{{{tag}}}:{rest}"

    def of(self, what: str, tag: str) -> str:
        """A key of our own, placed by `tag`."""
        return f"{self.prefix}:{{{tag}}}:{what}"

    def inherited(self) -> str:
        """The key of the version by which debts were moved last."""
        return self.of("inherited", str(CLUSTERS % self.shelves) if self.shelves else "clusters")

    def _hash(self, text: str) -> str:
        return blake2b(text.encode("utf-8", "surrogatepass"), key=self.secret[:64], digest_size=10).hexdigest()


class Batch:
    """Operations as the script takes them. What many bills have in common, names and figures of quotas, is said once as a *tariff*."""

    def __init__(self, naming: Naming, operations: Sequence[Operation], *, number: int, live: bool, journal: str) -> None:
        self.operations = operations
        self.number = number
        self._rows: dict[str, int] = {}
        self._tariffs: dict[tuple[Lines, int], int] = {}
        self._said: list[tuple[str, Sequence[float], Sequence[float]]] = []
        self._naming = naming
        asked = [(o.verb, o.at, o.until, o.hold, o.patience, [self._part(part) for part in o.bill.parts], *_moved(o)) for o in operations]
        self.payload = _packed((number, live, self._said, asked))
        self.keys = [journal]
        for row in self._rows:
            self.keys += (row, row + HOLDS)
        if any(o.verb is Verb.INHERIT for o in operations):
            self.keys.append(naming.inherited())

    def _part(self, part: Part) -> tuple[object, ...]:
        row = self._rows.setdefault(self._naming.row(part), len(self._rows) + 1)
        # The bill keeps its figures alive, so that no other object can have their number meanwhile.
        key = (part.lines, id(part.figures))
        tariff = self._tariffs.get(key)
        if tariff is None:
            self._said.append((",".join(names(part.lines)), part.figures.rates, part.figures.bursts))
            tariff = self._tariffs[key] = len(self._said)
        return (row, tariff, part.costs, part.held, part.opened, part.filled)


def _moved(operation: Operation) -> tuple[object, ...]:
    """Who inherits, as numbers of parts."""
    return ([(heir + 1, source + 1, share, lives) for heir, source, share, lives in operation.shares],) if operation.verb is Verb.INHERIT else ()


_names: dict[Lines, tuple[str, ...]] = {}
_REMEMBERED = 1000


def names(lines: Lines) -> tuple[str, ...]:
    """The names of the lines' quotas."""
    found = _names.get(lines)
    if found is None:
        if len(_names) > _REMEMBERED:
            _names.clear()
        found = _names[lines] = tuple(quota.name for quota in lines.quotas)
    return found


def answers(reply: object, operations: Sequence[Operation]) -> list[Answer]:
    """What came of each operation of a batch. ValueError, TypeError or struct.error when it is no answer to these."""
    if not isinstance(reply, list):
        raise TypeError(f"the server's reply is a {type(reply).__name__}")
    out = []
    for packed, operation in zip(reply, operations, strict=True):
        ok, wait, short, *numbers = unpack(f"<{len(packed) // 8}d", packed)
        levels = len(numbers) - len(operation.bill.parts)
        out.append(Answer(ok == 1.0, math.inf if wait >= NEVER else wait, int(short), tuple(numbers[:levels]), numbers[levels:]))
    return out
