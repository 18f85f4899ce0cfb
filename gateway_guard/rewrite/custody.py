"""Who keeps which state: what leaves is sealed for its owner, what comes back is judged, both by the policy's `binding` section."""

from __future__ import annotations

from gateway_guard.facts import STATES, Identity
from gateway_guard.policy.profile import BindingRules
from gateway_guard.reading import Reading
from gateway_guard.rewrite.returned import verdict
from gateway_guard.rewrite.seal import Sealer, Seals


class Custody:
    """The state of all conversations, though none of it is stored."""

    def __init__(self, rules: BindingRules, seals: Seals) -> None:
        self.rules = rules
        self.seals = seals
        self.binds = rules.to != "off"
        self.nobody = Sealer(seals)

    def sealer(self, identity: Identity, reading: Reading) -> Sealer:
        """For what leaves with the answer to this request."""
        return Sealer(self.seals, self._owner(identity, reading), binds=True) if self.binds else self.nobody

    def judge(self, identity: Identity, reading: Reading) -> int:
        """What came back, as an index of `STATES`; 0 where the policy does not ask."""
        if not self.binds or not reading.blobs:
            return 0
        found = verdict(reading.blobs, self._owner(identity, reading), self.seals)
        return 0 if found == "unbound" and self.rules.unbound == "accept" else STATES.index(found)

    def _owner(self, identity: Identity, reading: Reading) -> bytes:
        subject = f"org/{identity.org}" if self.rules.to == "org" and identity.org else f"account/{identity.account}"
        first = reading.turns[0].text if self.rules.conversation and reading.turns else None
        return self.seals.owner(subject, first)
