"""Clusters in a report, and the page about one account."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from typer.testing import CliRunner

from gateway_guard.cli.app import app
from gateway_guard.errors import UsageError
from gateway_guard.evidence import Evidence
from gateway_guard.policy.acknowledged import Acknowledged, Acknowledgement
from gateway_guard.replay import standing
from gateway_guard.replay.clusters import found, table
from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import Stage, set_up
from gateway_guard.view import Cluster, Standing, View
from tests import logs
from tests.fakes import KEY, policy_file

SAYS = (
    Evidence("content", "shared", 4.0, "All send one sentence."),
    Evidence("identity", "card", 2.0, "Two cards for all."),
    Evidence("rhythm", "load", 1.0, "Even."),
)


def view(calibrated: str = "c0ffee") -> View:
    pair = Cluster("c-1", 2, 0.9, 3.0, 1.5, ("content", "identity"), SAYS, born=logs.START)
    crowd = Cluster("c-2", 3, 0.1, 9.0, -2.0, ("network",), (), born=logs.START)
    members = {"b" * 20: "c-1", "a" * 20: "c-1", "x": "c-2", "y": "c-2", "z": "c-2"}
    standings = {account: Standing(cluster, logs.START, 3.0, 1.5, ("content", "identity")) for account, cluster in members.items()}
    return View(4, logs.START, standings, {"c-1": pair, "c-2": crowd}, calibrated)


def text(renderable: object) -> str:
    console = Console(width=160, no_color=True, record=True, file=open("/dev/null", "w"))  # noqa: SIM115 - rich closes nothing
    with console.capture() as captured:
        console.print(renderable)
    console.file.close()
    return captured.get()


def test_the_most_conspicuous_come_first_with_their_members_by_name() -> None:
    first, second = found(view(), lambda account: account[:1])
    assert (first.id, first.members, first.share) == ("c-1", ["a", "b"], 1.07)
    assert (second.id, second.size, second.share) == ("c-2", 3, 2.69)


def test_a_short_table_keeps_the_strongest_sentences() -> None:
    clusters = found(view(), str)
    assert "Even." in text(table(clusters, calibrated=True))
    assert "Even." not in text(table(clusters, calibrated=True, sentences=2))
    assert "recorded only" in text(table(clusters, calibrated=False))


def test_what_is_acknowledged_is_told_beside_the_evidence() -> None:
    known = Acknowledged([Acknowledgement(3, "cluster", "c-1", ("c-1",), ("content",), "a course", logs.START, logs.START + 60)])
    first, second = found(view(), str, known)
    assert (len(first.acknowledged), second.acknowledged) == (1, [])
    assert "acknowledged (3) until" in first.acknowledged[0]
    assert "content: a course" in text(table([first], calibrated=True))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    log = logs.log(tmp_path / "log.jsonl", [logs.exchange(n, key=f"sk-{n % 2}") for n in range(4)])
    return set_up(str(log), policy_file(tmp_path, "quotas: {q: {limit: 9/min}}\nclusters: {share: [q]}\nanalysis: {enabled: false}\n"), KEY)


def test_the_page_about_an_account_says_what_it_costs_and_what_ends_it(stage: Stage) -> None:
    account = next(iter(standing._play(set_up(stage.source.name, Path(stage.source.name).with_name("policy.yaml"), KEY))))
    stage.gate.view = msgspec.structs.replace(view(), standings={account: Standing("c-1", logs.START, 3.0, 1.5, ("content", "identity"))})
    told = standing.of_account(stage, account)
    assert "acts as one with 1 others" in told.verdict
    assert told.quotas == ["q"]
    shown = text(standing.page(told))
    for part in (account, "All send one sentence.", "half_life", "exemptions", "1.07 times"):
        assert part in shown


def test_the_page_about_an_account_says_when_its_actions_end_and_what_is_acknowledged(tmp_path: Path) -> None:
    ladder = "signals: {coordination: {}, harvest: {}}\nladder: [{id: dim, at: 1, do: throttle, scale: 0.5, expires: 2d}, {id: shut, at: 5, do: deny}]\n"
    log = logs.log(tmp_path / "log.jsonl", [logs.exchange(n, key="sk-1") for n in range(2)])
    path = policy_file(tmp_path, ladder + "analysis: {enabled: false}\n")
    account = next(iter(standing._play(set_up(str(log), path, KEY))))
    stage = set_up(str(log), path, KEY)
    member = Standing("c-1", logs.START, 3.0, 1.5, ("content", "identity"), (2.0, 1.0), logs.START)
    stage.gate.view = stage.gate.rules.ranked(msgspec.structs.replace(view(), standings={account: member}), View())
    known = Acknowledgement(7, "account", account, (account,), ("content",), "a course", logs.START, logs.START + 60)
    stage.gate.acknowledged = Acknowledged([known])
    told = standing.of_account(stage, account)
    assert told.account is not None
    assert [(term.rung, term.begins, term.ends) for term in told.account.actions] == [("dim", logs.START, logs.START + 2 * 86400)]
    shown = text(standing.page(told))
    for part in ("rung dim (throttle) from", "unless there is new evidence", "acknowledged (7) until", "gateway-guard acknowledge"):
        assert part in shown


def test_an_account_in_no_cluster_and_names_that_nobody_has(stage: Stage, tmp_path: Path) -> None:
    account = next(iter(standing._play(stage)))
    again = set_up(stage.source.name, tmp_path / "policy.yaml", KEY)
    assert "is in no cluster" in standing.of_account(again, account).verdict
    with pytest.raises(UsageError, match="no account nobody"):
        standing.of_account(set_up(stage.source.name, tmp_path / "policy.yaml", KEY), "nobody")
    with pytest.raises(UsageError, match="there is no cluster c-9"):
        standing.of_cluster(set_up(stage.source.name, tmp_path / "policy.yaml", KEY), "c-9")


def test_a_report_holds_the_clusters_and_the_command_shows_them(stage: Stage, tmp_path: Path) -> None:
    stage.gate.view = view()
    session = Session(stage)
    session.run(Outputs(), lambda: None)
    path = tmp_path / "report.json"
    path.write_bytes(msgspec.json.encode(session.report(1.0)))
    shown = CliRunner().invoke(app, ["clusters", str(path)])
    assert shown.exit_code == 0
    assert "c-1" in shown.output
    assert [one["id"] for one in msgspec.json.decode(CliRunner().invoke(app, ["clusters", str(path), "--json"]).output)] == ["c-1", "c-2"]
    refused = CliRunner().invoke(app, ["clusters", str(tmp_path / "policy.yaml")])
    assert isinstance(refused.exception, UsageError)
    assert "is not a report" in str(refused.exception)
