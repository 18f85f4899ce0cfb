"""Whether a suspect model writes as one of the clusters was answered.

Theory of operation. Each output votes once on each habit. What is looked at is the margin m of the votes, from -1 to 1, less that of a baseline where there is
one; a cluster's score is the sum of way * m over all habits. Every model prefers some ways to others, so votes are no coin tosses, and a binomial test would
convict the innocent. What is random is the key: the ways of a cluster were drawn without regard to the suspect. So the score is compared with those
of keys that mark nobody (controls): p = (1 + controls that score as high) / (1 + controls). That holds exactly, whatever the suspect's own style, as long as
it has not learnt from marked answers; a baseline only sharpens it.

A decoy's name has 40 bits that only the key tells. Outputs with W words name a given one by chance with a probability of at most W / 2^40.

Both tests together: twice the smaller p. Over all clusters that are asked about: Holm's step-down correction, which holds however they hang together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from gateway_guard.provenance.habits import HABITS, KINDS, ways
from gateway_guard.provenance.marker import NAME_BITS, STEM, Marker, Marks

Floats = NDArray[np.float64]
# Added to the number of votes, so that two of two weigh less than a hundred of a hundred.
PRIOR = 2.0
BATCH = 20_000
_NAMED = re.compile(rf"(?<![a-z0-9_]){STEM}[a-z2-7]{{{NAME_BITS // 5}}}(?![a-z0-9_])")
LIMITS = (
    "A finding says that the outputs fit the marks of a cluster, not who trained on them, nor how much; no finding says nothing: marks are not always learnt.",
    "Layout and punctuation do not survive a paraphrase, words in part, the order of a text more often; a translation leaves none of them.",
    "Data that was filtered for style, or mixed with much of other origin, leaves less than can be seen in some hundred outputs.",
    "Outputs that a person has chosen because they look marked make the figures worthless: take all outputs to a set of prompts that was fixed before.",
)


class Votes:
    """What was counted in a set of outputs: votes `one` way and the `other`, `words`, and the decoys that were `named`."""

    def __init__(self) -> None:
        self.outputs = self.words = 0
        self.named: dict[str, int] = {}
        self._votes = np.zeros((2, len(HABITS)))

    def add(self, text: str, tools: Iterable[str] = ()) -> None:
        """One output, and the tools that it calls."""
        self.outputs += 1
        self.words += len(text.split())
        found = np.array(ways(text))
        self._votes += (found > 0, found < 0)
        for name in {*_NAMED.findall(text), *tools}:
            self.named[name] = self.named.get(name, 0) + 1

    @property
    def margins(self) -> Floats:
        """From -1 to 1 for each habit, 0 where nothing was seen."""
        one, other = self._votes
        return np.asarray((one - other) / (one + other + PRIOR))


class Finding(msgspec.Struct, frozen=True):
    """About one cluster. `habits` that the outputs show, `agreeing` ones among them · `score`, and what each kind of habit adds to it (`kinds`) ·
    `named` outputs that name its decoy · `corrected` for all clusters asked about; `found` where that is below the level.
    """

    cluster: str
    habits: int
    agreeing: int
    score: float
    kinds: dict[str, float]
    p_habits: float
    tool: str
    named: int
    p_tool: float
    p: float
    corrected: float
    found: bool


class Check(msgspec.Struct, frozen=True):
    """All findings, the surest first. `baseline` outputs that were subtracted, `controls` keys that the score was compared with, `level` of significance."""

    outputs: int
    words: int
    baseline: int
    controls: int
    level: float
    findings: list[Finding]
    limits: tuple[str, ...] = LIMITS


def check(suspect: Votes, clusters: Sequence[str], marker: Marker, *, baseline: Votes | None = None, controls: int = 100_000, level: float = 0.01) -> Check:
    """Compare what was counted with the marks of each cluster."""
    margins = suspect.margins - (baseline.margins if baseline is not None else 0.0)
    chance = control_scores(margins, marker.seed(), controls)
    tried = {cluster: marker.of(cluster) for cluster in dict.fromkeys(clusters)}
    raw = {cluster: _found(cluster, marks, margins, chance, suspect) for cluster, marks in tried.items()}
    corrected = holm({cluster: finding.p for cluster, finding in raw.items()})
    told = [msgspec.structs.replace(f, corrected=corrected[c], found=corrected[c] < level) for c, f in raw.items()]
    told.sort(key=lambda finding: (finding.corrected, finding.p, -finding.score, finding.cluster))
    return Check(suspect.outputs, suspect.words, baseline.outputs if baseline is not None else 0, controls, level, told)


def control_scores(margins: Floats, seed: int, number: int) -> Floats:
    """The scores of keys that mark nobody, in ascending order: drawn as `Marker` draws."""
    drawn, size = np.random.default_rng(seed), len(margins)
    scores = []
    for start in range(0, number, BATCH):
        sides = drawn.integers(0, 2, (min(BATCH, number - start), size)) * 2 - 1
        scores.append(sides @ margins)
    return np.sort(np.concatenate(scores))


def holm(ps: Mapping[str, float]) -> dict[str, float]:
    """Holm's correction (1979): the smallest of m is multiplied by m, the next by m - 1, and none comes out below the one before it."""
    corrected, highest = {}, 0.0
    for place, name in enumerate(sorted(ps, key=lambda name: ps[name])):
        highest = corrected[name] = min(1.0, max(highest, (len(ps) - place) * ps[name]))
    return corrected


def _found(cluster: str, marks: Marks, margins: Floats, chance: Floats, suspect: Votes) -> Finding:
    sides = np.array(marks.ways)
    parts = sides * margins
    score = float(parts.sum())
    higher = len(chance) - int(np.searchsorted(chance, score - 1e-9))
    p_habits = (1 + higher) / (1 + len(chance))
    named = suspect.named.get(marks.tool, 0)
    p_tool = min(1.0, max(1, suspect.words) / 2**NAME_BITS) if named else 1.0
    seen = parts[np.abs(parts) > 0]
    kinds: dict[str, Any] = {kind: round(float(sum(part for part, habit in zip(parts, HABITS, strict=True) if habit.kind == kind)), 3) for kind in KINDS}
    return Finding(
        cluster=cluster,
        habits=len(seen),
        agreeing=int((seen > 0).sum()),
        score=round(score, 3),
        kinds=kinds,
        p_habits=p_habits,
        tool=marks.tool,
        named=named,
        p_tool=p_tool,
        p=min(1.0, 2 * min(p_habits, p_tool)),
        corrected=1.0,
        found=False,
    )
