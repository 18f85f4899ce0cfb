"""The limit headers of an answer. They go on every one, so for lines at their own figures what never changes of them is written once."""

from __future__ import annotations

from collections.abc import Sequence, Set
from functools import lru_cache
from itertools import chain
from math import ceil, floor
from typing import NamedTuple

from gateway_guard.decision import Decision
from gateway_guard.dialects import DIALECTS, ratelimit
from gateway_guard.dialects.limits import INFINITE, Headers, figure
from gateway_guard.ports import Dialect, LimitNames, LimitShown
from gateway_guard.quota import Lines, Unit

BOARDS = 1024
POLICY, STATE = b"ratelimit-policy", b"ratelimit"
# A bucket: where its level is, its burst, and its rate.
Bucket = tuple[int, float, float]


class Frame(NamedTuple):
    """What never changes as long as the same bucket is the tightest of each unit: the policies, a template of the states, each unit's header of its limit."""

    policies: tuple[bytes, bytes]
    states: str
    limits: tuple[tuple[bytes, bytes], ...]


class Board:
    """The headers of one dialect for the lines of one kind of bill. `names` of all of them."""

    __slots__ = ("_bill", "_families", "_frames", "_full", "_reset", "_units", "names")

    def __init__(self, dialect: Dialect, bill: Sequence[Lines]) -> None:
        self._bill = bill
        self._reset = dialect.reset
        units = _units(bill)
        self._units = tuple(tuple(buckets) for buckets in units.values())
        families: dict[LimitNames, list[int]] = {}
        for number, unit in enumerate(units):
            if unit in dialect.limit_names:
                families.setdefault(dialect.limit_names[unit], []).append(number)
        self._full = {unit: full for (full, _, _), members in families.items() for unit in members}
        self._families = tuple((remaining, reset, members[0], tuple(members[1:])) for (_, remaining, reset), members in families.items())
        self._frames: dict[tuple[int, ...], Frame] = {}
        self.names = frozenset((*chain.from_iterable(families), *((POLICY, STATE) if units else ())))

    def headers(self, levels: Sequence[float], at: float) -> Headers:
        """What the dialect and `ratelimit.fields` would say of the same buckets."""
        places: list[int] = []
        rooms: list[float] = []
        waits: list[float] = []
        numbers: list[int] = []
        for buckets in self._units:
            room, place, wait = INFINITE, 0, 0.0
            for there, burst, rate in buckets:
                left = burst - levels[there]
                if left < room:
                    room, place, wait = left, there, levels[there] / rate
            left = room if room > 0.0 else 0.0
            places.append(place)
            rooms.append(left)
            waits.append(wait)
            numbers += (floor(left), ceil(wait))
        if not places:
            return []
        key = tuple(places)
        frame = self._frames.get(key) or self._framed(key)
        headers: Headers = [frame.policies, (STATE, (frame.states % tuple(numbers)).encode())]
        for remaining, reset, first, others in self._families:
            unit = first
            for other in others:
                if rooms[other] < rooms[unit] or (rooms[other] == rooms[unit] and waits[other] > waits[unit]):
                    unit = other
            headers += (frame.limits[unit], (remaining, b"%d" % numbers[2 * unit]), (reset, self._reset(at, waits[unit])))
        return headers

    def _framed(self, places: tuple[int, ...]) -> Frame:
        quotas = [(quota, burst) for lines in self._bill for quota, burst in zip(lines.quotas, lines.figures.bursts, strict=True)]
        shown = [quotas[place] for place in places]
        items = [ratelimit.item(quota.name, burst, quota.window, quota.unit) for quota, burst in shown]
        states = [name.decode().replace("%", "%%") + ";r=%d;t=%d" for _, name in items]
        limits = tuple((self._full.get(unit, b""), figure(burst)) for unit, (_, burst) in enumerate(shown))
        frame = self._frames[places] = Frame((POLICY, b", ".join(policy for policy, _ in items)), ", ".join(states), limits)
        return frame


def limit_headers(dialect: Dialect, decision: Decision) -> tuple[Headers, Set[bytes]]:
    """The dialect's own rate limit headers and the IETF's fields, and their names. Only the caller's own buckets are shown, not his cluster's."""
    bill: list[Lines] = []
    for part in decision.charges.parts:
        if part.lines.per == "cluster":  # the last of a bill
            break
        if part.figures is not part.lines.figures:
            limits = shown(decision)
            headers = dialect.limit_headers(limits, decision.at) + ratelimit.fields(limits)
            return headers, {name for name, _ in headers}
        bill.append(part.lines)
    board = _board(dialect.name, tuple(bill))
    return board.headers(decision.levels, decision.at), board.names


def shown(decision: Decision) -> list[LimitShown]:
    """For each unit the bucket with the least room."""
    tightest: dict[Unit, tuple[float, LimitShown]] = {}
    levels, first = decision.levels, 0
    for part in decision.charges.parts:
        lines, rates, bursts = part.lines, part.figures.rates, part.figures.bursts
        if lines.per == "cluster":
            break
        for unit, members in lines.units:
            room, line = min((bursts[line] - levels[first + line], line) for line in members)
            if unit not in tightest or room < tightest[unit][0]:
                quota, rate = lines.quotas[line], rates[line]
                reset = levels[first + line] / rate if rate else 0.0
                tightest[unit] = room, LimitShown(quota.name, unit, bursts[line], room if room > 0.0 else 0.0, reset, quota.window)
        first += len(bursts)
    return [limit for _, limit in tightest.values()]


@lru_cache(maxsize=BOARDS)
def _board(dialect: str, bill: tuple[Lines, ...]) -> Board:
    return Board(DIALECTS[dialect], bill)


def _units(bill: Sequence[Lines]) -> dict[Unit, list[Bucket]]:
    """The buckets of each unit. One that never drains is never reset."""
    units: dict[Unit, list[Bucket]] = {}
    first = 0
    for lines in bill:
        rates, bursts = lines.figures.rates, lines.figures.bursts
        for unit, members in lines.units:
            units.setdefault(unit, []).extend((first + line, bursts[line], rates[line] or INFINITE) for line in members)
        first += len(lines.quotas)
    return units
