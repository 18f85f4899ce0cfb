"""Profiles: what is kept of accounts is bounded, fades, and is the same however events are cut into journals."""

from __future__ import annotations

import numpy as np
import pytest

from gateway_guard.analysis.analyst import Analyst, conclude
from gateway_guard.analysis.journal import Journal
from gateway_guard.analysis.profile import ANY, COLUMNS, EVENTS, LENGTH, OUTPUT, TURN, Profiles, blank, fold
from gateway_guard.analysis.settings import Settings
from gateway_guard.analysis.tokens import CAPS, MOST_ACCOUNTS, SLOT_OF, SLOTS, Kind, kinds, postings, split, tokens
from gateway_guard.facts import Adopted, Cut, Done, Fingerprint, Identity, RequestFacts, Seen, Usage

START = 1_795_000_000.0
DAY = 86400.0
SETTINGS = Settings()


def facts(account: str, at: float, **shape: object) -> RequestFacts:
    return RequestFacts(f"r{at}", at, Identity(account, created_at=START - DAY), "openai.chat", "m", Fingerprint(**shape), 7, turns=1)  # type: ignore[arg-type]


def journal(*requests: RequestFacts) -> Journal:
    out = Journal()
    numbers: dict[str, int] = {}
    for request in requests:
        if request.identity.account not in numbers:
            numbers[request.identity.account] = len(numbers)
            out.newcomers.add(numbers[request.identity.account], request.identity, 1)
        out.seen(numbers[request.identity.account], request, 1)
    return out


def kept(profiles: Profiles, kind: Kind, account: int = 0) -> int:
    token, owner = split(profiles.posting)
    return int(((kinds(token) == kind) & (owner == account)).sum())


def run(n: int, width: int) -> tuple[int, ...]:
    return tuple(range(n * width + 1, n * width + width + 1))


def test_a_posting_carries_its_token_its_kind_and_its_account() -> None:
    values = np.array([1, 2, 2**63 - 1], dtype=np.uint64)
    token = tokens(Kind.SENTENCE, values)
    again, account = split(postings(token, np.array([0, 5, MOST_ACCOUNTS - 1])))
    assert again.tolist() == token.tolist()
    assert account.tolist() == [0, 5, MOST_ACCOUNTS - 1]
    assert set(kinds(token).tolist()) == {Kind.SENTENCE}
    assert len(set(tokens(Kind.SKETCH, values).tolist()) & set(token.tolist())) == 0


def test_every_kind_has_a_slot_and_a_bound() -> None:
    assert all(0 <= SLOT_OF[kind] < SLOTS for kind in Kind)
    assert all(CAPS[kind] > 0 for kind in Kind)


def test_a_request_is_counted_once_in_every_histogram() -> None:
    profiles = fold(blank(), journal(facts("a", START, length=100, elicits=5), facts("a", START + 60, length=9000)), SETTINGS)
    row = profiles.counts[0]
    assert row[EVENTS] == 2
    assert row[LENGTH].sum() == row[TURN].sum() == 2
    assert row[ANY] == 1
    assert np.count_nonzero(row[LENGTH]) == 2


def test_answers_are_counted_for_whom_they_went_to() -> None:
    analyst = Analyst()
    analyst.observe(Seen(facts("a", START)))
    analyst.observe(Done("r", START + 1, "a", Usage(10, 250)))
    analyst.observe(Done("r", START + 1, "nobody", Usage(10, 999)))
    analyst.observe(Cut(START, 1))
    analyst.observe(Adopted(START, 1))
    profiles = analyst.cut().folded()
    assert profiles.counts[:, OUTPUT].tolist() == [0.0, 250.0]


def test_an_answer_that_ends_in_a_time_without_requests_counts_too() -> None:
    begun = fold(blank(), journal(facts("a", START)), SETTINGS)
    quiet = Journal()
    quiet.done(0, Usage(input=1, output=700))
    later = fold(begun, quiet, SETTINGS)
    assert later.counts[0, OUTPUT] == 700
    assert begun.counts[0, OUTPUT] == 0, "what a snapshot holds does not change"


def test_one_account_keeps_no_more_than_its_bounds() -> None:
    many = [facts("a", START + n, templates=run(n, 8), sketch=run(n, 16), template=n + 1) for n in range(100)]
    profiles = fold(blank(), journal(*many), SETTINGS)
    for kind in (Kind.SENTENCE, Kind.SKETCH, Kind.TEMPLATE):
        assert kept(profiles, kind) == CAPS[kind]
    assert len(profiles.posting) <= CAPS.sum()


