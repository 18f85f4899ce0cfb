"""Where one account, or one cluster, stands, at the end of a replay or in a running guard: the page that a support engineer answers a customer from."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway_guard.analysis.words import TESTS
from gateway_guard.errors import UsageError
from gateway_guard.facts import Identity, RequestFacts
from gateway_guard.gate import Gate, at_once
from gateway_guard.quota import Bill, Charge
from gateway_guard.replay.clusters import Finding, Found, found, told
from gateway_guard.replay.stage import Stage
from gateway_guard.view import Cluster, Standing

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
    `seen` when there was new evidence last · `actions` of the ladder that its cluster reaches, with their times · `acknowledged` a sentence each ·
    `weights` log-odds of its own for each family.
    """

    account: str
    joined: float
    coordination: float
    harvest: float
    families: list[str]
    seen: float = 0.0
    actions: list[Term] = []
    acknowledged: list[str] = []
    weights: dict[str, float] = {}


class Pooled(msgspec.Struct, frozen=True):
    """A quota that all members of a cluster share: `limit` for all together, in `unit`, and what drains in an hour · `owed` and `left` of it now, where
    that can be told from here.
    """

    quota: str
    unit: str
    limit: float
    per_hour: float
    owed: float | None = None
    left: float | None = None


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """`verdict` in a sentence · `at` when the view was concluded · `account` when one was asked for · `cluster` that it is in · `quotas` that the cluster
    shares, `shared` with their figures for a member's plan · `clears` what ends it.
    """

    v: int = VERSION
    verdict: str
    calibrated: str
    at: float = 0.0
    account: Account | None = None
    cluster: Found | None = None
    quotas: list[str] = []
    shared: list[Pooled] = []
    clears: list[str] = []


class Ground(NamedTuple):
    """What a page is written from: a gate with the view of a moment, at the end of `source` or in a running guard · `name` shows an account ·
    `identity` what is known of one · `owed` what a bill's buckets owe, None where that cannot be told from here.
    """

    gate: Gate
    name: Callable[[str], str]
    source: str
    identity: Callable[[str], Identity | None] = lambda account: None
    owed: Callable[[Bill], Sequence[float]] | None = None


def of_account(stage: Stage, name: str) -> Page:
    """Play the traffic to its end; where the account (by name or by hash) stands then."""
    seen = _play(stage)
    return account_page(_ground(stage, seen), name, seen, "has a request in it")


def of_cluster(stage: Stage, ident: str) -> Page:
    """Play the traffic to its end; what the cluster is then."""
    return cluster_page(_ground(stage, _play(stage)), ident)


def account_page(ground: Ground, name: str, known: Collection[str], known_by: str) -> Page:
    """Where one of the `known` accounts stands; of any other it is told what those are `known_by`."""
    account = next((one for one in sorted(known) if name in (one, ground.name(one))), None)
    if account is None:
        raise UsageError(f"{ground.source}: no account {name} {known_by}")
    view = ground.gate.view
    standing = view.standings.get(account)
    if standing is None or standing.cluster not in view.clusters:
        says = f"{ground.name(account)} is in no cluster: its own quotas are all that holds for it."
        return Page(verdict=says, calibrated=view.calibrated, at=view.at)
    cluster = next(one for one in found(view, ground.name, ground.gate.acknowledged) if one.id == standing.cluster)
    return _page(ground, cluster, _account(ground, account, standing), ground.identity(account) or Identity(account))


def cluster_page(ground: Ground, ident: str) -> Page:
    """What a cluster is."""
    view = ground.gate.view
    clusters = found(view, ground.name, ground.gate.acknowledged)
    cluster = next((one for one in clusters if one.id == ident), None)
    if cluster is None:
        known = ", ".join(one.id for one in clusters[:8]) or "none"
        raise UsageError(f"{ground.source}: there is no cluster {ident}; there are: {known}")
    member = min((account for account, standing in view.standings.items() if standing.cluster == ident), default="")
    return _page(ground, cluster, None, ground.identity(member) or Identity(member))


def _ground(stage: Stage, seen: Mapping[str, Identity]) -> Ground:
    gate = stage.gate
    return Ground(gate, stage.name, stage.source.name, seen.get, lambda bill: at_once(gate.store.peek(bill, gate.view.at)))


def _play(stage: Stage) -> dict[str, Identity]:
    seen: dict[str, Identity] = {}
    try:
        for step in stage.steps:
            if step.facts is not None:
                seen[step.facts.identity.account] = step.facts.identity
    finally:
        stage.source.close()
    return seen


def _account(ground: Ground, account: str, standing: Standing) -> Account:
    known = [told(one) for one in ground.gate.acknowledged.given("account", account, ground.gate.view.at)]
    actions = [
        Term(rung.id, rung.do, rung.mode, begin, end if end < math.inf else None) for rung, begin, end in ground.gate.rules.terms(standing, ground.gate.view)
    ]
    columns = round(standing.coordination, 2), round(standing.harvest, 2)
    own: dict[str, float] = dict(zip(standing.families, standing.weights, strict=False))
    return Account(ground.name(account), standing.joined, *columns, list(standing.families), standing.seen, actions, known, own)


