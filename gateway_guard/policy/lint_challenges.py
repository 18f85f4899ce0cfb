"""Lint for challenges: each rung that asks says what for, what is asked can be met, and where."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway_guard.policy.finding import Finding, odd, ruled
from gateway_guard.policy.lint_ladder import ways
from gateway_guard.policy.model import ChallengeRule, Policy, StepUp, Work

_LOCAL = ("localhost", "127.0.0.1", "::1")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,31}", re.ASCII)
_PATH = re.compile(r"/[A-Za-z0-9._~/-]*", re.ASCII)
# Devices are slower than the core that effort is told in, by about this much at most.
SLOWER = 10.0
LONG_WORK = 120.0
SHORT_PASS = 600.0


def rungs(policy: Policy) -> Iterator[Finding]:
    """A rung that challenges says how, and each way is used."""
    yield from ways(policy, "challenge", "challenge")
    for below, (index, rung) in itertools.pairwise(enumerate(policy.ladder)):
        if rung.do == "challenge" and rung.profile is None and below[1].profile is not None:
            yield odd(
                ("ladder", index, "profile"),
                f"whoever meets the challenge of rung `{rung.id}` gets whole answers again, which `{below[1].id}` below it degrades; name a `profile`",
            )


def challenges(policy: Policy) -> Iterator[Finding]:
    """What is asked can be met in time, and is not asked all the time."""
    for name, rule in policy.challenges.items():
        if rule.work is not None:
            yield from _work(name, rule, rule.work)
        if rule.step_up is not None:
            yield from _step_up(name, rule.step_up)
        if rule.lasts < SHORT_PASS:
            yield odd(("challenges", name, "lasts"), f"callers are challenged anew every {rule.lasts:g} s; honest ones would feel it, 12h is usual")


def passes(policy: Policy) -> Iterator[Finding]:
    """A path of the guard's own, and names of keys."""
    rules = policy.passes
    if not _PATH.fullmatch(rules.path):
        yield Finding(("passes", "path"), f"`{rules.path}` is no path of a URL; it starts with `/` and has letters, digits and `._~-`")
    elif rules.path in policy.guard.paths:
        yield Finding(("passes", "path"), f"`{rules.path}` is guarded as an API's path; give challenges a path of their own")
    for index, name in enumerate(rules.keys):
        if not _NAME.fullmatch(name):
            yield Finding(("passes", "keys", index), f"`{name}`: a key's name has letters, digits and `_.-`, at most 32")
        elif name in rules.keys[:index]:
            yield Finding(("passes", "keys", index), f"`{name}` is listed twice; a new key needs a new name")


def _work(name: str, rule: ChallengeRule, work: Work) -> Iterator[Finding]:
    steps = ("challenges", name, "work")
    if work.effort > work.most:
        yield Finding((*steps, "effort"), f"challenge `{name}` starts at {work.effort:g} s, above the most that it asks for ({work.most:g} s)")
    if work.most > LONG_WORK:
        yield odd((*steps, "most"), f"a caller may have to compute {work.most:g} s for one request; clients give up sooner")
    if rule.within < SLOWER * work.most:
        yield odd(
            ("challenges", name, "within"),
            f"{rule.within:g} s is short for {work.most:g} s of work: slow devices take {SLOWER:g} times as long; give `within: {SLOWER * work.most:g}s`",
        )


def _step_up(name: str, rule: StepUp) -> Iterator[Finding]:
    steps, url = ("challenges", name, "step_up", "url"), urlsplit(rule.url)
    if not url.hostname or url.scheme not in ("https", "http") or not rule.url.isascii() or not rule.url.isprintable() or " " in rule.url or url.fragment:
        yield Finding(steps, f"`{rule.url}` is no URL to send people to; write for example `https://console.example.com/verify`")
    elif url.scheme == "http" and url.hostname not in _LOCAL:
        yield Finding(steps, f"`{rule.url}` is not encrypted: whoever sits on the way could take the result; use `https://`")


RULES = (
    ruled("ladder challenges profiles", rungs),
    ruled("challenges", challenges),
    ruled("passes guard", passes),
)
