"""What a staging deployment answered, for the terminal."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from gateway_guard.replay.answers import GOT, Answers
from gateway_guard.replay.page import titled


def page(answers: Answers) -> RenderableType:
    """All of it, the most important first."""
    parts: list[RenderableType] = [_head(answers), "", _matrix(answers)]
    if answers.affected:
        parts += ["", _affected(answers)]
    return Group(*parts, *(Text(note, style="dim") for note in _notes(answers)))


def _head(answers: Answers) -> Text:
    text = Text("" if answers.complete else f"PARTIAL: {answers.stopped}\n", style="bold red")
    text.append(f"{answers.target} beside policy {answers.policy.name} ({answers.policy.digest})", style="bold not red")
    text.append(f": {answers.sent:,} of {answers.requests:,} requests sent, at {answers.speed:g} times the recorded pace", style="not bold not red")
    text.append(f"\n{answers.agree:,} answers as decided, {answers.differ:,} otherwise", style="bold not red")
    return text


def _matrix(answers: Answers) -> Table:
    shown = [label for label in GOT if any(label in row for row in answers.answers.values())]
    out = titled("Decided offline (rows), answered (columns)", "", right=tuple(shown))
    for meant, row in answers.answers.items():
        out.add_row(meant, *(Text(f"{row.get(got, 0):,}", style="green" if meant == got else "red" if row.get(got) else "dim") for got in shown))
    return out


def _affected(answers: Answers) -> Table:
    out = titled("Accounts that were answered otherwise", "account", right=("requests", "otherwise"))
    out.add_column("mostly decided")
    for one in answers.affected:
        out.add_row(one.account, f"{one.requests:,}", f"{one.differ:,}", one.mostly)
    return out


def _notes(answers: Answers) -> list[str]:
    notes = ["", "statuses: " + ", ".join(f"{status} {count:,} times" for status, count in answers.statuses.items())] if answers.statuses else []
    notes += [f"no answer: {why} {count:,} times" for why, count in answers.failures.items()]
    notes += [f"not sent: {why} {count:,} times" for why, count in answers.skipped.items()]
    if answers.waits:
        notes.append(f"times to come back: {answers.waits_differ:,} of {answers.waits:,} differ by more than a tenth and a second")
    if answers.late_s >= 1:
        notes.append(f"requests were sent up to {answers.late_s:,.1f} s late (--rate, --in-flight): what depends on the pace is not comparable")
    return notes
