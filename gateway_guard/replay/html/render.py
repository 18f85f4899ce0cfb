"""From a report to one HTML file. Names and texts in it come from traffic, so the template escapes everything, and the page's own policy forbids scripts."""

from __future__ import annotations

from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gateway_guard.decision import LABELS
from gateway_guard.evidence import FAMILIES
from gateway_guard.replay.compare import Comparison
from gateway_guard.replay.html import actors, charts
from gateway_guard.replay.page import MEANING, TAKES
from gateway_guard.replay.report import Report

FEW = 48


def render(report: Report) -> bytes:
    """The page of one replay."""
    return page_of("report.html.j2", r=report, labels=LABELS, meaning=MEANING, takes=TAKES, families=FAMILIES, periods=_periods(report))


def render_comparison(comparison: Comparison) -> bytes:
    """The page of two policies side by side."""
    differing = sum(count for place, row in enumerate(comparison.moves) for other, count in enumerate(row) if place != other)
    return page_of("compare.html.j2", c=comparison, differing=differing)


def page_of(template: str, **values: object) -> bytes:
    """A page by one of the templates that come with the program."""
    style = Markup((files("gateway_guard.replay.html") / "templates" / "style.css").read_text("utf-8"))  # noqa: S704 - our own file
    digest = b64encode(sha256(style.encode()).digest()).decode()
    return _environment().get_template(template).render(style=style, digest=digest, **values).encode()


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
    digits = f"{value:.0f}" if value >= 10 or value == 0 else f"{value:.1f}" if value >= 0.1 else f"{value:.2g}"
    return f"{digits}\u00a0%"


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
