"""The gate: one request's facts in, one decision out; later its usage in, the reservation settled.

Theory of operation. The gate holds two references, the rulebook and the view; each is swapped by one assignment and read once a decision, so a
reload or a new view never splits a decision. It learns nothing itself: debts live in the store, conclusions in the view. All of
its numbers come from `facts.at` and the store, so the same facts in the same order give the same decisions anywhere.

A decision spends in one atomic step from every quota that applies, the cluster's included; a refused request spends nothing. What a request
will use is not known before it ran: the spend reserves a forecast, and `settle` corrects it to the truth. Between the two the debts can be too
small by at most (truth - reservation) of the requests in flight, which is the bound on overspending; `reserve: asked` makes it zero.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Coroutine
from typing import Any, NamedTuple, TypeVar

from msgspec import structs

from gateway_guard.decision import Action, Decision
from gateway_guard.errors import UsageError
from gateway_guard.facts import STATES, RequestFacts, Usage
from gateway_guard.policy.acknowledged import NOBODY, relieved
from gateway_guard.policy.acknowledged import NOTHING as NOTHING_ACKNOWLEDGED
from gateway_guard.policy.judge import Rulebook, Score, action_of
from gateway_guard.policy.model import Rung
from gateway_guard.ports import Store
from gateway_guard.quota import Bill, Charge, Spend
from gateway_guard.view import EMPTY, Cluster, Standing, View

T = TypeVar("T")
# Whoever waits for his own running requests to end is told to look again after this many seconds.
IN_FLIGHT_WAIT = 1.0
NOTHING = Usage()
# A name for it: reading a member of an enumeration costs as much as a spend's arithmetic for a quota.
ALLOW = Action.ALLOW
REFUSES = frozenset({"challenge", "deny"})


class Spending(NamedTuple):
    """One attempt: what came of it, the charges that it is about, and the cluster's charge that only shadow kept from refusing."""

    spend: Spend
    paid: Bill
    shadow: Charge | None = None


