"""Who really was an actor, from a file that only the report reads: what the policy caught, missed, and touched by mistake.

An account counts as caught from its first request that met what is meant for actors: a cluster's quota, or a rung of the ladder. An account's own quota
touches everybody alike and is counted apart. Intervals are Wilson's, 95 %: (p + z²/2n ± z·sqrt(p(1-p)/n + z²/4n²)) / (1 + z²/n), z = 1.96. Accounts of one
actor do not behave independently, so the truth is less certain than the intervals say.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

import msgspec

from gateway_guard.errors import UsageError
from gateway_guard.replay.tally import AccountTally

Kind = Literal["attack", "benign", "lookalike"]
KINDS: tuple[Kind, ...] = ("attack", "benign", "lookalike")
Z = 1.959964
POINTS = 64
HOUR = 3600.0


class Label(msgspec.Struct, frozen=True):
    """The truth about one account: `actor` behind it (empty: independent), `scenario` for grouping look-alikes."""

    kind: Kind
    actor: str = ""
    scenario: str = ""


class Share(msgspec.Struct, frozen=True):
    """`part` of `whole`, with the bounds of its interval."""

    part: int
    whole: int
    share: float
    low: float
    high: float


class Actor(msgspec.Struct, frozen=True):
    """One actor: how many of its accounts were `caught`, and the `leak`, requests that were answered in full. Hours from its first request until the
    `first`, `half` and nine tenths (`most`) of its accounts were caught, None: never. `curve`: (hours, share caught) points.
    """

    name: str
    accounts: int
    caught: Share
    leak: Share
    first: float | None
    half: float | None
    most: float | None
    curve: list[tuple[float, float]]


class Labelled(msgspec.Struct, frozen=True):
    """`precision` of those caught, how many were an attack's · `recall` of an attack's accounts, how many were caught · `leak` of an attack's requests, how
    many were answered in full · `false_alarms` of the others, how many were caught, `scenarios` by look-alike · `limited` accounts that met their own
    quota only, by kind · `unlabelled` accounts are left out.
    """

    accounts: int
    unlabelled: int
    precision: Share
    recall: Share
    leak: Share
    false_alarms: Share
    scenarios: dict[str, Share]
    limited: dict[str, int]
    actors: list[Actor]


def load(path: Path) -> dict[str, Label]:
    """Labels from a CSV file with the columns `account` and `kind` (attack, benign or lookalike), and `actor` and `scenario` if there are any."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if not {"account", "kind"} <= set(rows.fieldnames or ()):
                raise UsageError(f"{path}:1: labels need the columns account and kind (and may have actor and scenario)")
            return {row["account"]: _label(path, number, row) for number, row in enumerate(rows, 2)}
    except OSError as error:
        raise UsageError(f"{path}: the labels cannot be read ({error.strerror})") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{path}: is not a CSV file: {error}") from None


def _label(path: Path, number: int, row: dict[str, str]) -> Label:
    found = next((kind for kind in KINDS if kind == row["kind"]), None)
    if found is None:
        raise UsageError(f"{path}:{number}: kind must be one of {', '.join(KINDS)}, not {row['kind']!r}")
    return Label(found, row.get("actor") or "", row.get("scenario") or "")


def judged(accounts: dict[str, AccountTally], labels: Mapping[str, Label], name: Callable[[str], str]) -> Labelled:
    """What became of the labelled accounts."""
    named = [(name(account), of) for account, of in accounts.items()]
    known = [(labels[shown], of) for shown, of in named if shown in labels]
    attack = [(label, of) for label, of in known if label.kind == "attack"]
    others = [(label, of) for label, of in known if label.kind != "attack"]
    right, wrong = _caught(attack), _caught(others)
    return Labelled(
        accounts=len(known),
        unlabelled=len(named) - len(known),
        precision=share(right, right + wrong),
        recall=share(right, len(attack)),
        leak=_leak([of for _, of in attack]),
        false_alarms=share(wrong, len(others)),
        scenarios=_scenarios(others),
        limited={kind: sum(of.touched > 0 and not of.caught for label, of in known if label.kind == kind) for kind in KINDS},
        actors=_actors(attack),
    )


def share(part: int, whole: int) -> Share:
    """A share with Wilson's interval."""
    if not whole:
        return Share(0, 0, 0.0, 0.0, 1.0)
    p, z2 = part / whole, Z * Z / whole
    middle, spread = p + z2 / 2, Z * math.sqrt(p * (1 - p) / whole + z2 / whole / 4)
    low, high = (middle - spread) / (1 + z2), (middle + spread) / (1 + z2)
    return Share(part, whole, round(p, 6), round(max(0.0, low), 6), round(min(1.0, high), 6))


def _caught(accounts: Sequence[tuple[Label, AccountTally]]) -> int:
    return sum(of.caught > 0 for _, of in accounts)


def _leak(accounts: Sequence[AccountTally]) -> Share:
    return share(sum(of.requests - of.refused - of.degraded for of in accounts), sum(of.requests for of in accounts))


def _scenarios(accounts: Sequence[tuple[Label, AccountTally]]) -> dict[str, Share]:
    names = sorted({label.scenario for label, _ in accounts if label.kind == "lookalike"})
    return {one: share(_caught(mine), len(mine)) for one in names for mine in [[pair for pair in accounts if pair[0].scenario == one]]}


def _actors(attack: Sequence[tuple[Label, AccountTally]]) -> list[Actor]:
    members: dict[str, list[AccountTally]] = {}
    for label, of in attack:
        members.setdefault(label.actor or "(unnamed)", []).append(of)
    return [_actor(actor, members[actor]) for actor in sorted(members)]


def _actor(actor: str, accounts: Sequence[AccountTally]) -> Actor:
    begin = min(of.first for of in accounts)
    hours = sorted(round((of.caught - begin) / HOUR, 4) for of in accounts if of.caught)
    n = len(accounts)
    first, half, most = (_reached(hours, count) for count in (1, math.ceil(n / 2), math.ceil(0.9 * n)))
    every = max(1, math.ceil(len(hours) / POINTS))
    steps = sorted({*range(every - 1, len(hours), every), len(hours) - 1} - {-1})
    curve = [(hours[place], round((place + 1) / n, 4)) for place in steps]
    return Actor(actor, n, share(len(hours), n), _leak(accounts), first, half, most, curve)


def _reached(hours: Sequence[float], count: int) -> float | None:
    return hours[count - 1] if len(hours) >= count else None
