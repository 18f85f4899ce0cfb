"""The memory store: never over the bound, nothing forgiven, nothing leaked."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.quota import Charge, Quota, Spend
from gateway_guard.stores.memory import MemoryStore

MINUTE = Quota("minute", rate=1.0, burst=10.0)
DAY = Quota("day", rate=0.01, burst=100.0, unit="tokens")
HELD = Quota("held", rate=0.0, burst=2.0, unit="in_flight")


def spend(store: MemoryStore, *charges: Charge, at: float, patience: float = 0.0, hold: str = "", until: float = 0.0) -> Spend:
    coroutine = store.spend(charges, at, patience=patience, hold=hold, until=until)
    result = finish(coroutine)
    assert isinstance(result, Spend)
    return result


def adjust(store: MemoryStore, *charges: Charge, at: float, hold: str = "") -> None:
    finish(store.adjust(charges, at, hold=hold))


def level(store: MemoryStore, charge: Charge, at: float) -> float:
    found = finish(store.peek([charge], at))
    assert isinstance(found, tuple)
    owed: float = found[0]
    return owed


def finish(coroutine: object) -> object:
    """The memory store never suspends: its coroutines end at the first step."""
    try:
        coroutine.send(None)  # type: ignore[attr-defined]
    except StopIteration as stop:
        return stop.value
    raise AssertionError("the memory store suspended")


def test_a_burst_then_the_rate() -> None:
    store = MemoryStore()
    admitted = [spend(store, Charge("a", MINUTE, 1.0), at=0.0).ok for _ in range(12)]
    assert admitted == [True] * 10 + [False] * 2
    assert spend(store, Charge("a", MINUTE, 1.0), at=0.5).wait == pytest.approx(0.5)
    assert spend(store, Charge("a", MINUTE, 1.0), at=1.0).ok


def test_subjects_and_kinds_are_apart() -> None:
    store = MemoryStore()
    org = Quota("minute", rate=1.0, burst=1.0, per="org")
    assert spend(store, Charge("x", MINUTE, 10.0), at=0.0).ok
    assert spend(store, Charge("y", MINUTE, 10.0), at=0.0).ok
    assert spend(store, Charge("x", org, 1.0), at=0.0).ok
    assert not spend(store, Charge("x", org, 1.0), at=0.0).ok


def test_all_or_none() -> None:
    store = MemoryStore()
    result = spend(store, Charge("a", DAY, 5.0), Charge("a", MINUTE, 11.0), at=0.0)
    assert (result.ok, result.short) == (False, 1)
    assert level(store, Charge("a", DAY, 0.0), 0.0) == 0.0


def test_what_is_larger_than_the_burst_never_fits() -> None:
    assert spend(MemoryStore(), Charge("a", MINUTE, 11.0), at=0.0).wait == math.inf


def test_patience_admits_what_fits_soon_and_says_how_long_to_hold_it() -> None:
    store = MemoryStore()
    assert spend(store, Charge("a", MINUTE, 10.0), at=0.0).ok
    soon = spend(store, Charge("a", MINUTE, 2.0), at=0.0, patience=2.0)
    assert (soon.ok, soon.wait, soon.short) == (True, 2.0, 0)
    later = spend(store, Charge("a", MINUTE, 1.0), at=0.0, patience=2.0)
    assert (later.ok, later.wait) == (False, 3.0)


def test_an_unsettled_reservation_expires_once() -> None:
    store = MemoryStore()
    charge = Charge("a", DAY, 60.0, held=40.0)
    assert spend(store, charge, at=0.0, hold="r", until=10.0).ok
    assert level(store, charge, 9.0) == pytest.approx(59.91)
    assert level(store, charge, 10.0) == pytest.approx(19.9)
    # The settling that comes too late corrects only what was not given back already: truth was 25.
    adjust(store, Charge("a", DAY, 25.0 - 60.0, held=40.0), at=20.0, hold="r")
    assert level(store, charge, 20.0) == pytest.approx(24.8)


def test_settling_replaces_the_forecast_by_the_truth() -> None:
    store = MemoryStore()
    charge = Charge("a", DAY, 60.0, held=40.0)
    assert spend(store, charge, at=0.0, hold="r", until=1000.0).ok
    adjust(store, Charge("a", DAY, 95.0 - 60.0, held=40.0), at=0.0, hold="r")
    assert level(store, charge, 0.0) == pytest.approx(95.0)
    assert level(store, charge, 1000.0) == pytest.approx(85.0)


def test_requests_in_flight_come_back_by_settling_and_by_expiry() -> None:
    store = MemoryStore()
    one = Charge("a", HELD, 1.0, held=1.0)
    assert spend(store, one, at=0.0, hold="r1", until=50.0).ok
    assert spend(store, one, at=0.0, hold="r2", until=60.0).ok
    assert not spend(store, one, at=49.0, hold="r3", until=99.0).ok
    assert spend(store, one, at=50.0, hold="r4", until=99.0).ok
    adjust(store, Charge("a", HELD, -1.0, held=1.0), at=51.0, hold="r1")
    assert not spend(store, one, at=51.0).ok, "a late settling gives nothing back twice"
    adjust(store, Charge("a", HELD, -1.0, held=1.0), at=52.0, hold="r2")
    assert spend(store, one, at=52.0).ok


@pytest.mark.parametrize("cut", [0.5, 0.1, 0.01])
def test_tightening_hands_nothing_out_and_widening_takes_nothing_away(cut: float) -> None:
    store = MemoryStore()
    assert spend(store, Charge("a", MINUTE, 10.0), at=0.0).ok
    tight = Charge("a", Quota("minute", rate=cut, burst=10.0 * cut), 1.0 * cut)
    assert not spend(store, tight, at=0.0).ok
    assert level(store, Charge("a", MINUTE, 0.0), 0.0) == 10.0


def test_a_new_cluster_opens_full_and_forgetting_it_loses_nothing() -> None:
    shared = Quota("minute", rate=1.0, burst=10.0, per="cluster")
    for store in (MemoryStore(), MemoryStore()):
        assert not spend(store, Charge("c", shared, 1.0, opened=100.0), at=100.0).ok
        assert spend(store, Charge("c", shared, 5.0, opened=100.0), at=105.0).ok
        assert not spend(store, Charge("c", shared, 1.0, opened=100.0), at=105.0).ok


def test_a_full_store_tightens() -> None:
    """A caller with many fresh keys can neither make the store forget his debt nor get a quota for each."""
    store = MemoryStore(cap=5)
    spend(store, Charge("debtor", MINUTE, 10.0), at=0.0)
    admitted = sum(spend(store, Charge(f"fresh{i}", MINUTE, 1.0), at=0.0).ok for i in range(100))
    assert admitted == 4 + 10
    assert not spend(store, Charge("debtor", MINUTE, 1.0), at=0.0).ok
    assert len(store) <= 5


def test_whoever_leaves_the_overflow_takes_the_debt_along() -> None:
    store = MemoryStore(cap=1)
    spend(store, Charge("first", MINUTE, 1.0), at=0.0)
    assert spend(store, Charge("second", MINUTE, 10.0), at=0.0).ok
    # "first" has drained at 5.0 and makes room; half of the overflow's debt stands.
    assert spend(store, Charge("second", MINUTE, 5.0), at=5.0).ok
    assert not spend(store, Charge("second", MINUTE, 1.0), at=5.0).ok


def test_drained_rows_are_dropped() -> None:
    store = MemoryStore(cap=1000)
    for i in range(10_000):
        assert spend(store, Charge(f"s{i}", MINUTE, 1.0), at=float(i)).ok
    assert len(store) < 10


def test_a_drained_row_that_is_being_spent_from_is_not_dropped() -> None:
    """Opening a new subject's row must not throw out the drained row of another charge of the same spend."""
    store = MemoryStore()
    other = Quota("minute", rate=1.0, burst=10.0, per="org")
    spend(store, Charge("a", MINUTE, 1.0), at=0.0)
    for i in range(10):
        at = 100.0 * (i + 1)
        assert spend(store, Charge(f"org{i}", other, 1.0), Charge("a", MINUTE, 10.0), at=at).ok
        assert level(store, Charge("a", MINUTE, 0.0), at) == 10.0


