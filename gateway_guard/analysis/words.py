"""Findings as sentences that a support engineer can read out to a customer."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from gateway_guard.analysis.graph import Graph
from gateway_guard.analysis.tests import Norms, Pooled, Scores
from gateway_guard.analysis.tokens import FAMILY_NAMES, Indices, Kind, starts
from gateway_guard.evidence import Evidence, Family

_TRAITS = 8
# What is told of the pooled traffic; all other evidence of a cluster is a trait that members share.
TESTS = frozenset({"interchangeable", "even_load", "asks", "never_repeats", "many_faces", "long_answers", "changed_hands", "passed_on"})
NOUNS = {
    Kind.PAYMENT: "pay with one payment instrument",
    Kind.SIGNUP: "signed up from one network",
    Kind.MAIL: "signed up under one mail domain",
    Kind.BORN: "signed up within one half day",
    Kind.AGE: "are of about one age",
    Kind.PLAN: "are on one plan",
    Kind.NETWORK: "send from one network",
    Kind.CLIENT: "use a program with the same headers",
    Kind.VERSION: "use one version of a program",
    Kind.SHAPE: "set the same parameters",
    Kind.TOOLS: "offer the same tools",
    Kind.ODD: "send the same contradictory headers",
    Kind.MODEL: "ask for one model",
    Kind.SYSTEM: "send the same system prompt",
    Kind.TEMPLATE: "send the same request",
    Kind.SENTENCE: "send the same sentence with changing material",
    Kind.SKETCH: "send the same passage",
    Kind.ELICITS: "ask for material of one training kind",
    Kind.THREAD: "go on with the same conversation",
    Kind.BLOB: "send the same opaque reasoning blob",
}


@dataclass(frozen=True, slots=True)
class Traits:
    """Tokens of every cluster with how many members show them, the most telling of each kind first. Sorted by cluster."""

    cluster: Indices
    token: Indices
    count: Indices
    more: Indices


def traits(graph: Graph, label: Indices) -> Traits:
    """What the members of each cluster have in common and others have not."""
    member = label[graph.account] >= 0
    both, count = np.unique(graph.token[member] * (int(label.max(initial=0)) + 1) + label[graph.account[member]], return_counts=True)
    token, cluster = both // (int(label.max(initial=0)) + 1), both % (int(label.max(initial=0)) + 1)
    size = np.bincount(label[label >= 0], minlength=1)[cluster]
    shared = (count >= 2) & (count > 3 * size * np.maximum(graph.usual[token], (graph.sharers[token] - count) / max(graph.n, 1)))
    token, cluster, count = token[shared], cluster[shared], count[shared]
    telling = count * np.log(count / size[shared] / np.maximum(graph.usual[token], 1e-9))
    kind = graph.kind[token]
    order = np.lexsort((graph.names[token], -telling, kind, cluster))
    first = starts((cluster * 32 + kind)[order])
    more = np.diff(np.append(np.flatnonzero(first), len(order))) - 1 if len(order) else np.zeros(0, np.int64)
    best = order[first]
    again = np.lexsort((-telling[best], cluster[best]))
    return Traits(cluster[best][again], token[best][again], count[best][again], more[again])


def shared(graph: Graph, found: Traits, group: int, size: int) -> Iterator[Evidence]:
    """One sentence for each of the most telling traits of a cluster."""
    low, high = np.searchsorted(found.cluster, group), np.searchsorted(found.cluster, group, side="right")
    for place in range(int(low), min(int(high), int(low) + _TRAITS)):
        token, count = int(found.token[place]), int(found.count[place])
        others, outside = int(graph.sharers[token]) - count, graph.n - size
        usual = float(graph.usual[token])
        more = f" ({found.more[place]} more such things are shared)" if found.more[place] else ""
        says = f"{count} of {size} members {NOUNS[Kind(int(graph.kind[token]))]}{more}"
        says += f"; so do {others} of {outside} other accounts, and {_percent(usual)} of benign accounts before."
        odds = math.log(max(count / size, 1e-9) / max(usual, (others + 0.5) / (outside + 1)))
        yield Evidence(FAMILY_NAMES[int(graph.family[token])], Kind(int(graph.kind[token])).name.lower(), round(odds, 3), says)


def tests(found: Pooled, scores: Scores, norms: Norms, group: int) -> Iterator[Evidence]:
    """One sentence for each pooled test that had something to say, whichever way it points."""
    parts: tuple[tuple[Family, str, float, str], ...] = (
        ("content", "interchangeable", scores.interchangeable[group], _alike(found, norms, group)),
        ("rhythm", "even_load", scores.even[group], _even(found, norms, group)),
        ("content", "asks", scores.elicits[group], _asks(found, norms, group)),
        ("rhythm", "never_repeats", scores.never_repeats[group], _distinct(found, norms, group)),
        ("identity", "many_faces", scores.many_faces[group], _faces(found, group)),
        ("content", "long_answers", scores.long_answers[group], _output(found, norms, group)),
        ("identity", "changed_hands", scores.changed_hands[group], _turned(found, norms, group)),
        (
            "conversation",
            "passed_on",
            scores.passed_on[group],
            f"{_percent(found.passed_on[group])} of members go on with a conversation that another member began.",
        ),
    )
    for family, signal, odds, says in parts:
        if abs(odds) > 1e-9:
            yield Evidence(family, signal, round(float(odds), 3), says)


def _even(found: Pooled, norms: Norms, group: int) -> str:
    return (
        f"How evenly members are busy: log-odds {found.even[group]:.1f} that load is dealt out to them; "
        f"honest accounts differ by a factor of {math.exp(norms.spread):.1f} either way."
    )


def _asks(found: Pooled, norms: Norms, group: int) -> str:
    return f"{_percent(found.asks[group])} of requests ask for reasoning, grading or data formats; {_percent(norms.asks)} of benign ones do."


def _distinct(found: Pooled, norms: Norms, group: int) -> str:
    return f"{_percent(found.distinct[group])} of requests are asked only once in the whole group; benign accounts come to {_percent(norms.distinct)}."


def _faces(found: Pooled, group: int) -> str:
    pose = f"who otherwise pose as different customers ({_percent(found.faces[group])} of members)"
    return f"{found.cards[group]:.0f} payment instruments are each used by three members or more {pose}."


def _output(found: Pooled, norms: Norms, group: int) -> str:
    return f"Answers have {found.output[group]:.0f} tokens on the average; benign accounts come to {norms.output:.0f}."


def _turned(found: Pooled, norms: Norms, group: int) -> str:
    turned = f"{_percent(found.turned[group])} of members with a history took up a new program and new networks at once"
    return f"{turned}, as after a theft of keys; {_percent(norms.turned)} of benign accounts did."


def _alike(found: Pooled, norms: Norms, group: int) -> str:
    told = (
        ("lengths of requests", found.alike_length[group], norms.length),
        ("lengths of conversations", found.alike_turn[group], norms.turn),
        ("what is asked for", found.alike_elicit[group], norms.elicit),
    )
    parts = ", ".join(f"{name} {round(float(value), 2) + 0.0:.2f} (benign {norm:.2f})" for name, value, norm in told if np.isfinite(value))
    return f"How individual members are (0: requests dealt from one queue; 1: each member its own way): {parts}."


def _percent(share: float) -> str:
    if 0.0 < share < 0.00005:
        return "less than 0.01%"
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}" if share >= 0.001 else f"{share:.2%}"
