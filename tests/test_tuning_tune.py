"""Quotas from benign traffic: as wide as they have to be, decided on some organisations and measured on others."""

from __future__ import annotations

import json
import random
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from gateway_guard.cli.app import app
from gateway_guard.decision import Action, Decision
from gateway_guard.facts import Identity, RequestFacts
from gateway_guard.gate import Gate
from gateway_guard.policy.judge import compile_policy
from gateway_guard.policy.load import load, loads
from gateway_guard.quota import Quota, drained
from gateway_guard.replay.run import Played
from gateway_guard.replay.stage import set_up
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.trace.events import TraceWriter
from gateway_guard.trace.output import Output
from gateway_guard.tuning.bounds import enough, expected, upper
from gateway_guard.tuning.friction import Friction, Watch
from gateway_guard.tuning.needs import Need, Needs, critical
from gateway_guard.tuning.patch import Change, figures, patched, rounded, written
from gateway_guard.tuning.propose import WEEK, choose, weekly
from gateway_guard.tuning.tune import moved
from gateway_guard.view import EMPTY
from tests import logs
from tests.fakes import KEY, policy_file
from tests.test_makers_make import events

POLICY = """
plans: {default: {}, big: {scale: 10}}
analysis: {refresh: 12h}
quotas:
  hour: {limit: 60/hour}
  output: {limit: 10k output tokens/day}
  running: {limit: 20 in flight}
"""
LADDER = "signals: {coordination: {}, harvest: {}}\nladder: [{id: calm, at: 0.5, do: throttle, scale: 0.5}, {id: shut, at: 2, do: deny}]\n"


def needs_of(folder: Path, log: list, policy: str = POLICY) -> Needs:  # type: ignore[type-arg]
    stage = set_up(str(logs.log(folder / "log.jsonl", log)), policy_file(folder, policy), KEY, mode="shadow", analyst=False)
    needs = Needs(stage.gate.rules)
    for step in stage.steps:
        needs.take(step)
    return needs


# What everybody needs


@given(
    st.lists(st.tuples(st.floats(0, 1e5), st.floats(0.5, 50)), min_size=1, max_size=40),
    st.floats(0.001, 1.0),
    st.floats(10, 500),
)
def test_a_quota_as_wide_as_the_need_touches_nothing_and_a_narrower_one_does(requests: list[tuple[float, float]], rate: float, burst: float) -> None:
    requests = sorted(requests)
    at, cost = (np.array(column) for column in zip(*requests, strict=True))
    need = critical(Quota("q", rate, burst), at, cost)

    def fits(factor: float) -> bool:
        level, last = 0.0, at[0]
        for moment, amount in requests:
            level, last = drained(level, last, moment, rate * factor) + amount, moment
            if level > burst * factor * (1 + 1e-9):
                return False
        return True

    assert fits(need * 1.0001)
    assert not fits(need * 0.98)


def test_needs_are_of_organisations_relative_to_plans_and_settled(tmp_path: Path) -> None:
    one = Identity("a" * 20, "o" * 20)
    big = Identity("b" * 20, plan="big")
    log = [logs.exchange(n, identity=one if n % 2 else big, after=n / 100, tokens=50) for n in range(60)]
    found = {need.quota.name: need.units for need in needs_of(tmp_path, log).found()}
    assert found["hour"] == pytest.approx({"o" * 20: 0.5, "b" * 20: 0.05}, rel=0.02)
    assert found["output"] == pytest.approx({"o" * 20: 0.15, "b" * 20: 0.015}, rel=0.02)  # what was used, not the forecast of 500
    assert found["running"] == pytest.approx({"o" * 20: 25 / 20, "b" * 20: 2.5 / 20})  # each runs for half a second


def test_what_is_asked_is_needed_where_it_is_held(tmp_path: Path) -> None:
    asked = POLICY.replace("tokens/day}", "tokens/day, reserve: asked}")
    found = {need.quota.name: need.units for need in needs_of(tmp_path, [logs.exchange(0, max_tokens=4000)], asked).found()}
    assert list(found["output"].values()) == pytest.approx([0.4])


def test_the_exempt_and_shared_buckets_say_nothing(tmp_path: Path) -> None:
    exempt = "exemptions: [{id: agreed, accounts: [loud], until: 2099-01-01, reason: agreed}]\nidentity: {directory: accounts.csv}\n"
    policy = POLICY + "  all: {limit: 9/min, per: model}\n" + exempt
    (tmp_path / "accounts.csv").write_text("key,account\nsk-loud,loud\n")
    needs = needs_of(tmp_path, [logs.exchange(n, key="sk-loud" if n else "sk-calm") for n in range(9)], policy)
    assert needs.requests == 1
    assert {need.quota.name for need in needs.found()} == {"hour", "output", "running"}


