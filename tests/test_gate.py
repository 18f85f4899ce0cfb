"""The gate: which quotas apply, what is reserved and settled, what each mode does."""

from __future__ import annotations

import math
from typing import Any

import pytest
from msgspec import structs

from gateway_guard.decision import Action, Decision
from gateway_guard.evidence import Evidence
from gateway_guard.facts import Identity, RequestFacts, Usage
from gateway_guard.gate import Gate
from gateway_guard.policy.judge import compile_policy
from gateway_guard.policy.model import Policy
from gateway_guard.stores.memory import MemoryStore
from gateway_guard.trace.decisions import row
from gateway_guard.view import Cluster, Standing, View
from tests.test_stores_memory import finish

NOON = 1_795_000_000.0
ALICE = Identity("a" * 20, org="o" * 20, plan="pro", created_at=NOON - 90 * 86400)
LADDER: list[dict[str, Any]] = [
    {"id": "wary", "at": 1, "do": "throttle", "scale": 0.5},
    {"id": "shut", "at": 4, "do": "deny"},
]


def gate(view: View | None = None, **policy: Any) -> Gate:
    rules = Policy.model_validate({"version": 1, "name": "test", "mode": "enforce", **policy})
    return Gate(compile_policy(rules, "digest"), MemoryStore(), view or View())


def facts(n: int = 0, *, at: float = NOON, who: Identity = ALICE, given: int = 100, asked: int = 0, model: str = "m") -> RequestFacts:
    return RequestFacts(id=f"r{n}", at=at, identity=who, dialect="openai.chat", model=model, input_tokens=given, ask_tokens=asked)


def decide(guard: Gate, request: RequestFacts) -> Decision:
    decision = finish(guard.decide(request))
    assert isinstance(decision, Decision)
    return decision


def settle(guard: Gate, decision: Decision, usage: Usage | None, at: float) -> None:
    finish(guard.settle(decision, usage, at))


def test_a_refusal_names_the_quota_and_when_to_come_back() -> None:
    guard = gate(quotas={"minute": {"limit": "2/min"}, "day": {"limit": "100/day"}})
    assert [decide(guard, facts(i)).action for i in range(3)] == [Action.ALLOW, Action.ALLOW, Action.THROTTLE]
    refused = decide(guard, facts(9))
    assert (refused.served, refused.short, refused.reasons, refused.spent) == (False, "minute", ("quota.minute",), False)
    assert refused.wait == pytest.approx(30.0)


def test_shadow_decides_the_same_and_serves_all() -> None:
    quotas = {"minute": {"limit": "2/min"}}
    enforcing, shadow = gate(quotas=quotas), gate(quotas=quotas, mode="shadow")
    for i in range(5):
        hard, soft = decide(enforcing, facts(i)), decide(shadow, facts(i))
        assert (soft.would, soft.reasons, soft.short) == (hard.would, hard.reasons, hard.short)
        assert (soft.action, soft.served, soft.wait, soft.enforced) == (Action.ALLOW, True, 0.0, False)
        assert hard.enforced


def test_a_wait_within_patience_holds_the_request_instead() -> None:
    guard = gate(quotas={"minute": {"limit": "60/min", "burst": 1}}, throttle={"wait": "2s"})
    assert decide(guard, facts(0)).action is Action.ALLOW
    held = decide(guard, facts(1))
    assert (held.action, held.served, held.wait, held.short) == (Action.THROTTLE, True, 1.0, "minute")
    assert decide(guard, facts(2)).wait == 2.0
    assert not decide(guard, facts(3)).served


@pytest.mark.parametrize(
    ("limit", "usage", "expected"),
    [
        ("1M tokens/day", Usage(120, 300), 420.0),
        ("1M input tokens/day", Usage(120, 300), 120.0),
        ("1M output tokens/day", Usage(120, 300, reasoning=50), 300.0),
        ("1M reasoning tokens/day", Usage(120, 300, reasoning=50), 50.0),
        ("$50/day", Usage(1_000_000, 500_000), 1.0 + 2.0),
        ("10 in flight", Usage(120, 300), 0.0),
        ("10/day", Usage(120, 300), 1.0),
    ],
)
def test_every_unit_is_reserved_and_settled_to_the_truth(limit: str, usage: Usage, expected: float) -> None:
    guard = gate(quotas={"q": {"limit": limit}}, prices={"*": {"input": 1, "output": "$4"}})
    decision = decide(guard, facts())
    settle(guard, decision, usage, NOON)
    assert finish(guard.store.peek(decision.charges, NOON)) == pytest.approx((expected,))


