"""Two policies in one pass: each decides as it would alone, and the difference is told both ways, the most harmed first."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from gateway_guard.replay.compare import Comparison, Contest, encode
from gateway_guard.replay.compare_page import page
from gateway_guard.replay.html.render import render_comparison
from gateway_guard.replay.report import Report
from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import set_up, set_up_pair
from gateway_guard.trace.exchanges import Exchange
from tests import reports
from tests.fakes import KEY, policy_file
from tests.logs import exchange, log
from tests.test_replay_html import Outline

MILD = "throttle: {wait: 5s}\nquotas: {minute: {limit: 6/min, burst: 3}}\nanalysis: {enabled: false}\n"
HARSH = "throttle: {wait: 1s}\nquotas: {minute: {limit: 2/min, burst: 1}}\nanalysis: {enabled: false}\n"
GUARDED = "guard: {unreadable: reject}\n"


def traffic(count: int = 60) -> list[Exchange]:
    """sk-busy asks every three seconds, sk-calm once a minute; one request is nobody's, one is not guarded."""
    busy = [exchange(n, key="sk-busy", after=n * 3.0, tokens=5) for n in range(count)]
    calm = [exchange(1000 + n, key="sk-calm", after=n * 60.0 + 1, tokens=5) for n in range(3)]
    odd = [msgspec.structs.replace(exchange(2000, after=20.0), headers=[]), msgspec.structs.replace(exchange(2001, after=21.0), method="GET", path="/x")]
    return sorted([*busy, *calm, *odd], key=lambda one: one.ts)


def compared(folder: Path, one: str = MILD, two: str = HARSH, source: Path | None = None) -> tuple[Comparison, Contest]:
    policies = policy_file(folder, one, "one.yaml"), policy_file(folder, two, "two.yaml")
    contest = Contest(set_up_pair(str(source or log(folder / "log.jsonl.zst", traffic())), policies, KEY, mode="enforce"), reports.LABELS)
    contest.run(lambda: None)
    return contest.report(1.0), contest


def alone(folder: Path, policy: str, source: Path) -> Report:
    session = Session(set_up(str(source), policy_file(folder, policy), KEY, mode="enforce"), reports.LABELS)
    session.run(Outputs(), lambda: None)
    return session.report(1.0)


def trace(folder: Path) -> Path:
    session = Session(set_up(str(log(folder / "log.jsonl.zst", traffic())), policy_file(folder, MILD), KEY))
    session.run(Outputs(trace=str(folder / "t.ggt")), lambda: None)
    return folder / "t.ggt"


@pytest.mark.parametrize("kind", ["log", "trace"])
def test_each_side_is_what_a_replay_alone_finds(tmp_path: Path, kind: str) -> None:
    source = trace(tmp_path) if kind == "trace" else log(tmp_path / "log.jsonl.zst", traffic())
    found, _ = compared(tmp_path, source=source)
    assert found.one == alone(tmp_path, MILD, source)
    assert found.two == alone(tmp_path, HARSH, source)
    assert found.one.decisions != found.two.decisions


def test_requests_move_and_the_harmed_are_told(tmp_path: Path) -> None:
    found, _ = compared(tmp_path)
    assert sum(map(sum, found.moves)) == len(traffic())
    assert [sum(row) for row in found.moves][1] == found.one.decisions.delayed
    assert [sum(column) for column in zip(*found.moves, strict=True)][3] == found.two.decisions.refused + 1  # and the one without a key
    (busy,) = found.worse.top
    assert (found.worse.accounts, found.better.accounts, found.better.top) == (1, 0, [])
    assert (busy.requests, busy.why) == (60, "quota.minute")
    assert busy.worse - busy.better > 0
    assert sum(busy.before) == sum(busy.after) == busy.worse + busy.better == found.worse.requests
    assert found.reasons_worse == {"quota.minute": busy.worse}


def test_the_other_way_round_the_same_accounts_fare_better(tmp_path: Path) -> None:
    there, _ = compared(tmp_path)
    back, _ = compared(tmp_path, HARSH, MILD)
    assert back.moves == [list(column) for column in zip(*there.moves, strict=True)]
    assert [one.account for one in back.better.top] == [one.account for one in there.worse.top]
    assert back.worse.accounts == 0


def test_a_policy_differs_in_nothing_from_itself(tmp_path: Path) -> None:
    found, _ = compared(tmp_path, MILD, MILD)
    assert (found.worse.accounts, found.better.accounts, found.reasons_worse) == (0, 0, {})
    assert all(not count for place, row in enumerate(found.moves) for other, count in enumerate(row) if place != other)


def test_what_the_second_policy_would_read_otherwise_is_said(tmp_path: Path) -> None:
    policies = policy_file(tmp_path, MILD, "one.yaml"), policy_file(tmp_path, MILD + "guard: {body_limit: 1MiB}\n", "two.yaml")
    one, _ = set_up_pair(str(log(tmp_path / "log.jsonl.zst", traffic())), policies, KEY)
    assert any("`guard` differ" in note for note in one.notes)
    one.source.close()


def test_stopped_half_way_it_is_a_partial_comparison(tmp_path: Path) -> None:
    policies = policy_file(tmp_path, MILD, "one.yaml"), policy_file(tmp_path, HARSH, "two.yaml")
    contest = Contest(set_up_pair(str(log(tmp_path / "log.jsonl.zst", traffic(400))), policies, KEY))
    ticks = iter([None, None, KeyboardInterrupt])

    def tick() -> None:
        if (stop := next(ticks)) is not None:
            raise stop

    with pytest.raises(KeyboardInterrupt):
        contest.run(tick)
    found = contest.report(1.0)
    assert (found.complete, found.one.complete, found.stopped) == (False, False, "interrupted")
    assert 0 < found.one.traffic.requests == found.two.traffic.requests < 400
    assert "Partial." in render_comparison(found).decode()


def test_the_page_and_the_terminal_tell_it(tmp_path: Path) -> None:
    found, contest = compared(tmp_path)
    html = render_comparison(found).decode()
    outline = Outline(html)
    assert outline.idents >= {"time", "moves", "worse", "better", "sides"}
    assert "http" not in html.replace("http-equiv", "")
    console = Console(width=160, no_color=True)
    with console.capture() as shown:
        console.print(page(found))
    for part in ("instead of", "Worse off", "quota.minute", "Better off under test: nobody", found.worse.top[0].account):
        assert part in shown.get()
    assert msgspec.json.decode(encode(found), type=Comparison) == found
    assert contest.stopped == ""
