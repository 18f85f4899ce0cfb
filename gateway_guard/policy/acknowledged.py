"""What operators have acknowledged: evidence that is known, explained, and not held against somebody for a time.

An acknowledgement is given for kinds of evidence (families). While it holds, what these families say of its subject counts for nothing, however
much more of it there comes; evidence of another kind counts as before. All of its times are data, so a replay with the same acknowledgements
decides as the live guard did.

The other word that operators have is the suspension: a denial by hand, which needs no evidence and ends at its date as well.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Generic, Literal, Protocol, TypeVar

import msgspec
from msgspec import structs

from gateway_guard.evidence import FAMILIES, Family
from gateway_guard.facts import Identity
from gateway_guard.view import Standing

Kind = Literal["account", "cluster", "org"]
# A group is held to act as one on so many kinds of evidence at least; with fewer left, nothing is held against a member.
INDEPENDENT = 2


class Acknowledgement(msgspec.Struct, frozen=True):
    """`number` by which it is withdrawn · `subjects` the keyed hashes that the name may stand for, or a cluster's id · `name` as the operator wrote it ·
    `begins` and `until` (seconds, UTC epoch) · `withdrawn` when it was taken back, inf while it was not · `appeal` that it came from.
    """

    number: int
    kind: Kind
    name: str
    subjects: tuple[str, ...]
    families: tuple[Family, ...]
    reason: str
    begins: float
    until: float
    withdrawn: float = math.inf
    appeal: str = ""

    def holds(self, at: float) -> bool:
        """Whether it is in force."""
        return self.begins <= at < min(self.until, self.withdrawn)


class Suspension(msgspec.Struct, frozen=True):
    """An operator's own denial of an account, a cluster or an organisation; fields as of an acknowledgement."""

    number: int
    kind: Kind
    name: str
    subjects: tuple[str, ...]
    reason: str
    begins: float
    until: float
    withdrawn: float = math.inf

    def holds(self, at: float) -> bool:
        """Whether it is in force."""
        return self.begins <= at < min(self.until, self.withdrawn)


class Word(Protocol):
    """What a table needs of either."""

    @property
    def kind(self) -> Kind: ...
    @property
    def subjects(self) -> tuple[str, ...]: ...
    def holds(self, at: float) -> bool:
        """Whether it is in force."""
        ...


W = TypeVar("W", bound=Word)


class Relief(msgspec.Struct, frozen=True):
    """What an acknowledgement does for one request: `families` that are not counted, `numbers` of the acknowledgements."""

    families: frozenset[str]
    numbers: tuple[int, ...]


class Table(Generic[W]):
    """Operators' words about accounts, clusters and organisations, looked up in constant time. Immutable. `any`: there are some; false as a whole when not."""

    def __init__(self, given: Iterable[W] = ()) -> None:
        self._of: dict[tuple[str, str], tuple[W, ...]] = {}
        for one in given:
            for subject in one.subjects:
                self._of[one.kind, subject] = (*self._of.get((one.kind, subject), ()), one)
        # Looked at by every request.
        self.any = bool(self._of)

    def __bool__(self) -> bool:
        return self.any

    def given(self, kind: Kind, subject: str, at: float) -> tuple[W, ...]:
        """What holds for a subject at a time."""
        return tuple(one for one in self._of.get((kind, subject), ()) if one.holds(at))

    def about(self, identity: Identity, cluster: str, at: float) -> list[W]:
        """What holds for a caller: for its account, its organisation, its cluster."""
        orgs = self.given("org", identity.org, at) if identity.org else ()
        clusters = self.given("cluster", cluster, at) if cluster else ()
        return [*self.given("account", identity.account, at), *orgs, *clusters]


class Suspended(Table[Suspension]):
    """Whom operators deny by hand."""


class Acknowledged(Table[Acknowledgement]):
    """What operators have acknowledged."""

    def relief(self, identity: Identity, cluster: str, at: float) -> Relief | None:
        """What is not counted for this caller now, None when there is no such thing."""
        found = self.about(identity, cluster, at)
        if not found:
            return None
        return Relief(frozenset(family for one in found for family in one.families), tuple(sorted({one.number for one in found})))


def relieved(standing: Standing, relief: Relief) -> Standing | None:
    """The standing without what is acknowledged: None when too little is left to hold the account for a part of a group."""
    kept = [(family, weight) for family, weight in zip(standing.families, _weights(standing), strict=True) if family not in relief.families]
    if len(kept) == len(standing.families):
        return standing
    if len(kept) < INDEPENDENT:
        return None
    lost = sum(_weights(standing)) - sum(weight for _, weight in kept)
    return structs.replace(
        standing,
        coordination=standing.coordination - lost,
        # What pooled traffic is about is told by its content.
        harvest=0.0 if "content" in relief.families else standing.harvest,
        families=tuple(family for family, _ in kept),
        weights=tuple(weight for _, weight in kept),
    )


def _weights(standing: Standing) -> tuple[float, ...]:
    """How much each family says of the account; nothing is known of it in views of older guards."""
    return standing.weights if len(standing.weights) == len(standing.families) else (0.0,) * len(standing.families)


def families_named(text: str) -> tuple[Family, ...]:
    """Families from a list such as `content,network`; ValueError names what is none."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in FAMILIES]
    if unknown or not names:
        raise ValueError(f"{', '.join(unknown) or 'nothing'} is no kind of evidence: there are {', '.join(FAMILIES)}")
    return tuple(family for family in FAMILIES if family in names)


NOTHING = Acknowledged()
NOBODY = Suspended()