def test_a_request_that_never_ran_costs_no_tokens() -> None:
    guard = gate(quotas={"q": {"limit": "1M tokens/day"}})
    decision = decide(guard, facts())
    settle(guard, decision, None, NOON)
    assert finish(guard.store.peek(decision.charges, NOON)) == (0.0,)


def test_the_forecast_follows_the_account_and_never_passes_what_was_asked() -> None:
    guard = gate(quotas={"q": {"limit": "1M output tokens/day"}}, reservation={"output": 400})
    first = decide(guard, facts(0))
    assert first.charges[0].cost == 400.0
    settle(guard, first, Usage(1, 1000), NOON)
    second = decide(guard, facts(1))
    assert second.charges[0].cost == 1000.0
    settle(guard, second, Usage(1, 0), NOON)
    assert decide(guard, facts(2)).charges[0].cost == pytest.approx(900.0)
    assert decide(guard, facts(3, asked=50)).charges[0].cost == 50.0


def test_reserving_what_is_asked_leaves_nothing_to_overspend() -> None:
    guard = gate(quotas={"q": {"limit": "1000 output tokens/day", "reserve": "asked"}})
    admitted = [d for d in (decide(guard, facts(i, asked=300)) for i in range(10)) if d.served]
    assert len(admitted) == 3
    for decision in admitted:
        settle(guard, decision, Usage(0, 300), NOON)
    assert finish(guard.store.peek(admitted[0].charges, NOON)) == pytest.approx((900.0,))


def test_a_forecast_larger_than_the_quota_does_not_make_it_impossible() -> None:
    guard = gate(quotas={"q": {"limit": "300 tokens/day"}}, reservation={"output": 5000})
    assert decide(guard, facts(given=100)).served
    assert decide(guard, facts(1, given=301, who=structs.replace(ALICE, account="b" * 20))).wait == math.inf


def test_plans_models_orgs_and_networks_have_their_own_quotas() -> None:
    guard = gate(
        plans={"default": {}, "pro": {"scale": 2}, "anonymous": {}},
        quotas={
            "all": {"limit": "10/min"},
            "dear": {"limit": "1/min", "models": ["big-*"]},
            "free_only": {"limit": "1/min", "plans": ["default"]},
            "org": {"limit": "3/min", "per": "org"},
            "nobody": {"limit": "5/min", "per": "network"},
        },
    )
    names = {c.quota.name: c for c in decide(guard, facts()).charges}
    assert set(names) == {"all", "org"}
    assert (names["all"].scale, names["org"].scale) == (2.0, 1.0)
    assert {c.quota.name for c in decide(guard, facts(1, model="big-1")).charges} == {"all", "org", "dear"}
    stranger = Identity("n" * 20, plan="anonymous", anonymous=True)
    assert {c.quota.name for c in decide(guard, facts(2, who=stranger)).charges} == {"all", "nobody"}
    unknown_plan = Identity("u" * 20, plan="platinum")
    assert {c.quota.name for c in decide(guard, facts(3, who=unknown_plan)).charges} == {"all", "free_only"}


def test_trust_grows_with_age() -> None:
    guard = gate(plans={"pro": {"trust": {"start": "20%", "over": "10d"}}}, quotas={"q": {"limit": "100/min"}})
    scales = []
    for age in (0, 5, 10, 300):
        who = structs.replace(ALICE, created_at=NOON - age * 86400)
        scales.append(decide(guard, facts(who=who)).charges[0].scale)
    assert scales == pytest.approx([0.2, 0.6, 1.0, 1.0])


def test_trust_takes_a_clean_history() -> None:
    """However old: who is found in a cluster that harvests is back at the start, until found there no more."""
    policy: dict[str, Any] = {"plans": {"pro": {"trust": {"start": "20%", "over": "10d"}}}, "quotas": {"q": {"limit": "100/min"}}}
    old = structs.replace(member(1), created_at=NOON - 300 * 86400)
    views = (clustered(1.0), clustered(1.0, harvest=0.0), structs.replace(clustered(1.0), calibrated=""), View())
    scales = [decide(gate(view, **policy), facts(who=old)).charges[0].scale for view in views]
    assert scales == pytest.approx([0.2, 1.0, 1.0, 1.0])


def test_scaling_never_denies_a_first_request() -> None:
    guard = gate(plans={"pro": {"scale": 0.01}}, quotas={"q": {"limit": "10/min"}, "f": {"limit": "4 in flight"}})
    assert [decide(guard, facts(i)).served for i in range(2)] == [True, False]


