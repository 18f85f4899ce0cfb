"""An identity that a trusted proxy has established and states in headers."""

from __future__ import annotations

from gateway_guard.errors import Unidentified
from gateway_guard.facts import Identity
from gateway_guard.identity.credentials import NAME_LIMIT, REFUSED, recorded_form, stated_text
from gateway_guard.identity.headers import Headers, values
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.policy.model import HeaderRules


class Stated:
    """Reads the policy's identity headers. Whether their sender may be believed is the caller's question.

    `names` of all of them; `hidden`: those that a recorder hides, with the kind of hash. The plan is no secret and stays readable.
    """

    __slots__ = ("_account", "_org", "_plan", "_pseudonyms", "hidden", "names")

    def __init__(self, rules: HeaderRules, pseudonyms: Pseudonyms) -> None:
        self._pseudonyms = pseudonyms
        self._account = rules.account.lower().encode()
        self._org = (rules.org or "").lower().encode()
        self._plan = (rules.plan or "").lower().encode()
        self.names = frozenset((self._account, self._org, self._plan)) - {b""}
        self.hidden = {name: kind for name, kind in ((self._account, "account"), (self._org, "org")) if name}

    def speaks(self, headers: Headers) -> bool:
        """Whether an account is stated; an empty header states nothing."""
        return any(value.strip(b" \t") for value in values(headers, self._account))

    def read(self, headers: Headers, *, recorded: bool = False) -> Identity | None:
        """The identity, None when no account is stated; Unidentified when the headers contradict themselves or cannot be read."""
        account = _one(headers, self._account, recorded=recorded)
        if not account:
            return None
        org, plan = _one(headers, self._org, recorded=recorded), _one(headers, self._plan, recorded=recorded)
        return Identity(self._hash("account", account, recorded), self._hash("org", org, recorded) if org else "", plan)

    def _hash(self, kind: str, value: str, recorded: bool) -> str:
        held = recorded_form(value) if recorded else None
        return self._pseudonyms.text(kind, value) if held is None else held.name


def _one(headers: Headers, name: bytes, *, recorded: bool) -> str:
    found = {value.strip(b" \t") for value in values(headers, name)}
    if len(found) > 1:
        raise Unidentified("An identity header was sent twice with different values.")
    text = stated_text(found.pop()) if found else ""
    if text is None or (recorded and text.endswith(REFUSED)):
        raise Unidentified(f"An identity header is not UTF-8 or longer than {NAME_LIMIT} characters.")
    return text
