"""Learns from benign history what is usual, and from where on a group is out of the ordinary.

Theory of operation. The history is played through the analyst itself, with an empty reference: every group of benign accounts that hangs together
(a course, an office, the tenants of a service, the users of one program) is found as if it were new, and scored. With the reference that is learned in
the same run such groups score lower or are not found at all, so what is measured here is the worse case.

The limit on the harvest column is then set for the declared budget in two ways, and the stricter holds:

* conformal risk control: with k accounts of n above the limit, (k + 1) / (n + 1) is at most the budget. Accounts of a future week that are
  exchangeable with these are then hit at that rate or less, in expectation, whatever the distribution.
* groups come whole, so a single new one may cost a hundred accounts at once: the scores' tail is continued as an exponential and the limit
  moved out until the *expected* number of benign accounts in groups above it is within the budget.

A log of which nobody is sure that it is clean: groups that stand far off the tail of all others are left out of the reference, the
norms and the tail (a forward search: the lower three quarters of the groups, then all within the limit that these imply, until nothing changes), and
are counted as suspects. If they are honest after all, the operator declares them (a verified organisation) and calibrates again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from gateway_guard.analysis import graph, names, reference, report, rhythm, tests
from gateway_guard.analysis.analyst import Analyst, drawn
from gateway_guard.analysis.calibration import Calibration, Limits, sealed
from gateway_guard.analysis.profile import ANY, EVENTS, LENGTH, TURN, Profiles
from gateway_guard.analysis.settings import DAY, Settings
from gateway_guard.analysis.snapshot import Snapshot
from gateway_guard.analysis.tokens import Flags, Floats, Indices
from gateway_guard.facts import Done, Event, Seen

_EVERY = DAY / 2
_WEEK = 7 * DAY
_ROUNDS = 20
_CORE = 0.75
_PRIOR = 5.0


@dataclass(frozen=True, slots=True)
class _Cut:
    """Groups at one moment: their ids, members' numbers, drawing."""

    ids: tuple[str, ...]
    members: tuple[Indices, ...]
    drawing: report.Drawing


def calibrate(events: Iterable[Event], settings: Settings | None = None, budget: float = 0.0005) -> Calibration:
    """The calibration that a benign history gives."""
    analyst = Analyst(settings)
    cuts: list[_Cut] = []
    first = last = 0.0
    count, due = 0, np.inf
    for event in events:
        if isinstance(event, Seen):
            at = event.facts.at
            first, due = (at, at + _EVERY) if not count else (first, due)
            if at >= due:
                cuts.append(_cut(analyst, at))
                due = at + _EVERY
            last, count = max(last, at), count + 1
        analyst.observe(event) if isinstance(event, Seen | Done) else None
    snapshot = analyst.cut(last)
    return _settled(snapshot, [*cuts, _drawn(snapshot)], Calibration(at=last, span=last - first, events=count, budget=budget))


def _cut(analyst: Analyst, at: float) -> _Cut:
    snapshot = analyst.cut(at)
    cut = _drawn(snapshot)
    analyst.adopt(report.view(snapshot, cut.drawing))
    return cut


def _drawn(snapshot: Snapshot) -> _Cut:
    drawing = drawn(snapshot)
    members = drawing.members()
    named = names.named([[snapshot.names[number] for number in group] for group in members], snapshot.before, snapshot.at)
    return _Cut(tuple(name.id for name in named), tuple(members), drawing)


def _settled(snapshot: Snapshot, cuts: list[_Cut], told: Calibration) -> Calibration:
    """Norms, limits and suspects, in rounds: norms without suspects move the scores, scores may move the suspects."""
    profiles = snapshot.folded()
    suspects: frozenset[str] = frozenset()
    for _ in range(_ROUNDS):
        accused = _accounts(cuts, suspects, len(profiles))
        norms = usual_conduct(profiles, ~accused, snapshot.settings.half_life)
        scores, sizes = _scores(cuts, norms)
        limit, out = limit_of(scores, sizes, int((~accused).sum()), told.budget * max(told.span / _WEEK, 1.0 / 7))
        if out == suspects:
            break
        suspects = out
    kept = ~accused & (profiles.last > 0)
    token, account = graph.edges(profiles, kept)
    learned = reference.learned(token, account, graph.programs(profiles), int(kept.sum()))
    counted = sorted(score for name, score in scores.items() if name not in suspects)
    bound = (sum(size for name, size in sizes.items() if name not in suspects and scores[name] > limit) + 1) / (int(kept.sum()) + 1)
    return sealed(
        replace(
            told,
            accounts=int(kept.sum()),
            groups=len(counted),
            suspects=len(suspects),
            suspected=int(accused.sum()),
            bound=bound / max(told.span / _WEEK, 1.0),
            reference=learned,
            norms=norms,
            limits=Limits(harvest=round(limit, 6)),
            scores=tuple(round(score, 3) for score in counted),
        )
    )


