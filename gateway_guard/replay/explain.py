"""One decision on one page: who, which quotas applied, what was left in each, and why it came out as it did."""

from __future__ import annotations

import datetime
import math

import msgspec
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway_guard.decision import Action, Decision
from gateway_guard.errors import UsageError
from gateway_guard.facts import Usage
from gateway_guard.quota import Balance, Charge
from gateway_guard.replay.run import Ended, Played, row_of
from gateway_guard.replay.stage import Stage
from gateway_guard.replay.tally import fate
from gateway_guard.trace.decisions import DecisionRow

VERSION = 1


class QuotaAsked(msgspec.Struct, frozen=True):
    """One quota as it applied: `asked` of it, of which `forecast` is a reservation · `owed` and `left` of `burst` afterwards (before, when refused) ·
    `per_second` what drains · `scale` of plan, trust and rung on the policy's figures · `fits_in_s` until as much fits again (null: never).
    """

    quota: str
    per: str
    unit: str
    subject: str
    asked: float
    forecast: float
    owed: float
    left: float
    burst: float
    per_second: float
    scale: float
    fits_in_s: float | None
    refuses: bool


class Finding(msgspec.Struct, frozen=True):
    """A signal's evidence."""

    family: str
    signal: str
    log_odds: float
    says: str


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """`decision` is the row of the decision log; the rest says how it came about. `input_tokens` are estimated, `asked_tokens` 0 when none were asked for."""

    v: int = VERSION
    decision: DecisionRow
    verdict: str
    plan: str = ""
    org: str = ""
    created_at: float = 0.0
    model: str = ""
    dialect: str = ""
    input_tokens: int = 0
    asked_tokens: int = 0
    used_input: int | None = None
    used_output: int | None = None
    quotas: list[QuotaAsked] = []
    evidence: list[Finding] = []


def explain(stage: Stage, ident: str) -> Explanation:
    """Play up to the request `ident` and explain it; UsageError when the traffic has none of that name."""
    try:
        for step in stage.steps:
            if isinstance(step, Played) and step.id == ident:
                return _explained(stage, step)
    finally:
        stage.source.close()
    raise UsageError(f"{stage.source.name}: no exchange has the id {ident}")


def page(explanation: Explanation) -> RenderableType:
    """The explanation for the terminal."""
    row = explanation.decision
    head = Text.assemble((explanation.verdict, "bold"), f"\n\nexchange  {row.id}, {_when(row.ts)}")
    if row.account:
        head.append(f"\naccount   {row.account}{_who(explanation)}")
        head.append(f"\nrequest   {explanation.model or '(no model named)'} by {explanation.dialect}, {_tokens(explanation)}")
        head.append(f"\npolicy    {row.policy}, view {row.view}{f', rung {row.rung}' if row.rung else ''}{f', cluster {row.cluster}' if row.cluster else ''}")
    head.append(f"\nreasons   {', '.join(row.reasons) or 'none'}")
    parts: list[RenderableType] = [head]
    if explanation.quotas:
        parts += ["", _quota_table(explanation.quotas)]
    if explanation.evidence:
        parts += ["", _evidence_table(explanation)]
    return Group(*parts)


def _explained(stage: Stage, played: Played) -> Explanation:
    facts, decision = played.facts, played.decision
    if facts is None or decision is None:
        row = row_of(played, "")
        return Explanation(decision=row, verdict=f"{'passed on' if row.served else 'refused'} without a decision: {played.undecided}")
    usage = _usage(stage, facts.id)
    quotas = _quotas(decision)
    return Explanation(
        decision=row_of(played, stage.name(decision.account)),
        verdict=_verdict(decision, next((quota for quota in quotas if quota.refuses), None)),
        plan=facts.identity.plan,
        org=facts.identity.org,
        created_at=facts.identity.created_at,
        model=facts.model,
        dialect=facts.dialect,
        input_tokens=facts.input_tokens,
        asked_tokens=facts.ask_tokens,
        used_input=usage.input if usage else None,
        used_output=usage.output if usage else None,
        quotas=quotas,
        evidence=[Finding(e.family, e.signal, round(e.log_odds, 4), e.says) for e in decision.evidence],
    )


def _usage(stage: Stage, ident: str) -> Usage | None:
    """What the log says the request used: its next step in an exchange log, further on in a trace."""
    return next((step.outcome.usage for step in stage.steps if isinstance(step, Ended) and step.facts.id == ident), None)


