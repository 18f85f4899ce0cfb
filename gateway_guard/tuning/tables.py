"""Tables for the terminal."""

from __future__ import annotations

from rich import box
from rich.table import Table


def table_of(title: str, *left: str, right: tuple[str, ...]) -> Table:
    """A table with its title above, words to the left, numbers to the right."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in left:
        table.add_column(column, no_wrap=True)
    for column in right:
        table.add_column(column, justify="right")
    return table
