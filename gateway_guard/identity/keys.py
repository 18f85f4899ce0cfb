"""Keys that verify identity tokens. A key knows which algorithms it may be used with, so that a token's header cannot choose another one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from jwt.algorithms import ECAlgorithm, HMACAlgorithm, OKPAlgorithm, RSAAlgorithm
from jwt.exceptions import InvalidKeyError, PyJWTError

from gateway_guard.errors import PolicyError

KID_LIMIT = 256
_FILE_LIMIT = 65_536
_MEMBER_LIMIT = 2048
_RSA = frozenset(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"))
_RSA_BITS = range(2048, 8193)  # weaker ones can be forged, longer ones are an issuer's way to burn our time
_CURVES = {"secp256r1": frozenset(("ES256",)), "secp384r1": frozenset(("ES384",)), "secp521r1": frozenset(("ES512",))}
_SECRET_BYTES = {"HS256": 32, "HS384": 48, "HS512": 64}  # RFC 7518, 3.2
_PRIVATE = frozenset(("d", "p", "q", "k"))
_LOADERS: dict[str, Callable[[Any], Any]] = {"RSA": RSAAlgorithm.from_jwk, "EC": ECAlgorithm.from_jwk, "OKP": OKPAlgorithm.from_jwk}


class VerifyingKey:
    """A public key, or a shared secret, with the algorithms it is for. Its repr shows neither."""

    __slots__ = ("algorithms", "kid", "material")

    def __init__(self, kid: str, algorithms: frozenset[str], material: Any) -> None:
        self.kid = kid
        self.algorithms = algorithms
        self.material = material


class KeySource(Protocol):
    """Where keys are found by their id."""

    def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """A key that is at hand."""
        ...

    async def obtain(self, kid: str, algorithm: str, at: float) -> VerifyingKey | None:
        """A key, fetched when it may be."""
        ...

    async def close(self) -> None:
        """Nothing is fetched any more."""
        ...


class FixedKey:
    """One key from a file. There is nothing to choose, so a token's `kid` is not looked at."""

    __slots__ = ("_key",)

    def __init__(self, key: VerifyingKey) -> None:
        self._key = key

    @classmethod
    def load(cls, path: Path, algorithms: Iterable[str], key: str = "identity.jwt.key_file") -> FixedKey:
        """A PEM public key or a shared secret; PolicyError when it does not fit `algorithms`. `key` of the policy that names the file."""
        where = f"{key}: {path}"
        try:
            with path.open("rb") as opened:
                held = opened.read(_FILE_LIMIT + 1)
        except OSError as error:
            raise _unfit(where, f"cannot be read ({error.strerror})") from None
        listed = frozenset(algorithms)
        return cls(_public(where, held, listed) if b"-----BEGIN" in held else _shared(where, held.strip(b"\r\n"), listed))

    def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """The key, when the algorithm is one of its own."""
        return self._key if algorithm in self._key.algorithms else None

    async def obtain(self, kid: str, algorithm: str, at: float) -> VerifyingKey | None:
        """The same: there is nothing to fetch."""
        return self.find(kid, algorithm)

    async def close(self) -> None:
        """Nothing is open."""


def from_jwk(jwk: object, allowed: frozenset[str]) -> VerifyingKey | None:
    """A key of a JWKS; None for what is not a public key for verifying signatures by one of `allowed`."""
    if not isinstance(jwk, dict) or not _for_signatures(jwk):
        return None
    kid = jwk.get("kid", "")
    if not isinstance(kid, str) or len(kid) > KID_LIMIT:
        return None
    try:
        material = _LOADERS[jwk["kty"]](jwk)
    except (PyJWTError, ValueError, TypeError, OverflowError, UnsupportedAlgorithm):
        return None
    usable = _suitable(material) & allowed
    if "alg" in jwk:
        usable &= {jwk["alg"]}
    return VerifyingKey(kid, usable, material) if usable else None


def _for_signatures(jwk: dict[str, Any]) -> bool:
    if any(isinstance(member, str) and len(member) > _MEMBER_LIMIT for name, member in jwk.items() if name not in ("x5c", "x5u")):
        return False
    if not isinstance(jwk.get("kty"), str) or jwk["kty"] not in _LOADERS or jwk.keys() & _PRIVATE:
        return False  # a shared secret (oct) or a private half that everybody can fetch proves nothing
    uses = jwk.get("key_ops", ["verify"])
    return jwk.get("use", "sig") == "sig" and isinstance(uses, list) and "verify" in uses and isinstance(jwk.get("alg", ""), str)


def _suitable(material: object) -> frozenset[str]:
    if isinstance(material, RSAPublicKey):
        return _RSA if material.key_size in _RSA_BITS else frozenset()
    if isinstance(material, EllipticCurvePublicKey):
        return _CURVES.get(material.curve.name, frozenset())
    return frozenset(("EdDSA",)) if isinstance(material, Ed25519PublicKey | Ed448PublicKey) else frozenset()


def _public(where: str, pem: bytes, listed: frozenset[str]) -> VerifyingKey:
    if b"PRIVATE KEY-----" in pem:
        raise _unfit(where, "holds a private key: the guard only verifies, give it the public one (`openssl pkey -pubout`)")
    if re.search(rb"-----BEGIN [A-Z ]*CERTIFICATE-----", pem):
        raise _unfit(where, "holds a certificate: give its public key (`openssl x509 -pubkey -noout`)")
    try:
        material = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise _unfit(where, "is not a PEM public key that can be read") from None
    if surplus := listed - _suitable(material):
        raise _unfit(where, f"this public key cannot be used with {', '.join(sorted(surplus))}: correct `algorithms`, or give a key of the right kind and size")
    return VerifyingKey("", listed, material)


def _shared(where: str, secret: bytes, listed: frozenset[str]) -> VerifyingKey:
    if surplus := listed - _SECRET_BYTES.keys():
        raise _unfit(where, f"holds no PEM public key, which {', '.join(sorted(surplus))} need")
    least = max(_SECRET_BYTES[name] for name in listed)
    if not least <= len(secret) <= _FILE_LIMIT:
        raise _unfit(where, f"the shared secret has {len(secret)} bytes: {max(listed)} needs at least {least}")
    try:
        HMACAlgorithm(HMACAlgorithm.SHA256).prepare_key(secret)
    except InvalidKeyError:
        raise _unfit(where, "looks like a public key in DER, SSH or JWK form, which must not serve as a shared secret") from None
    return VerifyingKey("", listed, secret)


def _unfit(where: str, what: str) -> PolicyError:
    return PolicyError([f"{where}: {what}"])
