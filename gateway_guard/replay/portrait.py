"""Clusters over time: how they grew while the replay ran, and what their members did in each slot, before they were found and after."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from gateway_guard.analysis.picture import Picture
from gateway_guard.replay.slots import SLOTS
from gateway_guard.replay.tally import AccountTally, Tally
from gateway_guard.view import View

FOLLOWED = 1_000
ROWS = 20
JOINED = 4


class Trait(msgspec.Struct, frozen=True):
    """Something that members share: how many `members` and `others` show it, and its share among benign accounts before."""

    family: str
    kind: str
    says: str
    members: int
    others: int
    usual: float


class Row(msgspec.Struct, frozen=True):
    """One of the most active members: its requests and those of them that were touched, by four slots, and the places of the `traits` that it shows."""

    account: str
    requests: list[int]
    touched: list[int]
    traits: list[int]


class Portrait(msgspec.Struct, frozen=True):
    """A cluster's picture. By slot: `requests` of those who are members at the end, `touched` of them, and the `sizes` that the cluster was found with."""

    requests: list[int]
    touched: list[int]
    sizes: list[int]
    members: list[Row]
    traits: list[Trait]


class Watch:
    """Notes how large each cluster is, whenever there is a new view."""

    def __init__(self) -> None:
        self._view = 0
        self._width = 0.0
        self._sizes: dict[str, list[int]] = {}

    def look(self, view: View, tally: Tally) -> None:
        """Called now and then; costs nothing while the view is the same."""
        if view.id == self._view:
            return
        self._view = view.id
        self._keep_up(tally)
        for ident, cluster in view.clusters.items():
            if ident in self._sizes or len(self._sizes) < FOLLOWED:
                sizes = self._sizes.setdefault(ident, [0] * SLOTS)
                sizes[tally.slots.number] = max(sizes[tally.slots.number], cluster.size)

    def sizes(self, ident: str, tally: Tally) -> list[int]:
        """The sizes by slot, carried on through slots without a new view, up to the last one."""
        self._keep_up(tally)
        known = self._sizes.get(ident, [0] * SLOTS)
        last, out = 0, []
        for size in known[: tally.slots.number + 1]:
            last = size or last
            out.append(last)
        return out

    def _keep_up(self, tally: Tally) -> None:
        while self._width and self._width < tally.slots.width:
            self._width *= 2.0
            for ident, sizes in self._sizes.items():
                self._sizes[ident] = [max(pair) for pair in zip(sizes[::2], sizes[1::2], strict=True)] + [0] * (SLOTS // 2)
        self._width = tally.slots.width


def portrait(members: Sequence[str], tally: Tally, sizes: list[int], picture: Picture | None, name: Callable[[str], str]) -> Portrait:
    """The picture of a cluster of `members`."""
    tally.settle()
    seen = [(account, tally.accounts[account]) for account in members if account in tally.accounts]
    used = tally.slots.number + 1
    traits = picture.traits if picture is not None else ()
    return Portrait(
        requests=tally.activity.total([of.number for _, of in seen])[:used],
        touched=tally.touches.total([of.touches for _, of in seen])[:used],
        sizes=sizes,
        members=_rows(sorted(seen, key=lambda item: (-item[1].requests, item[0]))[:ROWS], tally, picture, name),
        traits=[Trait(t.family, t.kind, t.says, t.members, t.others, round(t.usual, 6)) for t in traits],
    )


def _rows(top: Sequence[tuple[str, AccountTally]], tally: Tally, picture: Picture | None, name: Callable[[str], str]) -> list[Row]:
    used, shown = tally.slots.number + 1, picture.shown if picture is not None else {}
    requests, touched = tally.activity.of([of.number for _, of in top]), tally.touches.of([of.touches for _, of in top])
    return [
        Row(name(account), _joined(asked, used), _joined(met, used), list(shown.get(account, ())))
        for (account, _), asked, met in zip(top, requests, touched, strict=True)
    ]


def _joined(counts: Sequence[int], used: int) -> list[int]:
    return [sum(counts[start : start + JOINED]) for start in range(0, used, JOINED)]
