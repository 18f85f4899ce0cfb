"""Compares what came of a case with what was expected, and says in a sentence what did not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from gateway_guard.decision import LABELS
from gateway_guard.errors import BodyTooLarge, PolicyError, Unidentified, UnreadableBody
from gateway_guard.policy.mistakes import meant
from gateway_guard.policy.model import Policy
from gateway_guard.policy.tree import Problem, Steps
from gateway_guard.replay.run import UNGUARDED
from gateway_guard.tuning.case_load import Case, Cases
from gateway_guard.tuning.case_model import Outcomes
from gateway_guard.tuning.ranges import Range
from gateway_guard.tuning.trial import Bench, Counts, First

OF_REQUESTS = ("served", "touched", "refused", "delayed")
OF_ACCOUNTS = ("touched_accounts", "clustered")
REASONS = 3
# Reasons that requests without a decision have.
UNDECIDED = (UNGUARDED, BodyTooLarge.code, UnreadableBody.code, Unidentified.code)


def tried(cases: Cases, tick: Callable[[Case], None] = lambda case: None) -> list[str]:
    """Plays all cases; what failed, a line each. `tick` is told which case is about to be played. Raises PolicyError for reasons that no request can have."""
    bench = Bench(cases)
    _known(cases, bench.policy)
    out: list[str] = []
    for case in cases.cases:
        tick(case)
        counts = bench.run(case)
        out += [str(problem) for problem in failed(case, counts, bench.names(case))]
    return out


def failed(case: Case, counts: Mapping[str, Counts], name: Callable[[str], str]) -> Iterator[Problem]:
    """What of a case did not come true. `name` shows an account."""
    for part, expected in case.expect.items():
        for steps, says in _misses(expected, counts[part]):
            why = _why(counts[part], steps, name)
            yield Problem(case.places.find((part, *steps)).at, f"case `{case.id}`: `{part}` {says}{why}")


def _misses(expected: Outcomes, found: Counts) -> Iterator[tuple[Steps, str]]:
    for field in (*OF_REQUESTS, *OF_ACCOUNTS):
        range_: Range | None = getattr(expected, field)
        if range_ is not None:
            count, total, what = _counted(found, field)
            if (count / total if total else 0.0) not in range_:
                yield (field,), f"{field.replace('_', ' ')}: {_share(count, total)} ({count:,} of {total:,} {what}), expected {range_.said}"
    for field in ("action", "would"):
        wanted, met = getattr(expected, field), LABELS[getattr(found, field)]
        if wanted not in (None, met):
            yield (field,), f"{field}: {met} at the hardest, expected {wanted}"
    for code, counted in expected.reasons.items():
        if found.reasons[code] not in counted:
            yield ("reasons", code), f"{code}: {found.reasons[code]:,} requests, expected {counted.said}"


def _counted(found: Counts, field: str) -> tuple[int, int, str]:
    if field in OF_REQUESTS:
        return getattr(found, field), found.requests, "requests"
    return (found.clustered if field == "clustered" else len(found.touched_accounts)), len(found.accounts), "accounts"


def _share(count: int, total: int) -> str:
    return f"{count / total:.2%}" if total else "nothing"


def _why(found: Counts, steps: Steps, name: Callable[[str], str]) -> str:
    """The commonest reasons of what was touched, and when the first of them began."""
    if not found.reasons or steps[0] in ("clustered", "reasons"):
        return ""
    common = found.reasons.most_common(REASONS)
    first = found.first[common[0][0]]
    told = ", ".join(f"{reason} {count:,} times" for reason, count in common)
    return f"; {told}, first {_when(first)} on {name(first.account) or 'a request without an account'}"


def _when(first: First) -> str:
    hours, rest = divmod(int(first.after), 3600)
    return f"{hours:02}:{rest // 60:02}:{rest % 60:02} after the beginning"


def _known(cases: Cases, policy: Policy) -> None:
    """A misspelt reason would be met by none, and `0` would always hold."""
    codes = [f"{kind}.{name}" for kind in ("quota", "cluster") for name in policy.quotas]
    codes += [
        *(f"{kind}.{r.id}" for r in policy.ladder for kind in ("rung", "shadow")),
        *(f"exempt.{e.id}" for e in policy.exemptions),
        *(f"signal.{s}" for s in policy.signals),
        *UNDECIDED,
    ]
    wrong = [
        str(Problem(case.places.find((part, "reasons", code)).at, f"case `{case.id}`: no request can have the reason `{code}`{_hint(code, codes)}"))
        for case in cases.cases
        for part, expected in case.expect.items()
        for code in expected.reasons
        if code not in codes
    ]
    if wrong:
        raise PolicyError(wrong)


def _hint(code: str, codes: list[str]) -> str:
    near = meant(code, codes)
    return f"; did you mean `{near}`?" if near else f"; the policy has {', '.join(codes[:8])}"
