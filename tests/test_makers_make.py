"""Made traffic: the same for the same seed, and shaped as its parameters say."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter
from typing import Any

import pytest
from pydantic import ValidationError

from gateway_guard.facts import Done, Event, Seen
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.makers.make import accounts_of, made, moment
from gateway_guard.makers.model import MAKERS
from tests.fakes import KEY

BEGIN = 1_800_000_000.0
NAMES = Pseudonyms(KEY)
SMALL: dict[str, dict[str, Any]] = {
    "steady": {"rate": "6/min", "over": "10m", "accounts": 2},
    "burst": {"requests": 50, "over": "10s"},
    "batch": {"org": "acme", "requests": 40, "accounts": 4, "over": "1h"},
    "people": {"accounts": 20, "over": "2d"},
    "course": {"accounts": 10, "over": "2d"},
    "queue": {"accounts": 9, "daily": 20, "over": "1d"},
}


def events(maker: str, *, seed: object = 1, **more: Any) -> list[Event]:
    return made(MAKERS[maker].model_validate({"maker": maker, **SMALL[maker], **more}), "part", seed=seed, names=NAMES, begin=BEGIN)


def seen(of: list[Event]) -> list[Seen]:
    return [event for event in of if isinstance(event, Seen)]


def test_every_maker_is_tried() -> None:
    assert set(SMALL) == set(MAKERS)


@pytest.mark.parametrize("maker", SMALL)
def test_events_are_in_order_each_request_ends_and_ages_and_tokens_are_as_asked(maker: str) -> None:
    of = events(maker, age="3d", plan="pro", input=70, output=30, ask=20, takes="5s", after="1h")
    times = [moment(event) for event in of]
    assert times == sorted(times)
    assert times[0] >= BEGIN + 3600
    ends = {event.id: event for event in of if isinstance(event, Done)}
    assert len(ends) == len(seen(of)) == len({event.facts.id for event in seen(of)})
    for event in seen(of):
        facts = event.facts
        assert ends[facts.id].at == pytest.approx(facts.at + 5.0)
        assert (facts.input_tokens, facts.ask_tokens, ends[facts.id].usage.output, facts.identity.plan) == (70, 20, 20, "pro")
        assert 0 < BEGIN + 3600 - facts.identity.created_at < 6 * 86400


@pytest.mark.parametrize("maker", SMALL)
def test_the_same_seed_gives_the_same_events_and_another_seed_others(maker: str) -> None:
    assert events(maker) == events(maker)
    assert events(maker) != events(maker, seed=2)


def test_nothing_depends_on_the_process() -> None:
    code = "from tests.test_makers_make import events; import hashlib; print(hashlib.sha256(repr(events('queue')).encode()).hexdigest())"
    told = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed}
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_a_steady_account_keeps_its_rate() -> None:
    of = seen(events("steady"))
    assert Counter(event.facts.identity.account for event in of) == dict.fromkeys(accounts_of(events("steady")), 60)
    first = sorted(event.facts.at for event in of if event.facts.identity == of[0].facts.identity)
    assert {round(b - a, 3) for a, b in itertools.pairwise(first)} == {10.0}


def test_a_batch_belongs_to_one_organisation_and_a_queue_to_nobody_known() -> None:
    assert {event.facts.identity.org for event in seen(events("batch"))} == {NAMES.text("org", "acme")}
    assert {event.facts.identity.org for event in seen(events("queue"))} == {""}


@pytest.mark.parametrize("accounts", [9, 4, 30])
@pytest.mark.parametrize(("trait", "of"), [("cards", "payment"), ("networks", "network"), ("programs", "client")])
def test_a_queue_shares_as_many_traits_as_asked(trait: str, of: str, accounts: int) -> None:
    facts = [event.facts for event in seen(events("queue", **{"accounts": accounts, trait: 3}))]
    values = {"payment": [f.identity.payment for f in facts], "network": [f.network for f in facts], "client": [f.fingerprint.client for f in facts]}
    assert len(set(values[of])) == 3
    own = {f.identity.account: f.network for f in [event.facts for event in seen(events("queue", accounts=accounts, networks=0))]}
    assert len(set(own.values())) == accounts


def test_people_are_no_queue() -> None:
    """No sentence of one is another's, while a class has its tasks and a queue its instructions in common."""

    def shared(maker: str) -> int:
        users: dict[int, set[str]] = {}
        for event in seen(events(maker)):
            for sentence in event.facts.fingerprint.templates:
                users.setdefault(sentence, set()).add(event.facts.identity.account)
        return sum(len(accounts) > 1 for accounts in users.values())

    assert (shared("people"), shared("course"), shared("queue")) == (0, 4, 5)


@pytest.mark.parametrize(
    ("maker", "more", "says"),
    [
        ("steady", {"rate": "2M tokens/day"}, "counts requests"),
        ("steady", {"rate": "100/s", "over": "10d"}, "more than 200,000"),
        ("burst", {"requests": 100_000, "accounts": 3}, "more than 200,000"),
        ("queue", {"accounts": 5000, "daily": 5000}, "more than 200,000"),
    ],
)
def test_what_would_take_minutes_is_refused(maker: str, more: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        events(maker, **more)
