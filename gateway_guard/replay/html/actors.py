"""The pictures of clusters, and of what labels say about them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from markupsafe import Markup

from gateway_guard.replay.clusters import Found
from gateway_guard.replay.html.svg import area, bound, chart, clock, number, on_grid, percent, plane, short, stairs, tag, text
from gateway_guard.replay.labels import Actor, Share
from gateway_guard.replay.portrait import JOINED, Portrait, Row, Trait
from gateway_guard.replay.report import Timeline

MAP, MARGIN, NAMED = 300, 0.06, 6
ACTIVITY, CELL, SPACE = 90, 8, 24
LINE, REACHED = 26, 0.46
WORDS = {
    "payment": "one card",
    "signup": "one sign-up network",
    "mail": "one mail domain",
    "born": "one sign-up day",
    "age": "about one age",
    "plan": "one plan",
    "network": "one network",
    "client": "same headers",
    "version": "one program version",
    "shape": "same parameters",
    "tools": "same tools",
    "odd": "same odd headers",
    "model": "one model",
    "system": "same system prompt",
    "template": "same request",
    "sentence": "same sentence",
    "sketch": "same passage",
    "elicits": "training material",
    "thread": "one conversation",
    "blob": "one reasoning blob",
}
CURVES = 220
DEPTHS = 4


def overview(clusters: Sequence[Found]) -> Markup:
    """Every cluster by its two columns: only beyond both limits, top right, does the ladder apply."""
    across, up = _scale([one.coordination for one in clusters]), _scale([one.harvest for one in clusters])
    zero_x, zero_y = across(0.0), MAP * (1.0 - up(0.0))
    frame = [
        tag("rect", x=percent(zero_x), y=0, width=percent(1.0 - zero_x), height=zero_y, class_="beyond"),
        tag("line", x1=percent(zero_x), x2=percent(zero_x), y1=0, y2=MAP, class_="axis"),
        tag("line", x1="0", x2="100%", y1=zero_y, y2=zero_y, class_="axis"),
        text(zero_x + 0.01, 16, "↑ harvest: the ladder applies here", class_="tick halo"),
        text(0.99, MAP - 8, "coordination →", anchor="end", class_="tick halo"),
    ]
    spots = [(across(one.coordination), MAP * (1.0 - up(one.harvest)), one) for one in clusters]
    dots = [_dot(x, y, one) for x, y, one in sorted(spots, key=lambda spot: -spot[2].size)]
    return chart(MAP, f"{len(clusters):,} clusters by coordination and harvest", *frame, *dots, *_names(spots))


def _dot(x: float, y: float, one: Found) -> Markup:
    told = f"{one.id}: {one.size:,} accounts, coordination {one.coordination:+.1f}, harvest {one.harvest:+.1f}"
    kind = "deny" if one.coordination > 0 and one.harvest > 0 else "allow"
    return tag("circle", tag("title", told), cx=percent(x), cy=y, r=_radius(one), class_=f"dot {kind}")


def _radius(one: Found) -> float:
    return min(26.0, 3.0 + math.sqrt(one.size))


def _names(spots: Sequence[tuple[float, float, Found]]) -> Iterator[Markup]:
    """The names of the foremost, as far as they do not cover each other on a phone."""
    taken: list[tuple[float, float]] = []
    for x, y, one in spots:
        above = y - _radius(one) - 4
        line = above if above > 24 else y + _radius(one) + 14
        if len(taken) < NAMED and all(abs(x - other) > 0.3 or abs(line - height) > 13 for other, height in taken):
            taken.append((x, line))
            yield text(x, line, one.id, anchor="start" if x < 0.2 else "end" if x > 0.8 else "middle", class_="tick halo")


def _scale(values: Sequence[float]) -> _Scale:
    low, high = min(0.0, *values), max(0.0, *values)
    return _Scale(low, max(high - low, 1.0))


class _Scale:
    """From a value to a share of the width, with a margin at either end."""

    def __init__(self, low: float, span: float) -> None:
        self._low = low
        self._span = span

    def __call__(self, value: float) -> float:
        return MARGIN + (1.0 - 2.0 * MARGIN) * (value - self._low) / self._span


def activity(portrait: Portrait, timeline: Timeline, born: float) -> Markup:
    """What the members did, before they were found and after; below, the most active of them one by one."""
    total, touched = portrait.requests, portrait.touched
    most, size = bound(max(total)), max([*portrait.sizes, 1])
    calm = [float(max(0, count - met)) * 100.0 / most for count, met in zip(total, touched, strict=True)]
    every = [float(count) * 100.0 / most for count in total]
    zero = [0.0] * len(total)
    lines = [
        tag("path", d=area(zero, calm, 100.0), class_="fill allow"),
        tag("path", d=area(calm, every, 100.0), class_="fill deny"),
        tag("path", d=stairs([one * 100.0 / size for one in portrait.sizes], 100.0), class_="sizes"),
    ]
    top = 14
    bottom = top + ACTIVITY + 8 + CELL * len(portrait.members)
    end = timeline.start + timeline.width * len(total)
    found = (born - timeline.start) / (end - timeline.start)
    parts = [on_grid(top, ACTIVITY, most, plane(top, ACTIVITY, len(total), 100, *lines)), _raster(portrait.members, top + ACTIVITY + 8, len(total) / JOINED)]
    if 0.0 <= found <= 1.0:
        parts.append(tag("line", x1=percent(found), x2=percent(found), y1=0, y2=bottom, class_="found"))
        parts.append(text(found + (0.01 if found < 0.85 else -0.01), 10, "found", anchor="start" if found < 0.85 else "end"))
    label = f"Requests of the members over time: {sum(total):,}, of which {sum(touched):,} are touched. Below, the {len(portrait.members)} most active members."
    return chart(bottom + SPACE, label, *parts, clock(bottom + SPACE - 6, timeline.start, end))


def _raster(members: Sequence[Row], top: float, columns: float) -> Markup:
    most = max((max(row.requests, default=0) for row in members), default=1) or 1
    cells: dict[str, list[str]] = {}
    for place, row in enumerate(members):
        for column, (count, met) in enumerate(zip(row.requests, row.touched, strict=True)):
            if count:
                depth = min(DEPTHS, 1 + int(DEPTHS * math.log1p(count) / math.log1p(most)))
                cells.setdefault(f"{'deny' if met else 'calm'} d{depth}", []).append(f"M{column} {place}h1v.8h-1z")
    return plane(top, CELL * len(members), columns, len(members), *(tag("path", d="".join(d), class_=f"cell {kind}") for kind, d in sorted(cells.items())))


def graph(portrait: Portrait) -> Markup:
    """The members on the left, the traits that they share on the right, and who shows what."""
    traits, members = portrait.traits, portrait.members
    height = float(max(LINE * len(traits), CELL * len(members)) + 8)
    left, right = _spread(len(members), height), _spread(len(traits), height)
    ties = [_tie(left[place], right[trait], traits[trait].family) for place, row in enumerate(members) for trait in row.traits]
    drawn = tag("svg", *ties, x="3%", width=percent(REACHED - 0.03), height=height, viewBox=f"0 0 100 {number(height)}", preserveAspectRatio="none")
    dots = [tag("circle", tag("title", row.account), cx="2%", cy=y, r=3, class_="dot allow") for y, row in zip(left, members, strict=True)]
    ends = [tag("circle", cx=percent(REACHED), cy=y, r=5, class_=f"dot {trait.family}") for y, trait in zip(right, traits, strict=True)]
    words = [text(REACHED + 0.03, y + 4, _trait(trait), class_="label") for y, trait in zip(right, traits, strict=True)]
    told = ", ".join(f"{trait.members:,} {trait.says}" for trait in traits)
    return chart(math.ceil(height), f"What the members share: {told}.", drawn, *dots, *ends, *words)


def _spread(count: int, height: float) -> list[float]:
    return [height * (place + 0.5) / count for place in range(count)]


def _tie(low: float, high: float, family: str) -> Markup:
    return tag("path", d=f"M0 {number(low)}C50 {number(low)} 50 {number(high)} 100 {number(high)}", class_=f"tie {family}")


def _trait(trait: Trait) -> str:
    return f"{WORDS.get(trait.kind, trait.kind)} ({trait.members:,})"


def interval(share: Share) -> Markup:
    """A share between 0 and 1, with its interval."""
    parts = [
        tag("rect", x=0, y=7, width="100%", height=4, class_="track"),
        tag("line", x1=percent(share.low), x2=percent(share.high), y1=9, y2=9, class_="whisker"),
        tag("circle", cx=percent(share.share), cy=9, r=5, class_="dot allow"),
    ]
    return tag("svg", *parts, class_="bar", width="100%", height=18, aria_hidden="true")


def containment(actors: Sequence[Actor]) -> Markup:
    """The share of each actor's accounts that were caught, by hours since its first request."""
    reach = bound(max([hours for actor in actors for hours, _ in actor.curve], default=1.0))
    paths = []
    for place, actor in enumerate(actors):
        d = "M0 100" + "".join(f"H{number(hours / reach * 100)}V{number(100 - 100 * share)}" for hours, share in actor.curve) + "H100"
        paths.append(tag("path", tag("title", actor.name), d=d, class_=f"curve c{place % 6}"))
    parts = [on_grid(14, CURVES, 100.0, plane(14, CURVES, 100, 100, *paths))]
    parts += [text(share, CURVES + 30, f"{short(reach * share)} h", anchor="middle" if share < 1 else "end") for share in (0.25, 0.5, 0.75, 1.0)]
    return chart(CURVES + 36, "Share of each actor's accounts caught, by hours since its first request, in percent", *parts)
