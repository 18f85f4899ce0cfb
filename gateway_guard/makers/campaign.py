"""A campaign made of somebody's own traffic: what its requests look like is taken from requests that were really made, what they share is its own."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

import msgspec
from msgspec import structs

from gateway_guard.facts import Done, Event, Fingerprint, RequestFacts, Seen, Usage
from gateway_guard.makers.cast import DAY, Actor, Cast, Names
from gateway_guard.makers.make import moment, talk

# Members that pay with one card and ask from one network, when those are not hidden.
SHARING = 10


class Evasion(msgspec.Struct, frozen=True):
    """What a campaign hides. `headers`: each account shows the program of some honest one · `network`: a network, a card and a sign-up of its own ·
    `templates` instructions for each ten accounts · `mix` share of requests that are like an honest account's · `hours`: it works when people do.
    """

    name: str
    headers: bool = False
    network: bool = False
    templates: float = 1.0
    mix: float = 0.0
    hours: bool = False


EVASIONS = (
    Evasion("none"),
    Evasion("headers", headers=True),
    Evasion("headers, network", headers=True, network=True),
    Evasion("all of it, mixed", headers=True, network=True, templates=5.0, mix=0.5, hours=True),
)


class Size(msgspec.Struct, frozen=True):
    """How many `accounts`, each with `daily` requests."""

    accounts: int
    daily: float


def campaign(size: Size, evasion: Evasion, donors: Sequence[RequestFacts], *, seed: object, names: Names, begin: float, over: float) -> list[Event]:
    """Its events for `over` seconds from `begin`, in order of time. `donors` are requests that were really made."""
    rng = random.Random(f"{seed}/{size.accounts}/{size.daily}/{evasion.name}")  # noqa: S311 - made traffic keeps no secrets
    cast = Cast(rng, names, "campaign", begin)
    instructions = cast.some(max(1, round(evasion.templates * size.accounts / SHARING)))
    script = rng.choice(donors)
    out: list[Event] = []
    for number, actor in enumerate(_members(size, evasion, script, donors, cast)):
        for place, at in enumerate(_times(size.daily, over, evasion, donors, cast)):
            out += _exchange(f"campaign-{number}-{place}", at, actor, evasion, (script, rng.choice(donors)), rng.choice(instructions), cast)
    return sorted(out, key=moment)


def _members(size: Size, evasion: Evasion, script: RequestFacts, donors: Sequence[RequestFacts], cast: Cast) -> Iterator[Actor]:
    pools = {trait: cast.some(-(-size.accounts // SHARING)) for trait in ("card", "network")}
    for number in range(size.accounts):
        shared = {} if evasion.network else {trait: pool[number // SHARING] for trait, pool in pools.items()}
        actor = cast.one(script.identity.plan, "", 2 * DAY, shared, spread=True)
        shown = cast.rng.choice(donors).fingerprint if evasion.headers else script.fingerprint
        yield structs.replace(actor, shape=Fingerprint(client=shown.client, version=shown.version, shape=shown.shape))


def _times(daily: float, over: float, evasion: Evasion, donors: Sequence[RequestFacts], cast: Cast) -> list[float]:
    """When one account asks: evenly, as dealt out from a queue; or at the hours at which honest requests were made."""
    rng = cast.rng
    count = max(1, round(daily * over / DAY))
    if not evasion.hours or over < DAY:
        return [cast.begin + (place + rng.random()) * over / count for place in range(count)]
    days = int(over // DAY)
    first = cast.begin - cast.begin % DAY + DAY
    return sorted(first + rng.randrange(days) * DAY + (rng.choice(donors).at + rng.uniform(-1800, 1800)) % DAY for _ in range(count))


def _exchange(  # noqa: PLR0917 - one call, for each request
    ident: str, at: float, actor: Actor, evasion: Evasion, like: tuple[RequestFacts, RequestFacts], instruction: int, cast: Cast
) -> tuple[Seen, Done]:
    """One request: of the campaign, which is much the same size each time, or like an honest one's."""
    script, other = like
    mixed = cast.rng.random() < evasion.mix
    source = other if mixed else script
    shape = structs.replace(talk(actor, cast), length=other.fingerprint.length, elicits=0) if mixed else _order(actor, script, instruction, cast)
    turns = source.turns if mixed else 1
    told = {"id": ident, "at": round(at, 6), "identity": actor.identity, "fingerprint": shape, "network": actor.network, "asks": 0, "turns": turns}
    facts = structs.replace(source, passes=(), **told)
    output = max(1, source.ask_tokens // 2) if source.ask_tokens else 300
    return Seen(facts), Done(ident, round(at + 5.0, 6), actor.identity.account, Usage(source.input_tokens, output))


def _order(actor: Actor, script: RequestFacts, instruction: int, cast: Cast) -> Fingerprint:
    length = max(1, round(max(script.fingerprint.length, 200) * cast.rng.uniform(0.9, 1.1)))
    return structs.replace(actor.shape, template=cast.fresh(), templates=(instruction, cast.fresh()), elicits=1, length=length)
