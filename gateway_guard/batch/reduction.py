"""Events to profiles, as relational expressions: the same ones run on DuckDB here and on a cluster of Spark (`engines.py`).

Theory of operation. All that the analyst knows of an account is sums over its events, faded with time, and the first and the last hour of each of its
tokens (`analysis/profile.py`). Sums, least and greatest values need no order, so an engine takes the events in any, on as many machines as it likes.
Everything is counted in whole numbers (hours, slots, a fade as parts of `GRAIN`), so a sum is the same to the last bit whoever adds it up;
and where something has to be chosen, the choice ends in the token itself. So every engine gives the same profiles.

Pairs of accounts are never made: what is grouped is (account, token), whose number grows with the events, not with their square.
"""

from __future__ import annotations

from collections.abc import Iterator

import ibis
from ibis.expr import types as ir

from gateway_guard.analysis.profile import FAMILIES, HOUR, LENGTHS
from gateway_guard.analysis.tokens import CAPS, HASH_BITS, ODD, Kind
from gateway_guard.batch.window import Window

# An answer that is longer counts as this long: sums stay in 64 bits.
LONGEST = 1 << 22
IDENTITY = ("org", "plan", "created_at", "payment", "email_domain", "signup")

_ONE = {
    Kind.NETWORK: "network",
    Kind.CLIENT: "client",
    Kind.VERSION: "version",
    Kind.SHAPE: "shape",
    Kind.TOOLS: "tools",
    Kind.SYSTEM: "system",
    Kind.TEMPLATE: "template",
    Kind.MODEL: "model_code",
    Kind.ODD: "odd",
}
_MANY = {Kind.SENTENCE: ("templates", "rules"), Kind.SKETCH: ("sketch",), Kind.THREAD: ("thread",), Kind.BLOB: ("blobs",)}
# The analyst looks at these of an account even where nobody shares them.
_ALONE = (Kind.NETWORK, Kind.CLIENT, Kind.TEMPLATE)
_LIMB = 24
_MASK = (1 << _LIMB) - 1


def ends(events: ir.Table) -> ir.Table:
    """The first and the last request, and how many there are."""
    seen = events.filter(events.kind == "seen")
    return seen.agg(first=seen.ts.min(), last=seen.ts.max(), requests=seen.count())


def models(events: ir.Table, window: Window, most: int) -> ir.Table:
    """Names of models that two accounts or more ask for, those of most accounts first: one account's own names say nothing."""
    seen = events.filter(events.kind == "seen", events.ts >= window.since, events.model.notnull())
    asked = seen.select("model", "account").distinct()
    counted = asked.group_by("model").agg(accounts=asked.count())
    return counted.filter(counted.accounts > 1).order_by(counted.accounts.desc(), counted.model).limit(most)


def requests(events: ir.Table, window: Window, fades: ir.Table, codes: ir.Table) -> ir.Table:
    """The requests of the window: each with its `hour`, its `fade`, and its model's number."""
    seen = events.filter(events.kind == "seen", events.ts >= window.since)
    timed = seen.mutate(slot=_whole(seen.ts, window.width, 0.0), hour=_whole(seen.ts, HOUR, window.base)).inner_join(fades, "slot")
    return timed.left_join(codes, "model").drop("model_right")


def answers(events: ir.Table, window: Window, fades: ir.Table) -> ir.Table:
    """How many answers each account had, and their tokens."""
    done = events.filter(events.kind == "done", events.ts >= window.since)
    timed = done.mutate(slot=_whole(done.ts, window.width, 0.0)).inner_join(fades, "slot")
    tokens = ibis.least(timed.output, LONGEST)
    return timed.group_by("account").agg(answers=timed.fade.sum(), output=(tokens * timed.fade).sum())


def people(seen: ir.Table) -> ir.Table:
    """Identities, with when each was first seen: the directory may have told another plan later on."""
    return seen.group_by("account", *IDENTITY).agg(first=seen.ts.min())


