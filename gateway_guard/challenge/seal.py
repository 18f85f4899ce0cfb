"""Statements that the guard signs for itself to read again: HS256 with keys derived from its own secret, one for each purpose and name.

A token chooses nothing: the algorithm is fixed, `kid` only picks one of the declared names, and what it does not state itself is not believed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

import jwt
import orjson

KEY_BYTES = 32
TOKEN_LIMIT = 2048
ALGORITHM = "HS256"
# A host's clock may be this many seconds behind that of the host that has signed.
SKEW = 60.0
LATEST = 1e11


class Seal:
    """Signs with the first of `names`, reads what any of them has signed. `purpose` (at most 16 bytes) keeps kinds of statements apart."""

    __slots__ = ("_jws", "_keys", "_name", "_type")

    def __init__(self, secret: bytes, purpose: str, names: Sequence[str]) -> None:
        self._keys = {name: derived(secret, purpose, name) for name in names}
        self._name = names[0]
        self._type = f"{purpose}+jwt"
        self._jws = jwt.PyJWS([ALGORITHM])

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token; `claims` hold `iat` and `exp`."""
        return self._jws.encode(orjson.dumps(claims), self._keys[self._name], ALGORITHM, {"typ": self._type, "kid": self._name})

    def read(self, token: str, at: float) -> dict[str, Any] | None:
        """The claims of a token that one of the keys has signed and that holds at `at`; None for anything else."""
        if len(token) > TOKEN_LIMIT or not token.isascii():
            return None
        try:
            header = self._jws.get_unverified_header(token)
            key = self._keys.get(header.get("kid", ""))
            if key is None or header.get("typ") != self._type or header.get("alg") != ALGORITHM:
                return None
            claims = orjson.loads(self._jws.decode_complete(token, key, algorithms=[ALGORITHM])["payload"])
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return None
        return claims if isinstance(claims, dict) and holds(claims, at) else None


def derived(secret: bytes, purpose: str, name: str) -> bytes:
    """A key for one purpose. Who has it learns nothing of the secret, nor of other keys."""
    root = secret if len(secret) <= KEY_BYTES else blake2b(secret, digest_size=KEY_BYTES).digest()
    return blake2b(name.encode(), key=root, person=purpose.encode(), digest_size=KEY_BYTES).digest()


def holds(claims: Mapping[str, Any], at: float) -> bool:
    """Whether `at` is between `iat` (give or take clocks that differ) and `exp`."""
    since, until = _time(claims.get("iat")), _time(claims.get("exp"))
    # Not a number compares false, whatever it is compared with.
    return since - SKEW <= at < until


def _time(held: Any) -> float:
    return float(held) if isinstance(held, int | float) and not isinstance(held, bool) and abs(held) < LATEST else math.nan
