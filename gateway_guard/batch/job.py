"""The job: a history in Parquet, reduced by an engine, concluded on by the analyst."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Self

import ibis
import pyarrow as arrow
from msgspec import structs

from gateway_guard.analysis.analyst import conclude
from gateway_guard.analysis.calibration import Calibration
from gateway_guard.analysis.settings import Settings
from gateway_guard.analysis.snapshot import Snapshot
from gateway_guard.analysis.tokens import MOST_ACCOUNTS, named
from gateway_guard.assembly import Parts
from gateway_guard.batch import profiles, reduction
from gateway_guard.batch.engines import Engine
from gateway_guard.batch.file import Analysis, Past
from gateway_guard.batch.window import Window, window
from gateway_guard.errors import TrafficError, UsageError
from gateway_guard.policy.judge import Rulebook
from gateway_guard.replay.clusters import found
from gateway_guard.view import EMPTY
from gateway_guard.worker import load_calibration, settings_of

# Models that are told apart; those of most accounts. Whoever makes up names for models does not fill the memory with them.
MODELS = 1 << 14


class Terms(NamedTuple):
    """By what a history is judged: `refresh` seconds between conclusions online, which fade events alike · `name` shows an account."""

    settings: Settings
    calibration: Calibration
    refresh: float
    rules: Rulebook
    digest: str
    name: Callable[[str], str] = str

    @classmethod
    def of(cls, parts: Parts, length: float = 0.0) -> Self:
        """A policy's own, but for the `length` of the window in seconds, where one is given."""
        rules, folder = parts.rules.policy, parts.loaded.path.parent
        settings = settings_of(rules)
        settings = structs.replace(settings, window=length) if length else settings
        calibration = _calibration(folder, rules.analysis.calibration)
        return cls(settings, calibration, rules.analysis.refresh, parts.rules, parts.loaded.digest, parts.directory.name if parts.directory else str)


def _calibration(folder: Path, name: str | None) -> Calibration:
    return load_calibration(folder / name) if name else Calibration()


def analysis(engine: Engine, paths: Sequence[str], terms: Terms) -> Analysis:
    """What acts as one at the end of the history in some Parquet files."""
    snapshot, requests = reduced(engine, paths, terms)
    view = terms.rules.ranked(conclude(snapshot), EMPTY)
    policy = (terms.rules.policy.name, terms.digest)
    past = Past(requests, snapshot.count - 1, float(snapshot.profiles.first.min()), snapshot.at)
    return Analysis(policy=policy, history=past, calibrated=view.calibrated, clusters=found(view, terms.name), view=view)


def reduced(engine: Engine, paths: Sequence[str], terms: Terms) -> tuple[Snapshot, int]:
    """What the analyst would know at the end of the history, and how many requests of it."""
    settings = terms.settings
    events = engine.read(paths)
    stretch = _stretch(engine, events, terms)
    slots, shares = stretch.fades()
    fades = engine.given("fades", arrow.table({"slot": slots, "fade": shares}))
    seen = reduction.requests(events, stretch, fades, _codes(engine, reduction.models(events, stretch, MODELS)))
    rows, names = profiles.ordered(profiles.columns(engine.batches(reduction.rows(seen))))
    _room(len(names) - 1, settings)
    answers = profiles.columns(engine.batches(reduction.answers(events, stretch, fades)))
    people = profiles.columns(engine.batches(reduction.people(seen)))
    told = _held(engine, reduction.tokens(seen), names)
    found = profiles.profiles(stretch, rows, answers, people, told)
    return Snapshot(stretch.at, found, (), names, len(names), EMPTY, settings, terms.calibration), int(rows["requests"].sum())


def _stretch(engine: Engine, events: ibis.Table, terms: Terms) -> Window:
    ends = profiles.columns(engine.batches(reduction.ends(events)))
    if not ends or not ends["requests"].sum():
        raise TrafficError("there is no request in the history")
    first, last = float(ends["first"][0]), float(ends["last"][0])
    return window(first, last, length=terms.settings.window, half_life=terms.settings.half_life, refresh=terms.refresh)


def _room(accounts: int, settings: Settings) -> None:
    most = min(settings.accounts, MOST_ACCOUNTS - 2)
    if accounts > most:
        raise UsageError(f"the history has {accounts:,} accounts, and the policy's `accounts` makes room for {most:,}: raise it, or give a shorter --window")


def _codes(engine: Engine, models: ibis.Table) -> ibis.Table:
    """The models' names with their numbers."""
    names = profiles.columns(engine.batches(models)).get("model", ())
    return engine.given("models", arrow.table({"model": arrow.array(names, arrow.string()), "model_code": arrow.array(map(named, names), arrow.int64())}))


def _held(engine: Engine, tokens: ibis.Table, names: Sequence[str]) -> profiles.Postings:
    """The tokens that profiles keep, packed; the engine knows accounts by number from here on."""
    numbers = arrow.table({"account": arrow.array(names[1:], arrow.string()), "number": arrow.array(range(1, len(names)), arrow.int64())})
    kept = engine.kept("tokens", tokens)
    return profiles.held(engine.batches(reduction.bounded(kept, reduction.popularity(kept), engine.given("numbers", numbers))))
