"""The batch job gives what the analyst gives beside live traffic, on whichever engine."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec import structs

from gateway_guard.analysis.analyst import Analyst, conclude
from gateway_guard.analysis.calibration import Calibration
from gateway_guard.analysis.profile import Profiles
from gateway_guard.analysis.settings import DAY, Settings
from gateway_guard.analysis.snapshot import Snapshot
from gateway_guard.analysis.tokens import ACCOUNT_BITS, CAPS, Kind, kinds, named, split, tokens
from gateway_guard.batch.engines import DuckDB, Engine, Spark
from gateway_guard.batch.file import encode
from gateway_guard.batch.job import Terms, analysis, reduced
from gateway_guard.batch.sources import history
from gateway_guard.errors import TrafficError, UsageError
from gateway_guard.facts import Done, Event, Fingerprint, Identity, RequestFacts, Seen, Usage
from gateway_guard.policy.judge import compile_policy
from gateway_guard.policy.load import load
from gateway_guard.trace.events import TraceWriter
from gateway_guard.trace.output import Output
from gateway_guard.view import View
from tests.fakes import policy_file
from tests.test_analysis_scenes import BITS, START, Scene, harvesters, in_order

MEMORY = 256 * 2**20
# A job of seconds is over before what Spark compiles for jobs of hours would pay.
QUICK = {
    "spark.sql.shuffle.partitions": "1",
    "spark.sql.adaptive.enabled": "false",
    "spark.sql.codegen.wholeStage": "false",
    "spark.driver.extraJavaOptions": "-XX:TieredStopAtLevel=1",
}


def traced(folder: Path, events: list[Event]) -> str:
    path = folder / "t.ggt"
    with Output(path) as output:
        writer = TraceWriter(output, key="k1")
        for event in events:
            writer(event)
        writer.finish()
    return str(path)


def terms(folder: Path, **settings: Any) -> Terms:
    loaded = load(policy_file(folder))
    rules = compile_policy(loaded.policy, loaded.digest, account_ids=lambda name: [name], org_ids=lambda name: [name])
    return Terms(structs.replace(Settings(), **settings), Calibration(), 600.0, rules, loaded.digest)


def parquet(folder: Path, events: list[Event]) -> tuple[str, ...]:
    made = folder / "made"
    made.mkdir()
    return history([traced(folder, events)], made).paths


def by_duckdb(folder: Path, events: list[Event], **settings: Any) -> Snapshot:
    with closing(DuckDB(folder, MEMORY)) as engine:
        return reduced(engine, parquet(folder, events), terms(folder, **settings))[0]


def online(events: list[Event], settings: Settings | None = None) -> Snapshot:
    """As beside live traffic: folded in at each refresh. Conclusions do not matter to what is known."""
    analyst, due = Analyst(settings), 0.0
    for event in events:
        at = event.facts.at if isinstance(event, Seen) else event.at
        if at >= due:
            analyst.cut(due)._folded = None
            analyst.adopt(structs.replace(analyst.view, id=analyst.view.id + 1))
            due = (at // 600.0 + 1) * 600.0
        analyst.observe(event)
    return analyst.cut()


def groups(view: View) -> dict[frozenset[str], tuple[float, float]]:
    """Members with the columns of each cluster."""
    inside: dict[str, set[str]] = {}
    for account, standing in view.standings.items():
        inside.setdefault(standing.cluster, set()).add(account)
    return {frozenset(inside[ident]): (cluster.coordination, cluster.harvest) for ident, cluster in view.clusters.items()}


@pytest.fixture(scope="module")
def scene() -> list[Event]:
    made = Scene(3).people(60)
    harvesters(made, [f"swarm{n:02d}" for n in range(24)], rate=6.0)
    harvesters(made, [f"other{n:02d}" for n in range(15)], rate=5.0, tag="b")
    return in_order(made)


def test_clusters_are_those_of_the_analyst_beside_live_traffic(tmp_path: Path, scene: list[Event]) -> None:
    found, expected = groups(conclude(by_duckdb(tmp_path, scene))), groups(conclude(online(scene)))
    assert len(expected) >= 2
    assert found.keys() == expected.keys()
    for members, columns in expected.items():
        assert found[members] == pytest.approx(columns, abs=0.05)


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    if shutil.which("java") is None:
        told = pytest.fail if os.environ.get("CI") else pytest.skip
        told("no Java, which Spark runs on: on Debian and Ubuntu: sudo apt-get install default-jre-headless")
    with closing(Spark(tmp_path_factory.mktemp("spark"), 2**30, "local[1]", QUICK)) as engine:
        yield engine


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::FutureWarning", "ignore::DeprecationWarning")
def test_spark_and_duckdb_write_the_same_bytes(tmp_path: Path, scene: list[Event], spark: Engine) -> None:
    paths, rules = parquet(tmp_path, scene), terms(tmp_path)
    by_spark = encode(analysis(spark, paths, rules))
    with closing(DuckDB(tmp_path, MEMORY)) as engine:
        assert encode(analysis(engine, paths, rules)) == by_spark
    assert b'"coordination"' in by_spark


def shared(profiles: Profiles) -> dict[int, tuple[float, int, int]]:
    """The postings that more than one account has, or that the analyst looks at in each: weight, first and last hour since the epoch."""
    token = split(profiles.posting)[0]
    _, place, count = np.unique(token, return_inverse=True, return_counts=True)
    kept = (count[place] > 1) | np.isin(kinds(token), (Kind.CLIENT, Kind.NETWORK, Kind.TEMPLATE))
    begin = round(profiles.base / 3600)
    rows = zip(profiles.posting[kept].tolist(), profiles.weight[kept].tolist(), profiles.since[kept].tolist(), profiles.seen[kept].tolist(), strict=True)
    return {posting: (weight, begin + since, begin + seen) for posting, weight, since, seen in rows}


def test_profiles_are_those_that_the_analyst_folds(tmp_path: Path) -> None:
    """Random events, few enough of each kind that no bound is reached: bounds depend on the order in which tokens come."""
    rng = random.Random(7)
    people = [
        Identity(f"{n:020d}", "firm" if n == 3 else "", rng.choice(("", "pro")), rng.choice((0.0, START)), rng.randrange(3), rng.randrange(4), rng.randrange(3))
        for n in range(12)
    ]

    def some(most: int) -> tuple[int, ...]:
        return tuple(rng.choice((1, 2, 3, BITS, 2**63 - 1)) for _ in range(rng.randrange(most)))

    events: list[Event] = []
    for n in range(300):
        client, version, shape, system, tools_, template = rng.choices(range(3), k=6)
        bits, odd, length = rng.randrange(256), rng.randrange(4), rng.randrange(30_000)
        prompt = Fingerprint(client, version, shape, system, tools_, template, some(4), some(3), some(3), bits, odd, length, some(3), some(3))
        facts = RequestFacts(
            f"x{n}", START + n * 1700.0, rng.choice(people), "openai.chat", rng.choice(("", "a", "b")), prompt, rng.randrange(4), turns=rng.randrange(9)
        )
        events += [Seen(facts), Done(f"x{n}", facts.at + 0.5, facts.identity.account, Usage(5, rng.randrange(9_000)))]
    found, expected = by_duckdb(tmp_path, events), online(events)
    assert list(found.names) == list(expected.names)
    mine, theirs = found.folded(), expected.folded()
    assert (mine.at, mine.base) == (theirs.at, theirs.base)
    for column in ("created", "payment", "mail", "signup", "plan", "verified"):
        assert np.array_equal(getattr(mine.births, column), getattr(theirs.births, column)[: len(mine)]), column
    assert np.array_equal(mine.first[1:], theirs.first[1:])
    assert np.array_equal(mine.last[1:], theirs.last[1:])
    assert np.allclose(mine.counts, theirs.counts, rtol=2e-3, atol=1e-3)
    ours, wanted = shared(mine), shared(theirs)
    assert ours.keys() == wanted.keys()
    assert all(ours[posting][1:] == wanted[posting][1:] for posting in wanted)
    assert [ours[posting][0] for posting in wanted] == pytest.approx([wanted[posting][0] for posting in wanted], rel=2e-3)


def asked(number: int, account: str, at: float, **told: Any) -> Seen:
    return Seen(RequestFacts(f"x{number}", START + at, Identity(account), "openai.chat", "m", Fingerprint(**told)))


def test_a_profile_keeps_what_others_share_before_what_is_frequent(tmp_path: Path) -> None:
    """One account has twice as many sentences as a profile holds; the last of them are the ones that somebody else uses, once."""
    most = int(CAPS[Kind.SENTENCE])
    own = [asked(n, "a", n * 60.0, templates=(n + 1,)) for n in range(2 * most)]
    rare = [asked(100 + n, "b", 9000.0 + n, templates=(n + 1,)) for n in range(most, most + 3)]
    again = [asked(200 + n, "a", 9100.0 + n, templates=(1, 2, 3)) for n in range(5)]
    profiles = by_duckdb(tmp_path, [*own, *rare, *again]).folded()
    token, account = split(profiles.posting)
    kept = token[(account == 1) & (kinds(token) == Kind.SENTENCE)]
    assert sorted(kept.tolist()) == sorted(tokens(int(Kind.SENTENCE), np.array([most + 1, most + 2, most + 3], np.uint64)).tolist())


def test_of_requests_a_fair_sample_is_kept(tmp_path: Path) -> None:
    """By hash, not by frequency: lest repeats look frequent."""
    profiles = by_duckdb(tmp_path, [asked(n, "a", n * 60.0, template=1 + n // 3) for n in range(90)]).folded()
    every = tokens(int(Kind.TEMPLATE), np.arange(1, 31, dtype=np.uint64))
    token = split(profiles.posting)[0]
    assert token[kinds(token) == Kind.TEMPLATE].tolist() == sorted(every.tolist())[: int(CAPS[Kind.TEMPLATE])]


def test_what_is_older_than_the_window_counts_no_more(tmp_path: Path) -> None:
    old = [asked(n, f"old{n}", n * 10.0, system=5) for n in range(3)]
    edge = asked(9, "edge", 2 * DAY + 5.0, system=5)  # in the slot in which the window begins, and before it
    new = [asked(10 + n, f"new{n}", 3 * DAY + n * 10.0, system=5) for n in range(2)]
    snapshot = by_duckdb(tmp_path, [*old, edge, *new], window=DAY)
    assert list(snapshot.names) == ["", "new0", "new1"]
    assert (snapshot.folded().posting & np.uint64((1 << ACCOUNT_BITS) - 1)).tolist() == [1, 2, 1, 2]  # model and system prompt
    assert snapshot.folded().births.plan.tolist() == [0, 0, 0]


def test_an_account_is_known_as_it_was_when_it_was_seen_first(tmp_path: Path) -> None:
    """As online. A plan that is bought in between says nothing of who signed up."""
    plans = ["pro", "", "team"]
    events: list[Event] = [Seen(RequestFacts(f"x{n}", START + n, Identity("a", plan=plan, payment=9 - n), "openai.chat")) for n, plan in enumerate(plans)]
    births = by_duckdb(tmp_path, events).folded().births
    assert (births.plan.tolist(), births.payment.tolist()) == ([0, named("pro")], [0, 9])


def test_models_are_numbered_as_calibrations_know_them(tmp_path: Path) -> None:
    token = split(by_duckdb(tmp_path, [asked(n, f"a{n}", float(n)) for n in range(2)]).folded().posting)[0]
    assert token.tolist() == [int(tokens(int(Kind.MODEL), np.array([named("m")], np.uint64))[0])] * 2


def test_more_accounts_than_there_is_room_for_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"has 5 accounts, and the policy's `accounts` makes room for 4: raise it, or give a shorter --window"):
        by_duckdb(tmp_path, [asked(n, f"a{n}", float(n)) for n in range(5)], accounts=4)


def test_a_history_without_requests_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="no request in the history"):
        by_duckdb(tmp_path, [Done("x", START, "a", Usage())])
