"""What is asked grows with the odds, with how many act as one, and with how often they have come; and ends at the most."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.challenge.effort import effort
from gateway_guard.policy.model import Work

USUAL = Work()
odds, sizes, repeated = st.floats(-5, 30), st.integers(0, 10_000), st.floats(0, 1000)


@given(odds, sizes, repeated, odds, sizes, repeated)
def test_more_suspicion_is_never_cheaper(a: float, n: int, r: float, more_odds: float, more: int, again: float) -> None:
    less = effort(USUAL, excess=a, size=n, repeats=r)
    assert USUAL.effort <= less <= USUAL.most
    assert effort(USUAL, excess=a + abs(more_odds), size=n + more, repeats=r + again) >= less


def test_an_account_alone_at_the_bound_pays_the_effort() -> None:
    assert effort(USUAL, excess=0.0, size=1, repeats=0.0) == 0.2


@pytest.mark.parametrize(
    ("excess", "size", "repeats", "times"),
    [(math.log(3), 1, 0.0, 3.0), (0.0, 7, 0.0, 7.0), (0.0, 1, 4.0, 5.0), (math.log(2), 3, 1.0, 12.0), (-2.0, 1, 0.0, 1.0), (0.0, 0, -1.0, 1.0)],
)
def test_each_dial_multiplies(excess: float, size: int, repeats: float, times: float) -> None:
    assert effort(USUAL, excess=excess, size=size, repeats=repeats) == pytest.approx(0.2 * times)


def test_a_cluster_pays_more_together_than_its_accounts_would_apart() -> None:
    """n accounts that act as one pay n*n times what one pays."""
    rule = Work(most=1e9)
    apart = 50 * effort(rule, excess=0.0, size=1, repeats=0.0)
    assert 50 * effort(rule, excess=0.0, size=50, repeats=0.0) == pytest.approx(50 * apart)


def test_an_honest_day_is_a_hundredth_longer_at_most() -> None:
    """Challenged by mistake, alone in what it does, asking every minute for an answer of four seconds: with the defaults."""
    passes = [effort(USUAL, excess=1.0, size=3, repeats=float(number)) for number in range(2)]  # lasts 12h
    assert 1 + sum(passes) / (24 * 60 * 4.0) < 1.01
