"""The pooled tests: what a group's numbers say, and that silence says nothing."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gateway_guard.analysis import change, rhythm, tests, words
from gateway_guard.analysis.calibrate import cut_up, limit_of
from gateway_guard.analysis.calibration import Limits
from gateway_guard.analysis.graph import build, connected, log_tail, numbered
from gateway_guard.analysis.profile import ANY, COLUMNS, EVENTS, Births, Profiles
from gateway_guard.analysis.reference import UNKNOWN
from gateway_guard.analysis.tokens import Floats, Kind, postings, tokens
from gateway_guard.analysis.weights import F, independent

CONTENT, CONVERSATION, RHYTHM, NETWORK, CLIENT, IDENTITY = range(F)
RNG = np.random.default_rng(5)


def one(table: object) -> float:
    rows = np.asarray(table, dtype=np.float64)
    return float(tests.intraclass(rows, np.zeros(len(rows), np.int64), 1)[0])


def test_people_are_individuals_and_a_dealt_out_queue_is_interchangeable() -> None:
    people = np.array([[20, 0, 0], [0, 20, 0], [0, 0, 20], [18, 2, 0]])
    queue = RNG.multinomial(30, [0.2, 0.5, 0.3], size=200)
    assert one(people) > 0.8
    assert abs(one(queue)) < 0.02


@pytest.mark.parametrize("table", [np.zeros((5, 3)), np.array([[4.0, 0.0]]), np.array([[1.0, 0.0]] * 50), np.array([[7.0, 0.0]] * 50)])
def test_individuality_is_silent_without_accounts_that_repeat_or_with_nothing_to_tell_them_apart(table: Floats) -> None:
    assert np.isnan(one(table))


def test_one_busy_stranger_says_little_about_a_hundred_others() -> None:
    queue = RNG.multinomial(10, [0.3, 0.7], size=100).astype(np.float64)
    stranger = np.array([[100_000.0, 0.0]])
    assert abs(one(np.vstack([queue, stranger])) - one(queue)) < 0.05


def test_a_group_does_not_look_worse_for_being_larger() -> None:
    queue = RNG.multinomial(12, [0.3, 0.5, 0.2], size=60).astype(np.float64)
    assert one(np.vstack([queue] * 8)) == pytest.approx(one(queue), abs=0.02)


def load(counts: list[float], usual: float = 1.2) -> float:
    rate = np.log(np.array(counts, dtype=np.float64))
    return float(rhythm.evenness(rate, 1 / np.array(counts), np.zeros(len(counts), np.int64), usual)[0])


def test_even_load_speaks_for_a_dispatcher_and_uneven_load_against() -> None:
    assert load([100, 104, 97, 110, 95, 103, 99, 101]) > 9
    assert load([3, 900, 40, 11, 270, 75, 6, 2000]) < 0


def test_one_account_in_five_out_of_line_changes_nothing() -> None:
    assert load([100, 104, 97, 110, 95, 103, 99, 101, 5, 4000]) > 6


def test_even_load_is_silent_about_three_accounts() -> None:
    assert np.isnan(load([100, 100, 100]))


def births(n: int, payment: list[int], mail: list[int], signup: list[int]) -> Births:
    one, two, three, four = (np.array(values, dtype=np.uint64) for values in (payment, mail, signup, [1] * n))
    return Births(np.zeros(n), one, two, three, four, np.zeros(n, np.bool_))


def profiles(n: int, born: Births | None = None, posting: list[tuple[Kind, int, int, float, int]] = []) -> Profiles:  # noqa: B006
    """`posting` rows: kind, value, account, weight, first seen in hours."""
    rows = sorted((int(postings(tokens(k, np.array([v], np.uint64)), np.array([a]))[0]), w, h) for k, v, a, w, h in posting)
    hours = np.array([h for _, _, h in rows], np.uint16)
    weights = np.array([w for _, w, _ in rows], np.float32)
    packed = np.array([p for p, _, _ in rows], np.uint64)
    counts = np.zeros((n, COLUMNS), np.float32)
    counts[:, EVENTS] = 10
    counts[:, ANY] = 4
    born = born or births(n, [0] * n, [0] * n, [0] * n)
    return Profiles(100 * 3600.0 + 1.0, 1.0, born, np.full(n, 1.0), np.full(n, 9.0), counts, packed, weights, hours, hours)


def faces(payment: list[int], mail: list[int], signup: list[int]) -> tuple[float, float]:
    n = len(payment)
    cards, posing = tests._faces(profiles(n, births(n, payment, mail, signup)), np.zeros(n, np.int64), 1)
    return float(cards[0]), float(posing[0])


def test_one_payer_with_many_faces_is_a_farm_and_one_firm_s_card_is_not() -> None:
    farm = faces([1] * 5 + [2] * 5, list(range(10)), list(range(10)))
    firm = faces([1] * 10, [7] * 10, [9] * 10)
    household = faces([1, 1, 2, 2, 3, 3], list(range(6)), list(range(6)))
    strangers = faces(list(range(1, 11)), list(range(10)), list(range(10)))
    assert farm == (2.0, 0.8)
    assert firm == (1.0, 0.0)
    assert household == strangers == (0.0, 0.0)


def test_keys_that_changed_hands_show_a_new_program_and_new_networks_at_once() -> None:
    rows = [(Kind.CLIENT, 1, a, 9.0, 0) for a in range(4)] + [(Kind.NETWORK, 1 + a, a, 9.0, 0) for a in range(4)]
    rows += [(Kind.CLIENT, 2, 0, 5.0, 60), (Kind.NETWORK, 90, 0, 5.0, 61)]  # both: turned
    rows += [(Kind.CLIENT, 2, 1, 5.0, 60)]  # a second program at home
    rows += [(Kind.NETWORK, 91, 2, 5.0, 60)]  # a new address
    rows += [(Kind.CLIENT, 2, 3, 5.0, 40), (Kind.NETWORK, 92, 3, 5.0, 80)]  # both, but days apart
    found = change.changes(profiles(4, posting=rows), 0.01)
    assert found.settled.all()
    assert found.turned.tolist() == [True, False, False, False]
    assert found.shares(np.zeros(4, np.int64)).tolist() == [0.25]
    assert not found.beyond(np.zeros(4, np.int64)).any(), "one account proves nothing about a group"


def pooled(**found: float) -> tests.Pooled:
    silent = dict.fromkeys(tests.Pooled.__dataclass_fields__, np.array([np.nan]))
    plain = {"cards": 0.0, "faces": 0.0, "passed_on": 0.0, "asks": 0.01, "events": 100.0}
    return tests.Pooled(**{**silent, **{name: np.array([value]) for name, value in {**plain, **found}.items()}})


def test_silence_is_no_evidence_and_has_no_sentence() -> None:
    norms = tests.Norms(asks=0.02)
    scores = tests.scored(pooled(), norms)
    assert all(float(getattr(scores, name)[0]) == 0.0 for name in tests.Scores.__dataclass_fields__)
    assert list(words.tests(pooled(), scores, norms, 0)) == []


@pytest.mark.parametrize(
    ("found", "signal"),
    [
        ({"asks": 0.4}, "asks"),
        ({"distinct": 1.0}, "never_repeats"),
        ({"cards": 9.0, "faces": 0.8}, "many_faces"),
        ({"passed_on": 0.3}, "passed_on"),
        ({"output": 900.0}, "long_answers"),
        ({"turned": 0.6}, "changed_hands"),
        ({"even": 20.0}, "even_load"),
        ({"alike_length": 0.0, "alike_turn": 0.0}, "interchangeable"),
    ],
)
def test_each_test_speaks_alone_bounded_and_in_a_sentence(found: dict[str, float], signal: str) -> None:
    norms = tests.Norms(asks=0.02)
    measured = pooled(**found)
    (piece,) = words.tests(measured, tests.scored(measured, norms), norms, 0)
    assert piece.signal == signal
    assert signal in words.TESTS
    assert 0 < piece.log_odds <= 8
    assert piece.says.endswith(".")


def test_two_cards_are_a_coincidence() -> None:
    assert float(tests.scored(pooled(cards=2.0, faces=0.9), tests.Norms()).many_faces[0]) < float(
        tests.scored(pooled(cards=30.0, faces=0.9), tests.Norms()).many_faces[0]
    )


def evidence(**families: float) -> Floats:
    names = {"content": CONTENT, "conversation": CONVERSATION, "network": NETWORK, "client": CLIENT, "identity": IDENTITY}
    row = np.zeros((1, F))
    for name, value in families.items():
        row[0, names[name]] = value
    return row


@pytest.mark.parametrize(
    ("families", "count"),
    [
        ({"content": 8.0}, 1),
        ({"content": 8.0, "client": 8.0}, 1),
        ({"content": 8.0, "identity": 4.0}, 2),
        ({"client": 5.0, "identity": 4.0, "network": 2.9}, 2),
        ({"conversation": 5.0, "network": 4.0, "client": 4.0, "content": 4.0}, 3),
        ({}, 0),
    ],
)
def test_a_program_s_headers_and_its_texts_are_one_family(families: dict[str, float], count: int) -> None:
    assert independent(evidence(**families)).tolist() == [count]


def test_chance_is_bounded_from_above() -> None:
    for mean in (0.01, 1.0, 30.0):
        for seen in (1, 3, 40, 90):
            bound = float(log_tail(np.array([seen]), np.array([mean]))[0])
            tail = sum(math.exp(k * math.log(mean) - mean - math.lgamma(k + 1)) for k in range(seen, seen + 200))
            assert math.log(tail) - 1e-9 <= bound <= 0.0


def test_components_are_numbered_by_their_first_account_and_small_ones_are_none() -> None:
    label = connected(np.array([5, 1, 1, 3, 7, 8]), np.array([0, 0, 1, 1, 2, 2]), 10, 3)
    assert label.tolist() == [-1, 1, -1, 1, -1, 1, -1, -1, -1, -1]
    assert numbered(np.array([9, 9, -1, 4, 4, 4, 7]), 2).tolist() == [0, 0, -1, 1, 1, 1, -1]


SIZES = dict.fromkeys("abcdefghij", 20)


def test_the_limit_lies_beyond_every_benign_group_and_further_for_a_smaller_budget() -> None:
    scores = {name: n * 0.2 for n, name in enumerate("abcdefghij")}
    limit, out = limit_of(scores, SIZES, 1.0, 2.5)
    stricter, _ = limit_of(scores, SIZES, 1.0, 0.25)
    assert out == frozenset()
    assert limit >= max(scores.values())
    assert stricter > limit


def test_groups_that_stand_far_off_do_not_move_the_limit_away_from_themselves() -> None:
    """A history that holds attacks must not teach that attacks are usual."""
    clean = {name: n * 0.1 for n, name in enumerate("abcdefghij")}
    limit, _ = limit_of(clean, SIZES, 1.0, 2.5)
    dirty, out = limit_of({**clean, "x": 9.0, "y": 12.0}, {**SIZES, "x": 800, "y": 300}, 1.0, 2.5)
    assert out == frozenset("xy")
    assert dirty < 9.0
    assert dirty == pytest.approx(limit, abs=1.0)


def test_no_groups_at_all_leave_a_limit() -> None:
    limit, out = limit_of({}, {}, 1.0, 2.5)
    assert limit > 0
    assert out == frozenset()


@pytest.mark.parametrize(("size", "limit"), [(2, 4.0), (3, 4.0), (4, 4.0), (5, 3.5), (9, 3.5), (10, 3.0), (500, 3.0)])
def test_the_limit_of_a_group_is_that_of_its_size(size: int, limit: float) -> None:
    assert Limits(harvest=2.5, small=((3, 4.0), (5, 3.5), (10, 3.0))).harvest_at(size) == limit
    assert Limits(harvest=2.5).harvest_at(size) == 2.5


def test_crowds_are_cut_into_groups_of_one_size_and_nobody_is_in_two() -> None:
    label = np.array([0] * 7 + [-1] * 3 + [1] * 5)
    parts = cut_up(label, 3)
    assert (parts[label < 0] == -1).all()
    groups = [set(np.flatnonzero(parts == part).tolist()) for part in np.unique(parts[parts >= 0])]
    assert sorted(len(group) for group in groups) == [1, 2, 3, 3, 3]
    assert all(len({int(label[number]) for number in group}) == 1 for group in groups)


def test_the_graph_knows_what_share_of_an_account_s_requests_show_a_token() -> None:
    found = build(profiles(3, births(3, [7, 7, 0], [0] * 3, [0] * 3), [(Kind.SENTENCE, 5, 0, 2.5, 1), (Kind.SENTENCE, 5, 1, 30.0, 1)]), UNKNOWN, 0.0)
    often = {(int(found.kind[token]), int(account)): float(share) for token, account, share in zip(found.token, found.account, found.often, strict=True)}
    assert often[Kind.SENTENCE, 0] == pytest.approx(0.25)
    assert often[Kind.SENTENCE, 1] == 1.0
    assert often[Kind.PAYMENT, 0] == 1.0, "told at sign-up, true of every request"
