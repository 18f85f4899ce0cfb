"""What an operator's own pages say of a challenge: a signed token that holds the challenge and `"met": true`."""

from __future__ import annotations

import binascii
from base64 import urlsafe_b64decode
from typing import Any

import jwt
import orjson

from gateway_guard.challenge.seal import holds

RESULT_LIMIT = 8192


class StepUpKey:
    """Verifies results. There is one algorithm, which the policy names; what a token's header says is not asked."""

    __slots__ = ("_algorithm", "_jws", "_material")

    def __init__(self, material: Any, algorithm: str) -> None:
        self._material = material
        self._algorithm = algorithm
        self._jws = jwt.PyJWS([algorithm])

    def confirms(self, result: str, at: float) -> bool:
        """Whether the operator has signed that the challenge is met, and that still holds."""
        try:
            claims = orjson.loads(self._jws.decode_complete(result, self._material, algorithms=[self._algorithm])["payload"])
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            return False
        return isinstance(claims, dict) and claims.get("met") is True and holds(claims, at)

    @staticmethod
    def challenge_in(result: str) -> str:
        """The challenge that a result is about, not verified; empty when there is none."""
        parts = result.split(".")
        if len(result) > RESULT_LIMIT or len(parts) != 3:
            return ""
        try:
            claims = orjson.loads(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        except (binascii.Error, ValueError):
            return ""
        found = claims.get("challenge") if isinstance(claims, dict) else None
        return found if isinstance(found, str) else ""
