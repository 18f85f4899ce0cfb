"""What a count of touched organisations says about the next ones."""

from __future__ import annotations

from math import exp, lgamma, log, log1p

SURE = 0.95
_ROUNDS = 60


def expected(touched: int, of: int) -> float:
    """The share of organisations like these that is touched, in expectation, whatever their distribution (conformal risk control)."""
    return (touched + 1) / (of + 1)


def upper(touched: int, of: int, sure: float = SURE) -> float:
    """The share that is exceeded with a probability of 1 - `sure` at most (Clopper-Pearson, one-sided)."""
    if touched >= of:
        return 1.0
    low, high = touched / of, 1.0
    for _ in range(_ROUNDS):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(touched, of, middle) > 1.0 - sure else (low, middle)
    return high


def enough(share: float) -> int:
    """How many organisations it takes, none of them touched, to vouch for a share in expectation."""
    return max(1, round(1.0 / share)) if share > 0 else 0


def _at_most(count: int, of: int, share: float) -> float:
    """The chance of `count` or fewer among `of`."""
    if share <= 0.0 or share >= 1.0:
        return 1.0 if share <= 0.0 or count >= of else 0.0
    whole, hit, missed = lgamma(of + 1), log(share), log1p(-share)
    return min(1.0, sum(exp(whole - lgamma(n + 1) - lgamma(of - n + 1) + n * hit + (of - n) * missed) for n in range(count + 1)))