def test_what_recurs_and_what_others_share_outlives_what_was_seen_once() -> None:
    """An attacker cannot wash a shared instruction out of his profile with fresh material."""
    often = [facts("a", START + n, templates=(11, *range(100 + n * 7, 107 + n * 7))) for n in range(50)]
    shared = [facts("a", START, templates=(22,)), facts("b", START, templates=(22,))]
    profiles = fold(blank(), journal(*shared, *often), SETTINGS)
    token, account = split(profiles.posting)
    mine = set(token[account == 0].tolist())
    assert {int(tokens(Kind.SENTENCE, np.array([value], np.uint64))[0]) for value in (11, 22)} <= mine


def test_the_same_events_in_any_cuts_give_the_same_profiles() -> None:
    requests = [facts("ab"[n % 2], START + n * 600, templates=(n % 5 + 1,), template=n + 1, length=n * 10) for n in range(40)]

    def played(every: int) -> Profiles:
        analyst = Analyst(SETTINGS)
        for n, request in enumerate(requests):
            analyst.observe(Seen(request))
            if n % every == every - 1:
                analyst.adopt(conclude(analyst.cut()))
        return analyst.cut().folded()

    whole = played(1000)
    for every in (1, 3, 20):
        parts = played(every)
        assert parts.posting.tolist() == whole.posting.tolist()
        assert np.allclose(parts.counts, whole.counts, rtol=0.05)
        assert parts.since.tolist() == whole.since.tolist()
        assert parts.seen.tolist() == whole.seen.tolist()


def test_counts_fade_by_half_in_a_half_life_and_idle_traits_are_forgotten() -> None:
    settings = Settings(window=3 * DAY, half_life=DAY)
    first = fold(blank(), journal(facts("a", START, template=1)), settings)
    later = Journal()
    later.newcomers.add(1, Identity("b"), 1)
    later.seen(1, facts("b", START + DAY, template=2), 1)
    day = fold(first, later, settings)
    assert day.counts[0, EVENTS] == pytest.approx(0.5)
    assert kept(day, Kind.TEMPLATE) == 1
    much_later = Journal()
    much_later.seen(1, facts("b", START + 5 * DAY, template=2), 1)
    assert kept(fold(day, much_later, settings), Kind.TEMPLATE) == 0


def test_a_forgotten_account_s_row_is_given_to_a_new_one_clean() -> None:
    analyst = Analyst(Settings(accounts=2, window=DAY, half_life=DAY))
    for name, at in (("a", START), ("b", START), ("b", START + 2 * DAY)):
        analyst.observe(Seen(facts(name, at, template=9, length=50)))
    analyst.adopt(conclude(analyst.cut()))
    analyst.observe(Seen(facts("c", START + 2 * DAY + 5, template=3)))
    snapshot = analyst.cut()
    profiles = snapshot.folded()
    row = list(snapshot.names).index("c")
    assert list(snapshot.names)[1:] in (["c", "b"], ["b", "c"])
    assert profiles.counts[row, EVENTS] == 1
    assert profiles.first[row] == START + 2 * DAY + 5


def test_when_memory_is_full_new_accounts_share_one_profile_that_no_cluster_takes() -> None:
    """A flood of accounts costs the flood its identities, not the others their room."""
    analyst = Analyst(Settings(accounts=10))
    for n in range(500):
        analyst.observe(Seen(facts(f"f{n}", START + n, template=1, templates=(5, 6, 7), client=3, system=4)))
    snapshot = analyst.cut()
    profiles = snapshot.folded()
    assert len(profiles) == 11
    assert profiles.counts[0, EVENTS] == 490
    assert profiles.counts.shape[1] == COLUMNS
    view = conclude(snapshot)
    assert "" not in view.standings


def test_events_that_pile_up_are_folded_in_early_and_nothing_is_lost() -> None:
    analyst = Analyst(Settings(pending=10))
    for n in range(95):
        analyst.observe(Seen(facts("a", START + n)))
    assert analyst.cut().folded().counts[1, EVENTS] == pytest.approx(95, rel=0.01)


def test_a_cut_that_came_to_nothing_loses_no_event() -> None:
    analyst = Analyst()
    analyst.observe(Seen(facts("a", START)))
    analyst.cut()
    analyst.observe(Seen(facts("a", START + 1)))
    assert analyst.cut().folded().counts[1, EVENTS] == pytest.approx(2, rel=0.01)


def test_events_between_cut_and_adoption_belong_to_the_next_view() -> None:
    analyst = Analyst()
    analyst.observe(Seen(facts("a", START)))
    snapshot = analyst.cut()
    analyst.observe(Seen(facts("a", START + 1)))
    assert snapshot.folded().counts[1, EVENTS] == 1
    analyst.adopt(conclude(snapshot))
    assert analyst.cut().folded().counts[1, EVENTS] == pytest.approx(2, rel=0.01)