def _page(ground: Ground, cluster: Found, account: Account | None, member: Identity) -> Page:
    calibrated = ground.gate.view.calibrated
    who = f"{account.account} acts as one with {cluster.size - 1:,} others" if account else f"{cluster.id}: {cluster.size:,} accounts that act as one"
    if not calibrated:
        effect = "recorded only, for want of a calibration"
    elif cluster.coordination > 0 and cluster.harvest > 0:
        effect = "they share one quota, and the ladder applies: beyond the calibrated point on both columns"
    else:
        effect = f"they share the quotas of {cluster.share:g} of them, and nothing else happens"
    return Page(
        verdict=f"{who}; {effect}.",
        calibrated=calibrated,
        at=ground.gate.view.at,
        account=account,
        cluster=cluster,
        quotas=list(ground.gate.rules.policy.clusters.share),
        shared=_pooled(ground, ground.gate.view.clusters[cluster.id], member),
        clears=list(CLEARS),
    )


def _pooled(ground: Ground, cluster: Cluster, member: Identity) -> list[Pooled]:
    """The cluster's quotas at the member's plan."""
    bill = ground.gate.rules.charges(
        RequestFacts("", ground.gate.view.at, member, ""), forecast=0.0, scale=1.0, clean=cluster.harvest <= 0.0 or not ground.gate.view.calibrated
    )
    parts = tuple(part.costing([0.0] * len(part.costs)) for part in ground.gate.rules.cluster_charges(bill, cluster)[0])
    charges = Bill(parts)
    levels = ground.owed(charges) if ground.owed is not None and parts else [None] * len(charges)
    return [_one(charge, level) for charge, level in zip(charges, levels, strict=True)]


def _one(charge: Charge, level: float | None) -> Pooled:
    quota, limit = charge.quota, charge.quota.burst * charge.scale
    left = None if level is None else round(max(0.0, limit - level), 2)
    return Pooled(quota.name, quota.unit, round(limit, 2), round(quota.rate * charge.scale * 3600.0, 2), None if level is None else round(level, 2), left)


def page(page: Page) -> RenderableType:
    """For the terminal: the verdict, the account, the cluster, what it rests on, what it costs, and what ends it."""
    parts: list[RenderableType] = [Text.assemble((page.verdict, "bold")), ""]
    if page.account is not None:
        parts += [_facts(_of_account(page.account)), ""]
    if page.cluster is None:
        return Group(*parts[:-1])
    parts += [_facts(_of_cluster(page, page.cluster)), ""]
    shared = [one for one in page.cluster.evidence if one.signal not in TESTS]
    pooled = [one for one in page.cluster.evidence if one.signal in TESTS]
    if shared:
        parts += [_evidence("What they have in common, and who else has it", shared), ""]
    if pooled:
        parts += [_evidence("An audience of individuals, or one actor? All members' traffic together", pooled), ""]
    if page.shared:
        parts += [_quotas(page.shared), ""]
    return Group(*parts, Text("It ends when\n" + "\n".join(f"- {way}" for way in page.clears)))


def _of_account(one: Account) -> list[tuple[str, str]]:
    own = ", ".join(f"{family} {one.weights[family]:+.1f}" if family in one.weights else family for family in one.families)
    lines = [
        ("account", f"{one.account}, in the cluster since {_when(one.joined)}"),
        ("speaks for it", f"{own} (log-odds of its own)" if own else "nothing of its own"),
        ("seen last", _when(one.seen) if one.seen else "not told"),
    ]
    lines += [("now", _term(term)) for term in one.actions] or [("now", "no rung of the ladder is reached")]
    return lines + [("acknowledged", says) for says in one.acknowledged]


def _of_cluster(page: Page, one: Found) -> list[tuple[str, str]]:
    columns = f"coordination {one.coordination:+.1f}, harvest {one.harvest:+.1f} (0: the calibrated point)"
    return [
        ("cluster", f"{one.id}, {one.size:,} accounts, first seen {_when(one.born)}; concluded {_when(page.at)}"),
        ("one actor?", f"confidence {one.confidence:.1%}; {columns}; calibration {page.calibrated or 'none'}"),
        ("members", f"{', '.join(one.members)}{' ...' if one.size > len(one.members) else ''}"),
        ("costs", f"{', '.join(page.quotas)}: {one.share:g} times one account's, for all together" if page.quotas else "`clusters.share` is empty: nothing"),
        *(("acknowledged", says) for says in one.acknowledged),
    ]


def _facts(lines: Sequence[tuple[str, str]]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, says in lines:
        table.add_row(name, says)
    return table


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))


def _evidence(title: str, pieces: Sequence[Finding]) -> Table:
    """Log-odds above 0 speak for one actor, or for harvesting; below 0 against it."""
    table = _table(title)
    table.add_column("kind", no_wrap=True)
    table.add_column("log-odds", justify="right", no_wrap=True)
    table.add_column("what was found", overflow="fold")
    for piece in pieces:
        table.add_row(piece.family, f"{piece.log_odds:+.1f}", piece.says)
    return table


def _quotas(shared: Sequence[Pooled]) -> Table:
    table = _table("What all of them together may use, and have left")
    table.add_column("quota", no_wrap=True)
    for name in ("limit", "used", "left", "comes back in an hour"):
        table.add_column(name, justify="right")
    for one in shared:
        used, left = ("not told here" if value is None else f"{value:,.0f}" for value in (one.owed, one.left))
        table.add_row(f"{one.quota} ({one.unit})", f"{one.limit:,.0f}", used, left, f"{one.per_hour:,.0f}")
    return table


def _term(term: Term) -> str:
    end = f"until {_when(term.ends)} unless there is new evidence" if term.ends is not None else "while the evidence stands"
    return f"rung {term.rung} ({term.do}{', shadow' if term.mode == 'shadow' else ''}) from {_when(term.begins)} {end}"


def _when(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
