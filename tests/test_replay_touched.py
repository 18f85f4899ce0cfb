"""Who is touched: the same accounts cut by organisation, age and volume; what it costs the honest; how full the quotas became."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway_guard.facts import Identity
from gateway_guard.replay.headroom import headroom_of
from gateway_guard.replay.tally import AccountTally, Tally
from gateway_guard.replay.touched import NO_ORG, UNKNOWN, age, cost_of, touched_of
from tests import reports
from tests.logs import START

DAY = 86400.0


def tally(*accounts: AccountTally) -> Tally:
    made = Tally()
    made.accounts = {f"a{n}": one for n, one in enumerate(accounts)}
    return made


def account(number: int = 0, *, created: float = 0.0, org: str = "", requests: int = 1, touched: int = 0, longest: float = 0.0) -> AccountTally:
    made = AccountTally(Identity("x", org=org, created_at=created), number, START)
    made.requests, made.touched, made.delayed, made.longest = requests, touched, touched, longest
    return made


@pytest.mark.parametrize(
    ("days", "name"),
    [(0.5, "under a day"), (1.0, "1 to 7 days"), (29.9, "7 to 30 days"), (30.0, "30 to 90 days"), (364.0, "90 days to a year"), (366.0, "over a year")],
)
def test_ages_in_words(days: float, name: str) -> None:
    assert age(account(created=START - days * DAY)) == name
    assert age(account()) == UNKNOWN


def test_volumes_are_tenths_of_the_accounts() -> None:
    volumes = touched_of(tally(*(account(n, requests=n + 1, touched=n // 19) for n in range(20)))).volumes
    assert list(volumes) == [f"{n + 1}: {2 * n + 1} to {2 * n + 2}" for n in range(10)]
    assert [group.accounts for group in volumes.values()] == [2] * 10
    assert volumes["10: 19 to 20"].touched == 1
    assert list(touched_of(tally(account(requests=3))).volumes) == ["1: 3 to 3"]


def test_organisations_most_touched_first_and_a_dozen_of_them() -> None:
    orgs = touched_of(tally(account(), *(account(org=f"o{n:02}", requests=50, touched=n) for n in range(20)))).orgs
    assert list(orgs) == [NO_ORG, *(f"o{n:02}" for n in range(19, 7, -1))]


def test_the_cost_by_the_share_of_ones_own_requests() -> None:
    accounts = tally(
        account(requests=1000, touched=1), account(requests=10, touched=1, longest=4.0), account(requests=2, touched=2, longest=2.0), account()
    ).accounts
    cost = cost_of(accounts, "everybody", str)
    assert cost.shares == {"none": 1, "0.1%": 1, "1%": 0, "10%": 1, "50%": 0, "100%": 1}
    assert (cost.delayed, cost.typical, cost.longest) == (4, 4.0, 4.0)
    assert [one.account for one in cost.worst] == ["a2", "a0", "a1"]


def test_headroom_by_plan_is_that_of_the_accounts_on_it(tmp_path: Path) -> None:
    played = reports.session(tmp_path)
    minute = headroom_of(played.tally)["minute"]
    assert (minute.per, set(minute.plans)) == ("account", {"free", "pro"})
    assert minute.plans["free"].subjects == 4
    assert minute.plans["free"].most >= 1.0 > minute.plans["pro"].most
    assert minute.plans["free"].median <= minute.plans["free"].at_90 <= minute.plans["free"].most


def test_labels_say_who_is_honest_and_without_them_the_analyst_does(tmp_path: Path) -> None:
    labelled, found = (reports.session(tmp_path, labels=labels).report(1.0).cost for labels in (True, False))
    assert labelled is not None
    assert found is not None
    assert labelled.accounts.accounts == 2
    assert found.accounts.accounts == 5
