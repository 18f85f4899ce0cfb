"""Reads decision logs back: who was served, and whether two logs decided alike."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from gateway_guard.trace.decisions import DecisionRow, read_decisions


class Share(NamedTuple):
    """What a group of accounts got; `clustered` is how many of them were found to act as one with others."""

    group: str
    accounts: int
    requests: int
    served: int
    delayed: int
    refused: int
    clustered: int


def rows(path: Path) -> dict[str, DecisionRow]:
    """A decision log by exchange."""
    return {row.id: row for row in read_decisions(path)}


def differences(live: Mapping[str, DecisionRow], replayed: Mapping[str, DecisionRow]) -> list[str]:
    """The exchanges that were decided otherwise, or are missing on one side. Accounts are not compared: a replay calls them by the directory's names."""
    return [key for key in live.keys() | replayed.keys() if _verdict(live.get(key)) != _verdict(replayed.get(key))]


def shares(log: Mapping[str, DecisionRow], group_of: Mapping[str, str]) -> list[Share]:
    """By group, in the order in which the groups are first named."""
    return [_share(group, [row for row in log.values() if group_of.get(row.account) == group]) for group in dict.fromkeys(group_of.values())]


def actions(log: Iterable[DecisionRow]) -> str:
    """How often each action, in words."""
    counts = Counter(row.action for row in log)
    return ", ".join(f"{count} {action}" for action, count in counts.most_common())


def _share(group: str, found: list[DecisionRow]) -> Share:
    return Share(
        group=group,
        accounts=len({row.account for row in found}),
        requests=len(found),
        served=sum(row.served for row in found),
        delayed=sum(row.delay_ms > 0 for row in found),
        refused=sum(not row.served for row in found),
        clustered=len({row.account for row in found if row.cluster}),
    )


def _verdict(row: DecisionRow | None) -> object:
    return row and (row.ts, row.action, row.enforced, row.served, row.delay_ms, row.wait_s, row.short, row.cluster, row.reasons)
