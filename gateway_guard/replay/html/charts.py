"""The charts of traffic, of those who are touched, and of quotas."""

from __future__ import annotations

import datetime
from collections.abc import Sequence

from markupsafe import Markup

from gateway_guard.decision import LABELS
from gateway_guard.replay.headroom import Fill
from gateway_guard.replay.html.svg import area, bound, chart, clock, on_grid, percent, plane, stairs, tag
from gateway_guard.replay.report import Timeline
from gateway_guard.replay.touched import Group

ALL, TOUCHED, GAP, AXIS = 170, 110, 34, 26
REACH = 1.1
KINDS = {"served": "allow", "delayed": "throttle", "degraded": "degrade", "refused": "deny"}


def traffic(timeline: Timeline) -> Markup:
    """Requests over time, actions stacked; below, what is touched alone, at its own scale."""
    rows = [timeline.actions.get(label, []) for label in LABELS]
    total, touched = [sum(column) for column in zip(*rows, strict=True)], [sum(column) for column in zip(*rows[1:], strict=True)]
    end = timeline.start + timeline.width * len(total)
    parts = [_stack(rows, LABELS, 14, ALL, bound(max(total)))]
    height = 14 + ALL + AXIS
    if any(touched):
        top = height + GAP
        parts += [tag("text", "Touched alone", x=0, y=top - 8, class_="label"), _stack(rows[1:], LABELS[1:], top, TOUCHED, bound(max(touched)))]
        height = top + TOUCHED + AXIS
    parts.append(clock(height - 6, timeline.start, end))
    parts.append(_hints(timeline, rows, height - AXIS))
    label = f"Requests over time: {sum(total):,}, of which {sum(touched):,} are touched; the busiest {_wide(timeline.width)} has {max(total):,}."
    return chart(height, label, *parts)


def _stack(rows: Sequence[Sequence[int]], labels: Sequence[str], top: float, height: float, most: float) -> Markup:
    low = [0.0] * len(rows[0])
    parts = []
    for row, label in zip(rows, labels, strict=True):
        high = [below + count * 100.0 / most for below, count in zip(low, row, strict=True)]
        if any(row):
            parts.append(tag("path", d=area(low, high, 100.0), class_=f"fill {label}"))
        low = high
    return on_grid(top, height, most, plane(top, height, len(low), 100, *parts))


def _hints(timeline: Timeline, rows: Sequence[Sequence[int]], height: float) -> Markup:
    """What a pointer is told about each slot."""
    hints = []
    for place, counts in enumerate(zip(*rows, strict=True)):
        if any(counts):
            told = ", ".join(f"{label} {count:,}" for label, count in zip(LABELS, counts, strict=True) if count)
            hints.append(tag("rect", tag("title", f"{when(timeline.start + place * timeline.width)} UTC: {told}"), x=place, y=0, width=1, height=1))
    return plane(0, height, len(rows[0]), 1, tag("g", *hints, class_="hints"))


def touched_twice(one: Timeline, two: Timeline) -> Markup:
    """What either of two policies touches, over time."""
    sides = [[sum(column) for column in zip(*(side.actions[label] for label in LABELS[1:]), strict=True)] for side in (one, two)]
    most = bound(max([1, *sides[0], *sides[1]]))
    lines = [tag("path", d=stairs([n * 100.0 / most for n in side], 100.0), class_=f"curve {kind}") for side, kind in zip(sides, ("c1", "c0"), strict=True)]
    end = one.start + one.width * len(sides[0])
    drawn = on_grid(14, ALL, most, plane(14, ALL, len(sides[0]), 100, *lines))
    label = f"Touched requests over time: {sum(sides[0]):,} under the first policy, {sum(sides[1]):,} under the second."
    return chart(14 + ALL + AXIS, label, drawn, clock(14 + ALL + AXIS - 6, one.start, end))


def mix(counts: Sequence[int], treatments: Sequence[str]) -> Markup:
    """One bar, parted by treatment."""
    total, at, parts = sum(counts) or 1, 0.0, []
    for count, treatment in zip(counts, treatments, strict=True):
        hint = tag("title", f"{treatment} {count:,}")
        parts.append(tag("rect", hint, x=percent(at), y=1, width=percent(count / total), height=7, class_=f"fill {KINDS[treatment]}"))
        at += count / total
    told = ", ".join(f"{treatment} {count:,}" for count, treatment in zip(counts, treatments, strict=True) if count)
    return tag("svg", *parts, class_="bar", width="100%", height=10, role="img", aria_label=told)


def share_bar(part: Group, most: float) -> Markup:
    """The share of accounts that are touched, and within it of those that are refused; the full width is `most`."""
    touched, refused = (count / part.accounts / most if part.accounts and most else 0.0 for count in (part.touched, part.refused))
    rects = [tag("rect", x=0, y=2, width="100%", height=12, class_="track"), _bar(touched, "throttle"), _bar(refused, "deny")]
    return tag("svg", *rects, class_="bar", width="100%", height=16, aria_hidden="true")


def count_bar(share: float, kind: str) -> Markup:
    """One plain bar."""
    track = tag("rect", x=0, y=2, width="100%", height=12, class_="track")
    return tag("svg", track, _bar(share, kind), class_="bar", width="100%", height=16, aria_hidden="true")


def _bar(share: float, kind: str) -> Markup:
    return tag("rect", x=0, y=2, width=percent(min(1.0, share)), height=12, class_=f"fill {kind}")


def fill_bar(fill: Fill) -> Markup:
    """How full a quota became: for half of the subjects, for 90 %, for 99 %, for the fullest. What stays empty up to the line is headroom."""
    parts = [tag("rect", x=0, y=4, width=percent(1 / REACH), height=10, class_="track")]
    for value, kind in ((fill.most, "most"), (fill.at_99, "at99"), (fill.at_90, "at90"), (fill.median, "at50")):
        parts.append(tag("rect", x=0, y=4, width=percent(min(REACH, value) / REACH), height=10, class_=f"level {kind}{' over' if value >= 1 else ''}"))
    parts.append(tag("line", x1=percent(1 / REACH), x2=percent(1 / REACH), y1=1, y2=17, class_="limit"))
    return tag("svg", *parts, class_="bar", width="100%", height=18, aria_hidden="true")


def when(at: float) -> str:
    """A time, to the minute."""
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M")


def _wide(seconds: float) -> str:
    return f"{seconds / 60:g} minutes" if seconds < 7200 else f"{seconds / 3600:.3g} hours"
