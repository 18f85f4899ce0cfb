"""The memory store is bounded: full, it tightens; what has drained is dropped. What every store keeps is in `contracts`."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.quota import Charge, Quota, Spend, drained
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


@given(st.lists(st.tuples(st.sets(st.integers(0, 2), min_size=1), st.floats(-3.0, 9.0), st.floats(0.0, 20.0))))
def test_levels_are_what_each_bucket_alone_would_owe(steps: list[tuple[set[int], float, float]]) -> None:
    """However the quotas that apply change from request to request, so that the levels of one row are of different ages."""
    store, quotas = MemoryStore(), (MINUTE, DAY, HELD)
    owed, since, at = [0.0] * 3, [0.0] * 3, 0.0
    for chosen, cost, gap in steps:
        at += gap
        adjust(store, *(Charge("a", quotas[i], cost) for i in sorted(chosen)), at=at)
        for i in chosen:
            owed[i], since[i] = max(0.0, drained(owed[i], since[i], at, quotas[i].rate) + cost), at
    expected = [drained(level, then, at + 1.0, quota.rate) for level, then, quota in zip(owed, since, quotas, strict=True)]
    assert [level(store, Charge("a", quota, 0.0), at + 1.0) for quota in quotas] == pytest.approx(expected, abs=1e-6)
