"""A replay leaves the collector as it found it."""

from __future__ import annotations

import gc
from contextlib import suppress

import pytest

from gateway_guard.replay.garbage import YOUNG, seldom_collected


@pytest.mark.parametrize(("before", "within"), [((700, 10, 10), (YOUNG, 10, 10)), ((0, 10, 10), (0, 10, 10)), ((YOUNG * 2, 5, 5), (YOUNG * 2, 5, 5))])
def test_the_collector_is_left_as_it_was(before: tuple[int, int, int], within: tuple[int, int, int]) -> None:
    kept = gc.get_threshold()
    try:
        gc.set_threshold(*before)
        with suppress(KeyboardInterrupt), seldom_collected():
            found = gc.get_threshold()
            raise KeyboardInterrupt
        assert found == within
        assert gc.get_threshold() == before
    finally:
        gc.set_threshold(*kept)