def test_an_exemption_lifts_the_action_and_keeps_counting_until_its_date() -> None:
    exemption = {"id": "team", "orgs": ["o" * 20], "until": "2026-12-31", "reason": "evaluation"}
    guard = gate(quotas={"q": {"limit": "1/min"}}, exemptions=[exemption])
    first, second = decide(guard, facts(0)), decide(guard, facts(1))
    assert (second.action, second.served, second.would) == (Action.ALLOW, True, Action.THROTTLE)
    assert second.reasons == ("quota.q", "exempt.team")
    assert finish(guard.store.peek(first.charges, NOON)) == (2.0,)
    assert not decide(guard, facts(2, at=NOON + 400 * 86400)).reasons
    assert not decide(guard, facts(3, at=NOON + 400 * 86400)).served


def clustered(confidence: float, *, size: int = 100, harvest: float = 2.0) -> View:
    families = ("content", "identity")
    cluster = Cluster("c1", size, confidence, 3.0, harvest, families, (), NOON - 3600)  # type: ignore[arg-type]
    standings = {f"{i:020d}": Standing("c1", NOON, 3.0, harvest, families) for i in range(size)}  # type: ignore[arg-type]
    return View(7, NOON, standings, {"c1": cluster}, "calibrated")


def member(i: int) -> Identity:
    return Identity(f"{i:020d}", plan="pro")


@pytest.mark.parametrize(("confidence", "served"), [(1.0, 10), (0.5, 100), (0.0, 300)])
def test_splitting_gains_nothing_the_surer_we_are(confidence: float, served: int) -> None:
    """100 accounts with 10 a minute each share 10 * 100^(1 - confidence); here each asks three times."""
    guard = gate(clustered(confidence), quotas={"q": {"limit": "10/min"}}, clusters={"share": ["q"], "minimum": 0})
    view = guard.view
    old = {"c1": structs.replace(view.clusters["c1"], born=NOON - 3600)}
    guard.view = structs.replace(view, clusters=old)
    decisions = [decide(guard, facts(i, who=member(i % 100))) for i in range(300)]
    # The minimum, though 0 here, never falls under one request a member: 100 of the refused get that.
    paid_by_cluster = [d for d in decisions if d.served and any(c.quota.per == "cluster" for c in d.charges)]
    assert len(paid_by_cluster) == served
    refused = [d for d in decisions if not d.served]
    assert all(d.reasons[0] == "cluster.q" and d.cluster == "c1" for d in refused)


def test_a_greedy_member_does_not_starve_the_others() -> None:
    guard = gate(clustered(1.0), quotas={"q": {"limit": "100/min"}}, clusters={"share": ["q"], "minimum": "5%"})
    greedy = [decide(guard, facts(i, who=member(0))) for i in range(200)]
    assert sum(d.served for d in greedy) == 100, "the whole of the cluster's quota; his own allows no more"
    modest = [decide(guard, facts(500 + i, who=member(1))) for i in range(10)]
    assert [d.served for d in modest] == [True] * 5 + [False] * 5


@pytest.mark.parametrize("reason", ["not calibrated", "clusters in shadow"])
def test_cluster_quotas_in_shadow_are_recorded_and_served(reason: str) -> None:
    view = clustered(1.0) if reason == "clusters in shadow" else structs.replace(clustered(1.0), calibrated="")
    mode = "shadow" if reason == "clusters in shadow" else "enforce"
    guard = gate(view, quotas={"q": {"limit": "3/min"}}, clusters={"share": ["q"], "minimum": 0, "mode": mode})
    decisions = [decide(guard, facts(i, who=member(i))) for i in range(10)]
    assert all(d.served and d.action is Action.ALLOW for d in decisions)
    limited = [d for d in decisions if d.would is Action.THROTTLE]
    assert not limited, "each member has a minimum of one request"
    # Three were paid by the cluster and still have their minimum.
    again = [decide(guard, facts(20 + i, who=member(i))) for i in range(3, 10)]
    assert all(d.served and d.would is Action.THROTTLE and d.reasons == ("cluster.q",) and not d.enforced for d in again)


def test_a_crowd_opens_nearly_empty() -> None:
    """A wrong merge costs honest people next to nothing: the bucket opens as full as it is sure that they are one."""
    view = clustered(0.01)
    newborn = structs.replace(view, clusters={"c1": structs.replace(view.clusters["c1"], born=NOON)})
    guard = gate(newborn, quotas={"q": {"limit": "10/day"}}, clusters={"share": ["q"], "minimum": 0})
    decisions = [decide(guard, facts(i, who=member(i % 100))) for i in range(900)]
    assert all(d.served for d in decisions)


