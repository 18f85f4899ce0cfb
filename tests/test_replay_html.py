"""The report as a page: whole, quiet on the network, safe whatever the names are, and readable in a real browser at any width."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import structs

from gateway_guard.replay.html import svg
from gateway_guard.replay.html.render import render, share
from gateway_guard.replay.report import Report
from gateway_guard.replay.rungs import Borne, Exchanges, LadderCost, RungCost
from tests import reports

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "br"}
SECTIONS = {"time", "truth", "clusters", "touched", "headroom", "cost", "rungs", "notes"}
HONEST, MEANT = Exchanges(500, 9000, 9000, 1.0, 0.0, 0.0, 0.0, None), Exchanges(20, 4000, 100, 40.0, 1.25, 310.5, 0.0, None)
TIMES = {"attempts": 40.0, "delay_s": None, "work_s": None, "step_ups": None, "money": None}
PROVE = RungCost("prove", "challenge", Borne(20, 3000, 3000, 3000, 0.0, 70, 31050.0), Borne(1, 3, 3, 3, 0.0, 1, 12.0), 17)
LADDER = LadderCost("the honest", "the others", [PROVE], HONEST, MEANT, TIMES)


class Outline(HTMLParser):
    """What is in a page, and whether every element is closed where it should be."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.idents: set[str] = set()
        self.links: set[str] = set()
        self.tags: set[str] = set()
        self.feed(page)
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        told = dict(attrs)
        self.idents |= {told["id"] or ""} if "id" in told else set()
        self.links |= {told["href"] or ""} if "href" in told else set()
        assert "style" not in told
        assert not any(name.startswith("on") for name in told)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    return structs.replace(reports.report(tmp_path_factory.mktemp("report")), ladder=LADDER)


@pytest.fixture(scope="module")
def page(report: Report) -> str:
    return render(report).decode()


def test_every_part_is_there_and_every_link_leads_to_one(page: str) -> None:
    outline = Outline(page)
    assert outline.idents >= SECTIONS
    assert {link[1:] for link in outline.links} <= outline.idents
    for part in ("acct_0", "c-ring", "org", "minute", "course", "same sentence", "c0ffee", "31050 s", "310.5", "the others"):
        assert part in page


def test_nothing_is_fetched_and_no_script_can_run(page: str) -> None:
    outline = Outline(page)
    assert not outline.tags & {"script", "link", "img", "iframe", "object", "form", "base"}
    assert not re.findall(r"https?://|//cdn|url\(|@import", page)
    style = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style[0].encode()).digest()).decode()
    assert len(style) == 1
    assert f"default-src 'none'; style-src 'sha256-{digest}'" in page.replace("&#39;", "'")


def test_names_from_traffic_are_text(page: str) -> None:
    assert reports.MARKUP not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_what_is_not_known_is_left_out(tmp_path: Path, report: Report) -> None:
    plain = structs.replace(reports.session(tmp_path, labels=False).report(1.0), clusters=[], complete=False, stopped="interrupted")
    outline = Outline(render(plain).decode())
    assert outline.idents & SECTIONS == SECTIONS - {"truth", "clusters", "rungs"}
    assert "Partial." in render(plain).decode()
    old = structs.replace(report, timeline=None, headroom={}, touched=None, cost=None, ladder=None, labelled=None, clusters=[])
    assert Outline(render(old).decode()).idents & SECTIONS == {"notes"}


def test_the_same_report_gives_the_same_page(report: Report, page: str) -> None:
    assert render(msgspec.json.decode(msgspec.json.encode(report), type=Report)).decode() == page


def test_a_log_without_a_single_decision_has_a_page_too(tmp_path: Path) -> None:
    empty = structs.replace(reports.session(tmp_path).report(1.0), accounts=structs.replace(reports.session(tmp_path).report(1.0).accounts, requests=0))
    Outline(render(empty).decode())


@pytest.mark.parametrize(("value", "said"), [(0.0, "0 %"), (0.00042, "0.042 %"), (0.0123, "1.2 %"), (0.5, "50 %"), (1.0, "100 %")])
def test_shares_have_the_digits_it_takes_to_see_them(value: float, said: str) -> None:
    assert share(value) == said.replace(" ", "\u00a0")


@pytest.mark.parametrize(("most", "bound"), [(0, 1.0), (1, 1.0), (7, 10.0), (11, 20.0), (430, 500.0), (0.3, 0.5)])
def test_scales_end_at_round_numbers(most: float, bound: float) -> None:
    assert svg.bound(most) == pytest.approx(bound)


@pytest.mark.parametrize(
    ("span", "words"),
    [(600, ["08:01", "08:05", "08:09"]), (86_400, ["12:00", "16 Jan", "04:00"]), (7 * 86_400, ["16 Jan", "18 Jan"]), (400 * 86_400, ["Apr 2027"])],
)
def test_times_are_round_and_few(span: float, words: list[str]) -> None:
    found = list(svg.times(1_800_000_000.0, 1_800_000_000.0 + span))
    assert len(found) <= 7
    assert all(0.0 <= place <= 1.0 for place, _ in found)
    assert len({word for _, word in found}) == len(found)


def test_attributes_and_children_are_escaped() -> None:
    assert svg.tag("text", "<b>", svg.tag("title", "&"), class_='a"b') == '<text class="a&#34;b">&lt;b&gt;<title>&amp;</title></text>'


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        told = pytest.fail if os.environ.get("CI") else pytest.skip
        told("no Chromium on this machine: install one to see the page as a person does")
    from playwright.sync_api import sync_playwright  # noqa: PLC0415

    with sync_playwright() as running:
        yield running.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_a_browser_shows_it_whole(browser: Any, page: str, tmp_path: Path, width: int, scheme: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(page)
    with browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme) as context:
        tab, said, asked = context.new_page(), [], []
        tab.set_default_timeout(120_000)  # a busy machine is not what is tested
        tab.on("console", lambda message: said.append(message.text))
        tab.on("request", lambda request: asked.append(request.url))
        tab.goto(path.as_uri())
        assert asked == [path.as_uri()]
        assert said == []
        assert tab.evaluate("document.documentElement.scrollWidth") == width
        boxes = tab.evaluate(
            "[...document.querySelectorAll('svg.chart')].map(one => one.getBoundingClientRect()).map(box => [box.left, box.right, box.height])"
        )
        assert boxes
        assert all(left >= 0 and right <= width and height > 50 for left, right, height in boxes)
        assert [low for low in tab.evaluate(CONTRASTS) if low < 4.5] == []


# Contrast of every text with what is behind it (WCAG 2.2, 1.4.3).
CONTRASTS = """() => {
  const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = colour => { const [r, g, b] = colour.match(/[0-9.]+/g).map(v => linear(v / 255)); return .2126 * r + .7152 * g + .0722 * b; };
  const behind = e => {
    for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor; if (!c.startsWith('rgba(0, 0, 0, 0')) return c; }
    return 'rgb(255, 255, 255)';
  };
  const texts = 'p, h1, h2, h3, th, td, dt, dd, li, summary, a:not(.skip), figcaption, text, .pill, .soft';
  return [...document.querySelectorAll(texts)].filter(e => e.textContent.trim()).map(e => {
    const style = getComputedStyle(e), a = light(e.tagName === 'text' ? style.fill : style.color), b = light(behind(e));
    return (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  });
}"""
BOXES = "[...document.querySelectorAll('svg.chart')].map(e => e.getBoundingClientRect()).map(box => [box.left, box.right, box.height])"
