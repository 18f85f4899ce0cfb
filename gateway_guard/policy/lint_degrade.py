"""Lint for answers that are slowed down or made poorer, and for the state that they carry."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from gateway_guard.policy.finding import Finding, odd, ruled
from gateway_guard.policy.model import Policy
from gateway_guard.policy.profile import Profile

# A stream slower than this is given up by its client before its first sentence is out.
SLOWEST = 0.2  # events a second
UNSURE = 0.8
SHORT = 16  # tokens: fewer hold no sentence


def paces(policy: Policy) -> Iterator[Finding]:
    """A pace is a number of events in a time, and a client outlives it."""
    for index, rung in enumerate(policy.ladder):
        steps = ("ladder", index, "pace")
        for name in ("pace", "in_flight"):
            if rung.do == "deny" and name in rung.model_fields_set:
                yield Finding(("ladder", index, name), f"rung `{rung.id}` denies, so its `{name}` has no effect")
        if rung.pace is None:
            continue
        if rung.pace.unit != "requests" or not rung.pace.window:
            yield Finding(steps, f"rung `{rung.id}`: `pace` is a number of events in a time; {rung.pace} is not; write for example `20/s`")
        elif rung.pace.amount / rung.pace.window < SLOWEST:
            yield odd(steps, f"rung `{rung.id}`: at {rung.pace} a client gives a stream up before its first sentence; take `1/s` or more")
    for index, (below, rung) in enumerate(itertools.pairwise(policy.ladder), start=1):
        if below.in_flight is not None and rung.in_flight is not None and rung.in_flight > below.in_flight and rung.do != "deny":
            yield Finding(
                ("ladder", index, "in_flight"),
                f"rung `{rung.id}` has more room ({rung.in_flight} in flight) than `{below.id}` below it ({below.in_flight} in flight): "
                "more suspicion would be rewarded",
            )


def profiles(policy: Policy) -> Iterator[Finding]:
    """Poorer answers that are still answers."""
    for name, profile in policy.profiles.items():
        yield from _profile(name, profile)


def binding(policy: Policy) -> Iterator[Finding]:
    """State that is not bound cannot be another's."""
    rule = policy.signals.get("foreign_state")
    if policy.binding.to == "off" and rule is not None and rule.mode != "off":
        yield odd(("signals", "foreign_state"), "`foreign_state` never speaks: `binding` binds nothing; say `to: account`")
    if policy.binding.to == "off" and policy.binding.model_fields_set - {"to"}:
        yield odd(("binding",), "`binding` binds nothing, so the rest of it has no effect; say `to: account`")


def provenance(policy: Policy) -> Iterator[Finding]:
    """Marks are drawn for somebody, and only of those who are surely one."""
    marking = [name for name, profile in policy.profiles.items() if profile.marks]
    if policy.provenance.model_fields_set and not marking:
        yield odd(("provenance",), "no profile has `marks`, so `provenance` has no effect; say for example `marks: [habits]` in a profile")
    if marking and policy.provenance.confidence < UNSURE:
        yield odd(
            ("provenance", "confidence"),
            f"marks would tell of clusters that are one actor with {policy.provenance.confidence:g} only: a finding would be about nobody; 0.95 is usual",
        )


def _profile(name: str, profile: Profile) -> Iterator[Finding]:
    if profile.max_tokens is not None and profile.max_tokens < SHORT:
        yield odd(("profiles", name, "max_tokens"), f"profile `{name}`: {profile.max_tokens} tokens hold no sentence: a denial at the price of a request")
    earlier: list[str] = []
    for pattern, instead in profile.models.items():
        if "*" in earlier:
            yield Finding(("profiles", name, "models", pattern), f"profile `{name}`: `{pattern}` comes after `*`, which fits every model; write it before")
        if any(character in instead for character in "*?["):
            yield Finding(("profiles", name, "models", pattern), f"profile `{name}`: `{instead}` is a pattern; name the one model that answers instead")
        earlier.append(pattern)


RULES = (
    ruled("ladder", paces),
    ruled("profiles", profiles),
    ruled("binding signals", binding),
    ruled("profiles provenance", provenance),
)
