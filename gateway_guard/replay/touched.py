"""Who is touched, and what that costs those who do nothing wrong: by organisation, plan, age and volume."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Sequence

import msgspec

from gateway_guard.replay.tally import AccountTally, Tally

DAY = 86400.0
LARGEST = 12
NO_ORG = "(no organisation)"
AGES = ((1, "under a day"), (7, "1 to 7 days"), (30, "7 to 30 days"), (90, "30 to 90 days"), (365, "90 days to a year"))
OLDER, UNKNOWN = "over a year", "(not known)"
SHARES = (0.0, 0.001, 0.01, 0.1, 0.5, 1.0)
WORST = 10


class Group(msgspec.Struct, frozen=True):
    """Accounts taken together: how many were `touched` (anything but allow, at least once) and `refused` at least once."""

    accounts: int
    touched: int
    refused: int
    requests: int
    touched_requests: int


class Touched(msgspec.Struct, frozen=True):
    """The same accounts cut three ways: `orgs` the dozen verified organisations that are touched most, and those in none; `ages` at the first
    request; `volumes` tenths of the accounts by their number of requests, the quietest first.
    """

    orgs: dict[str, Group]
    ages: dict[str, Group]
    volumes: dict[str, Group]


class TopAccount(msgspec.Struct, frozen=True):
    """An account that was refused or delayed often; `reason` the commonest."""

    account: str
    plan: str
    requests: int
    refused: int
    delayed: int
    reason: str
    degraded: int = 0


class Cost(msgspec.Struct, frozen=True):
    """What the policy costs the accounts that are taken for honest, which `who` says. `shares`: accounts by the share of their own requests that was
    touched, `none` or up to each bound; `refused`, `delayed` and `degraded` requests; a delay is `typical` for the median delayed account and at most
    `longest`, in seconds.
    """

    who: str
    accounts: Group
    shares: dict[str, int]
    refused: int
    delayed: int
    degraded: int
    typical: float
    longest: float
    worst: list[TopAccount]


def group(accounts: Sequence[AccountTally]) -> Group:
    """Accounts taken together."""
    return Group(
        accounts=len(accounts),
        touched=sum(account.touched > 0 for account in accounts),
        refused=sum(account.refused > 0 for account in accounts),
        requests=sum(account.requests for account in accounts),
        touched_requests=sum(account.touched for account in accounts),
    )


def touched_of(tally: Tally) -> Touched:
    """Who is touched."""
    accounts = list(tally.accounts.values())
    orgs = by(accounts, lambda account: account.org or NO_ORG)
    ages = by(accounts, age)
    most = sorted(orgs, key=lambda name: (name != NO_ORG, -orgs[name].touched_requests, -orgs[name].requests, name))
    return Touched(
        orgs={name: orgs[name] for name in most[: LARGEST + 1]},
        ages={name: ages[name] for name in (*(name for _, name in AGES), OLDER, UNKNOWN) if name in ages},
        volumes=_volumes(accounts),
    )


def cost_of(accounts: dict[str, AccountTally], who: str, name: Callable[[str], str]) -> Cost:
    """What it costs these accounts."""
    every = list(accounts.values())
    waits = sorted(account.longest for account in every if account.longest)
    return Cost(
        who=who,
        accounts=group(every),
        shares=_shares(every),
        refused=sum(account.refused for account in every),
        delayed=sum(account.delayed for account in every),
        degraded=sum(account.degraded for account in every),
        typical=round(waits[len(waits) // 2], 3) if waits else 0.0,
        longest=round(waits[-1], 3) if waits else 0.0,
        worst=top_of(accounts, name),
    )


def top_of(accounts: dict[str, AccountTally], name: Callable[[str], str]) -> list[TopAccount]:
    """Those who were refused most, then degraded, then delayed."""
    touched = [(name(account), of) for account, of in accounts.items() if of.touched]
    touched.sort(key=lambda item: (-item[1].refused, -item[1].degraded, -item[1].delayed, item[0]))
    return [TopAccount(shown, of.plan, of.requests, of.refused, of.delayed, _commonest(of), of.degraded) for shown, of in touched[:WORST]]


def by(accounts: Iterable[AccountTally], trait: Callable[[AccountTally], str]) -> dict[str, Group]:
    """Groups by what `trait` says of an account."""
    members: dict[str, list[AccountTally]] = {}
    for account in accounts:
        members.setdefault(trait(account), []).append(account)
    return {name: group(of) for name, of in sorted(members.items())}


def age(account: AccountTally) -> str:
    """How old an account was at its first request, in words."""
    if not account.created_at:
        return UNKNOWN
    days = (account.first - account.created_at) / DAY
    return next((name for bound, name in AGES if days < bound), OLDER)


def _volumes(accounts: Collection[AccountTally]) -> dict[str, Group]:
    ordered = sorted(accounts, key=lambda account: (account.requests, account.number))
    edges = [round(tenth * len(ordered) / 10) for tenth in range(11)]
    parts = [ordered[low:high] for low, high in itertools.pairwise(edges) if high > low]
    return {f"{number}: {part[0].requests:,} to {part[-1].requests:,}": group(part) for number, part in enumerate(parts, 1)}


def _shares(accounts: Iterable[AccountTally]) -> dict[str, int]:
    found = dict.fromkeys(("none", *(f"{bound:.1%}" if bound < 0.01 else f"{bound:.0%}" for bound in SHARES[1:])), 0)
    names = list(found)
    for account in accounts:
        share = account.touched / account.requests
        found[names[next(place for place, bound in enumerate(SHARES) if share <= bound)]] += 1
    return found


def _commonest(account: AccountTally) -> str:
    return min(account.reasons, key=lambda reason: (-account.reasons[reason], reason), default="")
