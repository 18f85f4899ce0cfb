"""A report for the terminal: what somebody who has never seen one understands."""

from __future__ import annotations

import datetime

from rich import box
from rich.console import Group as Together
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from gateway_guard.replay import clusters
from gateway_guard.replay.report import QuotaUse, Report, Tokens
from gateway_guard.replay.rungs import Borne, LadderCost
from gateway_guard.replay.touched import Group

BAR = 20
CLUSTERS = 8
SENTENCES = 2
TAKES = {"attempts": "attempts", "delay_s": "waiting (s)", "work_s": "work (s)", "step_ups": "step-ups", "money": "money"}
MEANING = {
    "allow": "served at once",
    "throttle": "delayed, or refused with a time to come back",
    "degrade": "served with a poorer answer",
    "challenge": "asked for a proof first",
    "deny": "refused",
}


def page(report: Report) -> RenderableType:
    """The whole report, the most important first."""
    parts: list[RenderableType] = [_head(report), "", _actions(report), "", _touched(report)]
    if report.quotas:
        parts += ["", _quotas(report.quotas)]
    if report.decisions.reasons:
        parts += ["", _reasons(report)]
    if report.ladder is not None and report.ladder.rungs:
        parts += ["", _rungs(report.ladder), "", _exchanges(report.ladder)]
    if report.top:
        parts += ["", _top(report)]
    if report.clusters:
        parts += ["", clusters.table(report.clusters[:CLUSTERS], calibrated=bool(report.calibrated), sentences=SENTENCES)]
        if len(report.clusters) > CLUSTERS:
            parts.append(Text(f"... and {len(report.clusters) - CLUSTERS} more: `gateway-guard clusters REPORT` shows all.", style="dim"))
    parts += ["", *_notes(report)]
    return Together(*parts)


def _head(report: Report) -> Text:
    traffic, policy = report.traffic, report.policy
    text = Text()
    if not report.complete:
        text.append(f"PARTIAL: {report.stopped}\n", style="bold red")
    text.append(f"{traffic.name}", style="bold")
    text.append(f" under policy {policy.name} ({policy.digest}), ")
    text.append("enforced" if policy.mode == "enforce" else "shadow: recorded only, everything was let through", style="bold")
    text.append(f"\n{traffic.requests:,} requests of {report.accounts.accounts:,} accounts, {_when(traffic.first)} to {_when(traffic.last)} UTC")
    text.append(f", played in {report.run.seconds:,.1f} s" if report.run.seconds >= 0.05 else "")
    return text


def _actions(report: Report) -> Table:
    verb = "What happened to the requests" if report.policy.mode == "enforce" else "What would have happened to the requests"
    table = titled(verb, "action", "", right=("requests", "share"))
    decided = sum(report.decisions.actions.values())
    for action, count in report.decisions.actions.items():
        if count or action == "allow":
            table.add_row(action, MEANING[action], f"{count:,}", _share(count, decided))
            if action == "throttle":
                _throttled(table, report, decided)
    return table


def _throttled(table: Table, report: Report, decided: int) -> None:
    decisions = report.decisions
    longest = f" (at most {decisions.longest_delay_s:,.1f} s)" if decisions.longest_delay_s else ""
    refused = decisions.refused - decisions.actions["deny"] - decisions.actions["challenge"]
    parts = {f"  delayed{longest}": decisions.delayed, "  refused (429)": refused, "  let through by an exemption": decisions.exempted}
    for means, count in parts.items():
        if count > 0:
            table.add_row("", means, f"{count:,}", _share(count, decided), style="dim")


def _touched(report: Report) -> Table:
    columns = ("accounts", "touched", "", "refused", "requests", "touched requests", "")
    table = titled("Who is touched (anything but allow, at least once)", "plan", right=columns)
    for plan, group in report.plans.items():
        _group(table, plan or "(no plan)", group)
    if len(report.plans) > 1:
        table.add_section()
        _group(table, "all", report.accounts)
    if report.orgs.accounts:
        _group(table, "verified organisations", report.orgs)
    return table


def _group(table: Table, name: str, group: Group) -> None:
    table.add_row(
        name,
        f"{group.accounts:,}",
        f"{group.touched:,}",
        _share(group.touched, group.accounts),
        f"{group.refused:,}",
        f"{group.requests:,}",
        f"{group.touched_requests:,}",
        _share(group.touched_requests, group.requests),
    )


