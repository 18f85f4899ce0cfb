"""The policy compiled for the gate: which quotas apply to a request, what the evidence adds up to, which rung that is.

Pure arithmetic on facts; everything that depends on the policy alone is worked out once, in `compile_policy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from gateway_guard.decision import Action
from gateway_guard.evidence import Evidence
from gateway_guard.facts import STATES, Asks, Identity, RequestFacts, Usage
from gateway_guard.policy.acknowledged import Relief
from gateway_guard.policy.model import Plan, Policy, Rung
from gateway_guard.policy.tenure import begins, ends, in_force
from gateway_guard.policy.terms import Tariff, Terms, cap_of
from gateway_guard.quota import Bill, Figures, Heir, Lines, Part, Share, figures_of
from gateway_guard.signals.catalogue import SIGNALS
from gateway_guard.view import Cluster, Standing, View

if TYPE_CHECKING:
    import datetime

# Ordinal of 1970-01-01 in the proleptic Gregorian calendar.
EPOCH = 719163
# What the analyst concluded counts only when it knows from benign history what is usual.
FROM_VIEW = frozenset({"coordination", "harvest"})
GRAVE = frozenset({"degrade", "challenge", "deny"})
# A cluster's own evidence is told without anybody's request.
NOBODY = RequestFacts("", 0.0, Identity(""), "")
# An account's standing, its cluster, and the time at which they are looked at.
Held = tuple[Standing, Cluster | None, float]
# A plain integer: an enum's operators cost more than the charge.
REASONING = int(Asks.REASONING)


# Tokens of the input; those of the output that are likely, and those to reserve where a quota reserves what is asked; whether there is reasoning.
Need = tuple[float, float, float, int]


class Score(msgspec.Struct, frozen=True):
    """The evidence of one request, its sum in log-odds, and the rung that follows. `would` counts what is in shadow too."""

    evidence: tuple[Evidence, ...]
    total: float
    rung: Rung | None
    would: Rung | None


class Rulebook:
    """A compiled policy. Immutable but for a bounded table of the terms for each plan and model.

    `exempting`: somebody may be exempt · `calm` the score of whom nothing is known, None where even that is on a rung ·
    `lasting`: seconds that an action may last without new evidence.
    """

    def __init__(
        self, policy: Policy, digest: str, account_ids: Callable[[str], Sequence[str]], org_ids: Callable[[str], Sequence[str]], seed: bytes = b""
    ) -> None:
        self.policy = policy
        self.digest = digest
        self._seed = seed
        self.enforcing = policy.mode == "enforce"
        self.patience = policy.throttle.wait
        self.expires = policy.reservation.expires
        self.lasting = max((rung.expires for rung in policy.ladder), default=0.0)
        self._expected = float(policy.reservation.output)
        self._ladder = tuple(sorted(policy.ladder, key=lambda rung: rung.at))
        self._acting = tuple(rung for rung in self._ladder if rung.mode == "enforce")
        self._signals = tuple((name, SIGNALS[name], rule) for name, rule in sorted(policy.signals.items()) if rule.mode != "off")
        # Of an account of which the view holds nothing, the signals that speak from it are silent.
        self._signals_alone = tuple(entry for entry in self._signals if entry[0] not in FROM_VIEW)
        self._quiet = Score((), 0.0, self._rung(0.0, (), None, self._acting), self._rung(0.0, (), None, self._ladder))
        self.calm = self._quiet if self._quiet.rung is None and self._quiet.would is None else None
        self._tariff = Tariff(policy)
        self._pooled = self._tariff.pooled()
        self._caps = {rung.id: cap_of(rung) for rung in policy.ladder if rung.in_flight is not None}
        self.refused_states = _refused_states(policy)
        plans = {"": policy.plans.get(policy.default_plan, Plan()), **policy.plans}
        self._trusts = {name: (plan.trust.start, plan.trust.over) if plan.trust is not None else (1.0, 1.0) for name, plan in plans.items()}
        self._exempt = {ident: (e.id, _midnight_after(e.until)) for e in policy.exemptions for name in e.accounts for ident in account_ids(name)}
        self._exempt_orgs = {ident: (e.id, _midnight_after(e.until)) for e in policy.exemptions for name in e.orgs for ident in org_ids(name)}
        self.exempting = bool(self._exempt or self._exempt_orgs)

    def exemption(self, identity: Identity, at: float) -> str:
        """Id of the exemption that holds for this caller now, else empty."""
        for table, key in ((self._exempt, identity.account), (self._exempt_orgs, identity.org)):
            found = table.get(key)
            if found is not None and at < found[1]:
                return found[0]
        return ""

    def score(self, facts: RequestFacts, standing: Standing | None, view: View, relief: Relief | None = None) -> Score:
        """Weigh what the signals say, but for the families that `relief` has acknowledged, and find the rung."""
        evidence: list[Evidence] = []
        total = shadow = 0.0
        for name, signal, rule in self._signals_alone if standing is None else self._signals:
            found = signal(facts, standing, view)
            if found is None or (relief is not None and found.family in relief.families):
                continue
            weight = min(rule.weight * found.log_odds, rule.ceiling)
            evidence.append(Evidence(found.family, name, weight, found.says))
            if rule.mode == "enforce" and (view.calibrated or name not in FROM_VIEW):
                total += weight
            shadow += weight
        if not evidence and standing is None:
            return self._quiet
        # A rung in shadow is only recorded: who has reached it still stands on the one below.
        held = None if standing is None else (standing, view.clusters.get(standing.cluster), facts.at)
        acting = self._rung(total, evidence, held, self._acting)
        return Score(tuple(evidence), total, acting, self._rung(max(total, shadow), evidence, held, self._ladder))

    def ranked(self, view: View, before: View) -> View:
        """The view with the rungs that each of its clusters reaches, and since when: `before` is the view that it follows."""
        clusters = {ident: self._ranked(cluster, view, before.clusters.get(ident)) for ident, cluster in view.clusters.items()}
        return structs.replace(view, clusters=clusters)

    def terms(self, standing: Standing, view: View) -> list[tuple[Rung, float, float]]:
        """The rungs that an account's cluster reaches: each with when it is applied to the account, and when it ends without new evidence."""
        cluster = view.clusters.get(standing.cluster)
        reached = cluster.reached if cluster is not None else {}
        rungs = [rung for rung in self._ladder if rung.id in reached and rung.do != "allow"]
        return [(rung, begins(rung, standing, cluster, self._seed), ends(rung, standing)) for rung in rungs]

    def _ranked(self, cluster: Cluster, view: View, before: Cluster | None) -> Cluster:
        standing = Standing(cluster.id, view.at, cluster.coordination, cluster.harvest, cluster.families)
        found = (signal(NOBODY, standing, view) for name, signal, _ in self._signals if name in FROM_VIEW)
        weights = {evidence.signal: evidence.log_odds for evidence in found if evidence is not None}
        total = sum(min(rule.weight * weights[name], rule.ceiling) for name, _, rule in self._signals if name in weights)
        known = before.reached if before is not None else {}
        return structs.replace(cluster, reached={rung.id: known.get(rung.id, view.at) for rung in self._ladder if total >= rung.at})

    def charges(self, facts: RequestFacts, *, forecast: float, scale: float, clean: bool = True) -> Bill:
        """What the request asks of each quota that applies to it, cluster quotas aside. `clean`: nothing but age stands against the account."""
        identity = facts.identity
        if identity.created_at:
            scale *= self._trust(identity, facts.at, clean=clean)
        asked = float(facts.ask_tokens)
        likely = forecast or self._expected
        if asked and asked < likely:
            likely = asked
        need = float(facts.input_tokens), likely, asked or likely, facts.asks & REASONING
        parts = []
        for terms in self._tariff.terms(identity.plan, facts.model, bool(identity.org), identity.anonymous):
            subject = identity.account if terms.per == "account" else _subject(terms.per, facts)
            if subject:
                parts.append(_part(terms, subject, need, scale))
        return Bill(tuple(parts))

    def cluster_charges(self, bill: Bill, cluster: Cluster) -> tuple[tuple[Part, ...], tuple[Part, ...]]:
        """The cluster's part beside the member's own `bill`, and the member's guaranteed minimum to use when the cluster is spent.

        A cluster of n shares `q * n^a` with a = 1 - confidence: one account's quota when surely one actor, n quotas when surely not.
        """
        members = _members(cluster)
        pooled, minimum = [], []
        for part in bill.parts:
            pool = _terms(part).pool
            if pool is not None:
                pooled.append(_shared(part, pool.lines, pool.shared, members, cluster))
                minimum.append(_shared(part, pool.lines, pool.minimum, self.policy.clusters.minimum))
        return tuple(pooled), tuple(minimum)

    def heirs(self, view: View) -> tuple[Heir, ...]:
        """Which of the view's clusters take over what others owed: accounts take their share of a cluster's debts along, wherever they are put now."""
        lines = self._pooled
        if lines is None:
            return ()
        free = [0.0] * len(lines.quotas)
        return tuple(
            Heir(
                Part(ident, lines, _scaled_lines(lines, _members(cluster)), free, free),
                tuple(Share(source, part, source in view.clusters) for source, part in cluster.inherits),
            )
            for ident, cluster in view.clusters.items()
            if cluster.inherits
        )

    def cap(self, rung: Rung, actor: str) -> tuple[Part, ...]:
        """One of the requests that the rung allows an actor at once."""
        terms = self._caps.get(rung.id)
        return () if terms is None else (Part(actor, terms, terms.figures, terms.costs, terms.held),)

    def silent(self, rung: Rung, cluster: Cluster | None) -> bool:
        """Whether the rung's profile degrades without a word, and the confidence in the cluster allows it."""
        profile = self.policy.profiles.get(rung.profile or "")
        return profile is not None and profile.silent_from is not None and cluster is not None and cluster.confidence >= profile.silent_from

    def marked(self, rung: Rung, cluster: Cluster | None) -> bool:
        """Whether the rung's profile marks answers, and the confidence in the cluster allows it."""
        profile = self.policy.profiles.get(rung.profile or "")
        return profile is not None and bool(profile.marks) and cluster is not None and cluster.confidence >= self.policy.provenance.confidence

    def settlement(self, bill: Bill, usage: Usage) -> Bill:
        """What the request really cost, as changes to what was charged for it."""
        given, output, reasoning = float(usage.input), float(usage.output), float(usage.reasoning)
        parts = []
        for part in bill.parts:
            terms: Terms = part.lines  # type: ignore[assignment]  # made by this rulebook
            costs = part.costs
            changes = list(terms.returned)
            for line, by_input, by_output, by_reasoning in terms.used:
                changes[line] = by_input * given + by_output * output + by_reasoning * reasoning - costs[line]
            parts.append(part.costing(changes))
        return Bill(tuple(parts))

    def _trust(self, identity: Identity, at: float, *, clean: bool) -> float:
        start, over = self._trusts.get(identity.plan) or self._trusts[""]
        if not clean:
            return start
        age = at - identity.created_at
        return 1.0 if age >= over else start + (1.0 - start) * max(0.0, age) / over

    def _rung(self, total: float, evidence: Sequence[Evidence], held: Held | None, ladder: Sequence[Rung]) -> Rung | None:
        """The highest rung that the score reaches, the evidence may carry (beyond quotas, both columns and two independent families), and that is in force."""
        # Of the analyst's evidence: a young account is no second opinion on what the account shares with others.
        families = held[0].families if held is not None else ()
        names = {e.signal for e in evidence}
        lasting = held if names & FROM_VIEW else None
        for rung in reversed(ladder):
            if total < rung.at:
                continue
            if rung.do in GRAVE and not (len(families) >= 2 and names >= FROM_VIEW):
                continue
            if lasting is not None and not in_force(rung, *lasting, self._seed):
                continue
            return rung
        return None


