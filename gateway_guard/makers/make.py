"""Makes the events of one source, in order of time. The same parameters, name and seed give the same events everywhere."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import singledispatch

from msgspec import structs

from gateway_guard.facts import Done, Event, Fingerprint, RequestFacts, Seen, Usage
from gateway_guard.makers.cast import DAY, Actor, Cast, Names
from gateway_guard.makers.model import AnyMaker, Batch, Burst, Course, Maker, People, Queue, Steady

DIALECT = "openai.chat"
SKETCH = 16
# What a benign request asks for training data by accident, once in so many.
STRAY = 50

Request = tuple[float, Actor, Fingerprint]


def made(source: AnyMaker, name: str, *, seed: object, names: Names, begin: float) -> list[Event]:
    """The events of `source`, which accounts and requests are called after. Times count from `begin`."""
    rng = random.Random(f"{seed}/{name}")  # noqa: S311 - made traffic keeps no secrets
    cast = Cast(rng, names, name, begin + source.after)
    requests = sorted(_requests(source, cast), key=lambda one: one[0])
    events = [event for number, request in enumerate(requests) for event in _exchange(f"{name}-{number}", request, source, rng)]
    return sorted(events, key=moment)


def moment(event: Event) -> float:
    """When an event happened."""
    return event.facts.at if isinstance(event, Seen) else event.at


def accounts_of(events: Sequence[Event]) -> frozenset[str]:
    """The accounts that act in some events."""
    return frozenset(event.facts.identity.account for event in events if isinstance(event, Seen))


def _exchange(ident: str, request: Request, source: Maker, rng: random.Random) -> tuple[Seen, Done]:
    at, actor, shape = request
    given, output = source.input, source.output
    facts = RequestFacts(ident, round(at, 6), actor.identity, DIALECT, source.model, shape, actor.network, given, source.ask, 0, rng.choice((1, 1, 3, 7)))
    done = Done(ident, round(at + source.takes, 6), actor.identity.account, Usage(given, min(output, source.ask or output)))
    return Seen(facts), done


@singledispatch
def _requests(source: Maker, cast: Cast) -> Iterator[Request]:
    raise TypeError(f"no way to make a {type(source).__name__}: register one here")


@_requests.register
def _steady(source: Steady, cast: Cast) -> Iterator[Request]:
    gap = source.over / source.each
    for _ in range(source.accounts):
        actor = cast.one(source.plan, source.org, source.age)
        for number in range(source.each):
            yield cast.begin + number * gap, actor, talk(actor, cast)


@_requests.register
def _burst(source: Burst, cast: Cast) -> Iterator[Request]:
    for _ in range(source.accounts):
        actor = cast.one(source.plan, source.org, source.age)
        for number in range(source.requests):
            yield cast.begin + number * source.over / source.requests, actor, talk(actor, cast)


@_requests.register
def _batch(source: Batch, cast: Cast) -> Iterator[Request]:
    card, network, signup, client, instruction = cast.some(5)
    keys = [
        cast.one(source.plan, source.org, source.age, {"card": card, "network": network, "signup": signup, "client": client}) for _ in range(source.accounts)
    ]
    for number in range(source.requests):
        actor = keys[number % len(keys)]
        yield cast.begin + number * source.over / source.requests, actor, order(actor, cast, instruction)


@_requests.register
def _people(source: People, cast: Cast) -> Iterator[Request]:
    for _ in range(source.accounts):
        actor = cast.one(source.plan, source.org, source.age, spread=True)
        yield from _days(source.daily, source.over, actor, cast, lambda actor=actor: talk(actor, cast))  # type: ignore[misc]


@_requests.register
def _course(source: Course, cast: Cast) -> Iterator[Request]:
    tasks, network = cast.some(source.tasks), cast.fresh()
    for _ in range(source.accounts):
        actor = cast.one(source.plan, source.org, source.age, {"network": network}, spread=True)

        def shape(actor: Actor = actor) -> Fingerprint:
            return talk(actor, cast, cast.rng.choice(tasks)) if cast.rng.random() < 0.5 else talk(actor, cast)

        yield from _days(source.daily, source.over, actor, cast, shape)


@_requests.register
def _queue(source: Queue, cast: Cast) -> Iterator[Request]:
    instructions = cast.some(source.templates)
    pools = {"card": cast.some(source.cards), "network": cast.some(source.networks), "client": cast.some(source.programs)}
    count = max(1, round(source.daily * source.over / DAY))
    for number in range(source.accounts):
        own = {trait: pool[number * len(pool) // source.accounts] for trait, pool in pools.items() if pool}
        actor = cast.one(source.plan, source.org, source.age, own)
        for place in range(count):
            at = cast.begin + (place + cast.rng.random()) * source.over / count
            asks = cast.rng.random() < source.elicits
            yield at, actor, order(actor, cast, cast.rng.choice(instructions), elicits=1 if asks else 0)


def _days(daily: float, over: float, actor: Actor, cast: Cast, shape: Callable[[], Fingerprint]) -> Iterator[Request]:
    """Requests of one person: a rate and an hour of the day of their own."""
    rng = cast.rng
    rate, hour = daily * rng.lognormvariate(0.0, 0.9), rng.gauss(14.0, 3.0)
    for day in range(max(1, round(over / DAY))):
        for _ in range(min(200, int(rate + rng.random()))):
            at = cast.begin + day * DAY + (rng.gauss(hour, 2.0) % 24) * 3600.0
            if at < cast.begin + over:
                yield at, actor, shape()


def talk(actor: Actor, cast: Cast, task: int = 0) -> Fingerprint:
    """What a person asks: ever new, as long as this person's requests are; `task` is a sentence that others are given, too."""
    rng = cast.rng
    usual = 4.0 + actor.identity.payment % 1000 / 400  # a person's own habit, from a number that is only this person's
    own = (task, cast.fresh()) if task else (cast.fresh(),)
    stray = 1 if rng.random() * STRAY < 1 else 0
    return structs.replace(
        actor.shape, template=cast.fresh(), sketch=tuple(sorted(cast.some(SKETCH))), templates=own, elicits=stray, length=int(rng.lognormvariate(usual, 0.5))
    )


def order(actor: Actor, cast: Cast, instruction: int, elicits: int = 0) -> Fingerprint:
    """What a queue of work asks: an instruction with ever new material of much the same length."""
    return structs.replace(actor.shape, template=cast.fresh(), templates=(instruction, cast.fresh()), elicits=elicits, length=cast.rng.randrange(900, 1100))
