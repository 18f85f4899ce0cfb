"""A report with something in every part of it: a small replay, a view given to it, and names that would be markup."""

from __future__ import annotations

from pathlib import Path

from msgspec import structs

from gateway_guard.evidence import Evidence
from gateway_guard.replay.labels import Label
from gateway_guard.replay.portrait import Trait
from gateway_guard.replay.report import Report
from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import Stage, set_up
from gateway_guard.view import Cluster, Standing, View
from tests.fakes import KEY, policy_file
from tests.logs import START, exchange, log

MARKUP = "<script>alert(1)</script>"
POLICY = """
throttle: {wait: 5s}
plans: {default: {}, pro: {scale: 2}}
quotas:
  minute: {limit: 2/min, burst: 2}
  day: {limit: 20k tokens/day}
analysis: {enabled: false}
"""
NAMES = {f"sk-{n}": f"acct_{n}" for n in range(6)} | {"sk-6": MARKUP}
DIRECTORY = "key,account,plan,org,created_at\n" + "".join(
    f"{key},{name},{'pro' if n % 2 else 'free'},{'org_b' if n == 5 else ''},{int(START - 86400 * 5**n / 20)}\n" for n, (key, name) in enumerate(NAMES.items())
)
LABELS = {name: Label("attack", "ring") for name in ("acct_0", "acct_1")} | {"acct_2": Label("lookalike", "", "course"), "acct_3": Label("benign")}
SAYS = (Evidence("content", "sentence", 4.0, f"2 of 2 members send {MARKUP}."), Evidence("rhythm", "even_load", -1.0, "Uneven."))


def stage(folder: Path) -> Stage:
    """A replay that is ready to run: seven accounts for two hours, in turn."""
    (folder / "accounts.csv").write_text(DIRECTORY)
    calls = [exchange(n, key=f"sk-{n % 7 if n % 3 else 0}", after=n * 9.0, tokens=200) for n in range(800)]
    return set_up(str(log(folder / "log.jsonl.zst", calls)), policy_file(folder, POLICY), KEY, accounts=folder / "accounts.csv")


def session(folder: Path, *, labels: bool = True) -> Session:
    """The same, played."""
    found = stage(folder)
    played = Session(found, LABELS if labels else None)
    played.run(Outputs(), lambda: None)
    members = sorted(played.tally.accounts)[:3]
    ring, crowd = Cluster("c-ring", 2, 0.9, 3.0, 1.5, ("content", "identity"), SAYS, born=START + 3600), Cluster("c-crowd", 1, 0.1, 9.0, -2.0)
    standings = {account: Standing("c-ring", START + 3600, 3.0, 1.5, ("content", "identity")) for account in members[:2]}
    found.gate.view = View(4, START + 7000, standings | {members[2]: Standing("c-crowd")}, {"c-ring": ring, "c-crowd": crowd}, "c0ffee")
    return played


def report(folder: Path, *, labels: bool = True) -> Report:
    """The report of it, with traits that the analyst would have found."""
    made = session(folder, labels=labels).report(2.0)
    first, *rest = made.clusters
    assert first.portrait is not None
    traits = [Trait("content", "sentence", "send the same sentence", 2, 0, 0.001), Trait("identity", "payment", "pay with one payment instrument", 2, 1, 0.0)]
    members = [structs.replace(row, traits=[0, 1]) for row in first.portrait.members]
    return structs.replace(made, clusters=[structs.replace(first, portrait=structs.replace(first.portrait, traits=traits, members=members)), *rest])
