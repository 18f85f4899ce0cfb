"""A proposal for the terminal: the curve of friction against strictness, and the figures."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway_guard.tuning.friction import Friction
from gateway_guard.tuning.patch import Figures
from gateway_guard.tuning.propose import Point
from gateway_guard.tuning.tables import table_of
from gateway_guard.tuning.tune import Proposal

BAR = 30


def page(told: Proposal) -> RenderableType:
    """The whole proposal."""
    parts: list[RenderableType] = [_head(told), "", _curve(told), "", _figures(told.change.quotas), "", _friction(told)]
    parts += [Text(sentence, style="bold red" if sentence.startswith("TOO LITTLE") else "") for sentence in told.guarantee]
    if told.basis.unasked:
        parts.append(
            Text(f"Left as they are, since nothing was charged to them or their bucket is shared by strangers: {', '.join(told.basis.unasked)}.", style="dim")
        )
    if not told.calibrated:
        parts.append(Text("The policy has no calibration that holds: clusters and rungs touch nobody yet. Calibrate, then tune again.", style="dim"))
    return Group(*parts)


def _head(told: Proposal) -> Text:
    basis = told.basis
    text = Text(f"{basis.traffic}", style="bold")
    text.append(f": quotas for policy {told.policy} with a budget of {told.budget:.3%} of organisations a week", style="not bold")
    text.append(f"\n{basis.requests:,} requests of {basis.accounts:,} accounts, {basis.organisations:,} organisations", style="not bold")
    return text


def _curve(told: Proposal) -> Table:
    table = table_of(
        "Friction against strictness, on organisations that were held out",
        "quotas",
        "touched a week",
        right=("organisations", "expected", "95 % below", "width"),
    )
    most = max(point.friction for point in told.choice.curve)
    for number, point in enumerate(told.choice.curve):
        chosen = number == told.choice.chosen
        width = _middle(point)
        bar = Text("█" * max(1, round(BAR * point.friction / most)), style="green" if point.friction <= told.budget else "yellow")
        row = (f"{'> ' if chosen else '  '}{point.strictness}", bar, f"{point.touched:,}", f"{point.friction:.3%}", f"{point.bound:.3%}", f"{width:.2f}")
        table.add_row(*row, style="bold" if chosen else "")
    return table


def _middle(point: Point) -> float:
    """The factor on the quotas: the geometric mean of those that count."""
    used = [factor for factor in point.factors.values() if factor > 0]
    product = 1.0
    for factor in used:
        product *= factor ** (1 / len(used))
    return product


def _figures(quotas: list[Figures]) -> Table:
    table = table_of("Proposed", "quota", right=("was", "burst", "now", "burst", "times"))
    for one in quotas:
        style = "yellow" if one.factor > 1 else "green"
        table.add_row(one.quota, one.was_limit, f"{one.was_burst:,.12g}", one.limit, f"{one.burst:,.12g}", Text(f"{one.factor:.2f}", style=style))
    return table


def _friction(told: Proposal) -> Table:
    table = table_of("Touched in this traffic, played", "policy", right=("organisations", "accounts", "requests", "by quotas", "by shared quotas", "by rungs"))
    for name, one in ((told.policy, told.before), (f"{told.policy}-tuned", told.friction)):
        table.add_row(name, *_counts(one))
    return table


def _counts(one: Friction) -> tuple[str, ...]:
    parts = ((one.touched, one.units), (one.touched_accounts, one.accounts), (one.touched_requests, one.requests))
    return (*(f"{part:,} of {whole:,}" for part, whole in parts), *(f"{one.by[cause]:,}" for cause in ("quota", "cluster", "rung")))
