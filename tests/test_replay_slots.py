"""Slots of time: nothing is lost when they are joined, and there are never too many."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.replay.slots import NARROWEST, SLOTS, Activity, Slots


def test_the_first_slot_begins_at_a_whole_minute() -> None:
    slots = Slots()
    assert slots.turn(1_800_000_037.0) == 0
    assert (slots.start, slots.number, slots.ends) == (1_800_000_000.0, 0, 1_800_000_060.0)


def test_slots_widen_when_they_no_longer_suffice() -> None:
    slots = Slots()
    slots.turn(600.0)
    assert slots.turn(600.0 + SLOTS * NARROWEST) == 1
    assert (slots.width, slots.number) == (2 * NARROWEST, SLOTS // 2)


@given(st.lists(st.tuples(st.floats(0.0, 50_000.0), st.integers(0, 90)), min_size=1, max_size=60))
def test_every_request_stays_counted_in_the_slot_of_its_time(steps: list[tuple[float, int]]) -> None:
    slots, activity = Slots(), Activity()
    times = list(accumulate((gap for gap, _ in steps), initial=1_000_020.0))[1:]
    for at, (_, row) in zip(times, steps, strict=True):
        if at >= slots.ends:
            activity.flush(slots.number)
            for _ in range(slots.turn(at)):
                activity.join()
        activity.pending.append(row)
    activity.flush(slots.number)
    assert slots.number < SLOTS
    for row in range(91):
        expected = [0] * SLOTS
        for at, (_, own) in zip(times, steps, strict=True):
            expected[int((at - slots.start) // slots.width)] += own == row
        assert activity.of([row]) == [expected]
    assert sum(activity.total(range(91))) == len(steps)


def test_counts_stop_rather_than_begin_anew() -> None:
    activity = Activity()
    activity.pending += [3] * 70_000
    activity.flush(0)
    activity.pending += [3] * 70_000
    activity.flush(1)
    assert activity.of([3])[0][:3] == [65_535, 65_535, 0]
    activity.join()
    assert activity.of([3])[0][:2] == [65_535, 0]


def test_rows_that_are_not_known_are_quiet() -> None:
    assert Activity().of([-1, 10_000]) == [[0] * SLOTS] * 2
    assert Activity().total([-1, 10_000]) == [0] * SLOTS
