"""Who asks: from the headers and the peer of a request to an Identity.

Tried in this order: headers that a trusted proxy sets, an identity token, an API key; else the caller is anonymous. There are two doors:
`identify` for live traffic, which may wait (for an issuer's keys, for the host application's function), and `recorded` for a log, which
does not wait, and which alone takes `hashed:...` and `account:...` for what a recorder wrote in a credential's place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec

from gateway_guard.errors import PolicyError, Unidentified, UsageError
from gateway_guard.facts import Identity
from gateway_guard.identity.address import NAMES, Addresses, prefix
from gateway_guard.identity.credentials import Credentials, hide, is_token, recorded_form
from gateway_guard.identity.directory import CallableDirectory
from gateway_guard.identity.headers import Headers, Pairs, without
from gateway_guard.identity.jwt import Tokens
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.identity.recent import Recent
from gateway_guard.identity.stated import Stated
from gateway_guard.policy.model import IdentityRules

_REMEMBERED = 32_768


class Accounts(Protocol):
    """A directory at hand, asked by hashes."""

    def find(self, credential: str) -> Identity | None:
        """The identity behind a credential."""
        ...

    def account(self, account: str) -> Identity | None:
        """The identity of an account."""
        ...


class Identifier:
    """Identifies requests by the policy's rules. `directory` may be replaced at any time, by one assignment, with a newer one.

    `names` of the headers that are looked at · `waits`: `identify` may have to wait, and looks at the time.
    """

    def __init__(
        self,
        rules: IdentityRules,
        pseudonyms: Pseudonyms,
        directory: Accounts | None = None,
        tokens: Tokens | None = None,
        callable: CallableDirectory | None = None,
    ) -> None:
        if (rules.jwt is None) != (tokens is None):
            raise UsageError("identity: `tokens` goes with the policy's `identity.jwt`: give both or neither")
        if rules.unknown_keys == "refuse" and directory is None and callable is None:
            raise PolicyError(["identity.unknown_keys: refuse: there is no directory that keys could be known from: give `identity.directory`"])
        self.directory = directory
        self._rules = rules
        self._pseudonyms = pseudonyms
        self._tokens = tokens
        self._callable = callable
        self._addresses = Addresses(rules.trusted_proxies)
        self._credentials = Credentials(rules.keys, tokens=tokens is not None)
        self._stated = Stated(rules.header, pseudonyms) if rules.header is not None else None
        self._networks: Recent[str, int] = Recent(_REMEMBERED)
        self.names = self._credentials.names | NAMES | (self._stated.names if self._stated is not None else frozenset())
        self.waits = tokens is not None or callable is not None

    def known(self, headers: Headers, peer: str) -> Identity:
        """Who asks in live traffic, where that is told without waiting. `peer` as in `identify`."""
        found = self._named(headers, peer)
        return found if isinstance(found, Identity) else self.identify_key(found)

    async def identify(self, headers: Headers, peer: str, at: float) -> Identity:
        """Who asks in live traffic. `peer` is the other end of the connection as the server saw it ("" for a unix socket), not yet walked."""
        secret = self._named(headers, peer)
        if isinstance(secret, Identity):
            return secret
        if self._tokens is not None and is_token(secret):
            return self._completed(await self._tokens.verify(secret, at))
        if self._callable is None:
            return self.identify_key(secret)
        credential = self._pseudonyms.text("credential", secret)
        return self._at_hand(credential) or await self._callable.find(secret) or self._unknown(credential)

    def identify_key(self, secret: str) -> Identity:
        """Who has this raw API key, without asking the host application's function."""
        credential = self._pseudonyms.text("credential", secret)
        held = None if self.directory is None else self.directory.find(credential)
        return self._unknown(credential) if held is None else held

    def recorded(self, headers: Headers, client: str, at: float) -> Identity:
        """Who asked in a log. `client` is the address as recorded; the headers are as a recorder leaves them, those of untrusted peers stripped."""
        if self._stated is not None and (stated := self._stated.read(headers, recorded=True)) is not None:
            return self._completed(stated)
        secret = self._credentials.secret(headers, recorded=True)
        if secret is None:
            return self._anonymous(client)
        if self._tokens is not None and is_token(secret):
            return self._completed(self._tokens.recorded(secret, at))
        held = recorded_form(secret)
        if held is None:
            return self.identify_key(secret)
        return self._completed(Identity(held.name)) if held.is_account else self._at_hand(held.name) or self._unknown(held.name)

    def client(self, headers: Headers, peer: str) -> str:
        """The client's address, walked through the trusted proxies; empty when it is not known."""
        return self._addresses.client(headers, peer)

    def network(self, client: str) -> int:
        """The keyed hash of a client address' network, 0 when it is not known."""
        found = self._networks.get(client)
        if found is None:
            network = prefix(client)
            found = self._pseudonyms.number("network", network) if network else 0
            self._networks.put(client, found)
        return found

    def names_to_strip(self, peer: str) -> frozenset[bytes]:
        """Identity headers that this peer had no right to send: they must go neither upstream nor into a log."""
        return frozenset() if self._stated is None or self._addresses.trusts(peer) else self._stated.names

    def hide(self, headers: Headers, peer: str, identity: Identity | None = None) -> Pairs:
        """The headers as a recorder may keep them: `recorded` finds the same identity in them, but no secret is left."""
        believed = without(headers, self.names_to_strip(peer))
        named: Mapping[bytes, str] = {} if self._stated is None else self._stated.hidden
        by_header = self._stated is not None and self._stated.speaks(believed)
        account = "" if identity is None or identity.anonymous or by_header else identity.account
        return hide(believed, self._pseudonyms, named=named, account=account, tokens=self._tokens is not None)

    async def close(self) -> None:
        """Fetch nothing any more."""
        if self._tokens is not None:
            await self._tokens.close()

    def _named(self, headers: Headers, peer: str) -> Identity | str:
        """Who a trusted proxy says it is, or the secret that the caller presents, or who is anonymous."""
        if self._stated is not None and self._addresses.trusts(peer) and (stated := self._stated.read(headers)) is not None:
            return self._completed(stated)
        secret = self._credentials.secret(headers)
        return self._anonymous(self._addresses.client(headers, peer)) if secret is None else secret

    def _at_hand(self, credential: str) -> Identity | None:
        return None if self.directory is None else self.directory.find(credential)

    def _unknown(self, credential: str) -> Identity:
        if self._rules.unknown_keys == "refuse":
            raise Unidentified("The API key is not known.")
        return Identity(credential)

    def _anonymous(self, client: str) -> Identity:
        if self._rules.anonymous == "refuse":
            raise self._credentials.missing()
        return Identity(self._pseudonyms.text("network", prefix(client)), plan=self._rules.anonymous_plan, anonymous=True)

    def _completed(self, told: Identity) -> Identity:
        """What a token or a proxy told, with what the directory knows of that account beside; where both speak, what was told is newer."""
        held = None if self.directory is None else self.directory.account(told.account)
        if held is None:
            return told
        return msgspec.structs.replace(held, org=told.org or held.org, plan=told.plan or held.plan) if told.org or told.plan else held
