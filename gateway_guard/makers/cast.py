"""Who acts in made traffic: accounts with the sign-up data and the habits that one kind of people has."""

from __future__ import annotations

import random
from collections.abc import Mapping
from types import MappingProxyType
from typing import Protocol

import msgspec

from gateway_guard.facts import Fingerprint, Identity

BITS = 62
DAY = 86400.0


class Names(Protocol):
    """Keyed hashes of names: an exemption in a policy then means the made account of that name."""

    def text(self, kind: str, value: str, /) -> str: ...

    def number(self, kind: str, value: str, /) -> int: ...


class Actor(msgspec.Struct, frozen=True):
    """An account with what its requests have in common: `shape` holds client, version and parameters; `network` is where it asks from."""

    identity: Identity
    shape: Fingerprint
    network: int


class Cast:
    """Makes actors. `rng` is the only source of chance; `begin` the time at which ages count."""

    def __init__(self, rng: random.Random, names: Names, source: str, begin: float) -> None:
        self.rng = rng
        self.begin = begin
        self._names = names
        self._source = source
        self._count = 0

    def fresh(self) -> int:
        """A hash that nobody else has."""
        return self.rng.getrandbits(BITS) | 1

    def some(self, count: int) -> list[int]:
        """`count` different hashes."""
        return [self.fresh() for _ in range(count)]

    def one(self, plan: str, org: str, age: float | None, traits: Mapping[str, int] = MappingProxyType({}), *, spread: bool = False) -> Actor:
        """The next account, called after its source: `job-1`. Card, mail, sign-up and asking network, program are its own unless `traits` say otherwise.

        `spread`: its age is anything up to twice `age`.
        """
        self._count += 1
        born = self.begin - (self.rng.uniform(0.05, 1.95) * age if spread else age) if age is not None else 0.0
        identity = Identity(
            self._names.text("account", f"{self._source}-{self._count}"),
            self._names.text("org", org) if org else "",
            plan,
            born,
            payment=traits.get("card") or self.fresh(),
            email_domain=traits.get("mail") or self.rng.randrange(1, 12),
            signup=traits.get("signup") or self.fresh(),
        )
        client = traits.get("client") or self.rng.randrange(1, 9)
        shape = Fingerprint(client=client, version=client % 1000 * 100 + self.rng.randrange(1, 30), shape=self.rng.randrange(1, 6))
        return Actor(identity, shape, traits.get("network") or self.fresh())
