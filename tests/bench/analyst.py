"""What a conclusion of the analyst costs as accounts grow in number. `python -m tests.bench.analyst 100000 300000` for sizes of your own."""

from __future__ import annotations

import ctypes
import gc
import random
import resource
import sys
import time
from collections.abc import Iterator
from typing import NamedTuple

from gateway_guard.analysis.analyst import Analyst, conclude
from gateway_guard.analysis.calibrate import calibrate
from gateway_guard.analysis.calibration import Calibration
from gateway_guard.facts import Done, Event, Fingerprint, Identity, RequestFacts, Seen, Usage

SIZES = (3_000, 10_000, 30_000)
REQUESTS = 10
SPAN = 2 * 86400.0
BEGINNING = 1_800_000_000.0
# A fifth of all accounts is in campaigns of this size.
CAMPAIGN = 400
BITS = 2**62


class Cost(NamedTuple):
    """Seconds of CPU for the first conclusion and for a refresh after a hundredth more traffic; clusters found; bytes kept for an account; peak MB."""

    first: float
    refresh: float
    clusters: int
    bytes: float
    peak: float


def costs(accounts: int) -> Cost:
    """Of so many accounts with ten requests each."""
    rng = random.Random(accounts)
    analyst = Analyst(calibration=_calibration())
    before = _resident()
    _observe(analyst, rng, range(accounts), REQUESTS)
    first = _concluded(analyst)
    kept = (_resident() - before) / accounts
    _observe(analyst, rng, range(accounts // 10), 1)
    refresh = _concluded(analyst)
    return Cost(first, refresh, len(analyst.view.clusters), kept, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def _calibration() -> Calibration:
    rng = random.Random(1)
    return calibrate(event for number in range(2_000) for event in _person(rng, 10_000_000 + number, REQUESTS))


def _observe(analyst: Analyst, rng: random.Random, accounts: range, requests: int) -> None:
    for number in accounts:
        for event in _swarm(rng, number, requests) if number % 5 == 0 else _person(rng, number, requests):
            analyst.observe(event)


def _concluded(analyst: Analyst) -> float:
    began = time.process_time()
    analyst.adopt(conclude(analyst.cut(BEGINNING + SPAN)))
    return time.process_time() - began


def _person(rng: random.Random, number: int, requests: int) -> Iterator[Event]:
    own = random.Random(f"person/{number}")
    born = BEGINNING - own.uniform(1, 800) * 86400
    who = Identity(
        f"p{number:019x}", plan="pro", created_at=born, payment=own.randrange(1, BITS), email_domain=own.randrange(1, 40), signup=own.randrange(1, BITS)
    )
    client, common, home = 1 + int(own.paretovariate(0.8)) % 60, own.randrange(1, 3_000), own.randrange(1, BITS)
    for _ in range(requests):
        said = (rng.randrange(1, BITS), rng.randrange(1, BITS), common if rng.random() < 0.2 else rng.randrange(1, BITS))
        yield from _asked(rng, who, home, client, said, elicits=int(rng.random() < 0.03), output=150)


def _swarm(rng: random.Random, number: int, requests: int) -> Iterator[Event]:
    campaign = number // 5 // CAMPAIGN
    team, own = random.Random(f"campaign/{campaign}"), random.Random(f"bot/{number}")
    born = BEGINNING - team.uniform(2, 30) * 86400 + own.uniform(0, 7200)
    card = random.Random(f"card/{campaign}/{number // 100}").randrange(1, BITS)
    who = Identity(f"b{number:019x}", plan="pro", created_at=born, payment=card, email_domain=1_000 + campaign, signup=own.randrange(1, BITS))
    texts = [team.randrange(1, BITS) for _ in range(300)]
    for _ in range(requests):
        yield from _asked(rng, who, own.randrange(1, BITS), 100 + campaign, (rng.choice(texts), rng.randrange(1, BITS)), elicits=1, output=700)


def _asked(rng: random.Random, who: Identity, network: int, client: int, said: tuple[int, ...], *, elicits: int, output: int) -> Iterator[Event]:
    at = BEGINNING + rng.random() * SPAN
    sketch = tuple(rng.randrange(1, BITS) for _ in range(8))
    shape = Fingerprint(client, client * 7 + 1, client % 30 + 1, 0, 0, rng.randrange(1, BITS), sketch, (), (), elicits, 0, rng.randrange(20, 4_000), said)
    yield Seen(RequestFacts(f"{rng.randrange(BITS):x}", at, who, "openai.chat", "m", shape, network, 100, turns=1))
    yield Done("", at, who.account, Usage(100, output))


def _resident() -> int:
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # freed memory back to the system, or it would count as kept
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()


if __name__ == "__main__":
    for size in map(int, sys.argv[1:]):
        cost = costs(size)
        print(f"{size:>9,} accounts: {cost.first:.2f} s, a refresh {cost.refresh:.2f} s, {cost.clusters} clusters,", end=" ")
        print(f"{cost.bytes:.0f} bytes an account, {cost.peak:,.0f} MB at the most")
