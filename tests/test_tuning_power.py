"""What a policy would catch: made campaigns in real-looking traffic, found without being told."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from rich.console import Console
from typer.testing import CliRunner

from gateway_guard.analysis.analyst import Analyst
from gateway_guard.analysis.calibrate import calibrate
from gateway_guard.analysis.calibration import encode
from gateway_guard.cli.app import app
from gateway_guard.facts import Event, Seen
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.makers.campaign import EVASIONS, Size, campaign
from gateway_guard.makers.make import accounts_of, moment
from gateway_guard.policy.judge import compile_policy
from gateway_guard.policy.load import loads
from gateway_guard.trace.events import TraceWriter
from gateway_guard.trace.output import Output
from gateway_guard.tuning.background import Background
from gateway_guard.tuning.power import GRIDS, Cell, Grid, Laboratory, Power
from gateway_guard.tuning.power_html import render
from gateway_guard.tuning.power_page import page, sentence
from gateway_guard.worker import settings_of
from tests.fakes import KEY, policy_file
from tests.test_makers_make import BEGIN, events
from tests.test_replay_html import CONTRASTS, Outline, browser

__all__ = ["browser"]  # a fixture

NAMES = Pseudonyms(KEY)
LADDER = """
signals: {coordination: {}, harvest: {}}
profiles: {plain: {max_tokens: 100}}
ladder: [{id: dim, at: 0.3, do: degrade, profile: plain}]
quotas: {day: {limit: 2000/day}}
clusters: {share: [day]}
"""
POLICY = loads(f"version: 1\nname: p\nmode: enforce\n{LADDER}").policy


@functools.cache
def benign(seed: int = 1) -> list[Event]:
    return sorted([*events("people", seed=seed, accounts=160), *events("course", seed=seed, accounts=30, over="4d")], key=moment)


@pytest.fixture(scope="module")
def laboratory() -> Callable[..., Laboratory]:
    calibration = calibrate(benign(2), settings_of(POLICY), 0.02)
    background = Background()
    background.take(benign())

    def make(**more: int) -> Laboratory:
        analyst = Analyst(settings_of(POLICY), calibration)
        return Laboratory(analyst, compile_policy(POLICY, "d"), background, names=NAMES, **{"seed": 1, "within": 2000, **more})

    return make


# The campaigns


def made(size: Size, evasion: int, over: float = 86400.0) -> list[Seen]:
    donors = [event.facts for event in benign() if isinstance(event, Seen)][:500]
    of = campaign(size, EVASIONS[evasion], donors, seed=1, names=NAMES, begin=BEGIN, over=over)
    assert [moment(event) for event in of] == sorted(moment(event) for event in of)
    assert of == campaign(size, EVASIONS[evasion], donors, seed=1, names=NAMES, begin=BEGIN, over=over)
    return [event for event in of if isinstance(event, Seen)]


@pytest.mark.parametrize(("evasion", "cards", "networks", "clients"), [(0, 3, 3, 1), (1, 3, 3, 5), (2, 30, 30, 5), (3, 30, 30, 5)])
def test_a_campaign_shares_what_it_does_not_hide(evasion: int, cards: int, networks: int, clients: int) -> None:
    facts = [event.facts for event in made(Size(30, 10), evasion)]
    assert len({one.identity.account for one in facts}) == 30
    assert (len({one.identity.payment for one in facts}), len({one.network for one in facts})) == (cards, networks)
    assert len({one.fingerprint.client for one in facts}) >= clients
    assert evasion or len({one.fingerprint.client for one in facts}) == 1
    assert len(facts) == 300
    donors = {event.facts.fingerprint.client for event in benign() if isinstance(event, Seen)}
    assert {one.fingerprint.client for one in facts} <= donors


def test_a_mixed_campaign_elicits_half_of_the_time_at_peoples_hours() -> None:
    facts = [event.facts for event in made(Size(30, 10), 3, over=3 * 86400.0)]
    assert 0.4 < sum(one.fingerprint.elicits > 0 for one in facts) / len(facts) < 0.6
    night = sum((one.at % 86400) / 3600 < 6 for one in facts) / len(facts)
    assert night < 0.1
    assert sum((one.at % 86400) / 3600 < 6 for one in (event.facts for event in made(Size(30, 10), 0))) / 300 > 0.15


# The background


def test_too_much_background_loses_whole_organisations() -> None:
    every = benign()
    small = Background(most=len(every) // 8)
    small.take(every)
    assert small.share in (0.25, 0.125, 0.0625)
    assert small.requests <= len(every) // 8
    assert small.accounts == len(accounts_of(small.events))
    kept = accounts_of(small.events)
    whole = [event for event in every if (event.facts.identity.account if isinstance(event, Seen) else event.account) in kept]  # type: ignore[union-attr]
    assert small.events == whole


def test_campaigns_look_like_what_was_there_before_them() -> None:
    whole = Background()
    whole.take(benign())
    middle = moment(whole.events[len(whole.events) // 2])
    assert max(one.at for one in whole.donors(middle)) < middle
    assert list(whole.between(0.0, middle)) + list(whole.between(middle, 1e18)) == whole.events


# The answer


def test_a_plain_campaign_is_caught_and_one_that_hardly_acts_is_not(laboratory: Callable[..., Laboratory]) -> None:
    room = laboratory()
    loud = room.cell(EVASIONS[0], Size(30, 50))
    assert loud.caught
    assert loud.exchanges < 1500
    assert loud.days <= room.days
    still = room.cell(EVASIONS[3], Size(3, 2))
    assert not still.caught
    assert still.exchanges <= 18


def test_a_cell_is_the_same_whatever_was_tried_before(laboratory: Callable[..., Laboratory]) -> None:
    room = laboratory()
    alone = room.cell(EVASIONS[0], Size(20, 50))
    room.cell(EVASIONS[2], Size(40, 20))
    assert room.cell(EVASIONS[0], Size(20, 50)) == alone
    assert laboratory().cell(EVASIONS[0], Size(20, 50)) == alone


def test_who_has_had_his_exchanges_has_got_away(laboratory: Callable[..., Laboratory]) -> None:
    cell = laboratory(within=100).cell(EVASIONS[3], Size(3, 200))
    assert (cell.caught, cell.exchanges) == (False, 100)


def test_plain_quotas_hold_up_and_do_not_catch(laboratory: Callable[..., Laboratory]) -> None:
    cell = laboratory(within=50_000).cell(EVASIONS[3], Size(3, 10_000))
    assert cell.throttled > 0.3


def test_grids_are_tried_from_the_loudest_and_have_the_size_that_the_help_says() -> None:
    assert [len(grid) for grid in GRIDS.values()] == [8, 36, 100]
    first, *_, last = GRIDS["medium"].cells()
    assert (first[0].name, first[1]) == ("none", Size(100, 500))
    assert (last[0].name, last[1]) == ("all of it, mixed", Size(5, 5))


def cell(accounts: int, daily: float, exchanges: int, *, caught: bool = True) -> Cell:
    return Cell("none", accounts, daily, caught, exchanges, 1.5, 0.9, 0.0)


def test_the_page_names_the_smallest_and_the_slowest_and_what_was_not_tried() -> None:
    cells = [cell(100, 5, 700), cell(5, 50, 90), cell(5, 5, 60, caught=False)]
    told = Power(policy="p", calibrated="c", traffic="t", exchanges=1000, seed=1, days=3.5, requests=10, accounts=5, share=0.5, complete=False, cells=cells)
    shown = Console(width=140, file=open("/dev/null", "w"))  # noqa: SIM115 - closed below
    with shown.capture() as captured:
        shown.print(page(told))
    shown.file.close()
    text = captured.get()
    for part in ("PARTIAL", "50.0% of all organisations", "not tried", "away      60", "Smallest caught: 5 accounts with 50", "slowest: 100 accounts with 5"):
        assert part in text
    assert "None of these was caught within 1,000" in sentence("none", [cells[2]], 1000)
    assert sentence("none", cells[:1], 1000).startswith("Smallest and slowest caught: 100")


def heated() -> bytes:
    """A page with every kind of cell, and a name that would be markup."""
    some = [[cell(n, d, n * int(d)) for n in (5, 20, 100) for d in (5.0, 50.0, 500.0)], [cell(5, 5, 60, caught=False), cell(300, 1000, 2000)]]
    named = [structs.replace(one, evasion=of) for of, part in zip(("none", "<b>all"), some, strict=True) for one in part]
    facts = {"policy": "p", "calibrated": "c0ffee", "traffic": "week.ggt", "exchanges": 50_000, "seed": 1, "days": 3.5, "requests": 10, "accounts": 5}
    return render(Power(**facts, share=0.5, complete=False, cells=named))  # type: ignore[arg-type]


def test_the_heat_map_is_a_page_by_itself() -> None:
    page = heated().decode()
    outline = Outline(page)
    assert outline.idents >= {"maps", "notes"}
    assert not outline.tags & {"script", "link", "img", "iframe"}
    assert "<b>all" not in page
    assert page.count("heat away") == 2  # the cell and the legend
    assert page.count(">not tried<") == 2
    for part in ("Partial.", "50,000<small>1.5d</small>", "away<small>60</small>", "Smallest and slowest caught: 5 accounts with 5", "up to 1,000", "91"):
        assert part in page


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_the_heat_map_whole(browser: Any, tmp_path: Path, width: int, scheme: str) -> None:
    (tmp_path / "p.html").write_bytes(heated())
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        tab = context.new_page()
        tab.set_default_timeout(120_000)
        tab.goto((tmp_path / "p.html").as_uri())
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        assert [low for low in tab.evaluate(CONTRASTS) if low < 4.5] == []
        cells = tab.evaluate("[...document.querySelectorAll('td.heat')].map(e => getComputedStyle(e).backgroundColor)")
        assert len(set(cells)) == 5


# The command


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("power")
    policy = policy_file(folder, LADDER + "analysis: {calibration: calibration.json}\n")
    (folder / "calibration.json").write_bytes(encode(calibrate(benign(2), settings_of(POLICY), 0.02)))
    with Output(str(folder / "benign.ggt")) as output:
        writer = TraceWriter(output)
        for event in benign():
            writer(event)
        writer.finish()
    return folder / "benign.ggt", policy


def test_power_as_json_and_stopped_half_way(files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_GUARD_KEY", KEY.decode())
    monkeypatch.setitem(GRIDS, "small", Grid((30,), (20, 50), EVASIONS[:1]))
    words = ["power", str(files[0]), "--policy", str(files[1]), "--grid", "small", "--exchanges", "2000", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert (told["complete"], [(one["daily"], one["caught"]) for one in told["cells"]]) == (True, [(50, True), (20, True)])
    pages = ["--report", str(tmp_path / "p.html"), "--report", str(tmp_path / "p.json")]
    assert CliRunner().invoke(app, words + pages).stdout == done.stdout == (tmp_path / "p.json").read_text()
    assert "against campaigns in" in (tmp_path / "p.html").read_text()
    tried = Laboratory.cell

    def stops(self: Laboratory, evasion: object, size: Size) -> Cell:
        if size.daily == 20:
            raise KeyboardInterrupt
        return tried(self, evasion, size)  # type: ignore[arg-type]

    monkeypatch.setattr(Laboratory, "cell", stops)
    partial = CliRunner().invoke(app, words)
    assert partial.exit_code == 130
    assert [one["daily"] for one in json.loads(partial.stdout)["cells"]] == [50]


@pytest.mark.parametrize(("more", "says"), [("", "without a calibration that holds"), ("analysis: {enabled: false}\n", "without the analyst")])
def test_a_policy_that_catches_nobody_is_told(files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: str, says: str) -> None:
    monkeypatch.setenv("GATEWAY_GUARD_KEY", KEY.decode())
    done = CliRunner().invoke(app, ["power", str(files[0]), "--policy", str(policy_file(tmp_path, LADDER + more))])
    assert done.exit_code == 1
    assert says in str(done.exception)