class Gate:
    """Decides and settles. `rules`, `view`, `acknowledged` and `suspended` may be assigned at any time."""

    def __init__(self, rules: Rulebook, store: Store, view: View = EMPTY) -> None:
        self.rules = rules
        self.store = store
        self.view = view
        self.acknowledged = NOTHING_ACKNOWLEDGED
        self.suspended = NOBODY

    async def decide(self, facts: RequestFacts) -> Decision:
        """The decision about one request; what it reserves is held until `settle`, or until it expires."""
        rules, view = self.rules, self.view
        account = facts.identity.account
        standing = view.standings.get(account)
        if standing is not None or self.acknowledged.any or self.suspended.any or rules.exempting or facts.state:
            return await self._weigh(facts, standing, rules, view)
        # Nothing is known against the caller, and nobody has said anything about him: nearly every decision. `_weigh` would come to the same.
        score = rules.score(facts, None, view)
        if score is not rules.calm:
            return await self._weigh(facts, standing, rules, view)
        charges = rules.charges(facts, forecast=self.store.forecast(account), scale=1.0)
        spend = await self._try(facts, charges)
        if spend.ok and not spend.wait:
            return _calm(facts, rules, view, charges, spend)
        return self._conclude(facts, score, None, None, "", Spending(spend, charges))

    async def settle(self, decision: Decision, usage: Usage | None, at: float) -> None:
        """Correct a decision's reservation to what was used; None: nothing was used (the server never answered)."""
        if not decision.spent:
            return
        await self.store.adjust(self.rules.settlement(decision.charges, usage or NOTHING), at, hold=decision.hold)
        if usage is not None:
            self.store.observe(decision.account, float(usage.output))

    async def adopt(self, view: View, at: float) -> None:
        """Go by `view` from now on. Debts are moved first, so that no cluster is ever found free of what its members owe."""
        heirs = self.rules.heirs(view)
        if heirs:
            await self.store.inherit(heirs, at, version=view.id)
        self.view = view

    async def _weigh(self, facts: RequestFacts, standing: Standing | None, rules: Rulebook, view: View) -> Decision:
        """The decision, whatever is known of the caller."""
        account = facts.identity.account
        within, relief = standing.cluster if standing is not None else "", None
        if self.acknowledged.any:
            relief = self.acknowledged.relief(facts.identity, within, facts.at)
            if relief is not None and standing is not None:
                standing = relieved(standing, relief)
        cluster = view.clusters.get(standing.cluster) if standing is not None and standing.cluster else None
        score = rules.score(facts, standing, view, relief)
        exempt = rules.exemption(facts.identity, facts.at) if rules.exempting else ""
        if self.suspended.any and not exempt:
            orders = self.suspended.about(facts.identity, within, facts.at)
            if orders:
                return self._refuse(facts, score, None, f"suspended.{orders[0].number}", cluster)
        rung = score.rung if rules.enforcing or score.rung is None else score.would
        if rung is not None and rung.mode == "enforce" and not exempt and _does(rung, facts) in REFUSES:
            return self._refuse(facts, score, rung, f"rung.{rung.id}", cluster)
        if facts.state in rules.refused_states and not exempt:
            return self._refuse(facts, score, None, f"state.{STATES[facts.state]}", cluster)
        scale = rung.scale if rung is not None and rung.mode == "enforce" else 1.0
        # Trust is for those of whom nothing is known: a member of a cluster that harvests is back at its beginning.
        clean = standing is None or standing.harvest <= 0.0 or not view.calibrated
        charges = rules.charges(facts, forecast=self.store.forecast(account), scale=scale, clean=clean)
        if rung is not None and rung.in_flight is not None and rung.mode == "enforce" and not exempt:
            charges = Bill(charges.parts + rules.cap(rung, cluster.id if cluster is not None else account))
        result = await self._spend(facts, charges, cluster, view)
        decision = self._conclude(facts, score, rung, cluster, exempt, result)
        if relief is not None:
            decision = structs.replace(decision, reasons=(*decision.reasons, *(f"acknowledged.{number}" for number in relief.numbers)))
        if exempt and not result.spend.ok:
            # An exemption lifts the action, not the counting: what was refused is charged all the same.
            await self.store.adjust(result.paid, facts.at)
            return structs.replace(decision, spent=True)
        return decision

    async def _spend(self, facts: RequestFacts, charges: Bill, cluster: Cluster | None, view: View) -> Spending:
        """Spend from all quotas."""
        pooled, minimum = self.rules.cluster_charges(charges, cluster) if cluster is not None else ((), ())
        if not pooled:
            return Spending(await self._try(facts, charges), charges)
        together = Bill(charges.parts + pooled)
        spend = await self._try(facts, together)
        if spend.ok or spend.short < len(charges):
            return Spending(spend, together)
        # The cluster is spent: a member still has its declared minimum, so that one greedy member starves nobody.
        floor = Bill(charges.parts + minimum)
        rescue = await self._try(facts, floor)
        if rescue.ok:
            return Spending(rescue, floor)
        if self.rules.policy.clusters.mode == "enforce" and view.calibrated:
            return Spending(spend, together)
        # Clusters in shadow, or found without a calibration: what they would refuse is recorded and served.
        return Spending(await self._try(facts, charges), charges, together[spend.short])

    def _try(self, facts: RequestFacts, charges: Bill) -> Awaitable[Spend]:
        rules = self.rules
        return self.store.spend(charges, facts.at, patience=rules.patience, hold=facts.id, until=facts.at + rules.expires)

    def _refuse(self, facts: RequestFacts, score: Score, rung: Rung | None, reason: str, cluster: Cluster | None) -> Decision:
        """By a rung; or without one for the state that came along, or by an operator's hand."""
        action = action_of(rung) if rung is not None else Action.DENY
        enforcing = self.rules.enforcing
        beyond = score.would if enforcing and rung is not None and score.would is not rung else None
        shadow = beyond.id if beyond is not None else ""
        return Decision(
            id=facts.id,
            at=facts.at,
            account=facts.identity.account,
            action=action if enforcing else Action.ALLOW,
            would=action if beyond is None else action_of(beyond),
            enforced=enforcing,
            served=not enforcing,
            wait=math.inf if enforcing else 0.0,
            rung=rung.id if rung is not None else "",
            score=score.total,
            reasons=(reason, *((f"shadow.{shadow}",) if shadow else ()), *(f"signal.{e.signal}" for e in score.evidence)),
            evidence=score.evidence,
            shadow=shadow,
            model=facts.model,
            cluster=cluster.id if cluster else "",
            view=self.view.id,
            policy=self.rules.digest,
        )

    def _conclude(  # noqa: PLR0917 - one call, on the request's way
        self, facts: RequestFacts, score: Score, rung: Rung | None, cluster: Cluster | None, exempt: str, result: Spending
    ) -> Decision:
        spend, paid, shadow = result
        limited = Action.ALLOW if spend.ok and not spend.wait else Action.THROTTLE
        would = limited if shadow is None else Action.THROTTLE
        does = _does(score.would, facts) if score.would is not None else ""
        if does in REFUSES or (does == "degrade" and spend.ok and shadow is None):
            would = Action[does.upper()]
        enforce = self.rules.enforcing and not exempt
        action = limited if enforce else Action.ALLOW
        degrades = enforce and spend.ok and rung is not None and rung.mode == "enforce" and _does(rung, facts) == "degrade"
        if degrades:
            action = Action.DEGRADE
        beyond = score.would.id if enforce and score.would is not None and would >= Action.DEGRADE and not (degrades and score.would is rung) else ""
        short = paid[spend.short] if spend.short >= 0 else None
        return Decision(
            id=facts.id,
            at=facts.at,
            account=facts.identity.account,
            action=action,
            would=would,
            enforced=enforce and (action or would) is action,
            served=spend.ok or not enforce,
            wait=_wait(spend, short) if enforce else 0.0,
            short=short.quota.name if short else "",
            rung=rung.id if rung else "",
            score=score.total,
            reasons=_reasons(short or shadow, rung, exempt, score, would, beyond, degrades=degrades) + _met(rung, facts),
            evidence=score.evidence,
            charges=paid,
            levels=spend.levels,
            spent=spend.ok,
            shadow=beyond,
            profile=(rung.profile or "") if degrades and rung is not None else "",
            silent=degrades and rung is not None and self.rules.silent(rung, cluster),
            marked=degrades and rung is not None and self.rules.marked(rung, cluster),
            pace=_pace(rung) if enforce and spend.ok else 0.0,
            model=facts.model,
            cluster=cluster.id if cluster else "",
            view=self.view.id,
            policy=self.rules.digest,
            hold=facts.id if spend.ok and not exempt else "",
        )


