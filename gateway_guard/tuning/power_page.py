"""What a policy would catch, for the terminal: a heat map for each way of hiding, and the smallest and the slowest in a sentence."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway_guard.tuning.power import Cell, Power
from gateway_guard.tuning.tables import table_of

# From the exchanges that a campaign had on, as a share of those that count as got away.
SHARES = (0.02, 0.1, 0.3, 1.01)
HEAT = tuple(zip(SHARES, ("black on green", "black on bright_green", "black on yellow", "black on bright_yellow"), strict=True))
AWAY = "white on red"


def page(told: Power) -> RenderableType:
    """All campaigns."""
    parts: list[RenderableType] = [_head(told)]
    for evasion in dict.fromkeys(cell.evasion for cell in told.cells):
        cells = [cell for cell in told.cells if cell.evasion == evasion]
        parts += ["", _map(evasion, cells, told.exchanges), Text(sentence(evasion, cells, told.exchanges), style="bold")]
    return Group(*parts, "", Text(_legend(told), style="dim"))


def _head(told: Power) -> Text:
    text = Text("" if told.complete else "PARTIAL: stopped before all campaigns were tried\n", style="bold red")
    text.append(f"What policy {told.policy} would catch of campaigns in {told.traffic}", style="bold not red")
    text.append(f"\nbackground: {told.requests:,} requests of {told.accounts:,} accounts", style="not bold not red")
    if told.share < 1:
        text.append(f" ({told.share:.1%} of all organisations: more would not be played in a bearable time)", style="not bold not red")
    return text


def _map(evasion: str, cells: list[Cell], within: int) -> Table:
    daily = sorted({cell.daily for cell in cells})
    table = table_of(f"Hidden: {evasion}. Exchanges it had until it was caught", "accounts", right=tuple(f"{rate:g} a day each" for rate in daily))
    known = {(cell.accounts, cell.daily): cell for cell in cells}
    for accounts in sorted({cell.accounts for cell in cells}):
        table.add_row(f"{accounts:,}", *(_shown(known.get((accounts, rate)), within) for rate in daily))
    return table


def _shown(cell: Cell | None, within: int) -> Text:
    if cell is None:
        return Text("not tried", style="dim")
    if not cell.caught:
        return Text(f" away {cell.exchanges:>7,} ", style=AWAY)
    style = next(style for share, style in HEAT if cell.exchanges <= share * within)
    return Text(f" {cell.exchanges:>6,}  {days(cell.days):>4} ", style=style)


def days(length: float) -> str:
    """A length of time in few letters."""
    return f"{length:.0f}d" if length >= 9.95 else f"{length:.1f}d" if length >= 1 else f"{length * 24:.0f}h"


def sentence(evasion: str, cells: list[Cell], within: int) -> str:
    """The smallest and the slowest that were caught."""
    caught = [cell for cell in cells if cell.caught]
    if not caught:
        return f"None of these was caught within {within:,} exchanges."
    small = min(caught, key=lambda cell: (cell.accounts, cell.daily))
    slow = min(caught, key=lambda cell: (cell.daily, cell.accounts))
    both = f"Smallest caught: {_said(small)}; slowest: {_said(slow)}."
    return both if small != slow else f"Smallest and slowest caught: {_said(small)}."


def _said(cell: Cell) -> str:
    return f"{cell.accounts:,} accounts with {cell.daily:g} requests a day each, after {cell.exchanges:,} exchanges and {days(cell.days)}"


def _legend(told: Power) -> str:
    return (
        f"A cell: exchanges that were not touched until half of the requests were, and how long that took; `away`: {told.exchanges:,} exchanges or "
        f"{told.days:.1f} days without. Made from this traffic with seed {told.seed}; a campaign that is made in another way may fare otherwise."
    )
