"""An issuer of identity tokens for tests: keys, tokens that are right or wrong in one way, and a scripted key set server."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.api_jws import PyJWS
from starlette.types import Receive, Scope, Send

from gateway_guard.policy.model import JwtRules

AT = 1_800_000_000.0
ISSUER = "https://issuer.example/"
AUDIENCE = "models"
CLAIMS: dict[str, Any] = {"iss": ISSUER, "aud": AUDIENCE, "sub": "acme", "iat": AT - 60, "exp": AT + 600}
_LOADERS: dict[str, Any] = {"RS": RSAAlgorithm, "PS": RSAAlgorithm, "ES": ECAlgorithm, "Ed": OKPAlgorithm}


def private(algorithm: str = "RS256", number: int = 0) -> Any:
    """A private key for `algorithm`; another one for each `number`."""
    return _private(algorithm, number)


@cache
def _private(algorithm: str, number: int) -> Any:
    if algorithm.startswith("ES"):
        return ec.generate_private_key({"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}[algorithm])
    return ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else rsa.generate_private_key(65537, 2048)


def pem(algorithm: str = "RS256", number: int = 0) -> bytes:
    """Its public half, as PEM."""
    held: bytes = private(algorithm, number).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return held


def private_pem() -> bytes:
    """A private key, as PEM."""
    held: bytes = private().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return held


def jwk(kid: str | None = "k1", algorithm: str = "RS256", number: int = 0, **members: Any) -> dict[str, Any]:
    """Its public half, as a member of a key set."""
    held = _LOADERS[algorithm[:2]].to_jwk(private(algorithm, number).public_key(), as_dict=True)
    return {**held, **({} if kid is None else {"kid": kid}), "use": "sig", "key_ops": ["verify"], **members}


def token(claims: Mapping[str, Any] | None = None, *, kid: str | None = "k1", algorithm: str = "RS256", number: int = 0, **header: Any) -> str:
    """A token signed with that key; `claims` change `CLAIMS`, None takes one out."""
    held = {name: value for name, value in {**CLAIMS, **(claims or {})}.items() if value is not None}
    return jwt.encode(held, private(algorithm, number), algorithm, headers={**({} if kid is None else {"kid": kid}), **header})


def signed(payload: bytes) -> str:
    """Any payload, signed with the first key: what a library would refuse to make."""
    return PyJWS().encode(payload, private(), "RS256", {"kid": "k1"})


def handmade(header: object, claims: object = None, secret: bytes | None = None) -> str:
    """A token that no library would make, signed by HMAC where there is a secret."""
    body = ".".join(_segment(json.dumps(part).encode()) for part in (header, CLAIMS if claims is None else claims))
    return f"{body}.{_segment(hmac.digest(secret, body.encode(), 'sha256') if secret else b'')}"


def rules(**changes: Any) -> JwtRules:
    """JWT rules for this issuer."""
    return JwtRules.model_validate({"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["RS256"], "key_file": "key.pem", **changes})


def _segment(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


class KeyServer:
    """An ASGI application that answers with a key set, and counts how often it was asked."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.asked = 0
        self.status = 200
        self.headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.publish(*keys)

    def publish(self, *keys: dict[str, Any]) -> None:
        self.body = json.dumps({"keys": keys}).encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        self.asked += 1
        await send({"type": "http.response.start", "status": self.status, "headers": self.headers})
        await send({"type": "http.response.body", "body": self.body})
