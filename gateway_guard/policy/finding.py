"""What lint finds, and how its rules are written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import msgspec

from gateway_guard.policy.model import Policy
from gateway_guard.policy.tree import Steps


class Finding(msgspec.Struct, frozen=True):
    """`steps` lead to the part of the policy that is meant. `severe`: the policy is refused; else it is merely odd."""

    steps: Steps
    says: str
    severe: bool = True


Rule: TypeAlias = Callable[[Policy], Iterator[Finding]]
Ruled: TypeAlias = tuple[frozenset[str], Rule]


def odd(steps: Steps, says: str) -> Finding:
    """A finding that warns and refuses nothing."""
    return Finding(steps, says, severe=False)


def ruled(sections: str, rule: Rule) -> Ruled:
    """A rule with the sections that it reads, separated by spaces."""
    return frozenset(sections.split()), rule