def test_without_a_calibration_the_ladder_stays_in_shadow() -> None:
    view = structs.replace(clustered(1.0), calibrated="")
    decision = decide(gate(view, signals={"coordination": {}, "harvest": {}}, ladder=LADDER), facts(who=member(1)))
    assert (decision.served, decision.would, decision.rung) == (True, Action.DENY, "")


def test_new_clusters_open_full() -> None:
    view = clustered(1.0)
    newborn = structs.replace(view, clusters={"c1": structs.replace(view.clusters["c1"], born=NOON)})
    guard = gate(newborn, quotas={"q": {"limit": "60/min"}}, clusters={"share": ["q"], "minimum": 0})
    first = decide(guard, facts(0, who=member(0)))
    assert first.charges[-1].quota.name == "q.minimum", "nothing is left in a bucket that has just opened"
    assert decide(guard, facts(1, at=NOON + 1.0, who=member(0))).charges[-1].quota.per == "cluster"


def test_the_ladder_tightens_and_denies_only_on_both_columns() -> None:
    signals = {"coordination": {"ceiling": 3}, "harvest": {"ceiling": 3}}
    policy: dict[str, Any] = {"quotas": {"q": {"limit": "10/min"}}, "signals": signals, "ladder": LADDER}
    denied = decide(gate(clustered(1.0), **policy), facts(who=member(1)))
    assert (denied.action, denied.served, denied.rung, denied.wait) == (Action.DENY, False, "shut", math.inf)
    only_coordinated = decide(gate(clustered(1.0, harvest=0.0), **policy), facts(who=member(1)))
    assert (only_coordinated.rung, only_coordinated.charges[0].scale) == ("wary", 0.5)
    shadow = decide(gate(clustered(1.0), mode="shadow", **policy), facts(who=member(1)))
    assert (shadow.action, shadow.would, shadow.served) == (Action.ALLOW, Action.DENY, True)


def test_degrading_takes_two_families_and_is_recorded_as_such() -> None:
    policy: dict[str, Any] = {
        "quotas": {"q": {"limit": "2/min"}},
        "signals": {"coordination": {}, "harvest": {}},
        "profiles": {"terse": {"max_tokens": 100}},
        "ladder": [{"id": "dim", "at": 2, "do": "degrade", "profile": "terse"}],
    }
    guard = gate(clustered(1.0), **policy)
    first, second, third = (decide(guard, facts(i, who=member(1))) for i in range(3))
    assert (first.action, first.served, first.profile, first.reasons[0]) == (Action.DEGRADE, True, "terse", "rung.dim")
    assert second.action is Action.DEGRADE
    assert (third.action, third.served, third.profile, third.short) == (Action.THROTTLE, False, "", "q"), "a quota still refuses"
    assert third.enforced
    one = clustered(1.0)
    lone = structs.replace(one, standings={k: structs.replace(s, families=("content",)) for k, s in one.standings.items()})
    assert decide(gate(lone, **policy), facts(who=member(1))).action is Action.ALLOW


def test_a_rung_or_a_signal_in_shadow_is_recorded_only() -> None:
    signals = {"coordination": {"ceiling": 3}, "harvest": {"ceiling": 3}}
    ladder = [LADDER[0], {**LADDER[1], "mode": "shadow"}]
    by_rung = decide(gate(clustered(1.0), signals=signals, ladder=ladder), facts(who=member(1)))
    assert (by_rung.served, by_rung.would, by_rung.enforced) == (True, Action.DENY, False)
    assert (by_rung.action, by_rung.rung, by_rung.shadow, by_rung.reasons[0]) == (Action.ALLOW, "wary", "shut", "shadow.shut")
    softer = {"coordination": {"ceiling": 3, "mode": "shadow"}, "harvest": {"ceiling": 3}}
    by_signal = decide(gate(clustered(1.0), signals=softer, ladder=LADDER), facts(who=member(1)))
    assert (by_signal.served, by_signal.rung, by_signal.would) == (True, "wary", Action.DENY)
    assert Evidence("content", "coordination", 3.0, by_signal.evidence[0].says) == by_signal.evidence[0]


SHUT: dict[str, Any] = {"id": "shut", "at": 4, "do": "deny", "mode": "shadow"}
DIM: dict[str, Any] = {"id": "dim", "at": 2, "do": "degrade", "profile": "terse"}