def _quotas(decision: Decision) -> list[QuotaAsked]:
    pooled = decision.reasons[:1] == (f"cluster.{decision.short}",)
    return [_quota(charge, balance, decision, pooled) for charge, balance in zip(decision.charges, decision.balances, strict=True)]


def _quota(charge: Charge, balance: Balance, decision: Decision, pooled: bool) -> QuotaAsked:
    quota = charge.quota
    return QuotaAsked(
        quota=quota.name,
        per=quota.per,
        unit=quota.unit,
        subject=charge.subject,
        asked=round(charge.cost, 6),
        forecast=round(charge.held, 6),
        owed=round(balance.level, 6),
        left=round(balance.room, 6),
        burst=round(quota.burst * charge.scale, 6),
        per_second=round(quota.rate * charge.scale, 6),
        scale=round(charge.scale, 6),
        fits_in_s=round(balance.wait, 3) if math.isfinite(balance.wait) else None,
        refuses=quota.name == decision.short and (quota.per == "cluster") == pooled,
    )


def _verdict(decision: Decision, quota: QuotaAsked | None) -> str:
    if not decision.would:
        return "allowed"
    kind, done = fate(decision), "was" if decision.enforced else "would have been"
    beyond = f"; the rung {decision.shadow} is in shadow, it would {decision.would.label}" if decision.shadow and decision.action else ""
    if kind == "exempted":
        return f"let through by an exemption, although {_blame(quota)}"
    if kind == "delayed":
        return f"{done} delayed{f' by {decision.wait:,.3f} s' if decision.wait else ''}: {_blame(quota)}"
    if kind == "degraded":
        return f"{done} served with a poorer answer, by the rung {decision.rung}{beyond}"
    blame = _blame(quota)
    if decision.told >= Action.CHALLENGE:
        blame = f"the rung {decision.shadow or decision.rung} {'refuses' if decision.would is Action.DENY else 'asks for a proof that was not shown'}"
    back = f"; it fits in {quota.fits_in_s:,.1f} s" if quota and quota.fits_in_s else ""
    return f"{done} refused: {blame}{back}{'' if decision.enforced else ' (shadow: it was served)'}{beyond}"


def _blame(quota: QuotaAsked | None) -> str:
    if quota is None:
        return "a quota was spent"
    return f"quota {quota.quota} has {quota.left:,.6g} of {quota.burst:,.6g} {quota.unit} left, asked for {quota.asked:,.6g}"


def _who(explanation: Explanation) -> str:
    parts = [explanation.plan and f"plan {explanation.plan}", explanation.org and f"organisation {explanation.org}"]
    parts.append(f"since {_when(explanation.created_at)}" if explanation.created_at else "")
    told = ", ".join(part for part in parts if part)
    return f" ({told})" if told else ""


def _tokens(explanation: Explanation) -> str:
    asked = f"at most {explanation.asked_tokens:,} out" if explanation.asked_tokens else "no maximum set"
    used = "" if explanation.used_output is None else f"; used {explanation.used_input:,} in, {explanation.used_output:,} out"
    return f"about {explanation.input_tokens:,} tokens in, {asked}{used}"


def _quota_table(quotas: list[QuotaAsked]) -> Table:
    table = _table("Quotas that applied", "", "quota", "per", "unit")
    for name in ("asked", "reserved of it", "owed", "left", "of", "drains in a minute", "fits again"):
        table.add_column(name, justify="right")
    for q in quotas:
        fits = "never" if q.fits_in_s is None else "now" if not q.fits_in_s else f"in {q.fits_in_s:,.1f} s"
        figures = (f"{figure:,.6g}" for figure in (q.asked, q.forecast, q.owed, q.left, q.burst, 60 * q.per_second))
        table.add_row("✗" if q.refuses else "✓", q.quota, q.per, q.unit, *figures, fits, style="bold red" if q.refuses else "")
    return table


def _evidence_table(explanation: Explanation) -> Table:
    table = _table(f"Evidence (score {explanation.decision.score:g} in log-odds)", "family", "signal")
    table.add_column("log-odds", justify="right")
    table.add_column("what was found")
    for finding in explanation.evidence:
        table.add_row(finding.family, finding.signal, f"{finding.log_odds:+.2f}", finding.says)
    return table


def _table(title: str, *left: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in left:
        table.add_column(name)
    return table


def _when(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
