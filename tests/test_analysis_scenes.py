"""Scenes on made traffic: crowds that look like actors, actors that hide, and what becomes of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable

import pytest
from msgspec import structs

from gateway_guard.analysis.analyst import Analyst, conclude, drawn
from gateway_guard.analysis.calibrate import calibrate
from gateway_guard.analysis.tokens import FAMILY_NAMES, SPEAKS
from gateway_guard.analysis.weighing import Weighing
from gateway_guard.analysis.weights import Rules
from gateway_guard.facts import Done, Event, Fingerprint, Identity, RequestFacts, Seen, Usage
from gateway_guard.view import Cluster, View

START = 1_795_000_000.0
DAY = 86400.0
BITS = 2**62


def number(text: object) -> int:
    return random.Random(f"number/{text}").randrange(1, BITS)


class Scene:
    """Accounts and their requests; everything that is not given is an account's own."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.events: list[Event] = []
        self.identities: dict[str, Identity] = {}

    def account(self, name: str, **told: object) -> None:
        own = {
            "payment": number(f"pay/{name}"),
            "signup": number(f"home/{name}"),
            "email_domain": self.rng.randrange(1, 9),
            "created_at": START - self.rng.uniform(5, 500) * DAY,
        }
        self.identities[name] = Identity(name, plan="pro", **{**own, **told})  # type: ignore[arg-type]

    def ask(self, name: str, at: float, *, network: int = 0, output: int = 180, **shape: object) -> None:
        rng = self.rng
        own = {
            "client": 1 + number(f"client/{name}") % 12,
            "version": 1 + number(f"version/{name}") % 40,
            "shape": 1 + number(f"shape/{name}") % 30,
            "template": rng.randrange(1, BITS),
            "templates": (rng.randrange(1, BITS),),
            "sketch": tuple(sorted(rng.randrange(1, BITS) for _ in range(6))),
            "length": int(rng.lognormvariate(3 + number(f"length/{name}") % 5, 0.4)),
        }
        fingerprint = Fingerprint(**{**own, **shape})  # type: ignore[arg-type]
        facts = RequestFacts(f"{name}/{at}", at, self.identities[name], "openai.chat", "m", fingerprint, network or number(f"home/{name}"), 100, turns=1)
        self.events += [Seen(facts), Done(facts.id, at + 1.0, name, Usage(100, output))]

    def people(self, count: int = 220, days: float = 4.0) -> Scene:
        for n in range(count):
            name = f"person{n:03d}"
            self.account(name)
            for _ in range(max(1, int(self.rng.lognormvariate(1.8, 1.1)))):
                self.ask(name, START + self.rng.randrange(int(days)) * DAY + (self.rng.gauss(14, 3) % 24) * 3600)
        return self

    def moments(self, rate: float, begin: float, end: float) -> list[float]:
        return sorted(START + self.rng.uniform(begin, end) * DAY for _ in range(max(1, round(rate * (end - begin)))))


def in_order(scene: Scene) -> list[Event]:
    return sorted(scene.events, key=lambda e: e.facts.at if isinstance(e, Seen) else e.at)


def play(scene: Scene, analyst: Analyst | None = None, until: float = 1e12) -> View:
    beside = analyst or Analyst()
    for event in in_order(scene):
        if (event.facts.at if isinstance(event, Seen) else event.at) < until:
            beside.observe(event)
    view = conclude(beside.cut())
    beside.adopt(view)
    return view


def members(view: View, cluster: str) -> set[str]:
    return {account for account, standing in view.standings.items() if standing.cluster == cluster}


def holding(view: View, accounts: Iterable[str]) -> tuple[Cluster | None, set[str]]:
    """The cluster that holds most of the accounts, and its members."""
    wanted = set(accounts)
    best = max(view.clusters, key=lambda c: len(members(view, c) & wanted), default="")
    return view.clusters.get(best), members(view, best)


