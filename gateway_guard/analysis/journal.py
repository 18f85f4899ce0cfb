"""Events as columns, from the moment that they are seen until they are folded into the profiles."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from gateway_guard.analysis.tokens import Indices, Kind, Numbers
from gateway_guard.facts import Identity, RequestFacts, Usage

FIXED = (Kind.NETWORK, Kind.CLIENT, Kind.VERSION, Kind.SHAPE, Kind.TOOLS, Kind.SYSTEM, Kind.TEMPLATE, Kind.MODEL, Kind.ODD)
VARIABLE = (Kind.SENTENCE, Kind.SKETCH, Kind.THREAD, Kind.BLOB)
BIRTH = ("created_at", "payment", "email_domain", "signup", "plan", "verified")


class Newcomers:
    """Identities of accounts that were not known before, as columns."""

    __slots__ = ("created", "mail", "number", "payment", "plan", "signup", "verified")

    def __init__(self) -> None:
        self.number = array("L")
        self.created = array("d")
        self.payment, self.mail, self.signup, self.plan = array("Q"), array("Q"), array("Q"), array("Q")
        self.verified = array("B")

    def __len__(self) -> int:
        return len(self.number)

    def add(self, number: int, identity: Identity, plan: int) -> None:
        """One account's sign-up data."""
        self.number.append(number)
        self.created.append(identity.created_at)
        self.payment.append(identity.payment)
        self.mail.append(identity.email_domain)
        self.signup.append(identity.signup)
        self.plan.append(plan)
        self.verified.append(1 if identity.org else 0)


class Journal:
    """Append-only; a snapshot takes the whole journal and the analyst goes on with a new one."""

    __slots__ = ("account", "at", "counts", "done_account", "elicits", "fixed", "flowing", "length", "newcomers", "output", "turns")

    def __init__(self) -> None:
        self.newcomers = Newcomers()
        self.account, self.length, self.turns = array("L"), array("L"), array("L")
        self.at = array("d")
        self.elicits = array("Q")
        self.fixed = array("Q")
        self.flowing = array("Q")
        self.counts = array("B")
        self.done_account, self.output = array("L"), array("L")

    def __len__(self) -> int:
        return len(self.account)

    def seen(self, account: int, facts: RequestFacts, model: int) -> None:
        """One request. This runs for each event: it only copies integers."""
        shape = facts.fingerprint
        self.account.append(account)
        self.at.append(facts.at)
        self.length.append(shape.length)
        self.turns.append(facts.turns)
        self.elicits.append(shape.elicits)
        self.fixed.extend((facts.network, shape.client, shape.version, shape.shape, shape.tools, shape.system, shape.template, model, shape.odd))
        flowing = self.flowing
        flowing.extend(shape.templates)
        flowing.extend(shape.rules)
        flowing.extend(shape.sketch)
        flowing.extend(shape.thread)
        flowing.extend(shape.blobs)
        self.counts.extend((len(shape.templates) + len(shape.rules), len(shape.sketch), len(shape.thread), len(shape.blobs)))

    def done(self, account: int, usage: Usage) -> None:
        """The output of one answer."""
        self.done_account.append(account)
        self.output.append(usage.output)


def numbers(column: array[int]) -> Numbers:
    """A column of integers."""
    return np.frombuffer(column, dtype=np.dtype(f"u{column.itemsize}")).astype(np.uint64) if column else np.zeros(0, np.uint64)


def indices(column: array[int]) -> Indices:
    """A column of account numbers or counts."""
    return numbers(column).astype(np.int64)


def times(column: array[float]) -> NDArray[np.float64]:
    """A column of times."""
    return np.frombuffer(column, dtype=np.float64).copy() if column else np.zeros(0)