def rows(seen: ir.Table) -> ir.Table:
    """One row an account: when it was seen, and its requests by length, turns and what they ask for."""
    fade, elicits = seen.fade, seen.elicits.cast("int64")
    # log2(length / 16 + 1) without a logarithm, which engines round each in its own way.
    longer = [(seen.length >= 16 * ((1 << step) - 1)).ifelse(fade, 0).sum() for step in range(1, LENGTHS)]
    turns = [(seen.turns > least).ifelse(fade, 0).sum() for least in (1, 5)]
    asks = [((elicits & (1 << bit)) > 0).ifelse(fade, 0).sum() for bit in range(FAMILIES)]
    counts = {f"longer_{n}": part for n, part in enumerate(longer, 1)} | {f"turns_{n}": part for n, part in enumerate(turns, 1)}
    counts |= {f"asks_{n}": part for n, part in enumerate(asks)}
    return seen.group_by("account").agg(
        requests=seen.count(), first=seen.ts.min(), last=seen.ts.max(), events=fade.sum(), any=(elicits > 0).ifelse(fade, 0).sum(), **counts
    )


def tokens(seen: ir.Table) -> ir.Table:
    """(account, kind, token) with its faded count and the hours in which it was seen first and last: the large part, a group for each."""
    told = [ibis.struct({"kind": ibis.literal(int(kind), "int64"), "values": values}) for kind, values in _told(seen)]
    kinds = seen.select("account", "hour", "fade", told=ibis.array(told).unnest())
    values = kinds.select("account", "hour", "fade", kind=kinds.told["kind"], value=kinds.told["values"].unnest())
    values = values.filter(values.value > 0)
    every = values.select("account", "hour", "fade", "kind", token=hashed(values.value))
    return every.group_by("account", "kind", "token").agg(weight=every.fade.sum(), since=every.hour.min(), seen=every.hour.max())


def _told(seen: ir.Table) -> Iterator[tuple[Kind, ir.ArrayValue]]:
    """What each request tells, by kind. A number beyond 63 bits is none that a guard wrote."""
    for kind, column in _ONE.items():
        yield kind, ibis.array([seen[column].try_cast("int64")])
    for kind, columns in _MANY.items():
        for column in columns:
            yield kind, seen[column].cast("array<int64>")


def hashed(value: ir.IntegerValue) -> ir.IntegerValue:
    """The upper 37 bits of value * ODD modulo 2**64, as `analysis.tokens` makes them, in limbs of 24 bits: no engine's product may overflow."""
    a, b = (tuple((number >> shift) & _MASK for shift in (0, _LIMB, 2 * _LIMB)) for number in (value, int(ODD)))
    low = a[0] * b[0]
    middle = a[0] * b[1] + a[1] * b[0] + (low >> _LIMB)
    high = a[0] * b[2] + a[1] * b[1] + a[2] * b[0] + (middle >> _LIMB)
    spare = 64 - HASH_BITS - _LIMB
    return ((middle & _MASK) >> spare) + ((high & 0xFFFF) << (_LIMB - spare))


def popularity(held: ir.Table) -> ir.Table:
    """How many accounts show each token, where that is more than one."""
    counted = held.group_by("kind", "token").agg(sharers=held.count())
    return counted.filter(counted.sharers > 1)


def bounded(held: ir.Table, popular: ir.Table, numbers: ir.Table) -> ir.Table:
    """What a profile keeps: of each kind the tokens that others share, then the more frequent, then the more recent, then the smaller; of the requests
    themselves a sample by hash, lest repeats look frequent. Beyond that nothing that nobody shares, but for what the analyst looks at in each account.
    """
    known = held.left_join(popular, ["kind", "token"]).select("account", "kind", "token", "weight", "since", "seen", "sharers")
    sampled = known.kind == int(Kind.TEMPLATE)
    alone = (sampled | known.sharers.notnull()).ifelse(0, 1)
    often, recent = sampled.ifelse(0, -known.weight), sampled.ifelse(0, -known.seen)
    rank = ibis.row_number().over(group_by=["account", "kind"], order_by=[alone, often, recent, known.token])
    ranked = known.mutate(rank=rank, cap=known.kind.cases(*((int(kind), int(CAPS[kind])) for kind in Kind), else_=0))
    kept = ranked.filter(ranked.rank < ranked.cap)
    worth = kept.filter(kept.sharers.notnull() | kept.kind.isin([int(kind) for kind in _ALONE]))
    return worth.inner_join(numbers, "account").select("number", "kind", "token", "weight", "since", "seen")


def _whole(ts: ir.FloatingValue, width: float, begin: float) -> ir.IntegerValue:
    return ((ts - begin) / width).floor().cast("int64")