def at_once(step: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits, without an event loop."""
    try:
        step.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    step.close()
    raise UsageError("a replay needs a store that answers at once, such as the one in memory")


def _does(rung: Rung, facts: RequestFacts) -> str:
    """What a rung does to this request. A challenge that is met leaves the rung's scale, and its profile when it has one."""
    if rung.do == "challenge" and rung.id in facts.passes:
        return "degrade" if rung.profile else "throttle"
    return rung.do


def _met(rung: Rung | None, facts: RequestFacts) -> tuple[str, ...]:
    return (f"pass.{rung.id}",) if rung is not None and rung.do == "challenge" and rung.id in facts.passes else ()


def _calm(facts: RequestFacts, rules: Rulebook, view: View, charges: Bill, spend: Spend) -> Decision:
    """Nothing is known against the caller, and everything fits."""
    return Decision(
        id=facts.id,
        at=facts.at,
        account=facts.identity.account,
        action=ALLOW,
        would=ALLOW,
        enforced=rules.enforcing,
        charges=charges,
        levels=spend.levels,
        spent=True,
        model=facts.model,
        view=view.id,
        policy=rules.digest,
        hold=facts.id,
    )


def _pace(rung: Rung | None) -> float:
    """Events of a stream a second; 0 for as they come."""
    if rung is None or rung.pace is None or rung.mode != "enforce":
        return 0.0
    return rung.pace.amount / rung.pace.window


def _wait(spend: Spend, short: Charge | None) -> float:
    if short is not None and not spend.ok and short.quota.unit == "in_flight":
        return IN_FLIGHT_WAIT
    return spend.wait


def _reasons(  # noqa: PLR0917 - one call, on the request's way
    short: Charge | None, rung: Rung | None, exempt: str, score: Score, would: Action, beyond: str, *, degrades: bool
) -> tuple[str, ...]:
    out: list[str] = []
    if degrades and rung is not None:
        out.append(f"rung.{rung.id}")
    elif score.would is not None and would >= Action.DEGRADE and not beyond:
        out.append(f"rung.{score.would.id}")
    if short is not None:
        out.append(f"{'cluster' if short.quota.per == 'cluster' else 'quota'}.{short.quota.name}")
        if rung is not None and rung.scale < 1.0 and rung.mode == "enforce" and would < Action.DEGRADE:
            out.append(f"rung.{rung.id}")
    if beyond:
        out.append(f"shadow.{beyond}")
    if exempt:
        out.append(f"exempt.{exempt}")
    if out or score.total > 0.0:
        out.extend(f"signal.{e.signal}" for e in score.evidence)
    return tuple(out)
