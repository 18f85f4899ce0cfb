"""Eight processes on one quota: never more than the documented bound, and nothing beyond the quota where the bound says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.hammer import Round
from tests.servers import BINARIES, running

WORKERS = 8
ROOT = Path(__file__).parent.parent
_numbers = count()


class Crew:
    """The processes."""

    def __init__(self, url: str) -> None:
        command = [sys.executable, "-m", "tests.hammer", url]
        self._workers = [subprocess.Popen([*command, f"w{n}"], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for n in range(WORKERS)]

    def served(self, rounds: Sequence[Round]) -> list[float]:
        """What each of them admitted."""
        for worker, task in zip(self._workers, rounds, strict=True):
            assert worker.stdin is not None
            worker.stdin.write(msgspec.json.encode(task) + b"\n")
            worker.stdin.flush()
        totals = []
        for worker in self._workers:
            assert worker.stdout is not None
            totals.append(msgspec.json.decode(worker.stdout.readline(), type=float))
        return totals

    def close(self) -> None:
        for worker in self._workers:
            worker.communicate()
            assert worker.returncode == 0


@pytest.fixture(scope="module", params=BINARIES)
def crew(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    with running(request.param, Path(tmp_path_factory.mktemp("server"))) as server:
        crew = Crew(server.url)
        yield crew
        crew.close()


gaps = st.sampled_from([0, 0, 0, 1, 4])
costs = st.sampled_from([0.5, 1.0, 2.0, 5.0, 30.0])
schedules = st.lists(st.lists(st.tuples(gaps, costs), max_size=40), min_size=WORKERS, max_size=WORKERS)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(schedules, st.sampled_from([0.0, 0.02, 0.1, 0.5]), st.booleans())
def test_never_over_the_bound(crew: Crew, steps: Sequence[list[tuple[int, float]]], lease: float, hold: bool) -> None:
    burst, prefix = 100.0, f"r{next(_numbers)}"
    total = sum(crew.served([Round(prefix, lease, burst, own, hold=hold) for own in steps]))
    assert total <= burst + (WORKERS - 1) * lease * burst + 1e-3


@pytest.mark.parametrize("lease", [0.0, 0.05])
def test_eight_at_full_speed_use_the_quota_up(crew: Crew, lease: float) -> None:
    """The bound is no excuse for serving less: the whole burst is served."""
    prefix = f"r{next(_numbers)}"
    total = sum(crew.served([Round(prefix, lease, 100.0, [(0, 1.0)] * 100)] * WORKERS))
    assert 100.0 <= total <= 100.0 + (WORKERS - 1) * lease * 100.0


def test_while_a_tighter_policy_is_rolled_out_nothing_is_handed_out(crew: Crew) -> None:
    """Half of the workers have the new figures already: the old burst stays the most that anyone gets, and the debt is one."""
    prefix = f"r{next(_numbers)}"
    rounds = [Round(prefix, 0.0, 100.0 if number % 2 else 50.0, [(0, 1.0)] * 60) for number in range(WORKERS)]
    assert sum(crew.served(rounds)) == 100.0
    assert sum(crew.served([Round(prefix, 0.0, 50.0, [(0, 1.0)] * 5)] * WORKERS)) == 0.0
