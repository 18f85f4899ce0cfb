"""The analyst on made traffic: one actor among honest people, found whatever the order, and never on one family of evidence."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

import pytest
from msgspec import structs

from gateway_guard.analysis.analyst import Analyst, conclude
from gateway_guard.analysis.calibrate import calibrate
from gateway_guard.analysis.calibration import decode, encode
from gateway_guard.analysis.settings import Settings
from gateway_guard.facts import Done, Event, Fingerprint, Identity, RequestFacts, Seen, Usage
from gateway_guard.policy.judge import compile_policy
from gateway_guard.policy.model import Policy
from gateway_guard.view import View

START = 1_795_000_000.0
DAY = 86400.0
BITS = 2**62


def identity(name: str, rng: random.Random, **told: int | float) -> Identity:
    own = {"payment": rng.randrange(1, BITS), "signup": rng.randrange(1, BITS), "created_at": START - rng.uniform(1, 400) * DAY}
    return Identity(f"{name:0>20}", plan="pro", **{**own, **told})  # type: ignore[arg-type]


def request(who: Identity, at: float, rng: random.Random, **shape: object) -> list[Event]:
    own = {
        "client": rng.randrange(1, 9),
        "version": rng.randrange(1, 30),
        "template": rng.randrange(1, BITS),
        "sketch": tuple(sorted(rng.randrange(1, BITS) for _ in range(16))),
        "templates": (rng.randrange(1, BITS),),
        "length": int(rng.lognormvariate(5.5, 1.0)),
    }
    network = shape.pop("network", None) or hash_free(who.account)
    facts = RequestFacts(f"r{at}", at, who, "openai.chat", "m", Fingerprint(**{**own, **shape}), int(str(network)), 100)  # type: ignore[arg-type]
    return [Seen(facts), Done(facts.id, at + 1.0, who.account, Usage(100, 200))]


def hash_free(name: str) -> int:
    """A number for a name, the same in every process."""
    return random.Random(name).randrange(1, BITS)


def people(rng: random.Random, count: int = 250, days: float = 4.0) -> list[Event]:
    """Honest accounts: rates as uneven as people's, prompts and cards of their own, hours of the day."""
    out: list[Event] = []
    for n in range(count):
        who = identity(f"h{n}", rng)
        for _ in range(max(1, int(rng.lognormvariate(2.0, 1.0)))):
            day, hour = rng.randrange(int(days)), rng.gauss(14, 3) % 24
            out += request(who, START + day * DAY + hour * 3600 + rng.random() * 1800, rng)
    return out


