"""Limit headers from templates say exactly what the plain way says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from gateway_guard.asgi.board import limit_headers, shown
from gateway_guard.decision import Action, Decision
from gateway_guard.dialects import DIALECTS, ratelimit
from gateway_guard.policy.judge import Rulebook, compile_policy
from gateway_guard.policy.model import Policy
from gateway_guard.quota import Bill
from gateway_guard.view import Cluster
from tests.test_gate import ALICE, NOON, facts

QUOTAS: dict[str, Any] = {
    "minute": {"limit": "300/min", "burst": 600},
    "day": {"limit": "2000/day"},
    "tokens": {"limit": "1M tokens/min"},
    "input": {"limit": "1M input tokens/min"},
    "output": {"limit": "4M output tokens/day"},
    "money": {"limit": "$20/day"},
    "running": {"limit": "300 in flight"},
    "org_100%d": {"limit": "250/min", "per": "org"},
}


def rulebook(**policy: Any) -> Rulebook:
    quotas = {"quotas": QUOTAS, "clusters": {"share": ["day"]}}
    return compile_policy(Policy.model_validate({"version": 1, "name": "test", **quotas, **policy}), "digest")


RULES = rulebook()
BILL = RULES.charges(facts(), forecast=7.0, scale=1.0)


def decision(bill: Bill, levels: tuple[float, ...]) -> Decision:
    return Decision("id", NOON, "account", Action.ALLOW, Action.ALLOW, charges=bill, levels=levels)


@pytest.mark.parametrize("name", DIALECTS)
@given(st.lists(st.one_of(st.floats(0.0, 700.0), st.floats(0.0, 5e6), st.sampled_from([0.0, 600.0, 1e6, 2000.0])), min_size=8, max_size=8))
def test_templates_say_what_the_plain_way_says(name: str, levels: list[float]) -> None:
    decided = decision(BILL, tuple(levels))
    headers, names = limit_headers(DIALECTS[name], decided)
    limits = shown(decided)
    assert dict(headers) == dict(DIALECTS[name].limit_headers(limits, NOON) + ratelimit.fields(limits))
    assert len(headers) == len(dict(headers))
    assert names == {key for key, _ in headers}


def test_other_figures_than_the_lines_own_go_the_plain_way() -> None:
    """An account that is new, or on a rung, has less: the headers say what it has."""
    bill = RULES.charges(facts(), forecast=7.0, scale=0.5)
    headers, names = limit_headers(DIALECTS["openai.chat"], decision(bill, (0.0,) * len(bill)))
    assert dict(headers)[b"x-ratelimit-limit-requests"] == b"250", "the organisation's: not scaled, and now larger than the account's"
    assert dict(headers)[b"x-ratelimit-limit-tokens"] == b"500000"
    assert names == {key for key, _ in headers}


def test_only_the_callers_own_buckets_are_shown() -> None:
    """How full his cluster's bucket is tells a caller that he was found, and what the others do."""
    [pooled], _ = RULES.cluster_charges(BILL, Cluster("c", 9, 1.0))
    with_cluster = Bill((*BILL.parts, pooled))
    levels = (1.0,) * len(BILL)
    dialect = DIALECTS["anthropic.messages"]
    assert limit_headers(dialect, decision(with_cluster, (*levels, 2000.0))) == limit_headers(dialect, decision(BILL, levels))


def test_no_quotas_no_headers() -> None:
    none = rulebook(quotas={}, clusters={}).charges(facts(), forecast=0.0, scale=1.0)
    flight = rulebook(quotas={"running": QUOTAS["running"]}, clusters={}).charges(facts(), forecast=0.0, scale=1.0)
    for bill in (none, flight):
        assert limit_headers(DIALECTS["openai.chat"], decision(bill, (0.0,) * len(bill))) == ([], frozenset())


def test_plans_have_their_own_templates() -> None:
    rules = rulebook(plans={"pro": {"scale": 2}, "free": {"scale": 0.5}, "default": {}})
    limits = []
    for plan in ("pro", "free"):
        bill = rules.charges(facts(who=structs.replace(ALICE, plan=plan, org="")), forecast=7.0, scale=1.0)
        limits.append(dict(limit_headers(DIALECTS["openai.chat"], decision(bill, (0.0,) * len(bill)))[0])[b"x-ratelimit-limit-requests"])
    assert limits == [b"1200", b"300"]