# What a count says


@pytest.mark.parametrize(("touched", "of", "share"), [(0, 59, 0.0495), (0, 2777, 0.001078), (5, 2777, 0.003782), (2, 10, 0.5069)])
def test_the_bound_is_that_of_clopper_and_pearson(touched: int, of: int, share: float) -> None:
    assert upper(touched, of) == pytest.approx(share, rel=1e-3)


def test_bounds_at_their_ends() -> None:
    assert (upper(3, 3), upper(0, 0), expected(0, 999), enough(0.001), enough(0.0)) == (1.0, 1.0, 0.001, 1000, 0)
    assert (weekly(0.1, WEEK), weekly(0.1, 2 * WEEK), weekly(0.1, WEEK / 2), weekly(0.9, 60)) == (0.1, 0.1, 0.2, 1.0)


# The choice


def crowd(count: int, seed: int = 1) -> tuple[list[Need], list[str]]:
    rng = random.Random(seed)
    units = [f"u{seed}-{n}" for n in range(count)]
    return [Need(Quota(name, 1, 10), {unit: rng.lognormvariate(-3, 1) for unit in units}) for name in ("a", "b")], units


@pytest.mark.parametrize("budget", [0.05, 0.01, 0.002])
def test_a_choice_keeps_its_budget_on_others(budget: float) -> None:
    needs, units = crowd(3000)
    choice = choose(needs, units, budget=budget, span=WEEK)
    others, people = crowd(3000, seed=2)
    hit = {unit for unit in people for need in others if need.units[unit] > choice.point.factors[need.quota.name]}
    assert choice.vouched
    assert choice.point.friction <= budget
    assert len(hit) / 3000 <= budget * 1.5


def test_a_smaller_budget_and_less_traffic_are_wider() -> None:
    needs, units = crowd(3000)
    factors = [choose(needs, units, budget=budget, span=WEEK).point.factors["a"] for budget in (0.05, 0.01, 0.002)]
    assert factors == sorted(factors)
    assert not choose(needs, units[:500], budget=0.001, span=WEEK).vouched
    assert choose(needs, units[:500], budget=0.01, span=WEEK).vouched
    assert not choose(needs, units[:500], budget=0.01, span=WEEK / 7).vouched


def test_the_curve_falls_and_says_the_same_whatever_the_order() -> None:
    needs, units = crowd(800)
    choice = choose(needs, units, budget=0.01, span=WEEK)
    friction = [point.touched for point in choice.curve]
    assert friction == sorted(friction, reverse=True)
    assert choose(needs, list(reversed(units)), budget=0.01, span=WEEK) == choice


def test_accounts_of_one_organisation_do_not_vouch_for_each_other() -> None:
    """Held out, the one organisation that needs much is touched, however many accounts it has."""
    needs, units = crowd(400)
    needs[0].units["office"] = 100.0
    assert all(point.touched >= 1 for point in choose(needs, [*units, *["office"] * 500], budget=0.01, span=WEEK).curve)


# The figures


@pytest.mark.parametrize(("value", "up"), [(2341, 2400), (99.1, 100), (2400, 2400), (0.0123, 0.013), (1, 1), (1_000_001, 1_100_000), (0, 0)])
def test_figures_have_two_digits_rounded_up(value: float, up: float) -> None:
    assert rounded(value) == pytest.approx(up)


@pytest.mark.parametrize(
    "quota",
    [
        "{limit: 60/hour}",
        "{limit: 2M tokens/day, burst: 5M}",
        "{limit: 8 in flight}",
        "{limit: $3/month}",
        "{limit: 100/5 min, per: org}",
        "{limit: 2.5 reasoning tokens/min}",
    ],
)
def test_a_patch_loads_and_means_what_was_tried(tmp_path: Path, quota: str) -> None:
    text = f"version: 1\nname: base\nprices: {{'*': {{input: 1, output: 2}}}}\nquotas: {{q: {quota}, s: {{limit: 9/min}}}}\nclusters: {{share: [s]}}\n{LADDER}"
    (tmp_path / "base.yaml").write_text(text)
    policy = loads(text).policy
    change = Change([figures("q", policy.quotas["q"], 1.37, "Because.")], {"calm": 1.2, "shut": 2.7}, "Higher.", clusters_shadow=True, clusters_why="Shared.")
    (tmp_path / "new.yaml").write_text(written(policy, "base.yaml", change, ["Head."]))
    loaded, tried = load(tmp_path / "new.yaml").policy, patched(policy, change)
    assert loaded.model_copy(update={"name": "base"}) == tried
    was, now = policy.quotas["q"].limit, loaded.quotas["q"].limit
    assert (now.unit, now.window) == (was.unit, was.window)
    assert 1.37 * was.amount <= now.amount <= 1.37 * was.amount * 1.1 + 1


