"""How much work a challenge asks for. Suspicion is the dial: the odds, how many act as one, and how often they have come already."""

from __future__ import annotations

import math

from gateway_guard.policy.model import Work

# Beyond this the odds multiply the work no further; `most` has capped it long before.
EXCESS = 20.0


def effort(rule: Work, *, excess: float, size: int, repeats: float) -> float:
    """Seconds of one plain core.

    In proportion to the odds above the rung's bound (`excess`, log-odds), to the cluster's `size`, and to one more than the passes that each
    member has had lately (`repeats`). So n accounts that act as one pay n*n times what one pays: splitting up gains nothing.
    """
    odds = math.exp(min(max(excess, 0.0), EXCESS))
    return min(rule.most, rule.effort * odds * max(1, size) * (1.0 + max(0.0, repeats)))
