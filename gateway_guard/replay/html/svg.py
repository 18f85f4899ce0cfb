"""Small drawings. A chart is as wide as its place: x is told in percent or drawn on a plane that stretches, heights and letters are in pixels."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup, escape

STEPS = (60, 300, 900, 1800, 3600, 10_800, 21_600, 43_200, 86_400, 172_800, 604_800, 1_209_600, 2_592_000, 7_776_000, 31_536_000)
DAY = 86_400
FIRST, LAST = 0.04, 0.96


def tag(name: str, *children: str, **attributes: object) -> Markup:
    """An element. `class_` is `class`, `stroke_width` is `stroke-width`; an attribute that is None is left out."""
    parts = [f' {key.rstrip("_").replace("_", "-")}="{escape(number(value))}"' for key, value in attributes.items() if value is not None]
    return Markup(f"<{name}{''.join(parts)}>{''.join(escape(child) for child in children)}</{name}>")  # noqa: S704 - every part is escaped


def number(value: object) -> str:
    """A coordinate in few letters."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def percent(share: float) -> str:
    """A place or a width as a share of the whole."""
    return number(float(100.0 * share)) + "%"


def chart(height: int, label: str, *children: str) -> Markup:
    """A drawing as wide as its place; `label` says in a sentence what it shows."""
    return tag("svg", *children, class_="chart", width="100%", height=height, role="img", aria_label=label)


def plane(top: float, height: float, columns: float, rows: float, *children: str) -> Markup:
    """A part of a drawing whose coordinates, `columns` by `rows`, stretch to the full width and to `height` pixels."""
    return tag("svg", *children, y=top, width="100%", height=height, viewBox=f"0 0 {number(columns)} {number(rows)}", preserveAspectRatio="none")


def text(x: float, y: float, said: str, *, anchor: str = "start", class_: str = "tick") -> Markup:
    """A line of text; `x` is a share of the width."""
    return tag("text", said, x=percent(x), y=y, text_anchor=anchor, class_=class_)


def area(low: Sequence[float], high: Sequence[float], top: float) -> str:
    """The path between two staircases, one column a value, on a plane whose upper edge is `top`."""
    out = [f"M0 {number(top - low[0])}"]
    out += [f"V{number(top - value)}H{place}" for place, value in enumerate(high, 1)]
    out += [f"V{number(top - value)}H{place}" for place, value in zip(range(len(low) - 1, -1, -1), reversed(low), strict=True)]
    return "".join(out) + "Z"


def stairs(values: Sequence[float], top: float) -> str:
    """The path along a staircase."""
    return f"M0 {number(top - values[0])}" + "".join(f"V{number(top - value)}H{place}" for place, value in enumerate(values, 1))


def bound(most: float) -> float:
    """The next round number: 1, 2 or 5 times a power of ten."""
    if most <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in (1.0, 2.0, 5.0, 10.0) if step * power >= most - 1e-9)


def short(value: float) -> str:
    """A count in few letters."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:g}"


def times(start: float, end: float, most: int = 6) -> Iterator[tuple[float, str]]:
    """Round times between `start` and `end` (UTC), with their places as shares of the width."""
    span = end - start
    step = next((step for step in STEPS if span / step <= most), STEPS[-1])
    at = math.ceil(start / step) * step
    while at <= end:
        place = (at - start) / span if span else 0.0
        if FIRST <= place <= LAST:
            yield place, said(at, step)
        at += step


def said(at: float, step: float) -> str:
    """A time in a word: the day where it begins, else the hour."""
    when = datetime.datetime.fromtimestamp(at, datetime.UTC)
    if step < DAY and at % DAY:
        return when.strftime("%H:%M")
    return f"{when.day} {when:%b}" if step < STEPS[-2] else f"{when:%b %Y}"


def on_grid(top: float, height: float, most: float, drawn: Markup) -> Markup:
    """What is drawn, on lines across, and what the lines stand for."""
    marks = [(top + height * (1.0 - share), short(most * share)) for share in (0.5, 1.0)]
    lines = [tag("line", x1="0", x2="100%", y1=y, y2=y, class_="grid") for y, _ in marks]
    return Markup().join([*lines, drawn, *(text(0.0, y + 12, word, class_="tick halo") for y, word in marks)])


def clock(y: float, start: float, end: float) -> Markup:
    """The times below a drawing."""
    marks = []
    for place, word in times(start, end):
        marks.append(tag("line", x1=percent(place), x2=percent(place), y1=y - 16, y2=y - 12, class_="axis"))
        marks.append(text(place, y, word, anchor="middle"))
    return Markup().join(marks)
