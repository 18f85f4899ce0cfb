"""What can be made, as types: the parameters of each maker, as a file of policy cases writes them."""

from __future__ import annotations

from typing import Annotated, Literal, Self, TypeAlias

from pydantic import Field, model_validator

from gateway_guard.policy.model import Duration, Limit, Period
from gateway_guard.policy.strict import Rules, Share

# Requests of one source: a case is played in seconds.
MOST = 200_000
Count = Annotated[int, Field(ge=1, le=MOST)]
Accounts = Annotated[int, Field(ge=1, le=20_000)]


class Maker(Rules):
    """What all makers take: whose accounts these are, and what a request costs.

    `age` of the accounts when the traffic begins (left out: not known) · `input` and `output` model tokens of a request, `ask` the maximum that it
    sets · `takes` how long an answer takes · `after` how long after the beginning of all traffic this part begins.
    """

    plan: str = ""
    org: str = ""
    age: Duration | None = None
    model: str = "model"
    input: Annotated[int, Field(ge=0)] = 500
    output: Annotated[int, Field(ge=0)] = 300
    ask: Annotated[int, Field(ge=0)] = 0
    takes: Duration = 2.0
    after: Duration = 0.0


class Steady(Maker):
    """Each account sends at an even `rate` for a time: a program that polls, a service with customers of its own behind it."""

    maker: Literal["steady"]
    accounts: Accounts = 1
    rate: Limit
    over: Period

    @model_validator(mode="after")
    def _countable(self) -> Self:
        if self.rate.unit != "requests":
            raise ValueError("`rate` counts requests; write for example `30/min`")
        if self.accounts * self.each > MOST:
            raise ValueError(f"makes more than {MOST:,} requests; shorten `over`, or lower `rate` or `accounts`")
        return self

    @property
    def each(self) -> int:
        """Requests of one account."""
        return max(1, round(self.over * self.rate.amount / self.rate.window))


class Burst(Maker):
    """Each account sends so many `requests` within `over`: a script that is run once, a migration."""

    maker: Literal["burst"]
    accounts: Accounts = 1
    requests: Count
    over: Period = 1.0

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.accounts * self.requests > MOST:
            raise ValueError(f"makes more than {MOST:,} requests; lower `requests` or `accounts`")
        return self


class Batch(Maker):
    """A job of an organisation: `requests` in all, dealt out over its keys, one instruction with ever new material, one program, one network."""

    maker: Literal["batch"]
    org: str
    accounts: Accounts = 4
    requests: Count
    over: Period = 3600.0


class People(Maker):
    """People at work: rates as uneven as people's, `daily` at the median, by day more than by night; prompts, programs, cards and networks of their own."""

    maker: Literal["people"]
    accounts: Annotated[int, Field(ge=1, le=5_000)] = 100
    daily: Annotated[float, Field(gt=0, le=40)] = 4.0
    over: Period = 4 * 86400.0
    age: Duration | None = 200 * 86400.0


class Course(Maker):
    """A class: everybody sends variations of the same `tasks` from one network within some hours, each with a card, an age and other interests of
    their own. Honest, and on the face of it as alike as a campaign.
    """

    maker: Literal["course"]
    accounts: Annotated[int, Field(ge=2, le=5_000)] = 30
    tasks: Annotated[int, Field(ge=1, le=100)] = 4
    daily: Annotated[float, Field(gt=0, le=40)] = 6.0
    over: Period = 4 * 86400.0
    age: Duration | None = 100 * 86400.0


class Queue(Maker):
    """One actor's queue of work, dealt out over many accounts: `daily` requests of each, from `templates` instructions with ever new material.

    `elicits` share that asks for training data · `cards`, `networks`, `programs`: how many different ones the accounts have among them (0: each
    its own, and cards and networks not known to be anybody else's).
    """

    maker: Literal["queue"]
    accounts: Annotated[int, Field(ge=2, le=5_000)] = 30
    daily: Annotated[float, Field(gt=0, le=20_000)] = 20.0
    over: Period = 4 * 86400.0
    templates: Annotated[int, Field(ge=1, le=10_000)] = 5
    elicits: Share = 1.0
    cards: Annotated[int, Field(ge=0)] = 3
    networks: Annotated[int, Field(ge=0)] = 0
    programs: Annotated[int, Field(ge=0)] = 1
    age: Duration | None = 2 * 86400.0

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        if self.accounts * self.daily * self.over / 86400.0 > MOST:
            raise ValueError(f"makes more than {MOST:,} requests; shorten `over`, or lower `daily` or `accounts`")
        return self


AnyMaker: TypeAlias = Steady | Burst | Batch | People | Course | Queue
MAKERS: dict[str, type[AnyMaker]] = {"steady": Steady, "burst": Burst, "batch": Batch, "people": People, "course": Course, "queue": Queue}
