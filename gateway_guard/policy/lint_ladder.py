"""Lint for signals, the ladder and exemptions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from gateway_guard.policy.finding import Finding, odd, ruled
from gateway_guard.policy.lint_quotas import missing
from gateway_guard.policy.model import Exemption, Policy, Rung
from gateway_guard.policy.tenure import PERIODS
from gateway_guard.signals.catalogue import NAMES

if TYPE_CHECKING:
    import datetime

STRENGTH = ("allow", "throttle", "degrade", "challenge", "deny")
# A challenge and a denial need both columns; neither alone convicts.
COLUMNS = ("coordination", "harvest")
LONG_EXEMPTION = 400  # days
DAY = 86400.0
LONGEST = 90 * DAY


def signals(policy: Policy) -> Iterator[Finding]:
    """Signals that exist and can say something."""
    for name, rule in policy.signals.items():
        if name not in NAMES:
            yield Finding(("signals", name), missing(name, "signal", set(NAMES)))
        elif rule.weight == 0 and rule.mode != "off":
            yield odd(("signals", name, "weight"), f"signal `{name}` weighs nothing; say `mode: off`, or `mode: shadow` to watch it")


def ladder(policy: Policy) -> Iterator[Finding]:
    """Each rung is above, stronger and tighter than the one before."""
    yield from _twice("ladder", policy.ladder)
    for index, (below, rung) in enumerate(itertools.pairwise(policy.ladder), start=1):
        if rung.at <= below.at:
            yield Finding(
                ("ladder", index, "at"),
                f"rung `{rung.id}` starts at {rung.at:g}, not above `{below.id}` before it ({below.at:g}); write the rungs from calm to sure",
            )
        if STRENGTH.index(rung.do) < STRENGTH.index(below.do):
            yield Finding(
                ("ladder", index, "do"), f"rung `{rung.id}` does less ({rung.do}) than `{below.id}` below it ({below.do}): more suspicion would be rewarded"
            )
        if rung.scale > below.scale and rung.do != "deny":
            yield Finding(
                ("ladder", index, "scale"),
                f"rung `{rung.id}` has more room (scale {rung.scale:g}) than `{below.id}` below it ({below.scale:g}): more suspicion would be rewarded",
            )
    for index, rung in enumerate(policy.ladder):
        yield from _rung(("ladder", index), rung)


def reach(policy: Policy) -> Iterator[Finding]:
    """A rung is of use only when the signals can add up to it."""
    listed = {name: rule for name, rule in policy.signals.items() if rule.mode != "off" and rule.weight > 0 and name in NAMES}
    most = sum(rule.ceiling for rule in listed.values())
    acting = sum(rule.ceiling for rule in listed.values() if rule.mode == "enforce")
    for index, rung in enumerate(policy.ladder):
        if rung.at > most:
            says = f"rung `{rung.id}` starts at {rung.at:g}, and the ceilings of the signals add up to {most:g}; lower `at`, or raise a ceiling"
            yield Finding(("ladder", index, "at"), says + ("" if policy.signals else " (`signals` lists none)"))
        elif rung.at > acting:
            yield odd(
                ("ladder", index, "at"),
                f"rung `{rung.id}` starts at {rung.at:g}, and signals outside shadow add up to {acting:g}: it is only recorded, never acted on",
            )
        silent = [name for name in COLUMNS if name not in listed]
        if rung.do in ("challenge", "deny") and silent:
            yield Finding(
                ("ladder", index, "do"),
                f"rung `{rung.id}` can never {rung.do}: that takes the signals coordination and harvest, and {' and '.join(silent)} is not active",
            )


def lifetimes(policy: Policy) -> Iterator[Finding]:
    """Every action ends in a time that somebody would wait for, and not before it has begun."""
    for index, rung in enumerate(policy.ladder):
        steps = ("ladder", index)
        if rung.do == "allow":
            said = sorted({"expires", "apply"} & rung.model_fields_set)
            if said:
                yield odd((*steps, said[0]), f"rung `{rung.id}` allows, so its `{said[0]}` has no effect")
            continue
        if rung.expires > LONGEST:
            says = f"rung `{rung.id}` would outlive its evidence by {rung.expires / DAY:g} days; every action ends: at most 90d, for example 3d"
            yield Finding((*steps, "expires"), says)
        elif policy.analysis.enabled and rung.expires < policy.analysis.refresh:
            yield odd(
                (*steps, "expires"),
                f"rung `{rung.id}` expires after {rung.expires:g} s, before the analyst concludes again ({policy.analysis.refresh:g} s): it would come and go",
            )
        if rung.expires < 2 * PERIODS[rung.apply]:
            # A moment in this hour may be past: the next one is up to two hours away.
            yield odd((*steps, "apply"), f"rung `{rung.id}` may expire ({rung.expires:g} s) before it is applied {rung.apply}; let it last longer")


def profiles(policy: Policy) -> Iterator[Finding]:
    """A rung that degrades says how, and each way is used."""
    yield from ways(policy, "profile", "degrade", "challenge")


def ways(policy: Policy, key: Literal["profile", "challenge"], does: str, *also: str) -> Iterator[Finding]:
    """A rung that `does` this says how, in `key`; only rungs that do it, or `also` these, name a way; each way that is named exists, and each is used."""
    known: Mapping[str, object] = getattr(policy, f"{key}s")
    named = [getattr(rung, key) for rung in policy.ladder]
    for index, (rung, way) in enumerate(zip(policy.ladder, named, strict=True)):
        steps = ("ladder", index, key)
        if rung.do == does and way is None:
            yield Finding(steps, f"rung `{rung.id}` {does}s and does not say how; name one of `{key}s` in `{key}`")
        elif way is not None and way not in known:
            yield Finding(steps, f"rung `{rung.id}`: {missing(way, key, set(known))}")
        elif way is not None and rung.do not in (does, *also):
            yield Finding(steps, f"rung `{rung.id}` does {rung.do}, so its `{key}` has no effect; say `do: {does}`")
    for name in known:
        if name not in named:
            yield odd((f"{key}s", name), f"no rung uses {key} `{name}`")


def analysis(policy: Policy) -> Iterator[Finding]:
    """Evidence about groups comes from the analyst, in time and from what it still remembers."""
    rules = policy.analysis
    waiting = [name for name in COLUMNS if name in policy.signals and policy.signals[name].mode != "off"]
    if not rules.enabled and (waiting or policy.clusters.share):
        yield odd(
            ("analysis", "enabled"),
            "without the analyst no account is ever found to act as one with others, nor to harvest: those signals and `clusters` stay silent",
        )
    if rules.refresh > rules.window:
        yield Finding(
            ("analysis", "refresh"),
            f"the analyst would conclude every {rules.refresh:g} s and forgets after {rules.window:g} s (`window`); let it conclude more often",
        )
    if rules.half_life > rules.window:
        yield odd(
            ("analysis", "half_life"), f"what was seen is forgotten after {rules.window:g} s (`window`), long before it counts half ({rules.half_life:g} s)"
        )


def exemptions(policy: Policy) -> Iterator[Finding]:
    """Each exemption has a name of its own."""
    yield from _twice("exemptions", policy.exemptions)


def dates(policy: Policy, at: datetime.date | None) -> Iterator[Finding]:
    """An exemption ends, and one that has ended is taken out."""
    for index, exemption in enumerate(policy.exemptions):
        steps = ("exemptions", index, "until")
        if at is not None and exemption.until < at:
            yield Finding(steps, f"exemption `{exemption.id}` ended on {exemption.until}; take it out, or agree on a new date")
        elif at is not None and (exemption.until - at).days > LONG_EXEMPTION:
            yield odd(steps, f"exemption `{exemption.id}` runs until {exemption.until}; look at it again within a year")


def effect(policy: Policy) -> Iterator[Finding]:
    """An enforcing policy has something to enforce."""
    if policy.mode == "enforce" and not policy.quotas and not policy.ladder:
        yield odd(("mode",), "enforces nothing: there are neither `quotas` nor a `ladder`")


def _rung(steps: tuple[str, int], rung: Rung) -> Iterator[Finding]:
    if rung.at <= 0 and (rung.do != "allow" or rung.scale < 1):
        yield Finding((*steps, "at"), f"rung `{rung.id}` acts from {rung.at:g}, and a caller of whom nothing is known has 0: it would meet everybody")
    elif rung.do == "allow" and rung.scale < 1:
        yield Finding((*steps, "do"), f"rung `{rung.id}` allows and yet shrinks quotas to {rung.scale:g}; say `do: throttle`")
    elif rung.do == "throttle" and rung.scale == 1 and rung.pace is None and rung.in_flight is None:
        yield Finding((*steps, "do"), f"rung `{rung.id}` throttles by nothing; give `scale`, the part of each quota that is left, for example 0.5")
    elif rung.do == "deny" and "scale" in rung.model_fields_set:
        yield odd((*steps, "scale"), f"rung `{rung.id}` denies, so its `scale` has no effect")


def _twice(section: str, items: Sequence[Rung | Exemption]) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, item in enumerate(items):
        if item.id in seen:
            yield Finding((section, index, "id"), f"there is a `{item.id}` before this one in `{section}`; give each its own id")
        seen.add(item.id)


RULES = (
    ruled("signals", signals),
    ruled("ladder", ladder),
    ruled("ladder signals", reach),
    ruled("ladder analysis", lifetimes),
    ruled("ladder profiles", profiles),
    ruled("analysis signals clusters", analysis),
    ruled("exemptions", exemptions),
    ruled("mode quotas ladder", effect),
)
