"""Stable names of clusters: quotas hang on them, so an id survives growth, shrinking, merging and re-clustering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from gateway_guard.view import Standing, View


@dataclass(frozen=True, slots=True)
class Named:
    """A group under its id · `born` when it was first seen · `parents` ids that went into it · `inherits` which share of the members of other clusters of
    the view before is in it now: of those that go on of all members, of those that are over of all that are in a cluster still.
    """

    id: str
    members: tuple[str, ...]
    born: float
    parents: tuple[str, ...]
    inherits: tuple[tuple[str, float], ...] = ()


def named(groups: Sequence[Sequence[str]], before: View, at: float) -> tuple[Named, ...]:
    """Each group's id: the old cluster with which it shares most members, given once, to the group that holds most of it; else a new one."""
    ordered = [tuple(sorted(group)) for group in groups]
    shares = [_shares(group, before.standings) for group in ordered]
    claims = sorted(((-count, ordered[place], old, place) for place, share in enumerate(shares) for old, count in share.items()))
    given: dict[int, str] = {}
    taken: set[str] = set()
    for _, _, old, place in claims:
        if place not in given and old not in taken:
            given[place] = old
            taken.add(old)
    wholes = _wholes(shares, taken, before)
    return tuple(_one(group, share, given.get(place, ""), wholes, before, at) for place, (group, share) in enumerate(zip(ordered, shares, strict=True)))


def _shares(group: Sequence[str], standings: Mapping[str, Standing]) -> Counter[str]:
    return Counter(standing.cluster for name in group if (standing := standings.get(name)) is not None and standing.cluster)


def _wholes(shares: Sequence[Counter[str]], alive: set[str], before: View) -> Mapping[str, int]:
    """Of how many members of each old cluster the shares are told. What a cluster that is over owes goes to its heirs whole."""
    found: Counter[str] = Counter()
    for share in shares:
        found.update(share)
    return {old: max(count, before.clusters[old].size) if old in alive and old in before.clusters else count for old, count in found.items()}


def _one(  # noqa: PLR0917 - one call, for each group
    group: tuple[str, ...], share: Counter[str], old: str, wholes: Mapping[str, int], before: View, at: float
) -> Named:
    kept = before.clusters.get(old)
    others = tuple(sorted(name for name in share if name != old))
    inherits = tuple((name, share[name] / wholes[name]) for name in others)
    if kept is None:
        return Named(fresh(group, at), group, at, others, inherits)
    return Named(old, group, kept.born, tuple(sorted({*kept.parents, *others})), inherits)


def fresh(group: Sequence[str], at: float) -> str:
    """A new id: the same members at the same time have the same one wherever it is computed."""
    digest = blake2b(f"{at:.3f}\n".encode(), digest_size=6)
    for name in group:
        digest.update(name.encode())
        digest.update(b"\n")
    return "c-" + digest.hexdigest()
