"""Tokens: the traits that accounts exhibit, as 42-bit numbers that carry their kind.

A token is `kind (5 bits) | hash (37 bits)`; a posting is `token (42 bits) | account (22 bits)`, so that one sort of plain integers
groups postings by token and, within a token, by account. Collisions of 37 bits join a handful of unrelated traits among a
million: they cost a little weight (a trait looks more common than it is), never a conviction.
"""

from __future__ import annotations

import enum
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from gateway_guard.evidence import Family

Numbers = NDArray[np.uint64]
Indices = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

ACCOUNT_BITS = 22
HASH_BITS = 37
MOST_ACCOUNTS = 1 << ACCOUNT_BITS
_ACCOUNT_MASK = np.uint64(MOST_ACCOUNTS - 1)
ODD = np.uint64(0x9E3779B97F4A7C15)


class Kind(enum.IntEnum):
    """What sort of trait a token is."""

    PAYMENT = 1
    SIGNUP = 2
    MAIL = 3
    BORN = 4
    AGE = 5
    PLAN = 6
    NETWORK = 7
    CLIENT = 8
    VERSION = 9
    SHAPE = 10
    TOOLS = 11
    ODD = 12
    MODEL = 13
    SYSTEM = 14
    TEMPLATE = 15
    SENTENCE = 16
    SKETCH = 17
    ELICITS = 18
    THREAD = 19
    BLOB = 20


KINDS = 32
_FAMILIES: dict[Kind, Family] = {
    Kind.PAYMENT: "identity",
    Kind.SIGNUP: "network",
    Kind.MAIL: "identity",
    Kind.BORN: "identity",
    Kind.AGE: "identity",
    Kind.PLAN: "identity",
    Kind.NETWORK: "network",
    Kind.CLIENT: "client",
    Kind.VERSION: "client",
    Kind.SHAPE: "client",
    Kind.TOOLS: "client",
    Kind.ODD: "client",
    Kind.MODEL: "client",
    Kind.SYSTEM: "content",
    Kind.TEMPLATE: "content",
    Kind.SENTENCE: "content",
    Kind.SKETCH: "content",
    Kind.ELICITS: "content",
    Kind.THREAD: "conversation",
    Kind.BLOB: "conversation",
}
FAMILY_NAMES: tuple[Family, ...] = ("content", "conversation", "rhythm", "network", "client", "identity")
FAMILY_OF: Indices = np.zeros(KINDS, dtype=np.int64)
for _kind, _family in _FAMILIES.items():
    FAMILY_OF[_kind] = FAMILY_NAMES.index(_family)

# Kinds that say the same thing in other words share a slot, of which only the strongest few tokens speak: the sentence, the sketch and the
# masked template of one prompt are one coincidence, and so are the address that an account signed up from and the one that it asks from.
SLOTS = 16
SLOT_OF: Indices = np.zeros(KINDS, dtype=np.int64)
for _slot, _members in enumerate(
    (
        (Kind.SENTENCE, Kind.SKETCH, Kind.TEMPLATE, Kind.SYSTEM),
        (Kind.ELICITS,),
        (Kind.THREAD, Kind.BLOB),
        (Kind.NETWORK, Kind.SIGNUP),
        (Kind.CLIENT, Kind.VERSION),
        (Kind.SHAPE,),
        (Kind.TOOLS,),
        (Kind.ODD,),
        (Kind.MODEL,),
        (Kind.PAYMENT,),
        (Kind.MAIL,),
        (Kind.BORN, Kind.AGE),
        (Kind.PLAN,),
    )
):
    SLOT_OF[list(_members)] = _slot
STRONGEST: Indices = np.ones(SLOTS, dtype=np.int64)
STRONGEST[[SLOT_OF[Kind.SENTENCE], SLOT_OF[Kind.THREAD], SLOT_OF[Kind.NETWORK]]] = (3, 4, 2)

# A token speaks only when it is so much more common in a cluster than elsewhere; small excesses of common phrases add up to nothing.
SPEAKS: Floats = np.full(SLOTS, 1.5)
SPEAKS[SLOT_OF[Kind.SENTENCE]] = 3.0

# Kinds that two accounts hardly share by chance, unless a good part of everybody has the very same one.
UNIQUE = (Kind.PAYMENT, Kind.THREAD, Kind.BLOB)
SELDOM = 0.005

# How many tokens of a kind one profile keeps.
CAPS: Indices = np.full(KINDS, 4, dtype=np.int64)
CAPS[[Kind.NETWORK, Kind.TEMPLATE, Kind.THREAD]] = (8, 8, 12)
CAPS[[Kind.SENTENCE, Kind.SKETCH, Kind.BLOB]] = (24, 24, 6)


def tokens(kind: int | Indices, values: Numbers) -> Numbers:
    """The tokens of `values`; equal values of one kind are one token."""
    return (np.asarray(kind, dtype=np.uint64) << np.uint64(HASH_BITS)) | ((values * ODD) >> np.uint64(64 - HASH_BITS))


def named(text: str) -> int:
    """The number of a name (a model, a plan), 0 of none: the same everywhere, since calibrations are carried from one process to another."""
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big") >> 1 if text else 0


def kinds(token: Numbers) -> Indices:
    """The kind of each token."""
    return (token >> np.uint64(HASH_BITS)).astype(np.int64)


def postings(token: Numbers, account: Indices) -> Numbers:
    """One integer for each (token, account)."""
    return (token << np.uint64(ACCOUNT_BITS)) | account.astype(np.uint64)


def split(posting: Numbers) -> tuple[Numbers, Indices]:
    """The token and the account of each posting."""
    return posting >> np.uint64(ACCOUNT_BITS), (posting & _ACCOUNT_MASK).astype(np.int64)


def starts(ordered: Numbers | Indices) -> Flags:
    """True where a new value begins in an ordered array."""
    first = np.ones(len(ordered), dtype=np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    return first
