"""Step-ups that were met, for callers that carry no pass: kept in this process."""

from __future__ import annotations

from collections import OrderedDict

CAP = 100_000


class MemoryGrants:
    """`ports.Grants` in one process. When it is full the oldest is forgotten: its account is asked again, and nobody is let through for it."""

    def __init__(self, cap: int = CAP) -> None:
        self._cap = cap
        self._until: OrderedDict[str, float] = OrderedDict()

    async def grant(self, holder: str, until: float, at: float) -> None:
        """See `ports.Grants.grant`."""
        self._until.pop(holder, None)
        self._until[holder] = until
        while len(self._until) > self._cap or (self._until and next(iter(self._until.values())) <= at):
            self._until.popitem(last=False)

    async def granted(self, holder: str, at: float) -> bool:
        """See `ports.Grants.granted`."""
        return at < self._until.get(holder, 0.0)