def harvesters(scene: Scene, names: list[str], begin: float = 0.5, end: float = 4.0, rate: float = 12.0, tag: str = "") -> None:
    """One queue over many accounts: five instructions, ever new material, cards for ten each, one program, homes of their own."""
    client, born = 90 + number(tag) % 1000, START - (3 + number(tag) % 9) * DAY
    sentences = [number(f"instruction{tag}/{n}") for n in range(5)]
    for n, name in enumerate(names):
        if name not in scene.identities:
            scene.account(name, payment=number(f"card{tag}/{n // 10}"), created_at=born + (n % 4) * 600)
        for at in scene.moments(rate, begin, end):
            templates = (scene.rng.choice(sentences), scene.rng.randrange(1, BITS))
            scene.ask(name, at, output=700, templates=templates, elicits=1, length=scene.rng.randrange(400, 600), client=client)


def course(scene: Scene) -> list[str]:
    """Students behind one address who signed up on one day and send the assignment, each at his own pace and more than once."""
    names = [f"student{n:02d}" for n in range(60)]
    for name in names:
        scene.account(name, payment=0, email_domain=77, signup=number("campus"), created_at=START + scene.rng.uniform(0, 0.1) * DAY)
        for at in scene.moments(scene.rng.lognormvariate(0.5, 0.9), 1.0, 4.0):
            again = scene.rng.random() < 0.6
            task = {"template": number("assignment"), "templates": (number("task/1"), number("task/2"))} if again else {}
            scene.ask(name, at, network=number("campus"), output=300, **task)
    return names


def tenants(scene: Scene) -> list[str]:
    """A service that makes an account for each of its customers: one card, one address, one prompt, short answers."""
    names = [f"tenant{n:02d}" for n in range(50)]
    for name in names:
        scene.account(name, payment=number("firm"), email_domain=88, signup=number("egress"), created_at=START - 20 * DAY)
        for at in scene.moments(scene.rng.lognormvariate(1.5, 1.0), 0.0, 4.0):
            scene.ask(name, at, network=number("egress"), output=60, system=number("prompt"), rules=(number("rule/1"), number("rule/2")), client=70)
    return names


def framework(scene: Scene) -> list[str]:
    """Unrelated developers who run one program with its own prompt."""
    names = [f"dev{n:02d}" for n in range(60)]
    for name in names:
        scene.account(name)
        for at in scene.moments(scene.rng.lognormvariate(0.8, 1.0), 0.0, 4.0):
            scene.ask(name, at, client=60, version=61, rules=(number("framework"),))
    return names


@pytest.mark.parametrize("crowd", [course, tenants, framework])
def test_a_crowd_with_something_in_common_is_never_acted_on(crowd: Callable[[Scene], list[str]]) -> None:
    scene = Scene(1).people()
    names = crowd(scene)
    view = play(scene)
    for cluster in view.clusters.values():
        assert cluster.harvest < 0
        assert cluster.confidence < 0.5
    held, found = holding(view, names)
    assert held is None or len(found - set(names)) <= 2, "strangers are not drawn in"


def test_a_framework_s_users_are_no_cluster_at_all() -> None:
    scene = Scene(2).people()
    names = framework(scene)
    assert not any(name in play(scene).standings for name in names)


def test_an_actor_is_found_among_crowds_alone_and_early() -> None:
    scene = Scene(3).people()
    for crowd in (course, tenants, framework):
        crowd(scene)
    names = [f"swarm{n:02d}" for n in range(60)]
    harvesters(scene, names)
    view = play(scene, until=START + 1.0 * DAY)
    cluster, found = holding(view, names)
    assert cluster is not None
    assert len(found & set(names)) >= 57
    assert found <= set(names)
    assert cluster.harvest > 0 < cluster.coordination
    assert len(cluster.families) >= 2


PROMPT = [number(f"prompt/{n}") for n in range(6)]


def prompters(scene: Scene) -> list[str]:
    """Every tenth account uses one long prompt, each worded in its own way; those that are returned have mail at a rare place as well."""
    names = [f"user{n:02d}" for n in range(80)]
    for n, name in enumerate(names):
        scene.account(name, **({"email_domain": 777} if n < 12 else {}))
        some = scene.rng.sample(PROMPT, 5)
        for at in scene.moments(scene.rng.lognormvariate(0.8, 1.1), 0.0, 4.0):
            scene.ask(name, at, templates=(*some, scene.rng.randrange(1, BITS)))
    return names[:12]


