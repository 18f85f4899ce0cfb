"""The policies that are shipped."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pytest

from gateway_guard.facts import Identity, RequestFacts
from gateway_guard.policy.judge import compile_policy
from gateway_guard.policy.lists import load_lists
from gateway_guard.policy.load import load
from gateway_guard.policy.model import Policy, QuotaRule, schema
from gateway_guard.tuning.case_load import load_cases
from gateway_guard.tuning.verdict import tried
from gateway_guard.view import Cluster, Standing, View

POLICIES = Path(__file__).parent.parent / "policies"
NAMES = ("default", "balanced", "strict")
FACTS = RequestFacts("r", 100.0, Identity("a", created_at=99.0), "openai.chat")
TODAY = datetime.date(2026, 11, 25)


def policy(name: str) -> Policy:
    return load(POLICIES / f"{name}.yaml", today=TODAY).policy


def burst(rule: QuotaRule) -> float:
    return rule.burst or rule.limit.amount


@pytest.mark.parametrize("name", NAMES)
def test_they_hold_without_a_warning(name: str) -> None:
    loaded = load(POLICIES / f"{name}.yaml", today=TODAY)
    assert loaded.warnings == ()
    assert loaded.policy.name == name
    load_lists(POLICIES / entry for entry in loaded.policy.lists)


def test_only_the_first_one_is_in_shadow() -> None:
    assert [policy(name).mode for name in NAMES] == ["shadow", "enforce", "enforce"]


def test_each_is_at_least_as_tight_as_the_one_before() -> None:
    for loose, tight in (("default", "balanced"), ("balanced", "strict")):
        one, two = policy(loose), policy(tight)
        assert list(one.quotas) == list(two.quotas)
        assert all(two.quotas[name].limit.amount <= rule.limit.amount and burst(two.quotas[name]) <= burst(rule) for name, rule in one.quotas.items())
        assert all(two.plans[name].scale <= plan.scale for name, plan in one.plans.items())
        assert [rung.at for rung in two.ladder] <= [rung.at for rung in one.ladder]
        assert two.clusters.minimum <= one.clusters.minimum


@pytest.mark.parametrize("name", NAMES)
def test_heavy_honest_work_fits(name: str) -> None:
    """A nightly job of a thousand requests within minutes, and a coding program whose prompts hold 100,000 tokens, on the plan of a paying account."""
    rules = policy(name)
    assert burst(rules.quotas["requests_day"]) >= 5000
    for quota in ("tokens_minute", "tokens_day"):
        smallest = min((plan.scale * (plan.trust.start if plan.trust else 1.0), key) for key, plan in rules.plans.items() if key != "anonymous")
        assert burst(rules.quotas[quota]) * smallest[0] >= 50_000, smallest


@pytest.mark.parametrize("name", NAMES)
def test_they_keep_what_their_cases_promise(name: str) -> None:
    assert tried(load_cases(POLICIES / f"{name}.cases.yaml")) == []


def test_a_rung_in_shadow_leaves_the_one_below_in_force() -> None:
    """Balanced records its denials only; those who come so far are still degraded."""
    rules = compile_policy(policy("balanced"), "digest")
    standing = Standing("c", 0.0, 9.0, 9.0, ("content", "identity"))
    score = rules.score(FACTS, standing, View(1, 0.0, {"a": standing}, {"c": Cluster("c", 5)}, "calibrated"))
    assert score.rung is not None
    assert score.would is not None
    assert (score.rung.id, score.would.id) == ("dim", "shut")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("coordination", "harvest", "climbs"), [(9.0, 0.0, False), (0.0, 9.0, False), (9.0, 9.0, True), (9.0, 0.1, False), (9.0, 0.6, True)])
def test_only_both_columns_together_climb(name: str, coordination: float, harvest: float, climbs: bool) -> None:
    """Coordination alone shares quotas; a data set that one account builds is that account's business; a hair beyond the limit is nothing."""
    rules = compile_policy(policy(name), "digest")
    standing = Standing("c", 0.0, coordination, harvest, ("content", "identity"))
    score = rules.score(FACTS, standing, View(1, 0.0, {"a": standing}, {"c": Cluster("c", 5)}, "calibrated"))
    assert (score.rung is not None) == climbs


def test_the_reference_names_every_key_of_the_schema() -> None:
    """A key that is not in policies/README.md is not documented."""
    quoted = re.findall(r"`([^`\n]+)`", (POLICIES / "README.md").read_text())
    told = set(re.findall(r"[a-z_]+", " ".join(quoted)))
    whole: dict[str, Any] = schema()
    keys = {key for part in (whole, *whole["$defs"].values()) for key in part["properties"]}
    assert keys - told == set()


def test_every_block_of_yaml_in_the_readme_loads(tmp_path: Path) -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", (POLICIES / "README.md").read_text(), re.DOTALL)
    assert blocks
    for block in blocks:
        (tmp_path / "p.yaml").write_text(block if "include:" in block else f"version: 1\nname: sample\n{block}")
        for part in POLICIES.glob("*.yaml"):
            (tmp_path / part.name).write_text(part.read_text())
        load(tmp_path / "p.yaml", today=TODAY)
