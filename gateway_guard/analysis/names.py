"""Stable names of clusters: quotas hang on them, so an id survives growth, shrinking, merging and re-clustering."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b

from gateway_guard.view import Standing, View


@dataclass(frozen=True, slots=True)
class Named:
    """A group under its id · `born` when it was first seen · `parents` ids that went into it."""

    id: str
    members: tuple[str, ...]
    born: float
    parents: tuple[str, ...]


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
    return tuple(_one(group, share, given.get(place, ""), before, at) for place, (group, share) in enumerate(zip(ordered, shares, strict=True)))


def _shares(group: Sequence[str], standings: Mapping[str, Standing]) -> Counter[str]:
    return Counter(standing.cluster for name in group if (standing := standings.get(name)) is not None and standing.cluster)


def _one(group: tuple[str, ...], share: Counter[str], old: str, before: View, at: float) -> Named:
    kept = before.clusters.get(old)
    others = tuple(sorted(name for name in share if name != old))
    if kept is None:
        return Named(fresh(group, at), group, at, others)
    return Named(old, group, kept.born, tuple(sorted({*kept.parents, *others})))


def fresh(group: Sequence[str], at: float) -> str:
    """A new id: the same members at the same time have the same one wherever it is computed."""
    digest = blake2b(f"{at:.3f}\n".encode(), digest_size=6)
    for name in group:
        digest.update(name.encode())
        digest.update(b"\n")
    return "c-" + digest.hexdigest()
