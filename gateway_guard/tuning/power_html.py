"""What a policy would catch, as one HTML file: a heat map for each way of hiding."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from gateway_guard.replay.html.render import page_of
from gateway_guard.tuning.power import Cell, Power
from gateway_guard.tuning.power_page import SHARES, days, sentence

_CAUGHT = tuple(f"h{place}" for place in range(1, len(SHARES) + 1))


class HeatMap(NamedTuple):
    """One way of hiding: `rows` of accounts, each with a cell for each of the `daily` rates (None: not tried)."""

    evasion: str
    daily: list[float]
    rows: list[tuple[int, list[Cell | None]]]
    sentence: str


def render(told: Power) -> bytes:
    """The page of all campaigns."""
    caught, legend = sum(cell.caught for cell in told.cells), _legend(told)
    return page_of("power.html.j2", p=told, caught=caught, maps=list(_maps(told)), legend=legend, heat=lambda cell: _heat(cell, told.exchanges), days=days)


def _maps(told: Power) -> Iterable[HeatMap]:
    for evasion in dict.fromkeys(cell.evasion for cell in told.cells):
        cells = [cell for cell in told.cells if cell.evasion == evasion]
        known = {(cell.accounts, cell.daily): cell for cell in cells}
        daily = sorted({cell.daily for cell in cells})
        rows = [(accounts, [known.get((accounts, rate)) for rate in daily]) for accounts in sorted({cell.accounts for cell in cells})]
        yield HeatMap(evasion, daily, rows, sentence(evasion, cells, told.exchanges))


def _heat(cell: Cell, within: int) -> str:
    if not cell.caught:
        return "away"
    return next(name for name, share in zip(_CAUGHT, SHARES, strict=True) if cell.exchanges <= share * within)


def _legend(told: Power) -> list[tuple[str, str]]:
    steps = [f"up to {share * told.exchanges:,.0f}" for share in SHARES[:-1]]
    return [*zip(_CAUGHT, [*steps, "more"], strict=True), ("away", "away: not caught")]
