"""The clusters of a view, as a table and as values for JSON."""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable, Sequence

import msgspec
from rich.table import Table

from gateway_guard.policy.acknowledged import NOTHING, Acknowledged, Acknowledgement
from gateway_guard.replay.portrait import Portrait
from gateway_guard.view import Cluster, View

# Members named in a report; the rest is a count.
SHOWN = 20


class Finding(msgspec.Struct, frozen=True):
    """One piece of evidence."""

    family: str
    signal: str
    log_odds: float
    says: str


class Found(msgspec.Struct, frozen=True):
    """One cluster: `coordination` and `harvest` are log-odds relative to the calibrated point (above 0 on both: the ladder's business) ·
    `members` the first twenty by name, `size` all of them · `share` of one member's quotas that the cluster has: size to the power of 1 - confidence ·
    `portrait` of the foremost clusters of a replay · `acknowledged` what operators say of the cluster, a sentence each.
    """

    id: str
    size: int
    confidence: float
    coordination: float
    harvest: float
    share: float
    families: list[str]
    born: float
    members: list[str]
    evidence: list[Finding]
    portrait: Portrait | None = None
    acknowledged: list[str] = []


def members(view: View) -> dict[str, list[str]]:
    """The accounts of each cluster."""
    out: dict[str, list[str]] = defaultdict(list)
    for account, standing in view.standings.items():
        if standing.cluster:
            out[standing.cluster].append(account)
    return out


def found(view: View, name: Callable[[str], str], acknowledged: Acknowledged = NOTHING) -> list[Found]:
    """The view's clusters, the most conspicuous first. `name` shows an account."""
    inside = members(view)
    known = {ident: acknowledged.given("cluster", ident, view.at) for ident in view.clusters}
    out = [_found(cluster, sorted(map(name, inside.get(cluster.id, ()))), known[cluster.id]) for cluster in view.clusters.values()]
    return sorted(out, key=lambda one: (-min(one.coordination, one.harvest), -one.size, one.id))


def _found(cluster: Cluster, members: list[str], known: Sequence[Acknowledgement]) -> Found:
    return Found(
        id=cluster.id,
        size=cluster.size,
        confidence=round(cluster.confidence, 4),
        coordination=round(cluster.coordination, 2),
        harvest=round(cluster.harvest, 2),
        share=round(max(1, cluster.size) ** (1.0 - cluster.confidence), 2),
        families=list(cluster.families),
        born=cluster.born,
        members=members[:SHOWN],
        evidence=[Finding(e.family, e.signal, round(e.log_odds, 2), e.says) for e in cluster.evidence],
        acknowledged=[told(one) for one in known],
    )


def told(one: Acknowledgement) -> str:
    """An acknowledgement in a sentence."""
    until = datetime.datetime.fromtimestamp(one.until, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"acknowledged ({one.number}) until {until}: {', '.join(one.families)}: {one.reason}"


def table(clusters: list[Found], *, calibrated: bool, sentences: int | None = None) -> Table:
    """A row for each cluster, with what speaks for it: all sentences, or the first few."""
    title = "Accounts that act as one" + ("" if calibrated else " (recorded only: there is no calibration)")
    out = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False, header_style="dim")
    for column in ("cluster", "accounts", "confidence", "share"):
        out.add_column(column, justify="left" if column == "cluster" else "right")
    out.add_column("coordination", justify="right")
    out.add_column("harvest", justify="right")
    out.add_column("evidence", overflow="fold")
    for one in clusters:
        says = "\n".join([*(piece.says for piece in one.evidence[:sentences]), *one.acknowledged]) or ", ".join(one.families)
        quotas = f"{one.share:g} of {one.size}"
        out.add_row(one.id, f"{one.size:,}", f"{one.confidence:.1%}", quotas, f"{one.coordination:+.1f}", f"{one.harvest:+.1f}", says)
    return out