def test_sentences_of_one_common_prompt_are_one_coincidence_not_three() -> None:
    history = Scene(12).people(720)
    prompters(history)
    scene = Scene(13).people(720)
    strangers = prompters(scene)
    names = [f"swarm{n:02d}" for n in range(30)]
    for n, name in enumerate(names):
        scene.account(name, payment=number(f"card/{n // 5}"), email_domain=777, created_at=START - 4 * DAY + n * 60)
        for at in scene.moments(12.0, 0.5, 4.0):
            scene.ask(name, at, output=700, templates=(*PROMPT, scene.rng.randrange(1, BITS)), elicits=1, length=500)
    analyst = Analyst(calibration=calibrate(in_order(history)))
    assert len(holding(play(scene, analyst), names)[1] & set(names)) >= 28
    snapshot = analyst.cut()
    drawing = drawn(snapshot)
    rules = Rules(2, SPEAKS, 8.0, 0.003)
    shown_by = Weighing(drawing.graph, rules).evidence(drawing.grouping.label)
    content = {snapshot.names[number]: row[FAMILY_NAMES.index("content")] for number, row in zip(shown_by.account, shown_by.table, strict=True)}
    shown = sorted(content[name] for name in strangers)
    assert shown[len(shown) // 2] < 5.0, "a tenth of everybody says it: each of three sentences alone would add about log 10"


def test_small_groups_stray_further_by_chance_and_have_limits_of_their_own() -> None:
    scene = Scene(21).people(400)
    for n in range(24):
        scene.account(name := f"office{n:02d}", signup=number("office"), email_domain=77, created_at=START - 9 * DAY + n * 60)
        for at in scene.moments(1.0 + n % 7, 0.0, 4.0):
            scene.ask(name, at, network=number("office"), system=4711)
    for n in range(8):
        scene.account(name := f"grader{n}")
        for at in scene.moments(6.0, 0.0, 4.0):
            scene.ask(name, at, elicits=1, output=700)
    found = calibrate(in_order(scene))
    sizes, least = zip(*found.limits.small, strict=True)
    assert found.groups
    assert sizes == (3, 4, 5, 7, 10)
    assert list(least) == sorted(least, reverse=True)
    assert least[0] > least[-1] >= found.limits.harvest


def test_two_actors_are_kept_apart() -> None:
    scene = Scene(4).people()
    one, two = [f"one{n:02d}" for n in range(40)], [f"two{n:02d}" for n in range(40)]
    harvesters(scene, one, tag="one")
    harvesters(scene, two, tag="two")
    view = play(scene)
    first, second = holding(view, one)[1], holding(view, two)[1]
    assert len(first & set(one)) >= 38 <= len(second & set(two))
    assert not first & set(two)
    assert not second & set(one)


def test_a_victim_whose_prompt_is_copied_is_not_drawn_in() -> None:
    scene = Scene(5).people()
    victims = [f"victim{n}" for n in range(8)]
    for name in victims:
        scene.account(name, payment=number("victim"), email_domain=99, signup=number("victim"), created_at=START - 200 * DAY)
        for at in scene.moments(40, 0.0, 4.0):
            scene.ask(name, at, network=number("victim"), system=number("copied"), rules=(number("copied/1"), number("copied/2")), client=50, output=90)
    names = [f"framer{n:02d}" for n in range(50)]
    harvesters(scene, names, begin=1.0)
    scene.events = [copied(event) if isinstance(event, Seen) and event.facts.identity.account.startswith("framer") else event for event in scene.events]
    view = play(scene)
    assert len(holding(view, names)[1] & set(names)) >= 47
    assert not holding(view, names)[1] & set(victims)


def copied(event: Seen) -> Seen:
    shape = structs.replace(event.facts.fingerprint, system=number("copied"), rules=(number("copied/1"), number("copied/2")), client=50)
    return structs.replace(event, facts=structs.replace(event.facts, fingerprint=shape))


def test_a_reserve_pool_joins_the_cluster_of_the_first_under_its_id() -> None:
    """Pool A is given up, pool B takes over with the same instructions and cards of the same kind."""
    scene = Scene(6).people()
    first, reserve = [f"a{n:02d}" for n in range(40)], [f"b{n:02d}" for n in range(40)]
    for n, name in enumerate([*first, *reserve]):
        scene.account(name, payment=number(f"card/{n % 8}"), created_at=START - 3 * DAY + (n % 3) * 600)
    harvesters(scene, first, 0.2, 2.0)
    harvesters(scene, reserve, 2.0, 4.0)
    analyst = Analyst()
    before = play(scene, analyst, until=START + 2 * DAY)
    old, _ = holding(before, first)
    later = Scene(6)
    later.events = [e for e in scene.events if (e.facts.at if isinstance(e, Seen) else e.at) >= START + 2 * DAY]
    view = play(later, analyst, until=START + 2.3 * DAY)
    assert old is not None
    assert len(members(view, old.id) & set(reserve)) >= 36


def test_stolen_keys_give_themselves_away_together() -> None:
    scene = Scene(7).people(days=5.0)
    stolen = [f"person{n:03d}" for n in range(0, 200, 8)]
    sentences = [number(f"loot/{n}") for n in range(6)]
    for name in stolen:
        for at in scene.moments(2.0, 0.0, 5.0):
            scene.ask(name, at)
        for at in scene.moments(40.0, 3.0, 5.0):
            templates = (*scene.rng.sample(sentences, 2), scene.rng.randrange(1, BITS))
            scene.ask(name, at, network=number(f"proxy/{scene.rng.randrange(200)}"), client=80, version=81, templates=templates, output=600)
    assert not any(name in play(scene, until=START + 3 * DAY).standings for name in stolen), "before the theft there is nothing to see"
    view = play(scene)
    cluster, found = holding(view, stolen)
    assert cluster is not None
    assert len(found & set(stolen)) >= 22
    assert found <= set(stolen)
    assert {"content", "identity"} <= set(cluster.families)
    assert any(piece.signal == "changed_hands" for piece in cluster.evidence)


def test_conversations_that_go_on_elsewhere_betray_a_relay() -> None:
    """Real people's content, homes and hours of their own: only continuity and a shared card here and there."""
    scene = Scene(8).people()
    names = [f"relay{n:02d}" for n in range(60)]
    for n, name in enumerate(names):
        scene.account(name, payment=number(f"shared/{n // 3}") if n % 2 else number(f"own/{n}"), created_at=START - 9 * DAY + (n % 5) * 900)
    for name in names:
        for at in scene.moments(8, 0.0, 4.0):
            link = scene.rng.randrange(1, BITS)
            scene.ask(name, at, client=40, thread=(link,))
            if scene.rng.random() < 0.15:
                scene.ask(scene.rng.choice(names), at + 60, client=40, thread=(link, scene.rng.randrange(1, BITS)))
    view = play(scene)
    cluster, found = holding(view, names)
    assert cluster is not None
    assert len(found & set(names)) >= 51
    assert found <= set(names)
    assert "conversation" in {piece.family for piece in cluster.evidence}


def test_a_shared_few_shot_prefix_is_not_a_conversation() -> None:
    scene = Scene(9).people()
    names = [f"shot{n:02d}" for n in range(40)]
    for name in names:
        scene.account(name)
        for at in scene.moments(5, 0.0, 4.0):
            scene.ask(name, at, thread=(number("few-shot"),))
    assert not any(name in play(scene).standings for name in names)


def test_members_drift_out_when_what_they_shared_is_no_longer_seen() -> None:
    scene = Scene(10).people(days=4.0)
    names = [f"swarm{n:02d}" for n in range(40)]
    harvesters(scene, names, 0.0, 3.0)
    analyst = Analyst()
    before = play(scene, analyst)
    assert len(holding(before, names)[1] & set(names)) >= 38
    later = Scene(11)
    later.identities = scene.identities
    for n in range(220):
        for at in later.moments(0.3, 20.0, 24.0):
            later.ask(f"person{n:03d}", at)
    view = play(later, analyst)
    assert not any(name in view.standings for name in names)


def test_evidence_says_how_rare_a_trait_is_and_who_else_has_it() -> None:
    scene = Scene(12).people()
    names = [f"swarm{n:02d}" for n in range(40)]
    harvesters(scene, names)
    cluster, _ = holding(play(scene), names)
    assert cluster is not None
    says = " ".join(piece.says for piece in cluster.evidence)
    assert "of 40 members" in says
    assert "other accounts" in says
    assert "benign accounts before" in says
    assert {piece.signal for piece in cluster.evidence} >= {"sentence", "payment", "interchangeable", "asks", "never_repeats"}