def compile_policy(
    policy: Policy,
    digest: str,
    *,
    account_ids: Callable[[str], Sequence[str]] = lambda name: (name,),
    org_ids: Callable[[str], Sequence[str]] = lambda name: (name,),
    seed: bytes = b"",
) -> Rulebook:
    """A rulebook for the gate. `account_ids` and `org_ids` give the keyed hashes that a name in the policy may stand for; `seed` draws moments."""
    return Rulebook(policy, digest, account_ids, org_ids, seed)


def _refused_states(policy: Policy) -> frozenset[int]:
    """Of `STATES`, those that a request is refused for."""
    binding = policy.binding
    if binding.to == "off":
        return frozenset()
    return frozenset(STATES.index(name) for name in STATES[1:] if (binding.unbound if name == "unbound" else binding.foreign) == "refuse")


def action_of(rung: Rung) -> Action:
    """What a rung does."""
    return Action[rung.do.upper()]


def _part(terms: Terms, subject: str, need: Need, scale: float) -> Part:
    """What one subject is asked."""
    tokens, likely, asked, thinks = need
    figures = terms.figures if scale == 1.0 or not terms.graded else _scaled(terms, scale, terms.figures.scales)
    bursts = figures.bursts
    costs, held = list(terms.costs), list(terms.held)
    for line, given, output, whole in terms.thinking if thinks else terms.metered:
        sure = given * tokens
        cost = sure + output * (asked if whole else likely)
        if cost > bursts[line] and not whole:
            # A forecast may not make a request impossible that the quota could hold.
            cost = max(sure, bursts[line])
        costs[line] = cost
        held[line] = cost - sure
    return Part(subject, terms, figures, costs, held)