def test_a_clock_that_runs_back_gives_nothing() -> None:
    store = MemoryStore()
    assert spend(store, Charge("a", MINUTE, 10.0), at=100.0).ok
    assert not spend(store, Charge("a", MINUTE, 1.0), at=50.0).ok
    assert not spend(store, Charge("a", MINUTE, 1.0), at=100.5).ok


steps = st.lists(st.tuples(st.floats(0.0, 5.0), st.sampled_from("ab"), st.floats(0.1, 4.0), st.floats(0.0, 3.0)), max_size=60)


@given(steps)
def test_never_over_burst_plus_rate_times_t(schedule: Sequence[tuple[float, str, float, float]]) -> None:
    """Whatever the schedule: what is released in any stretch of time is at most burst + rate * t."""
    store, at = MemoryStore(), 0.0
    released: dict[str, list[tuple[float, float]]] = {"a": [], "b": []}
    for gap, subject, cost, patience in schedule:
        at += gap
        result = spend(store, Charge(subject, MINUTE, cost), at=at, patience=patience)
        if result.ok:
            assert result.wait <= patience
            released[subject].append((at + result.wait, cost))
    for served in released.values():
        for i, (start, _) in enumerate(served):
            total = 0.0
            for end, cost in served[i:]:
                total += cost
                assert total <= MINUTE.burst + MINUTE.rate * (end - start) + 1e-6


@given(steps)
def test_expiry_is_lossless(schedule: Sequence[tuple[float, str, float, float]]) -> None:
    """A store that drops drained rows all the time decides like one that never does."""
    small, large, at = MemoryStore(), MemoryStore(), 0.0
    for i, (gap, subject, cost, patience) in enumerate(schedule):
        at += gap
        # Passers-by move the clock hand of one store only.
        spend(small, Charge(f"other{i}", MINUTE, 0.1), at=at)
        assert spend(small, Charge(subject, MINUTE, cost), at=at, patience=patience) == spend(large, Charge(subject, MINUTE, cost), at=at, patience=patience)


@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 30.0), st.floats(0.0, 30.0), st.booleans()), max_size=40))
def test_settled_debts_equal_the_truth(schedule: Sequence[tuple[float, float, float, bool]]) -> None:
    """Reserve, then settle: with nothing drained the debt is the sum of the truths; no reservation leaks."""
    still = Quota("still", rate=0.0, burst=1e9, unit="tokens")
    store, at, truth = MemoryStore(), 0.0, 0.0
    for i, (gap, forecast, used, late) in enumerate(schedule):
        at += gap
        assert spend(store, Charge("a", still, forecast, held=forecast), at=at, hold=str(i), until=at + 1.0).ok
        at += 2.0 if late else 0.5
        adjust(store, Charge("a", still, used - forecast, held=forecast), at=at, hold=str(i))
        truth += used
    assert level(store, Charge("a", still, 0.0), at) == pytest.approx(truth, abs=1e-6)