def touched(cause: str, score: float = 0.0) -> Decision:
    return Decision("r", 1.0, "a", Action.ALLOW, Action.THROTTLE, reasons=(f"{cause}.x",), score=score)


@pytest.mark.parametrize(("calibrated", "causes"), [("", {"quota": 1, "cluster": 0, "rung": 0}), ("c0ffee", {"quota": 1, "cluster": 1, "rung": 1})])
def test_friction_is_counted_by_cause_and_findings_without_a_calibration_touch_nobody(calibrated: str, causes: dict[str, int]) -> None:
    gate = Gate(compile_policy(loads("version: 1\nname: p\n").policy, "d"), MemoryStore(), msgspec.structs.replace(EMPTY, calibrated=calibrated))
    watch = Watch(gate)
    for number, cause in enumerate(("quota", "cluster", "rung", "exempt")):
        facts = RequestFacts(f"r{number}", 1.0, Identity(f"a{number}"), "openai.chat")
        watch.take(Played("r", 1.0, facts, msgspec.structs.replace(touched(cause, 3.0), account=f"a{number}")))
    assert watch.found().by == causes
    assert watch.found().touched == sum(causes.values())
    assert dict(watch.scores) == ({"a2": 3.0} if calibrated else {})


def test_rungs_move_above_those_whom_the_budget_does_not_allow() -> None:
    policy = loads(f"version: 1\nname: p\n{LADDER}").policy
    friction = Friction(1000, 3, 1000, 3, 10, 3, {"quota": 0, "cluster": 0, "rung": 3})
    scores = {"a": 2.75, "b": 1.0, "c": 0.6}
    assert moved(policy, Change(), friction, scores, 0.004).rungs == {}
    assert moved(policy, Change(), friction, scores, 0.001).rungs == {"calm": 2.8, "shut": 4.3}
    assert moved(policy, Change(), friction, scores, 0.002).rungs == {"calm": 1.1, "shut": 2.6}
    shared = msgspec.structs.replace(friction, by={"quota": 0, "cluster": 2, "rung": 0})
    assert moved(policy, Change(), shared, {}, 0.001).clusters_shadow
    assert not moved(policy, Change(), shared, {}, 0.003).clusters_shadow


# The command


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trace") / "people.ggt"
    with Output(str(path)) as output:
        writer = TraceWriter(output)
        for event in events("people", accounts=300, over="7d"):
            writer(event)
        writer.finish()
    return path


def test_tune_writes_a_policy_that_holds_and_says_what_it_rests_on(tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_GUARD_KEY", KEY.decode())
    policy, out = policy_file(tmp_path, POLICY), tmp_path / "tuned.yaml"
    done = CliRunner().invoke(app, ["tune", str(trace), "--policy", str(policy), "--budget", "1%", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert "Friction against strictness" in done.output
    assert "of 300 organisations" in out.read_text()
    tuned = load(out).policy
    assert tuned.quotas["hour"].limit.amount < 60
    stage = set_up(str(trace), out, KEY, mode="shadow")
    watch = Watch(stage.gate)
    for step in stage.steps:
        watch.take(step)
    assert watch.found().touched <= 3


def test_tune_as_json_and_its_honesty_about_little_traffic(tmp_path: Path, trace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_GUARD_KEY", KEY.decode())
    policy = policy_file(tmp_path, POLICY)
    told = json.loads(CliRunner().invoke(app, ["tune", str(trace), "--policy", str(policy), "--json"]).stdout)
    assert told["choice"]["vouched"] is False
    assert any("TOO LITTLE TRAFFIC" in sentence and "2,000 organisations" in sentence for sentence in told["guarantee"])
    assert told["friction"]["units"] == 300
    log = logs.log(tmp_path / "log.jsonl", [logs.exchange(n, key=f"sk-{n % 5}") for n in range(20)])
    raw = json.loads(CliRunner().invoke(app, ["tune", str(log), "--policy", str(policy), "--json"]).stdout)
    assert (raw["basis"]["organisations"], raw["friction"]["requests"]) == (5, 20)


@pytest.mark.parametrize(
    ("words", "says"),
    [(["--budget", "much"], "--budget"), (["--out", "/elsewhere/x.yaml"], "must lie beside"), (["--out", "policy.yaml"], "is the policy itself")],
)
def test_wrong_calls_of_tune_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], says: str) -> None:
    monkeypatch.chdir(tmp_path)
    policy_file(tmp_path, POLICY)
    log = logs.log(tmp_path / "log.jsonl", [logs.exchange(0)])
    done = CliRunner().invoke(app, ["tune", str(log), "--policy", "policy.yaml", *words])
    assert done.exit_code == 1
    assert says in str(done.exception)