@pytest.mark.parametrize(
    ("below", "asked", "told"),
    [
        (DIM, 1, ("degrade", True, "dim", "shut", "deny", ["rung.dim", "shadow.shut"])),
        (DIM, 3, ("throttle", True, "dim", "shut", "deny", ["quota.q", "shadow.shut"])),
        ({"id": "prove", "at": 2, "do": "challenge", "challenge": "work"}, 1, ("challenge", True, "prove", "shut", "deny", ["rung.prove", "shadow.shut"])),
        ({"id": "wary", "at": 2, "do": "throttle", "scale": 0.5}, 1, ("deny", False, "wary", "shut", "deny", ["shadow.shut", "signal.coordination"])),
    ],
)
def test_the_log_tells_which_rung_acted_and_which_one_would_have(below: dict[str, Any], asked: int, told: tuple[Any, ...]) -> None:
    policy: dict[str, Any] = {"quotas": {"q": {"limit": "2/min"}}, "signals": {"coordination": {}, "harvest": {}}, "profiles": {"terse": {"max_tokens": 100}}}
    guard = gate(clustered(1.0), **policy, challenges={"work": {"work": {}}}, ladder=[below, SHUT])
    logged = [row(decide(guard, facts(i, who=member(1))), "") for i in range(asked)][-1]
    assert (logged.action, logged.enforced, logged.rung, logged.shadow, logged.would, logged.reasons[:2]) == told


PROVE: dict[str, Any] = {
    "quotas": {"q": {"limit": "4/min"}},
    "signals": {"coordination": {}, "harvest": {}},
    "challenges": {"work": {"work": {}}},
    "ladder": [{"id": "prove", "at": 2, "do": "challenge", "challenge": "work", "scale": 0.5}],
}


def test_a_challenge_refuses_until_it_is_met() -> None:
    """And then leaves the rung's scale. What is refused pays nothing."""
    guard = gate(clustered(1.0), **PROVE)
    asked = decide(guard, facts(0, who=member(1)))
    assert (asked.action, asked.would, asked.served, asked.rung, asked.wait) == (Action.CHALLENGE, Action.CHALLENGE, False, "prove", math.inf)
    assert (asked.reasons[0], asked.spent, asked.cluster) == ("rung.prove", False, "c1")
    met = [decide(guard, structs.replace(facts(i, who=member(1)), passes=("prove",))) for i in range(1, 4)]
    assert [(d.action, d.would, d.served) for d in met[:2]] == [(Action.ALLOW, Action.ALLOW, True)] * 2
    assert met[0].reasons[-1] == "pass.prove"
    assert (met[2].action, met[2].short) == (Action.THROTTLE, "q"), "half of the quota is left"
    assert decide(guard, structs.replace(facts(9, who=member(2)), passes=("other",))).action is Action.CHALLENGE


def test_a_met_challenge_may_leave_poorer_answers() -> None:
    policy = {**PROVE, "profiles": {"plain": {"max_tokens": 9}}, "ladder": [{**PROVE["ladder"][0], "profile": "plain"}]}
    met = decide(gate(clustered(1.0), **policy), structs.replace(facts(who=member(1)), passes=("prove",)))
    assert (met.action, met.served, met.profile, met.reasons[0]) == (Action.DEGRADE, True, "plain", "rung.prove")


@pytest.mark.parametrize(
    ("changes", "view"),
    [
        ({"mode": "shadow"}, clustered(1.0)),
        ({"ladder": [{**PROVE["ladder"][0], "mode": "shadow"}]}, clustered(1.0)),
        ({"exemptions": [{"id": "known", "accounts": [f"{1:020d}"], "until": "2099-01-01", "reason": "agreed"}]}, clustered(1.0)),
    ],
)
def test_a_challenge_in_shadow_or_exempted_is_recorded_only(changes: dict[str, Any], view: View) -> None:
    decision = decide(gate(view, **{**PROVE, **changes}), facts(who=member(1)))
    assert (decision.action, decision.would, decision.served, decision.enforced) == (Action.ALLOW, Action.CHALLENGE, True, False)


def test_a_challenge_takes_both_columns_and_two_families() -> None:
    one = clustered(1.0)
    lone = structs.replace(one, standings={k: structs.replace(s, families=("content",)) for k, s in one.standings.items()})
    for view in (lone, clustered(1.0, harvest=0.0), structs.replace(one, calibrated="")):
        assert decide(gate(view, **PROVE), facts(who=member(1))).action is Action.ALLOW
