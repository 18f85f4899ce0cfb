"""Acknowledgements: what they cover, for whom, until when, and what they leave standing."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs

from gateway_guard.decision import Action
from gateway_guard.evidence import Family
from gateway_guard.gate import Gate
from gateway_guard.policy.acknowledged import Acknowledged, Acknowledgement, Kind, Relief, Suspended, Suspension, families_named, relieved
from gateway_guard.view import Cluster, Standing, View
from tests.test_gate import ALICE, NOON, decide, facts, gate

FAMILIES: tuple[Family, ...] = ("content", "conversation", "network")
STANDING = Standing("c-1", NOON, 5.0, 4.0, FAMILIES, (3.0, 1.5, 2.0))
VIEW = View(1, NOON, {ALICE.account: STANDING}, {"c-1": Cluster("c-1", 9, 0.99, 5.0, 4.0, FAMILIES)}, "calibrated")
BOTH: dict[str, Any] = {"coordination": {"ceiling": 9}, "harvest": {"ceiling": 9}}


def given(*families: Family, kind: Kind = "account", subject: str = ALICE.account, **more: Any) -> Acknowledgement:
    return Acknowledgement(7, kind, "name", (subject,), families, "known", NOON, NOON + 3600, **more)


def guarded(*acknowledgements: Acknowledgement, at: float = 4) -> Gate:
    guard = gate(VIEW, signals=BOTH, ladder=[{"id": "shut", "at": at, "do": "deny"}], quotas={"day": {"limit": "10/day"}}, clusters={"share": ["day"]})
    guard.acknowledged = Acknowledged(acknowledgements)
    return guard


@pytest.mark.parametrize(
    ("acknowledgement", "served"),
    [
        (given(*FAMILIES), True),
        (given("content", "network"), True),
        (given("content"), True),  # harvest rests on content, and nothing is grave without it
        (given("rhythm", "client", "identity"), False),
        (given(*FAMILIES, subject="b" * 20), False),
        (given(*FAMILIES, kind="org", subject=ALICE.org), True),
        (given(*FAMILIES, kind="org", subject=ALICE.account), False),
        (given(*FAMILIES, kind="cluster", subject="c-1"), True),
        (given(*FAMILIES, kind="cluster", subject="c-2"), False),
        (given(*FAMILIES, withdrawn=NOON - 1), False),
        (structs.replace(given(*FAMILIES), begins=NOON + 1), False),
    ],
)
def test_who_is_covered_by_what(acknowledgement: Acknowledgement, served: bool) -> None:
    decision = decide(guarded(acknowledgement), facts())
    assert (decision.served, decision.action) == (served, Action.ALLOW if served else Action.DENY)
    assert ("acknowledged.7" in decision.reasons) is served


def test_it_ends_at_its_date() -> None:
    guard = guarded(given(*FAMILIES))
    assert [decide(guard, facts(at=NOON + after)).served for after in (0, 3599.9, 3600, 4000)] == [True, True, False, False]


def test_new_evidence_of_another_kind_counts_and_of_the_same_kind_does_not() -> None:
    guard = guarded(given("content", "network"))
    assert decide(guard, facts()).served
    more = structs.replace(STANDING, coordination=99.0, harvest=99.0, weights=(60.0, 1.5, 90.0))
    guard.view = structs.replace(VIEW, standings={ALICE.account: more})
    assert decide(guard, facts()).served, "however much more of the same"
    another = Standing("c-1", NOON, 9.0, 9.0, ("content", "conversation", "rhythm"), (3.0, 4.0, 4.0))
    guard.view = structs.replace(VIEW, standings={ALICE.account: another})
    guard.acknowledged = Acknowledged([given("network")])
    assert not decide(guard, facts()).served


def test_what_is_left_weighs_less() -> None:
    left = relieved(STANDING, Relief(frozenset({"network"}), (7,)))
    assert left is not None
    assert (left.coordination, left.harvest, left.families, left.weights) == (3.0, 4.0, ("content", "conversation"), (3.0, 1.5))
    assert relieved(STANDING, Relief(frozenset({"network", "content"}), (7,))) is None
    assert relieved(STANDING, Relief(frozenset({"client"}), (7,))) is STANDING


def test_whoever_is_acknowledged_shares_no_quota_with_the_cluster() -> None:
    guard = guarded(given(*FAMILIES), at=90)
    assert decide(guard, facts()).cluster == ""
    guard.acknowledged = Acknowledged()
    assert decide(guard, facts()).cluster == "c-1"


@pytest.mark.parametrize("text", ["", "colour", "content,colour"])
def test_families_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match="no kind of evidence"):
        families_named(text)


def test_families_are_named_once_in_their_order() -> None:
    assert families_named("network, content,network") == ("content", "network")


def order(kind: Kind = "account", subject: str = ALICE.account) -> Suspended:
    return Suspended([Suspension(3, kind, "name", (subject,), "resold", NOON, NOON + 60)])


@pytest.mark.parametrize(
    ("kind", "subject", "served"), [("account", ALICE.account, False), ("org", ALICE.org, False), ("cluster", "c-1", False), ("cluster", "c-2", True)]
)
def test_an_operator_denies_by_hand_until_a_date(kind: Kind, subject: str, served: bool) -> None:
    """Also somebody whose evidence is acknowledged: the order is newer than any reason not to have given it."""
    guard = guarded(given(*FAMILIES))
    guard.suspended = order(kind, subject)
    decision = decide(guard, facts())
    assert (decision.served, decision.action is Action.DENY, decision.reasons[0]) == (served, not served, "acknowledged.7" if served else "suspended.3")
    assert decide(guard, facts(1, at=NOON + 60)).served


def test_a_suspension_is_only_recorded_in_shadow_and_spares_the_exempt() -> None:
    shadow = gate(mode="shadow")
    shadow.suspended = order()
    decision = decide(shadow, facts())
    assert (decision.served, decision.would, decision.enforced) == (True, Action.DENY, False)
    exempt = gate(exemptions=[{"id": "lab", "accounts": [ALICE.account], "until": "2099-01-01", "reason": "agreed"}])
    exempt.suspended = order()
    assert decide(exempt, facts()).served