def _shared(part: Part, lines: Sequence[int], terms: Terms, scale: float, cluster: Cluster | None = None) -> Part:
    """Some lines of `part`, asked of other buckets: the account's own, or those of a `cluster`.

    A new cluster's buckets open as full as it is sure that there is one actor: full for that one, who gets no burst for having split up; hardly
    filled for a crowd, whose members brought next to nothing along.
    """
    figures = _scaled(terms, scale, [part.figures.scales[line] for line in lines])
    costs, held = [part.costs[line] for line in lines], [part.held[line] for line in lines]
    if cluster is None:
        return Part(part.subject, terms, figures, costs, held)
    return Part(cluster.id, terms, figures, costs, held, cluster.born, cluster.confidence)


def _members(cluster: Cluster) -> float:
    """How many times one account's quotas a cluster shares."""
    return float(max(1.0, float(cluster.size)) ** (1.0 - cluster.confidence))


def _scaled_lines(lines: Lines, scale: float) -> Figures:
    return figures_of(lines.quotas, scale, [whole * scale for whole in lines.figures.scales])


def _scaled(terms: Terms, scale: float, scales: Sequence[float]) -> Figures:
    """The figures of `terms` at `scale` times `scales`."""
    return figures_of(terms.quotas, scale, [max(whole * scale, least) for whole, least in zip(scales, terms.least, strict=True)])


def _terms(part: Part) -> Terms:
    """The terms of a part that this rulebook has made."""
    assert isinstance(part.lines, Terms)  # noqa: S101 - for the type checker
    return part.lines


def _subject(per: str, facts: RequestFacts) -> str:
    identity = facts.identity
    if per == "account":
        return identity.account
    if per == "org":
        return identity.org
    if per == "model":
        return facts.model
    if per == "account_model":
        return f"{identity.account}/{facts.model}"
    if per == "plan":
        return identity.plan or "default"
    return identity.account if identity.anonymous else ""


def _midnight_after(day: datetime.date) -> float:
    """The end of `day` in UTC, as epoch seconds."""
    return (day.toordinal() + 1 - EPOCH) * 86400.0
