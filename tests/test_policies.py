"""The policies that are shipped."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Any

import pytest

from gateway_guard.policy.lists import load_lists
from gateway_guard.policy.load import load
from gateway_guard.policy.model import Policy, QuotaRule, schema

POLICIES = Path(__file__).parent.parent / "policies"
NAMES = ("default", "balanced", "strict")
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
def test_one_column_alone_never_reaches_the_ladder_of_a_policy_that_starts(name: str) -> None:
    """Coordination alone shares quotas; only with harvest it climbs. The strict policy gives that up for a throttle."""
    rules = policy(name)
    without = [sum(rule.ceiling for other, rule in rules.signals.items() if other != column) for column in ("coordination", "harvest")]
    first = rules.ladder[0] if name != "strict" else rules.ladder[1]
    assert max(without) < first.at


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
