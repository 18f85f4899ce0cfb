"""Labels: read strictly, used by the report alone, and told with intervals."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway_guard.errors import UsageError
from gateway_guard.facts import Identity
from gateway_guard.replay.labels import Label, judged, load, share
from gateway_guard.replay.tally import AccountTally
from tests.logs import START


def account(*, caught: float = 0.0, requests: int = 10, refused: int = 0, degraded: int = 0, delayed: int = 0, first: float = START) -> AccountTally:
    made = AccountTally(Identity("x"), 0, first)
    made.requests, made.refused, made.degraded, made.delayed = requests, refused, degraded, delayed
    made.touched = refused + degraded + delayed
    made.caught = caught
    return made


@pytest.mark.parametrize(
    ("part", "whole", "low", "high"),
    [(0, 10, 0.0, 0.277533), (9, 10, 0.595850, 0.982124), (50, 100, 0.403832, 0.596168), (545, 545, 0.993001, 1.0)],
)
def test_intervals_are_those_of_the_tables(part: int, whole: int, low: float, high: float) -> None:
    found = share(part, whole)
    assert (found.low, found.high) == pytest.approx((low, high), abs=2e-5)


def test_nothing_of_nothing_is_wholly_uncertain() -> None:
    assert (share(0, 0).low, share(0, 0).high) == (0.0, 1.0)


def test_caught_missed_and_touched_by_mistake() -> None:
    hour = 3600.0
    accounts = {
        "a1": account(caught=START + hour, refused=4, degraded=3, delayed=1),
        "a2": account(caught=START + 2 * hour, first=START + hour),
        "a3": account(),
        "l1": account(caught=START + hour, refused=1),
        "b1": account(refused=2),
        "b2": account(),
        "stranger": account(caught=START),
    }
    labels = {"a1": Label("attack", "ring"), "a2": Label("attack", "ring"), "a3": Label("attack", "lone")}
    labels |= {"l1": Label("lookalike", "", "course"), "b1": Label("benign"), "b2": Label("benign")}
    found = judged(accounts, labels, str)
    assert (found.accounts, found.unlabelled) == (6, 1)
    assert (found.precision.part, found.precision.whole) == (2, 3)
    assert (found.recall.part, found.recall.whole) == (2, 3)
    assert (found.leak.part, found.leak.whole) == (23, 30)
    assert (found.false_alarms.part, found.false_alarms.whole) == (1, 3)
    assert found.scenarios["course"].part == 1
    assert found.limited == {"attack": 0, "benign": 1, "lookalike": 0}
    lone, ring = found.actors
    assert (lone.first, lone.half, lone.most, lone.curve) == (None, None, None, [])
    assert (ring.first, ring.half, ring.most, ring.curve) == (1.0, 1.0, 2.0, [(1.0, 0.5), (2.0, 1.0)])


def test_a_curve_of_many_accounts_has_few_points_and_ends_at_its_end() -> None:
    accounts = {str(n): account(caught=START + n + 1.0) for n in range(1_000)}
    (actor,) = judged(accounts, dict.fromkeys(accounts, Label("attack", "ring")), str).actors
    assert len(actor.curve) <= 65
    assert actor.curve[-1][1] == 1.0


def test_a_file_is_read_with_the_columns_it_has(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("\ufeffaccount,kind\na,attack\nb,benign\n")
    assert load(path) == {"a": Label("attack"), "b": Label("benign")}
    path.write_text("kind,actor,account,scenario\nattack,ring,a,A1\n")
    assert load(path) == {"a": Label("attack", "ring", "A1")}


@pytest.mark.parametrize(
    ("text", "message"),
    [("name,kind\na,attack\n", ":1: labels need the columns account and kind"), ("account,kind\na,attack\nb,evil\n", ":3: kind must be one of attack, benign")],
)
def test_a_file_that_will_not_do_is_refused_with_its_place(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=message):
        load(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load(tmp_path / "none.csv")