def _quotas(quotas: dict[str, QuotaUse]) -> Table:
    table = titled("How full the quotas became", "quota", "per", "fullest of 99 %", right=("median", "90 %", "99 %", "most", "refused", "delayed"))
    for name, use in quotas.items():
        fills = (_percent(fill) for fill in (use.fill_median, use.fill_90, use.fill_99, use.fill_most))
        table.add_row(name, use.per, _bar(use.fill_99), *fills, f"{use.refused:,}", f"{use.delayed:,}")
    return table


def _reasons(report: Report) -> Table:
    table = titled("Why", "reason", right=("requests",))
    for reason, count in list(report.decisions.reasons.items())[:10]:
        table.add_row(reason, f"{count:,}")
    return table


def _rungs(ladder: LadderCost) -> Table:
    table = titled("What each rung costs", "rung", "does", right=("requests", "accounts", "refused", "delay", "proofs", "work", "step-ups", "in shadow"))
    for one in ladder.rungs:
        table.add_row(one.rung, one.do, *_borne(one.acted), f"{one.shadow:,}")
        if one.acted.requests:
            table.add_row("", "of these the honest", *_borne(one.honest), "", style="dim")
    return table


def _borne(borne: Borne) -> tuple[str, ...]:
    proofs = borne.challenges - borne.step_ups
    counts = (f"{borne.requests:,}", f"{borne.accounts:,}", f"{borne.refused:,}", f"{borne.delay_s:,.1f} s", f"{proofs:,}", f"{borne.work_s:,.0f} s")
    return (*counts, f"{borne.step_ups:,}")


def _exchanges(ladder: LadderCost) -> Table:
    table = titled("What an exchange that is answered in full takes", "of", right=("accounts", "exchanges", *(TAKES.values())))
    for name, side in ((ladder.who, ladder.honest), (ladder.whom, ladder.meant)):
        table.add_row(name, f"{side.accounts:,}", f"{side.full:,}", *(_each(getattr(side, key)) for key in TAKES))
    table.add_row("times as much", "", "", *(_each(ladder.times[key]) for key in TAKES), style="bold")
    return table


def _each(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:,.4g}"


def _top(report: Report) -> Table:
    table = titled("Accounts that are refused most", "account", "plan", right=("requests", "refused", "delayed"))
    table.add_column("mostly by")
    for top in report.top:
        table.add_row(top.account, top.plan, f"{top.requests:,}", f"{top.refused:,}", f"{top.delayed:,}", top.reason)
    return table


def _notes(report: Report) -> list[Text]:
    traffic, used = report.traffic, report.used
    notes = [f"Tokens of served requests: {_tokens(used.served)}; of those that are refused: {_tokens(used.refused)}."]
    if used.sources.get("imputed"):
        missing = used.sources["imputed"]
        notes.append(f"For {missing:,} served requests the log has no usage: the most that they asked for was taken, else the policy's `reservation.output`.")
    if traffic.broken:
        notes.append(f"{traffic.broken:,} broken lines were skipped, such as {traffic.problems[0]}")
    if traffic.backwards:
        notes.append(f"{traffic.backwards:,} lines are out of order: they were taken as they came, the clock stood still for them.")
    if traffic.undecided:
        notes.append(f"Without a decision: {_listed(traffic.undecided)} ({traffic.passed:,} of them reach the model).")
    if traffic.excused:
        refused = "; enforced, the policy refuses these" if report.policy.mode == "shadow" else ""
        notes.append(f"Let pass although they cannot be read or identified: {_listed(traffic.excused)}{refused}.")
    return [Text(note, style="dim") for note in notes]


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items())


def _tokens(tokens: Tokens) -> str:
    return f"{tokens.input:,} in, {tokens.output:,} out"


def titled(title: str, *left: str, right: tuple[str, ...]) -> Table:
    """An empty table under its title."""
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for column in left:
        table.add_column(column)
    for column in right:
        table.add_column(column, justify="right")
    return table


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else ""


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _bar(share: float) -> Text:
    full = min(BAR, round(BAR * share))
    style = "red" if share >= 1.0 else "yellow" if share >= 0.8 else "green"
    return Text("█" * full, style=style) + Text("░" * (BAR - full), style="dim")


def _when(at: float) -> str:
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M")