def _accounts(cuts: list[_Cut], groups: frozenset[str], accounts: int) -> Flags:
    found = np.zeros(accounts, np.bool_)
    for cut in cuts:
        for name, members in zip(cut.ids, cut.members, strict=True):
            if name in groups:
                found[members] = True
    return found


def _scores(cuts: list[_Cut], norms: tests.Norms) -> tuple[dict[str, float], dict[str, int]]:
    """The highest harvest score that each group ever had while it counted as coordinated, and its largest size."""
    scores: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for cut in cuts:
        found = report.columns(cut.drawing, norms)
        for group, name in enumerate(cut.ids):
            sizes[name] = max(sizes.get(name, 0), len(cut.members[group]))
            if found.coordination[group] > 0:
                scores[name] = max(scores.get(name, 0.0), float(found.harvest[group]))
    return {name: scores.get(name, 0.0) for name in sizes}, sizes


def limit_of(scores: dict[str, float], sizes: dict[str, int], accounts: int, budget: float) -> tuple[float, frozenset[str]]:
    """The harvest limit for a budget (a share of `accounts`), and the groups that stand too far off to have made it."""
    ordered = sorted(scores, key=lambda name: (scores[name], name))
    core = max(1, int(np.ceil(_CORE * len(ordered))))
    while True:
        limit = _beyond([scores[name] for name in ordered[:core]], [sizes[name] for name in ordered[:core]], accounts, budget)
        wider = sum(scores[name] <= limit for name in ordered)
        if wider <= core:
            return limit, frozenset(ordered[core:])
        core = wider


def _beyond(scores: list[float], sizes: list[int], accounts: int, budget: float) -> float:
    """Where the exponential tail of the scores holds as many accounts as the budget allows, but no less than the largest score."""
    if not scores:
        return Limits().harvest
    middle = float(np.median(scores))
    upper = [score - middle for score in scores if score >= middle]
    # Few groups tell little about their tail: the mean excess is drawn towards 1, the tail of a true log-likelihood ratio (P(L > t) <= e^-t).
    scale = (sum(upper) + _PRIOR) / (len(upper) + _PRIOR)
    expected = len(scores) / 2 * float(np.mean(sizes))
    out = middle + scale * float(np.log(max(expected / max(budget * accounts, 1e-9), 1.0)))
    return max(out, *scores)


def usual_conduct(profiles: Profiles, benign: Flags, half_life: float) -> tests.Norms:
    """How individual benign accounts are, and how often they elicit and repeat."""
    counts = profiles.counts[benign].astype(np.float64)
    label = np.where(benign, 0, -1)
    one = np.zeros(len(counts), np.int64)
    asked = counts[:, [ANY]]
    default = tests.Norms()
    events = np.maximum(counts[:, EVENTS], 1e-9)
    busy = counts[:, EVENTS] >= 2
    shares = counts[busy, ANY] / events[busy]
    return tests.Norms(
        length=_known(tests.intraclass(counts[:, LENGTH], one, 1), default.length),
        turn=_known(tests.intraclass(counts[:, TURN], one, 1), default.turn),
        elicit=_known(tests.intraclass(np.hstack([asked, np.maximum(counts[:, [EVENTS]] - asked, 0.0)]), one, 1), default.elicit),
        spread=round(rhythm.spread(rhythm.rates(profiles, half_life)[0], benign), 6),
        asks=round(float(np.mean(shares)), 6) if len(shares) else default.asks,
        distinct=_known(tests.distinct(profiles, label, 1), default.distinct),
    )


def _known(found: Floats, default: float) -> float:
    value = float(found[0]) if len(found) else np.nan
    return round(float(np.clip(value, 0.02, 0.98)), 6) if np.isfinite(value) else default
