"""From a report to one HTML file. Names and texts in it come from traffic, so the template escapes everything, and the page's own policy forbids scripts."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gateway_guard.decision import LABELS
from gateway_guard.evidence import FAMILIES
from gateway_guard.replay.html import actors, charts
from gateway_guard.replay.page import MEANING
from gateway_guard.replay.report import Report

FEW = 48


def render(report: Report) -> bytes:
    """The whole page."""
    style = _environment().loader.get_source(_environment(), "style.css")[0]  # type: ignore[union-attr]
    digest = b64encode(sha256(style.encode()).digest()).decode()
    page = _environment().get_template("report.html.j2")
    return page.render(r=report, style=Markup(style), digest=digest, labels=LABELS, meaning=MEANING, families=FAMILIES, periods=_periods(report)).encode()  # noqa: S704


@cache
def _environment() -> Environment:
    """The templates that come with the program, with what they draw by."""
    made = Environment(loader=PackageLoader("gateway_guard.replay.html"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    made.filters.update(share=share, count=count, when=charts.when, spoken=spoken)
    made.globals.update(charts=charts, actors=actors)
    return made


def share(part: float, whole: float = 1.0) -> str:
    """A share in percent, with as many digits as it takes to see it."""
    value = 100.0 * part / whole if whole else 0.0
    return f"{value:.0f} %" if value >= 10 or value == 0 else f"{value:.1f} %" if value >= 0.1 else f"{value:.2g} %"


def count(value: int) -> str:
    """A count with its thousands apart."""
    return f"{value:,}"


def spoken(seconds: float) -> str:
    """A length of time in words."""
    for size, unit in ((86_400.0, "days"), (3_600.0, "hours"), (60.0, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} seconds"


def _periods(report: Report) -> list[tuple[str, list[int]]]:
    """The timeline as a table that a person can read: slots taken together until there are few."""
    timeline = report.timeline
    if timeline is None:
        return []
    rows = list(zip(*timeline.actions.values(), strict=True))
    step = -(-len(rows) // FEW) or 1
    parts = [(place, rows[place : place + step]) for place in range(0, len(rows), step)]
    return [(charts.when(timeline.start + place * timeline.width), [sum(column) for column in zip(*part, strict=True)]) for place, part in parts]
