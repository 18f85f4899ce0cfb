"""Whom the ladder acts on, from one conclusion to the next: what began and what ended, for the audit log."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from gateway_guard.facts import Identity, RequestFacts
from gateway_guard.policy.acknowledged import Acknowledged, Relief, relieved
from gateway_guard.policy.judge import Rulebook
from gateway_guard.policy.model import Rung
from gateway_guard.policy.tenure import ends
from gateway_guard.view import Standing, View

# Accounts named in one entry; a larger group gets several.
NAMED = 500
CLUSTERS = 200


class Acting(NamedTuple):
    """What an account is under: a rung, for belonging to a cluster."""

    cluster: str
    rung: str


class Actions:
    """Remembers whom the last view acted on. To be called from one thread at a time."""

    def __init__(self) -> None:
        self._acting: dict[str, Acting] = {}
        self._clusters: frozenset[str] = frozenset()

    def turn(self, rules: Rulebook, view: View, acknowledged: Acknowledged) -> Iterator[dict[str, Any]]:
        """The entries that a view gives rise to. An action that has ended in between ends with it."""
        new = [cluster for ident, cluster in view.clusters.items() if ident not in self._clusters]
        if new:
            found = [{"cluster": one.id, "accounts": one.size, "confidence": round(one.confidence, 4)} for one in new[:CLUSTERS]]
            yield {"kind": "view.adopted", "view": view.id, "new": len(new), "clusters": found}
        self._clusters = frozenset(view.clusters)
        before, self._acting = self._acting, dict(_acting(rules, view, acknowledged))
        yield from self._begun(rules, view, before)
        yield from _ended(rules, view, acknowledged, before, self._acting)

    def _begun(self, rules: Rulebook, view: View, before: dict[str, Acting]) -> Iterator[dict[str, Any]]:
        begun: defaultdict[Acting, list[str]] = defaultdict(list)
        for account, acting in self._acting.items():
            if before.get(account) != acting:
                begun[acting].append(account)
        rungs = {rung.id: rung for rung in rules.policy.ladder}
        for (cluster, name), accounts in sorted(begun.items()):
            rung, until = rungs[name], 0.0
            for start in range(0, len(accounts), NAMED):
                named = sorted(accounts)[start : start + NAMED]
                until = max(ends(rung, view.standings[account]) for account in named)
                told = {"cluster": cluster, "rung": name, "do": rung.do, "of": len(accounts), "accounts": named}
                # Until then without new evidence; later when there is some.
                yield {"kind": "action.begun", **told, "until": until if until < 1e12 else None}


def _ended(rules: Rulebook, view: View, acknowledged: Acknowledged, before: dict[str, Acting], now: dict[str, Acting]) -> Iterator[dict[str, Any]]:
    ended: defaultdict[tuple[Acting, str], list[str]] = defaultdict(list)
    rungs = {rung.id: rung for rung in rules.policy.ladder}
    for account, acting in before.items():
        if now.get(account) != acting:
            ended[acting, _why(rungs.get(acting.rung), view, acknowledged, account, acting)].append(account)
    for ((cluster, name), why), accounts in sorted(ended.items()):
        for start in range(0, len(accounts), NAMED):
            named = sorted(accounts)[start : start + NAMED]
            yield {"kind": "action.ended", "cluster": cluster, "rung": name, "why": why, "of": len(accounts), "accounts": named}


def _acting(rules: Rulebook, view: View, acknowledged: Acknowledged) -> Iterator[tuple[str, Acting]]:
    """Only what rests on the view: a rung that a single request reaches by itself ends with it."""
    if not rules.enforcing:
        return
    for account, standing in view.standings.items():
        cluster = view.clusters.get(standing.cluster)
        if cluster is None or not cluster.reached:
            continue
        who = Identity(account)
        relief = acknowledged.relief(who, standing.cluster, view.at)
        left = standing if relief is None else relieved(standing, relief)
        if left is None or rules.exemption(who, view.at):
            continue
        rung = _rung(rules, view, who, left, relief)
        if rung is not None and rung.do != "allow":
            yield account, Acting(standing.cluster, rung.id)


def _rung(rules: Rulebook, view: View, who: Identity, standing: Standing, relief: Relief | None) -> Rung | None:
    return rules.score(RequestFacts("", view.at, who, ""), standing, view, relief).rung


def _why(rung: Rung | None, view: View, acknowledged: Acknowledged, account: str, acting: Acting) -> str:
    standing = view.standings.get(account)
    if rung is None:
        return "policy"
    if acknowledged.relief(Identity(account), acting.cluster, view.at) is not None:
        return "acknowledged"
    if standing is None or standing.cluster != acting.cluster or rung.id not in view.clusters[acting.cluster].reached:
        return "evidence"
    return "expired" if view.at >= ends(rung, standing) else "policy"
