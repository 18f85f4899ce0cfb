"""Identity tokens (RFC 7519, verified as RFC 8725 asks): PyJWT checks the signature, the claims are checked here against `at`."""

from __future__ import annotations

import binascii
import math
from base64 import urlsafe_b64decode
from hashlib import blake2b
from typing import Any, NamedTuple

import orjson
from jwt.api_jws import PyJWS
from jwt.exceptions import PyJWTError

from gateway_guard.errors import Unidentified
from gateway_guard.facts import Identity
from gateway_guard.identity.credentials import NAME_LIMIT
from gateway_guard.identity.keys import KID_LIMIT, KeySource, VerifyingKey
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.identity.recent import Recent
from gateway_guard.policy.model import JwtRules

HEADER_LIMIT = 4096
_REMEMBERED = 32_768


class _Verified(NamedTuple):
    identity: Identity
    since: float
    until: float


class Tokens:
    """Verifies tokens and remembers those that passed until they expire, at most `refresh` seconds, so that a withdrawn key stops working."""

    def __init__(self, rules: JwtRules, keys: KeySource, pseudonyms: Pseudonyms) -> None:
        self._rules = rules
        self._keys = keys
        self._pseudonyms = pseudonyms
        self._algorithms = frozenset(rules.algorithms)
        self._jws = PyJWS(algorithms=list(rules.algorithms))
        self._verified: Recent[bytes, _Verified] = Recent(_REMEMBERED)

    async def verify(self, token: str, at: float) -> Identity:
        """Who the token says asks, by what it holds itself; Unidentified unless everything about it is right."""
        name = blake2b(token.encode(), digest_size=16).digest()
        known = self._verified.get(name)
        if known is not None and known.since <= at < known.until:
            return known.identity
        kid, algorithm = self._header(token)
        return self._settle(name, token, algorithm, await self._keys.obtain(kid, algorithm, at), at)

    def recorded(self, token: str, at: float) -> Identity:
        """The same for a replay: only with the keys that are at hand."""
        kid, algorithm = self._header(token)
        return self._settle(b"", token, algorithm, self._keys.find(kid, algorithm), at)

    async def close(self) -> None:
        """Fetch no more keys."""
        await self._keys.close()

    def _header(self, token: str) -> tuple[str, str]:
        """`kid` and `alg`. Whatever else the header offers (`jku`, `x5u`, `jwk`: "take my key") is not read."""
        segment = token.partition(".")[0]
        header = _decoded(segment) if len(segment) <= HEADER_LIMIT else None
        if header is None or "crit" in header or "b64" in header:
            raise _refused("its header cannot be read")
        algorithm, kid = header.get("alg"), header.get("kid", "")
        if not isinstance(algorithm, str) or algorithm not in self._algorithms:
            raise _refused("its algorithm is not taken here")
        if not isinstance(kid, str) or len(kid) > KID_LIMIT:
            raise _refused("its key is not known")
        return kid, algorithm

    def _settle(self, name: bytes, token: str, algorithm: str, key: VerifyingKey | None, at: float) -> Identity:
        if key is None:
            raise _refused("its key is not known")
        claims = self._claims(token, algorithm, key)
        since, until = self._validity(claims, at)
        found = self._identity(claims)
        if name:
            self._verified.put(name, _Verified(found, since, min(until, at + self._rules.refresh)))
        return found

    def _claims(self, token: str, algorithm: str, key: VerifyingKey) -> dict[str, Any]:
        try:
            signed = self._jws.decode_complete(token, key.material, algorithms=[algorithm])
            claims = orjson.loads(signed["payload"])
        except (PyJWTError, ValueError, TypeError):
            raise _refused("its signature is wrong") from None  # the cause would carry parts of the token
        if not isinstance(claims, dict):
            raise _refused("it holds no claims")
        audience = claims.get("aud")
        if claims.get("iss") != self._rules.issuer:
            raise _refused("it is from another issuer")
        if self._rules.audience not in (audience if isinstance(audience, list) else [audience]):
            raise _refused("it is for another audience")
        return claims

    def _validity(self, claims: dict[str, Any], at: float) -> tuple[float, float]:
        leeway = self._rules.leeway
        until = _time(claims, "exp") + leeway
        since = max((_time(claims, name) for name in ("nbf", "iat") if name in claims), default=0.0) - leeway
        if at >= until:
            raise _refused("it has expired")
        if at < since:
            raise _refused("it is not valid yet")
        return since, until

    def _identity(self, claims: dict[str, Any]) -> Identity:
        account, org, plan = (_claim(claims, name) for name in (self._rules.account, self._rules.org, self._rules.plan))
        if not account:
            raise _refused(f"it has no `{self._rules.account}`")
        return Identity(self._pseudonyms.text("account", account), self._pseudonyms.text("org", org) if org else "", plan)


def _decoded(segment: str) -> dict[str, Any] | None:
    try:
        held = orjson.loads(urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (binascii.Error, ValueError):
        return None
    return held if isinstance(held, dict) else None


def _time(claims: dict[str, Any], name: str) -> float:
    held = claims.get(name)
    if isinstance(held, bool) or not isinstance(held, int | float) or not math.isfinite(held):
        raise _refused(f"its `{name}` is missing or is not a time")
    return float(held)


def _claim(claims: dict[str, Any], path: str | None) -> str:
    """A text or a number at a dotted path; a claim whose own name has dots (`https://example.com/plan`) is found by its whole name."""
    if path is None:
        return ""
    held: Any = claims
    for step in [path] if path in claims else path.split("."):
        held = held.get(step) if isinstance(held, dict) else None
    if held is None:
        return ""
    if isinstance(held, bool) or not isinstance(held, str | int) or len(text := str(held)) > NAME_LIMIT:
        raise _refused(f"its `{path}` is not a name")
    return text


def _refused(why: str) -> Unidentified:
    return Unidentified(f"The identity token is refused: {why}.")
