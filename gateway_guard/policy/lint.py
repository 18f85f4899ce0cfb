"""What is well typed and yet impossible, dangerous or foolish in a policy.

Each rule says which sections it reads: where the types have already refused one of them, the rule keeps silent, so that no mistake is reported
for what another one caused. No clock: the day comes in as `at`, and without it nothing is past its date.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

from gateway_guard.policy import lint_challenges, lint_degrade, lint_edges, lint_ladder, lint_quotas, lint_store
from gateway_guard.policy.finding import Finding
from gateway_guard.policy.model import Policy

if TYPE_CHECKING:
    import datetime

_RULES = (*lint_edges.RULES, *lint_quotas.RULES, *lint_ladder.RULES, *lint_challenges.RULES, *lint_degrade.RULES, *lint_store.RULES)


def lint(policy: Policy, *, at: datetime.date | None = None, broken: Collection[str] = ()) -> Iterator[Finding]:
    """Every finding about `policy` on the day `at`; rules that read a `broken` section are left out."""
    for sections, rule in _RULES:
        if not sections & set(broken):
            yield from rule(policy)
    if "exemptions" not in broken:
        yield from lint_ladder.dates(policy, at)
