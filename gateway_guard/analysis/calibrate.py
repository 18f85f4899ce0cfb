"""Learns from benign history what is usual, and from where on a group is out of the ordinary.

Theory of operation. The history is played through the analyst itself, with an empty reference: every group of benign accounts that hangs together
(a course, an office, the tenants of a service, the users of one program) is found as if it were new, and scored. With the reference that is learned in
the same run such groups score lower or are not found at all, so what is measured here is the worse case.

The limit on the harvest column is then set for the declared budget in two ways, and the stricter holds:

* conformal risk control: with k accounts of n above the limit, (k + 1) / (n + 1) is at most the budget. Accounts of a future week that are
  exchangeable with these are then hit at that rate or less, in expectation, whatever the distribution.
* groups come whole, so a single new one may cost a hundred accounts at once: the scores' tail is continued as an exponential and the limit
  moved out until the *expected* number of benign accounts in groups above it is within the budget. How long the tail is, hundreds of crowds say:
  benign accounts that have one address, sign-up day, mail domain, card or program in common.

The same crowds, cut into groups of three, four, five accounts, say how much further a small group strays by chance: its limit lies further out.

A log of which nobody is sure that it is clean: groups that stand far off the tail of all others are left out of the reference, the
norms and the tail (a forward search: the lower three quarters of the groups, then all within the limit that these imply, until nothing changes), and
are counted as suspects. If they are honest after all, the operator declares them (a verified organisation) and calibrates again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from gateway_guard.analysis import change, clusters, graph, names, reference, report, rhythm, tests
from gateway_guard.analysis.analyst import Analyst, drawn
from gateway_guard.analysis.calibration import Calibration, Limits, sealed
from gateway_guard.analysis.profile import ANSWERS, ANY, EVENTS, LENGTH, OUTPUT, TURN, Profiles
from gateway_guard.analysis.settings import DAY, Settings
from gateway_guard.analysis.snapshot import Snapshot
from gateway_guard.analysis.tokens import Flags, Floats, Indices, Kind, starts
from gateway_guard.analysis.weights import F
from gateway_guard.facts import Done, Event, Seen

# How often the history is looked at: the limit is for the highest of many looks.
_EVERY = DAY / 8
_WEEK = 7 * DAY
_ROUNDS = 20
_CORE = 0.75
_PRIOR = 5.0
_CROWDS = (Kind.SIGNUP, Kind.NETWORK, Kind.BORN, Kind.MAIL, Kind.CLIENT, Kind.PAYMENT)
_CROWD = 5
# Sizes for which the limit is measured apart; from the last one on it is the limit of all.
_SMALL = (3, 4, 5, 7, 10)


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
        hit = told.budget * max(told.span / _WEEK, 1.0 / 7) * int((~accused).sum())
        limit, out = limit_of(scores, sizes, tail_of(crowds(snapshot, cuts[-1].drawing, accused, norms)), hit)
        if out == suspects:
            break
        suspects = out
    kept = ~accused & (profiles.last > 0)
    token, account = graph.edges(profiles, kept)
    learned = reference.learned(token, account, graph.programs(profiles), int(kept.sum()))
    counted = sorted(score for name, score in scores.items() if name not in suspects)
    held = {name: sizes[name] for name in scores if name not in suspects}
    limits = Limits(harvest=round(limit, 6), small=_small(snapshot, cuts[-1].drawing, accused, norms, limit, sum(held.values()) / hit))
    bound = (sum(size for name, size in held.items() if scores[name] > limits.harvest_at(size)) + 1) / (int(kept.sum()) + 1)
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
            limits=limits,
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
                scores[name] = max(scores.get(name, -np.inf), float(found.harvest[group]))
    return scores, sizes


def _small(  # noqa: PLR0917 - one call
    snapshot: Snapshot, drawing: report.Drawing, accused: Flags, norms: tests.Norms, limit: float, times: float
) -> tuple[tuple[int, float], ...]:
    """(size, limit) of small groups, falling with size, never below the limit of all. `times` more accounts are in groups than may be hit."""
    found: list[tuple[int, float]] = []
    for size in reversed(_SMALL):
        scores = crowds(snapshot, drawing, accused, norms, size)
        limit = max(limit, _tail_end(scores, tail_of(scores), times)) if scores else limit
        found.append((size, round(limit, 6)))
    return tuple(reversed(found))


def crowds(snapshot: Snapshot, drawing: report.Drawing, accused: Flags, norms: tests.Norms, size: int = 0) -> list[float]:
    """Harvest scores of benign accounts that share one thing (an address, a sign-up day, a mail domain, a program): hundreds of groups, to tell a tail by.

    `size`: the crowds are cut into groups of so many accounts, the rest left out; 0 leaves them whole.
    """
    profiles, found = snapshot.folded(), drawing.graph
    load = rhythm.Load(*rhythm.rates(profiles, snapshot.settings.half_life), norms.spread)
    turned = change.changes(profiles, norms.turned)
    scores: list[float] = []
    for kind in _CROWDS:
        edge = np.flatnonzero((found.kind[found.token] == kind) & ~accused[found.account])
        label = np.full(len(profiles), -1)
        label[found.account[edge]] = found.token[edge]
        label = graph.numbered(cut_up(label, size), size) if size else graph.numbered(label, _CROWD)
        none = clusters.Grouping(label, np.zeros((len(label), F)), np.zeros((int(label.max(initial=-1)) + 1, F), np.bool_))
        pooled = tests.pooled(profiles, found, label, load, turned)
        scores += report.columns(report.Drawing(found, none, pooled), norms).harvest.tolist()
    return scores


def cut_up(label: Indices, size: int) -> Indices:
    """Each group cut into parts of `size` accounts, drawn by a hash."""
    member = np.flatnonzero(label >= 0)
    member = member[np.lexsort((graph.salted(len(label))[member], label[member]))]
    place = np.arange(len(member))
    rank = place - np.maximum.accumulate(np.where(starts(label[member]), place, 0))
    parts = np.full(len(label), -1)
    parts[member] = label[member] * len(label) + rank // size
    return parts


def tail_of(scores: list[float]) -> float:
    """The scale of the scores' exponential tail: the mean excess of the upper half over the median."""
    ordered = sorted(scores)
    upper = ordered[len(ordered) // 2 :]
    # Few crowds tell little: drawn towards 1, the tail of a true log-likelihood ratio (P(L > t) <= e^-t).
    return float((sum(score - upper[0] for score in upper) + _PRIOR) / (len(upper) + _PRIOR)) if upper else 1.0


def limit_of(scores: dict[str, float], sizes: dict[str, int], scale: float, hit: float) -> tuple[float, frozenset[str]]:
    """The harvest limit beyond which `hit` benign accounts are expected, and the groups that stand too far off to have made it."""
    ordered = sorted(scores, key=lambda name: (scores[name], name))
    core = int(np.ceil(_CORE * len(ordered)))
    while True:
        held = ordered[:core]
        limit = _beyond([scores[name] for name in held], sum(sizes[name] for name in held), scale, hit)
        wider = sum(score <= limit for score in scores.values())
        if wider <= core:
            return limit, frozenset(ordered[core:])
        core = wider


def _beyond(scores: list[float], accounts: int, scale: float, hit: float) -> float:
    """Where an exponential tail above the median of the groups holds as many accounts as may be hit, but no less than the largest score."""
    if not scores:
        return Limits().harvest
    return max(_tail_end(scores, scale, accounts / max(hit, 1e-9)), *scores)


def _tail_end(scores: list[float], scale: float, times: float) -> float:
    """Where an exponential tail above the median holds one account of `times`."""
    return float(np.median(scores)) + scale * float(np.log(max(times / 2, 1.0)))


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
        output=_mean(counts[:, OUTPUT], counts[:, ANSWERS], default.output),
        turned=_share(change.changes(profiles, 0.0), benign),
        asks=round(float(np.mean(shares)), 6) if len(shares) else default.asks,
        distinct=_known(tests.distinct(profiles, label, 1), default.distinct),
    )


def _mean(total: Floats, count: Floats, default: float) -> float:
    """The geometric mean over accounts of their mean: a few accounts with endless answers are not what is usual."""
    told = count >= 2
    return round(float(np.exp(np.log(np.maximum(total[told] / count[told], 1.0)).mean())), 3) if told.any() else default


def _share(found: change.Change, benign: Flags) -> float:
    """The share of settled accounts that turned, never quite none."""
    settled = found.settled & benign
    return round(float(((found.turned & benign).sum() + 0.5) / (settled.sum() + 50.0)), 6)


def _known(found: Floats, default: float) -> float:
    value = float(found[0]) if len(found) else np.nan
    return round(float(np.clip(value, 0.02, 0.98)), 6) if np.isfinite(value) else default
