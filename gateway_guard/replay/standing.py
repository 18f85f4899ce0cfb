"""Where one account, or one cluster, stands at the end of a replay: the page that a support engineer answers a customer from."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Collection
from typing import NamedTuple

import msgspec
from rich.console import Group, RenderableType
from rich.text import Text

from gateway_guard.errors import UsageError
from gateway_guard.gate import Gate
from gateway_guard.replay.clusters import Found, found, table, told
from gateway_guard.replay.stage import Stage
from gateway_guard.view import Standing

VERSION = 1
CLEARS = (
    "an action's time is over: the account has shown nothing that speaks for the cluster for as long as the rung `expires`",
    "what it shares with the others is no longer seen: evidence loses half its weight in `analysis.half_life`, and the account drifts out",
    "the operator declares the organisation in the directory (`org`): accounts of a verified organisation are one by declaration and are not found",
    "an operator releases an appeal, or acknowledges the evidence (`gateway-guard acknowledge`, with a reason and an end date)",
    "the operator exempts it (`exemptions`, with a reason and an end date)",
)


class Term(msgspec.Struct, frozen=True):
    """A rung: from when on it is applied, and when it ends without new evidence (null: the view does not tell)."""

    rung: str
    do: str
    mode: str
    begins: float
    ends: float | None


class Account(msgspec.Struct, frozen=True):
    """One account's own part: since when it is `joined`, its `families` of evidence, and its columns relative to the calibrated point ·
    `seen` when there was new evidence last · `actions` of the ladder that its cluster reaches, with their times · `acknowledged` a sentence each.
    """

    account: str
    joined: float
    coordination: float
    harvest: float
    families: list[str]
    seen: float = 0.0
    actions: list[Term] = []
    acknowledged: list[str] = []


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """`verdict` in a sentence · `account` when one was asked for · `cluster` that it is in · `quotas` that the cluster shares · `clears` what ends it."""

    v: int = VERSION
    verdict: str
    calibrated: str
    account: Account | None = None
    cluster: Found | None = None
    quotas: list[str] = []
    clears: list[str] = []


class Ground(NamedTuple):
    """What a page is written from: a gate with the view at the end of `source` · `name` shows an account."""

    gate: Gate
    name: Callable[[str], str]
    source: str


def of_account(stage: Stage, name: str) -> Page:
    """Play the traffic to its end; where the account (by name or by hash) stands then."""
    return account_page(_ground(stage), name, _play(stage), "has a request in it")


def of_cluster(stage: Stage, ident: str) -> Page:
    """Play the traffic to its end; what the cluster is then."""
    _play(stage)
    return cluster_page(_ground(stage), ident)


def account_page(ground: Ground, name: str, known: Collection[str], known_by: str) -> Page:
    """Where one of the `known` accounts stands; of any other it is told what those are `known_by`."""
    account = next((one for one in sorted(known) if name in (one, ground.name(one))), None)
    if account is None:
        raise UsageError(f"{ground.source}: no account {name} {known_by}")
    view = ground.gate.view
    standing = view.standings.get(account)
    if standing is None or standing.cluster not in view.clusters:
        return Page(verdict=f"{ground.name(account)} is in no cluster: its own quotas are all that holds for it.", calibrated=view.calibrated)
    cluster = next(one for one in found(view, ground.name, ground.gate.acknowledged) if one.id == standing.cluster)
    return _page(ground, cluster, _account(ground, account, standing))


def cluster_page(ground: Ground, ident: str) -> Page:
    """What a cluster is."""
    clusters = found(ground.gate.view, ground.name, ground.gate.acknowledged)
    cluster = next((one for one in clusters if one.id == ident), None)
    if cluster is None:
        known = ", ".join(one.id for one in clusters[:8]) or "none"
        raise UsageError(f"{ground.source}: there is no cluster {ident} at its end; there are: {known}")
    return _page(ground, cluster, None)


def _ground(stage: Stage) -> Ground:
    return Ground(stage.gate, stage.name, stage.source.name)


def _play(stage: Stage) -> set[str]:
    seen: set[str] = set()
    try:
        for step in stage.steps:
            if step.facts is not None:
                seen.add(step.facts.identity.account)
    finally:
        stage.source.close()
    return seen


def _account(ground: Ground, account: str, standing: Standing) -> Account:
    view, rules = ground.gate.view, ground.gate.rules
    known = [told(one) for one in ground.gate.acknowledged.given("account", account, view.at)]
    actions = [Term(rung.id, rung.do, rung.mode, begin, end if end < math.inf else None) for rung, begin, end in rules.terms(standing, view)]
    columns = round(standing.coordination, 2), round(standing.harvest, 2)
    return Account(ground.name(account), standing.joined, *columns, list(standing.families), standing.seen, actions, known)


def _page(ground: Ground, cluster: Found, account: Account | None) -> Page:
    calibrated = ground.gate.view.calibrated
    who = f"{account.account} acts as one with {cluster.size - 1:,} others" if account else f"{cluster.id}: {cluster.size:,} accounts that act as one"
    if not calibrated:
        effect = "recorded only, for want of a calibration"
    elif cluster.coordination > 0 and cluster.harvest > 0:
        effect = "they share one quota, and the ladder applies: beyond the calibrated point on both columns"
    else:
        effect = f"they share the quotas of {cluster.share:g} of them, and nothing else happens"
    quotas = list(ground.gate.rules.policy.clusters.share)
    return Page(verdict=f"{who}; {effect}.", calibrated=calibrated, account=account, cluster=cluster, quotas=quotas, clears=list(CLEARS))


def page(page: Page) -> RenderableType:
    """For the terminal."""
    head = Text.assemble((page.verdict, "bold"))
    if page.account is not None:
        one = page.account
        head.append(f"\n\naccount    {one.account}, in the cluster since {_when(one.joined)}")
        head.append(f"\nevidence   {', '.join(one.families)}; coordination {one.coordination:+.1f}, harvest {one.harvest:+.1f} (0: the calibrated point)")
        head.append("".join(f"\n           {_term(term)}" for term in one.actions))
        head.append("".join(f"\n           {says}" for says in one.acknowledged))
    if page.cluster is None:
        return head
    head.append(f"\nshared     {', '.join(page.quotas) or 'nothing: `clusters.share` is empty'}: {page.cluster.share:g} times one account's, for all together")
    head.append(f"\nmembers    {', '.join(page.cluster.members)}{' ...' if page.cluster.size > len(page.cluster.members) else ''}")
    ways = Text("It ends when\n" + "\n".join(f"- {way}" for way in page.clears))
    return Group(head, "", table([page.cluster], calibrated=bool(page.calibrated)), "", ways)


def _term(term: Term) -> str:
    end = f"until {_when(term.ends)} unless there is new evidence" if term.ends is not None else "while the evidence stands"
    return f"rung {term.rung} ({term.do}{', shadow' if term.mode == 'shadow' else ''}) from {_when(term.begins)} {end}"


def _when(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
