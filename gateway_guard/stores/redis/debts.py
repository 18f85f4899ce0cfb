"""Operations that are kept for a server that is down, folded into one a subject: memory stays bounded, and no debt is lost."""

from __future__ import annotations

from collections.abc import Sequence

from gateway_guard.quota import Bill, Part, Quota
from gateway_guard.stores.redis.ledger import Operation, Verb


def folded(operations: Sequence[Operation], holds: set[str]) -> list[Operation]:
    """Unconditional operations as one adjustment a subject; `holds` are those of spends that were folded, now and before.

    What a folded spend holds is left out: its hold becomes one that the server does not know, and settling such a hold charges what it held beside the
    change. Settlings of holds that the server may know stay as they are, of which there are no more than requests were running, and inheritances,
    of which there is one for each view.
    """
    sums: dict[tuple[str, str, tuple[Quota, ...]], tuple[Part, list[float]]] = {}
    kept: list[Operation] = []
    for operation in operations:
        if operation.verb is Verb.INHERIT or (operation.verb is Verb.ADJUST and operation.hold and operation.hold not in holds):
            kept.append(operation)
            continue
        sign = 0.0 if not operation.hold else -1.0 if operation.verb is Verb.SPEND else 1.0
        (holds.add if sign < 0.0 else holds.discard)(operation.hold)
        for part in operation.bill.parts:
            key = part.subject, part.lines.per, part.lines.quotas
            first, known = sums.get(key) or (part, [0.0] * len(part.costs))
            sums[key] = first, [a + cost + sign * held for a, cost, held in zip(known, part.costs, part.held, strict=True)]
    at = max((operation.at for operation in operations), default=0.0)
    return kept + [Operation(Verb.ADJUST, Bill((_bare(part, costs),)), at, counted=True) for part, costs in sums.values()]


def _bare(part: Part, costs: Sequence[float]) -> Part:
    return Part(part.subject, part.lines, part.figures, costs, [0.0] * len(costs), part.opened, part.filled)
