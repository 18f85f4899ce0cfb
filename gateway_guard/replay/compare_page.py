"""A comparison for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway_guard.replay.candidate import Differing
from gateway_guard.replay.compare import Comparison
from gateway_guard.replay.differences import Direction
from gateway_guard.replay.html import charts
from gateway_guard.replay.page import titled


def page(comparison: Comparison) -> RenderableType:
    """The whole comparison, the most important first."""
    before, after = comparison.one.policy.name, comparison.two.policy.name
    return Group(_head(comparison), *_parts(comparison, before, after))


def differing_page(found: Differing) -> RenderableType:
    """What a candidate would have done otherwise."""
    differ = sum(count for place, row in enumerate(found.moves) for other, count in enumerate(row) if place != other)
    text = Text(f"candidate {' and '.join(found.candidate)} beside {' and '.join(found.active)}", style="bold")
    when = f"{charts.when(found.first)} to {charts.when(found.last)} UTC"
    text.append(f": {found.requests:,} requests, {when}; {differ:,} would have gone otherwise", style="not bold")
    if found.without:
        text.append(f"\n{found.without:,} more were decided without a candidate", style="not bold")
    return Group(text, *_parts(found, "the active policy", "the candidate"))


def _parts(found: Comparison | Differing, before: str, after: str) -> list[RenderableType]:
    parts: list[RenderableType] = ["", _moves(found, before, after)]
    for title, direction in ((f"Worse off under {after}", found.worse), (f"Better off under {after}", found.better)):
        parts += ["", _direction(title, direction, found.treatments)]
    return parts


def _head(comparison: Comparison) -> Text:
    one, two = comparison.one, comparison.two
    text = Text()
    if not comparison.complete:
        text.append(f"PARTIAL: {comparison.stopped}\n", style="bold red")
    text.append(f"{two.policy.name} ({two.policy.digest}) instead of {one.policy.name} ({one.policy.digest})", style="bold")
    text.append(f" on {one.traffic.name}: {one.traffic.requests:,} requests of {one.accounts.accounts:,} accounts, both as if enforced")
    text.append(f"\naccounts touched {one.accounts.touched:,} -> {two.accounts.touched:,}")
    text.append(f"; worse off {comparison.worse.accounts:,}, better off {comparison.better.accounts:,}")
    if one.labelled is not None and two.labelled is not None:
        text.append(f"\nagainst the labels: precision {one.labelled.precision.share:.1%} -> {two.labelled.precision.share:.1%}")
        text.append(f", recall {one.labelled.recall.share:.1%} -> {two.labelled.recall.share:.1%}")
    return text


def _moves(comparison: Comparison | Differing, before: str, after: str) -> Table:
    out = titled(f"Requests: under {before} (rows), under {after} (columns)", "", right=tuple(comparison.treatments))
    for place, (name, row) in enumerate(zip(comparison.treatments, comparison.moves, strict=True)):
        out.add_row(name, *(Text(f"{count:,}", style=_style(place, column, count)) for column, count in enumerate(row)))
    return out


def _style(row: int, column: int, count: int) -> str:
    return "dim" if row == column or not count else "red" if column > row else "green"


def _direction(title: str, direction: Direction, treatments: Sequence[str]) -> RenderableType:
    if not direction.accounts:
        return Text(f"{title}: nobody", style="bold")
    out = titled(f"{title}: {direction.accounts:,} accounts", "account", "plan", right=("requests", "worse", "better"))
    for column in ("before", "after", "mostly by"):
        out.add_column(column)
    for one in direction.top:
        before, after = (_told(counts, treatments) for counts in (one.before, one.after))
        out.add_row(one.account, one.plan, f"{one.requests:,}", f"{one.worse:,}", f"{one.better:,}", before, after, one.why)
    return out


def _told(counts: list[int], treatments: Sequence[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in zip(treatments, counts, strict=True) if count)