def actor(rng: random.Random, members: Sequence[int] = range(40), *, prompts: bool = True, cards: bool = True, days: float = 4.0) -> list[Event]:
    """One queue dealt out over `members`: five templates with fresh payload, cards shared by ten."""
    templates = [rng.randrange(1, BITS) for _ in range(5)]
    payments = [rng.randrange(1, BITS) for _ in range(9)]
    out: list[Event] = []
    for n in members:
        told = {"payment": payments[n // 10], "created_at": START - 2 * DAY} if cards else {}
        who = identity(f"x{n}", rng, **told)
        for i in range(int(12 * days)):
            at = START + (i + rng.random()) * days * DAY / (12 * days)
            own = {"templates": (rng.choice(templates), rng.randrange(1, BITS)), "elicits": 1, "length": rng.randrange(900, 1100)} if prompts else {}
            out += request(who, at, rng, **own)
    return out


def moment(event: Event) -> float:
    return event.facts.at if isinstance(event, Seen) else event.at


def concluded(events: Iterable[Event], analyst: Analyst | None = None) -> View:
    beside = analyst or Analyst()
    for event in sorted(events, key=moment):
        beside.observe(event)
    view = conclude(beside.cut())
    beside.adopt(view)
    return view


def members(view: View) -> dict[str, set[str]]:
    out: dict[str, set[str]] = {}
    for account, standing in view.standings.items():
        if standing.cluster:
            out.setdefault(standing.cluster, set()).add(account.lstrip("0"))
    return out


SWARM = {f"x{n}" for n in range(40)}


def test_an_actor_is_found_whole_and_alone() -> None:
    rng = random.Random(1)
    found = members(concluded(people(rng) + actor(rng)))
    best = max(found.values(), key=lambda group: len(group & SWARM))
    assert len(best & SWARM) >= 38
    assert len(best - SWARM) <= 1


def test_people_alone_are_nobody_s_cluster() -> None:
    view = concluded(people(random.Random(2)))
    assert sum(map(len, members(view).values())) <= 2


@pytest.mark.parametrize(("prompts", "cards"), [(False, False), (True, False)])
def test_one_family_of_evidence_leads_nowhere(prompts: bool, cards: bool) -> None:
    """The same prompts under forty clients, cards and ages of people's kind: a viral prompt looks no different."""
    rng = random.Random(3)
    view = structs.replace(concluded(people(rng) + actor(rng, prompts=prompts, cards=cards, days=1.0)), calibrated="yes")
    rungs = [{"id": "dim", "at": 0, "do": "degrade", "profile": "p"}]
    policy = {"version": 1, "name": "test", "mode": "enforce", "signals": {"coordination": {}, "harvest": {}, "young_account": {}}, "ladder": rungs}
    rules = compile_policy(Policy.model_validate(policy), "digest")
    for account, standing in view.standings.items():
        facts = RequestFacts("r", START, Identity(account, created_at=START - 60.0), "openai.chat")
        if len(standing.families) < 2:
            assert rules.score(facts, standing, view).rung is None


def test_the_same_events_give_the_same_view_whatever_the_accounts_are_called() -> None:
    rng = random.Random(4)
    events = people(rng) + actor(rng)
    first, second = concluded(events), concluded(events)
    assert first == second
    names = {account: f"{hash_free(account) % 10**19:020d}" for account in {e.facts.identity.account for e in events if isinstance(e, Seen)}}

    def renamed(event: Event) -> Event:
        if isinstance(event, Seen):
            facts = event.facts
            return structs.replace(event, facts=structs.replace(facts, identity=structs.replace(facts.identity, account=names[facts.identity.account])))
        return structs.replace(event, account=names[event.account]) if isinstance(event, Done) else event

    other = concluded([renamed(event) for event in events])
    groups = sorted(sorted(names[f"{account:0>20}"] for account in group) for group in members(first).values())
    assert sorted(sorted(account.rjust(20, "0") for account in group) for group in members(other).values()) == groups


def test_ids_survive_growth() -> None:
    rng = random.Random(5)
    events = sorted(people(rng) + actor(rng), key=moment)
    analyst = Analyst()
    half = [event for event in events if moment(event) < START + 2 * DAY]
    early = concluded(half, analyst)
    name = max(members(early), key=lambda c: len(members(early)[c] & SWARM))
    late = concluded(events[len(half) :], analyst)
    assert late.id == early.id + 1
    assert max(members(late), key=lambda c: len(members(late)[c] & SWARM)) == name
    assert late.clusters[name].born == early.clusters[name].born


def test_size_and_confidence_are_told_and_evidence_can_be_read() -> None:
    rng = random.Random(6)
    view = concluded(people(rng) + actor(rng))
    for name, group in members(view).items():
        cluster = view.clusters[name]
        assert cluster.size == len(group)
        assert 0.0 <= cluster.confidence <= 1.0
        assert cluster.evidence
        assert all(piece.says[0].isupper() or piece.says[0].isdigit() for piece in cluster.evidence)
        assert all(piece.says.endswith(".") for piece in cluster.evidence)


def test_without_a_calibration_a_view_says_so_and_with_one_it_names_it() -> None:
    rng = random.Random(7)
    assert concluded(people(rng, 50)).calibrated == ""
    calibration = calibrate(sorted(people(rng, 400, 7.0), key=moment), budget=0.01)
    assert calibration.accounts == 400
    assert calibration.bound <= 0.01
    again = decode(encode(calibration))
    assert again.digest == calibration.digest
    view = concluded(people(rng) + actor(rng), Analyst(Settings(), again))
    assert view.calibrated == calibration.digest
    found = members(view)
    swarm = max(found, key=lambda c: len(found[c] & SWARM))
    assert view.clusters[swarm].coordination > 0
    assert view.clusters[swarm].harvest > 0, "one queue, five templates, no repeats, even load"


def test_a_verified_organisation_is_one_actor_by_declaration_and_is_not_found() -> None:
    rng = random.Random(8)

    def declared(event: Event) -> Event:
        if isinstance(event, Seen) and event.facts.identity.account.lstrip("0").startswith("x"):
            return structs.replace(event, facts=structs.replace(event.facts, identity=structs.replace(event.facts.identity, org="o" * 20)))
        return event

    view = concluded([declared(event) for event in people(rng) + actor(rng)])
    assert not any(group & SWARM for group in members(view).values())
