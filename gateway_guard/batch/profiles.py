"""From what an engine is left with to the analyst's own profiles, on which its own code concludes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gateway_guard.analysis.profile import ANSWERS, ANY, COLUMNS, ELICIT, EVENTS, FAMILIES, LENGTH, LENGTHS, OUTPUT, TURN, Births, Counts, Hours, Profiles
from gateway_guard.analysis.tokens import HASH_BITS, Floats, Numbers, named, postings
from gateway_guard.batch.window import GRAIN, Window

Table = dict[str, NDArray[Any]]
Postings = tuple[Numbers, NDArray[np.float32], Hours, Hours]
_LAST_HOUR = 2**16 - 1


def columns(batches: Iterable[Any]) -> Table:
    """Arrow's batches as columns; a number that is not told is 0, a text is empty."""
    found = list(batches)
    return {field.name: np.concatenate([_column(batch, place) for batch in found]) for place, field in enumerate(found[0].schema)} if found else {}


def _column(batch: Any, place: int) -> NDArray[Any]:
    column = batch.column(place)
    if str(column.type) in ("string", "large_string"):
        return np.array([text or "" for text in column.to_pylist()], object)
    return np.asarray(column.fill_null(0).to_numpy(zero_copy_only=False))


def ordered(rows: Table) -> tuple[Table, list[str]]:
    """The accounts in the order of their first requests, then of their names; with the names as the analyst keeps them: the first place is nobody's."""
    order = np.lexsort((rows["account"].astype(str), rows["first"]))
    found = {name: column[order] for name, column in rows.items()}
    return found, ["", *found["account"].tolist()]


def held(batches: Iterable[Any]) -> Postings:
    """The postings, sorted. One batch after the other is packed, so that there are never many unpacked ones."""
    parts = [_packed(columns([batch])) for batch in batches]
    posting, weight, since, seen = (np.concatenate(column) for column in zip(_NOTHING, *parts, strict=True))
    order = np.argsort(posting, kind="stable")
    return posting[order], weight[order], since[order], seen[order]


_NOTHING: Postings = (np.zeros(0, np.uint64), np.zeros(0, np.float32), np.zeros(0, np.uint16), np.zeros(0, np.uint16))


def _packed(rows: Table) -> Postings:
    token = (rows["kind"].astype(np.uint64) << np.uint64(HASH_BITS)) | rows["token"].astype(np.uint64)
    weight = (rows["weight"] / GRAIN).astype(np.float32)
    return postings(token, rows["number"].astype(np.int64)), weight, _hours(rows["since"]), _hours(rows["seen"])


def _hours(column: NDArray[Any]) -> Hours:
    return np.asarray(np.clip(column, 0, _LAST_HOUR), np.uint16)


def profiles(window: Window, rows: Table, answers: Table, people: Table, told: Postings) -> Profiles:
    """One row an account, as `ordered` has them, after a row for nobody."""
    number = {account: place for place, account in enumerate(rows["account"].tolist(), 1)}
    counts = _counts(rows, answers, number)
    posting, weight, since, seen = told
    first, last = np.concatenate([[np.inf], rows["first"]]), np.concatenate([[0.0], rows["last"]])
    return Profiles(window.at, window.base, _births(people, number), first, last, counts, posting, weight, since, seen)


def _counts(rows: Table, answers: Table, number: dict[str, int]) -> Counts:
    counts = np.zeros((len(number) + 1, COLUMNS))
    own = counts[1:]
    own[:, EVENTS], own[:, ANY] = rows["events"], rows["any"]
    own[:, LENGTH] = _steps(rows, "longer", LENGTHS)
    own[:, TURN] = _steps(rows, "turns", TURN.stop - TURN.start)
    own[:, ELICIT] = np.stack([rows[f"asks_{bit}"] for bit in range(FAMILIES)], axis=1)
    for account, answered, output in zip(answers["account"], answers["answers"], answers["output"], strict=True) if answers else ():
        if (place := number.get(account)) is not None:
            counts[place, [ANSWERS, OUTPUT]] = answered, output
    return (counts / GRAIN).astype(np.float32)


def _steps(rows: Table, name: str, count: int) -> Floats:
    """How many fall into each of `count` steps, out of how many are beyond the foot of each."""
    beyond = np.stack([rows["events"], *(rows[f"{name}_{step}"] for step in range(1, count)), np.zeros(len(rows["events"]))], axis=1).astype(np.float64)
    return np.asarray(beyond[:, :-1] - beyond[:, 1:])


def _births(people: Table, number: dict[str, int]) -> Births:
    """What was told of each account when it was seen first. The first row is everybody else's, of whom nothing is to be found out."""
    place = np.array([number.get(account, 0) for account in people["account"]], np.int64)
    told = [people[name].astype(str) if people[name].dtype == object else people[name] for name in _TOLD]
    order = np.lexsort((*told, people["first"], place))
    kept = order[np.unique(place[order], return_index=True)[1]]

    def column(values: NDArray[Any] | Sequence[Any], kind: Any) -> NDArray[Any]:
        found = np.zeros(len(number) + 1, kind)
        found[place[kept]] = np.asarray(values)
        return found

    verified = column([bool(org) for org in people["org"][kept]], np.bool_)
    verified[0] = True
    plan = column([named(name) for name in people["plan"][kept]], np.uint64)
    payment, mail, signup = (column(people[name][kept], np.uint64) for name in ("payment", "email_domain", "signup"))
    return Births(column(people["created_at"][kept], np.float64), payment, mail, signup, plan, verified)


_TOLD = ("org", "plan", "created_at", "payment", "email_domain", "signup")
