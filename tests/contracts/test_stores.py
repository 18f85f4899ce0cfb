"""What every store keeps, in memory or on a server: never over the bound, nothing forgiven, nothing leaked."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Iterator, Sequence
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from redis.asyncio import Redis, RedisCluster

from gateway_guard.ports import Store
from gateway_guard.quota import Charge, Heir, Per, Quota, Share, Spend, billed
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.stores.redis import Link, Naming, SharedStore, Shelves, Terms
from gateway_guard.stores.redis.wire import ClusterWire, RedisWire
from tests.cluster import cluster
from tests.servers import BINARIES, running

MINUTE = Quota("minute", rate=1.0, burst=10.0)
DAY = Quota("day", rate=0.01, burst=100.0, unit="tokens")
HELD = Quota("held", rate=0.0, burst=2.0, unit="in_flight")
# The whole burst is leased: to one worker alone that must make no difference.
LEASES = {"exact": 0.0, "leased": 1.0}
KINDS = ["memory", *(f"{mode} on {kind}" for kind in (*BINARIES, "a cluster") for mode in LEASES)]
SHELVES = 4

Make = Callable[[], Store]
T = TypeVar("T")


class Books:
    """Runs coroutines on one event loop, which connections belong to."""

    def __init__(self) -> None:
        self.runner = asyncio.Runner()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(coroutine)


books = Books()


@pytest.fixture(scope="module", params=KINDS)
def make(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Make]:
    """Makes stores that know nothing yet. One server serves them all, each under a prefix of its own, in virtual time."""
    if request.param == "memory":
        yield MemoryStore
        return
    mode, _, kind = request.param.partition(" on ")
    if kind == "a cluster":
        yield from in_cluster(LEASES[mode], Path(tmp_path_factory.mktemp("server")))
        return
    with running(kind, Path(tmp_path_factory.mktemp("server"))) as server:
        wire = RedisWire(lambda: Redis.from_url(server.url), server.url)
        numbers = count()

        def fresh() -> Store:
            link = Link(wire, Naming(f"t{next(numbers)}"), sender="w1", timeout=5.0, live=False)
            return SharedStore(link, Terms(lease=LEASES[mode]))

        yield fresh
        books.run(wire.close())


def in_cluster(lease: float, folder: Path) -> Iterator[Make]:
    """A cluster of three nodes."""
    with cluster(folder) as nodes:
        wire = ClusterWire(lambda: RedisCluster(host="127.0.0.1", port=nodes[0].port), "the cluster")
        numbers = count()

        def fresh() -> Store:
            naming = Naming(f"t{next(numbers)}", shelves=SHELVES)
            links = [Link(wire, naming, sender="w1", timeout=5.0, live=False, shelf=str(shelf)) for shelf in range(SHELVES)]
            return SharedStore(Shelves(links), Terms(lease=lease))

        yield fresh
        books.run(wire.close())


def spend(store: Store, *charges: Charge, at: float, patience: float = 0.0, hold: str = "", until: float = 0.0) -> Spend:
    found = books.run(store.spend(charges, at, patience=patience, hold=hold, until=until))
    report(store)
    return found


def adjust(store: Store, *charges: Charge, at: float, hold: str = "") -> None:
    books.run(store.adjust(charges, at, hold=hold))
    report(store)


def level(store: Store, charge: Charge, at: float) -> float:
    return books.run(store.peek([charge], at))[0]


def report(store: Store) -> None:
    """A worker reports within milliseconds; in virtual time seconds go by from call to call."""
    if isinstance(store, SharedStore):
        books.run(store.link.drain())


def test_a_burst_then_the_rate(make: Make) -> None:
    store = make()
    admitted = [spend(store, Charge("a", MINUTE, 1.0), at=0.0).ok for _ in range(12)]
    assert admitted == [True] * 10 + [False] * 2
    assert spend(store, Charge("a", MINUTE, 1.0), at=0.5).wait == pytest.approx(0.5)
    assert spend(store, Charge("a", MINUTE, 1.0), at=1.0).ok


def test_subjects_and_kinds_are_apart(make: Make) -> None:
    store = make()
    org = Quota("minute", rate=1.0, burst=1.0, per="org")
    assert spend(store, Charge("x", MINUTE, 10.0), at=0.0).ok
    assert spend(store, Charge("y", MINUTE, 10.0), at=0.0).ok
    assert spend(store, Charge("x", org, 1.0), at=0.0).ok
    assert not spend(store, Charge("x", org, 1.0), at=0.0).ok


def test_all_or_none(make: Make) -> None:
    store = make()
    result = spend(store, Charge("a", DAY, 5.0), Charge("a", MINUTE, 11.0), at=0.0)
    assert (result.ok, result.short) == (False, 1)
    assert level(store, Charge("a", DAY, 0.0), 0.0) == 0.0


PERS: tuple[Per, ...] = ("account", "org", "model", "plan")


def test_all_or_none_over_subjects_of_different_kinds(make: Make) -> None:
    """An organisation, a model and an account in one bill: whichever refuses, nobody has paid, and the refusal is of the right one."""
    store = make()
    quotas = [Quota("minute", rate=1.0, burst=10.0, per=per) for per in PERS]
    for short, tight in enumerate(quotas):
        names = [f"{tight.per}-{quota.per}" for quota in quotas]
        assert spend(store, Charge(names[short], tight, 8.0), at=0.0).ok
        found = spend(store, *(Charge(name, quota, 4.0, held=1.0) for name, quota in zip(names, quotas, strict=True)), at=0.0, hold=f"r{short}", until=60.0)
        assert (found.ok, found.short) == (False, short)
        assert found.wait == pytest.approx(2.0)
        assert found.levels == pytest.approx([8.0 if quota is tight else 0.0 for quota in quotas])
        assert [level(store, Charge(name, quota, 0.0), 0.0) for name, quota in zip(names, quotas, strict=True)] == pytest.approx(found.levels)
        paid = spend(store, *(Charge(name, quota, 2.0) for name, quota in zip(names, quotas, strict=True)), at=0.0)
        assert paid.levels == pytest.approx([10.0 if quota is tight else 2.0 for quota in quotas])


def test_what_is_larger_than_the_burst_never_fits(make: Make) -> None:
    assert spend(make(), Charge("a", MINUTE, 11.0), at=0.0).wait == math.inf


def test_patience_admits_what_fits_soon_and_says_how_long_to_hold_it(make: Make) -> None:
    store = make()
    assert spend(store, Charge("a", MINUTE, 10.0), at=0.0).ok
    soon = spend(store, Charge("a", MINUTE, 2.0), at=0.0, patience=2.0)
    assert (soon.ok, soon.wait, soon.short) == (True, 2.0, 0)
    later = spend(store, Charge("a", MINUTE, 1.0), at=0.0, patience=2.0)
    assert (later.ok, later.wait) == (False, 3.0)


def test_an_unsettled_reservation_expires_once(make: Make) -> None:
    store = make()
    charge = Charge("a", DAY, 60.0, held=40.0)
    assert spend(store, charge, at=0.0, hold="r", until=10.0).ok
    assert level(store, charge, 9.0) == pytest.approx(59.91)
    assert level(store, charge, 10.0) == pytest.approx(19.9)
    # The settling that comes too late corrects only what was not given back already: truth was 25.
    adjust(store, Charge("a", DAY, 25.0 - 60.0, held=40.0), at=20.0, hold="r")
    assert level(store, charge, 20.0) == pytest.approx(24.8)


def test_settling_replaces_the_forecast_by_the_truth(make: Make) -> None:
    store = make()
    charge = Charge("a", DAY, 60.0, held=40.0)
    assert spend(store, charge, at=0.0, hold="r", until=1000.0).ok
    adjust(store, Charge("a", DAY, 95.0 - 60.0, held=40.0), at=0.0, hold="r")
    assert level(store, charge, 0.0) == pytest.approx(95.0)
    assert level(store, charge, 1000.0) == pytest.approx(85.0)


def test_requests_in_flight_come_back_by_settling_and_by_expiry(make: Make) -> None:
    store = make()
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
def test_tightening_hands_nothing_out_and_widening_takes_nothing_away(make: Make, cut: float) -> None:
    store = make()
    assert spend(store, Charge("a", MINUTE, 10.0), at=0.0).ok
    tight = Charge("a", Quota("minute", rate=cut, burst=10.0 * cut), 1.0 * cut)
    assert not spend(store, tight, at=0.0).ok
    assert level(store, Charge("a", MINUTE, 0.0), 0.0) == 10.0


def test_a_new_cluster_opens_full_and_forgetting_it_loses_nothing(make: Make) -> None:
    shared = Quota("minute", rate=1.0, burst=10.0, per="cluster")
    for store in (make(), make()):
        assert not spend(store, Charge("c", shared, 1.0, opened=100.0), at=100.0).ok
        assert spend(store, Charge("c", shared, 5.0, opened=100.0), at=105.0).ok
        assert not spend(store, Charge("c", shared, 1.0, opened=100.0), at=105.0).ok


SHARED = Quota("minute", rate=1.0, burst=10.0, per="cluster")
SLOW = Quota("day", rate=0.01, burst=100.0, unit="tokens", per="cluster")


def inherit(store: Store, version: int, at: float = 100.0, **heirs: Sequence[Share]) -> None:
    """Each name inherits the shares."""
    [part] = billed([Charge("", SHARED, 0.0), Charge("", SLOW, 0.0)]).parts
    books.run(store.inherit([Heir(structs.replace(part, subject=name), shares) for name, shares in heirs.items()], at, version=version))
    report(store)


def owed(store: Store, at: float, *names: str, quota: Quota = SHARED) -> list[float]:
    return [level(store, Charge(name, quota, 0.0), at) for name in names]


def test_a_cap_beside_what_it_shares_leaves_a_new_cluster_full(make: Make) -> None:
    cap = Quota("rung", rate=0.0, burst=2.0, unit="in_flight", per="cluster")
    assert not spend(make(), Charge("c", cap, 1.0), Charge("c", SHARED, 1.0, opened=100.0), at=100.0).ok


def test_what_was_owed_goes_along_when_clusters_merge_and_split(make: Make) -> None:
    store = make()
    for name, minute, day in (("big", 4.0, 40.0), ("small", 3.0, 20.0)):
        assert spend(store, Charge(name, SHARED, minute), Charge(name, SLOW, day), at=100.0).ok
    # All of `small` joins `big`; a quarter of `big` leaves for `new`.
    inherit(store, 1, big=[Share("small", 1.0, False)], new=[Share("big", 0.25, True)])
    assert owed(store, 100.0, "big", "small", "new") == pytest.approx([3.0 + 3.0, 3.0, 1.0])
    assert owed(store, 100.0, "big", "small", "new", quota=SLOW) == pytest.approx([50.0, 20.0, 10.0])
    assert owed(store, 102.0, "big", "new") == pytest.approx([4.0, 0.0])


def test_debts_move_by_what_everybody_owed_before(make: Make) -> None:
    """Members change places: neither is charged with what the other has just handed over."""
    store = make()
    for name, cost in (("a", 8.0), ("b", 4.0)):
        assert spend(store, Charge(name, SHARED, cost), at=100.0).ok
    inherit(store, 1, a=[Share("b", 0.5, True)], b=[Share("a", 0.5, True)])
    assert owed(store, 100.0, "a", "b") == pytest.approx([6.0, 6.0])


def test_each_version_moves_debts_once(make: Make) -> None:
    store = make()
    assert spend(store, Charge("a", SHARED, 8.0), at=100.0).ok
    for _ in range(3):
        inherit(store, 7, b=[Share("a", 0.5, True)])
    inherit(store, 6, b=[Share("a", 0.5, True)])
    assert owed(store, 100.0, "a", "b") == pytest.approx([4.0, 4.0])
    inherit(store, 8, b=[Share("a", 0.5, True)])
    assert owed(store, 100.0, "a", "b") == pytest.approx([2.0, 6.0])


@pytest.mark.parametrize(("brought", "owes"), [(0.25, 5.0), (0.75, 7.5)])
def test_a_new_cluster_owes_its_opening_or_what_it_inherits_whichever_is_more(make: Make, brought: float, owes: float) -> None:
    store = make()
    assert spend(store, Charge("old", SHARED, 10.0), at=100.0).ok
    inherit(store, 1, new=[Share("old", brought, True)])
    new = Charge("new", SHARED, 1.0, opened=100.0, filled=0.5)
    assert spend(store, new, at=100.0).levels == pytest.approx([owes + 1.0])
    assert spend(store, new, at=101.0).levels == pytest.approx([owes + 1.0])


def test_debts_of_different_times_meet_as_of_the_later_one(make: Make) -> None:
    store = make()
    assert spend(store, Charge("early", SHARED, 8.0), at=100.0).ok
    assert spend(store, Charge("late", SHARED, 2.0), at=103.0).ok
    inherit(store, 1, 103.0, late=[Share("early", 1.0, False)])
    assert owed(store, 103.0, "late") == pytest.approx([5.0 + 2.0])


def test_nothing_comes_of_those_who_owe_nothing(make: Make) -> None:
    store = make()
    assert spend(store, Charge("drained", SHARED, 2.0), at=100.0).ok
    inherit(store, 1, heir=[Share("unknown", 1.0, False), Share("drained", 1.0, False)])
    assert owed(store, 200.0, "heir") == [0.0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0.0, 3.0), st.sampled_from("abc"), st.floats(0.0, 1.0), st.booleans()), max_size=12))
def test_moving_debts_forgives_nothing(make: Make, moves: Sequence[tuple[str, float, str, float, bool]]) -> None:
    """With nothing drained, all together owe at least what was ever spent, whatever moved where."""
    still = Quota("still", rate=0.0, burst=1e9, unit="tokens", per="cluster")
    [part] = billed([Charge("", still, 0.0)]).parts
    store, spent = make(), 0.0
    for version, (name, cost, other, share, lives) in enumerate(moves, 1):
        assert spend(store, Charge(name, still, cost), at=float(version)).ok
        spent += cost
        books.run(store.inherit([Heir(structs.replace(part, subject=other), [Share(name, share, lives)])], float(version), version=version))
    assert sum(level(store, Charge(name, still, 0.0), 100.0) for name in "abc") >= spent - 1e-6


def test_a_clock_that_runs_back_gives_nothing(make: Make) -> None:
    store = make()
    assert spend(store, Charge("a", MINUTE, 10.0), at=100.0).ok
    assert not spend(store, Charge("a", MINUTE, 1.0), at=50.0).ok
    assert not spend(store, Charge("a", MINUTE, 1.0), at=100.5).ok


steps = st.lists(st.tuples(st.floats(0.0, 5.0), st.sampled_from("ab"), st.floats(0.1, 4.0), st.floats(0.0, 3.0)), max_size=60)


@settings(max_examples=40, deadline=None)
@given(steps)
def test_never_over_burst_plus_rate_times_t(make: Make, schedule: Sequence[tuple[float, str, float, float]]) -> None:
    """Whatever the schedule: what is released in any stretch of time is at most burst + rate * t."""
    store, at = make(), 0.0
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


@settings(max_examples=40, deadline=None)
@given(steps)
def test_expiry_is_lossless(make: Make, schedule: Sequence[tuple[float, str, float, float]]) -> None:
    """A store that drops drained rows all the time decides like one that never does."""
    small, large, at = make(), make(), 0.0
    for i, (gap, subject, cost, patience) in enumerate(schedule):
        at += gap
        # Passers-by move the clock hand of one store only.
        spend(small, Charge(f"other{i}", MINUTE, 0.1), at=at)
        [one, other] = [spend(store, Charge(subject, MINUTE, cost), at=at, patience=patience) for store in (small, large)]
        assert (one.ok, one.short) == (other.ok, other.short)
        assert (one.wait, *one.levels) == pytest.approx((other.wait, *other.levels), abs=1e-6)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 30.0), st.floats(0.0, 30.0), st.booleans()), max_size=40))
def test_settled_debts_equal_the_truth(make: Make, schedule: Sequence[tuple[float, float, float, bool]]) -> None:
    """Reserve, then settle: with nothing drained the debt is the sum of the truths; no reservation leaks."""
    still = Quota("still", rate=0.0, burst=1e9, unit="tokens")
    store, at, truth = make(), 0.0, 0.0
    for i, (gap, forecast, used, late) in enumerate(schedule):
        at += gap
        assert spend(store, Charge("a", still, forecast, held=forecast), at=at, hold=str(i), until=at + 1.0).ok
        at += 2.0 if late else 0.5
        adjust(store, Charge("a", still, used - forecast, held=forecast), at=at, hold=str(i))
        truth += used
    assert level(store, Charge("a", still, 0.0), at) == pytest.approx(truth, abs=1e-6)
