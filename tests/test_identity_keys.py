"""Keys: each is good for its own algorithms and nothing else."""

from __future__ import annotations

import json
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from jwt.algorithms import RSAAlgorithm

from gateway_guard.errors import PolicyError
from gateway_guard.identity.keys import FixedKey, from_jwk
from tests.issuer import jwk, pem, private, private_pem

EVERY = frozenset(["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "HS256", "HS384", "HS512"])
MARK = b"MARKED-secret-of-32-bytes-or-more-0123456789abcdef"


def small(bits: int) -> rsa.RSAPublicKey:
    return rsa.generate_private_key(65537, bits).public_key()


@pytest.mark.parametrize(
    ("algorithm", "suits"),
    [
        ("RS256", {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        ("ES256", {"ES256"}),
        ("ES384", {"ES384"}),
        ("ES512", {"ES512"}),
        ("EdDSA", {"EdDSA"}),
    ],
)
def test_a_key_suits_its_own_algorithms(algorithm: str, suits: set[str], tmp_path: Path) -> None:
    key = from_jwk(jwk("k1", algorithm), EVERY)
    assert key is not None
    assert key.algorithms == suits
    assert key.kid == "k1"
    only = from_jwk(jwk("k1", algorithm, alg=algorithm), EVERY)
    assert only is not None
    assert only.algorithms == {algorithm}
    assert from_jwk(jwk("k1", algorithm), EVERY - suits) is None
    file = tmp_path / "key.pem"
    file.write_bytes(pem(algorithm))
    for name in EVERY - suits:
        with pytest.raises(PolicyError, match=f"this public key cannot be used with {name}"):
            FixedKey.load(file, [algorithm, name])
    fixed = FixedKey.load(file, [algorithm])
    assert fixed.find("", algorithm) is fixed.find("../../etc/passwd", algorithm) is not None
    assert fixed.find("", "HS256") is None


@pytest.mark.parametrize(
    "odd",
    [
        None,
        [],
        "key",
        {},
        {"kty": "oct", "k": "c2VjcmV0", "alg": "HS256", "kid": "k1"},
        {"kty": ["RSA"]},
        {"kty": "RSA"},
        {"kty": "RSA", "n": 5, "e": "AQAB"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        jwk(use="enc"),
        jwk(use=None),
        jwk(key_ops=["encrypt"]),
        jwk(key_ops="verify"),
        jwk(alg="HS256"),
        jwk(alg="none"),
        jwk(alg="ES256"),
        jwk(alg=7),
        {**jwk(), "kid": 7},
        jwk("k" * 257),
        jwk(d="AQAB"),
        jwk(k="c2VjcmV0"),
        jwk(n="A" * 10_000),
        jwk(e="A"),
        jwk(algorithm="ES256", x="AA"),
        jwk(algorithm="EdDSA", crv="X25519"),
        json.loads(RSAAlgorithm.to_jwk(small(1024))),
    ],
)
def test_what_is_no_public_signature_key_is_passed_over(odd: object) -> None:
    assert from_jwk(odd, EVERY) is None


members = st.none() | st.integers() | st.text(max_size=20) | st.lists(st.text(max_size=5), max_size=2)


@given(st.sampled_from(["RS256", "ES256", "EdDSA"]), st.dictionaries(st.sampled_from(["kty", "n", "e", "x", "y", "crv", "alg", "use", "kid"]), members))
def test_any_key_set_member_is_read_without_an_error(algorithm: str, changes: dict[str, Any]) -> None:
    key = from_jwk({**jwk("k1", algorithm), **changes}, EVERY)
    assert key is None or key.algorithms <= EVERY


@pytest.mark.parametrize("secret", [MARK, MARK + b"\n", MARK + b"\r\n"])
def test_a_shared_secret_is_for_hmac_only(tmp_path: Path, secret: bytes) -> None:
    file = tmp_path / "secret"
    file.write_bytes(secret)
    key = FixedKey.load(file, ["HS256"]).find("", "HS256")
    assert key is not None
    assert key.material == MARK
    assert "MARKED" not in repr(key)


@pytest.mark.parametrize(
    ("held", "algorithms", "message"),
    [
        (MARK, ["RS256"], "holds no PEM public key, which RS256 need"),
        (MARK, ["HS256", "RS256"], "holds no PEM public key"),
        (MARK[:31], ["HS256"], "the shared secret has 31 bytes: HS256 needs at least 32"),
        (MARK, ["HS256", "HS512"], "HS512 needs at least 64"),
        (b"", ["HS256"], "has 0 bytes"),
        (b"x" * 70_000, ["HS256"], "bytes"),
        (pem(), ["HS256"], "this public key cannot be used with HS256"),
        (b"\n " + pem(), ["HS256"], "this public key cannot be used with HS256"),
        (private().public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo), ["HS256"], "must not serve as a shared secret"),
        (private().public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH), ["HS256"], "must not serve as a shared secret"),
        (json.dumps(jwk()).encode(), ["HS256"], "must not serve as a shared secret"),
        (private_pem(), ["RS256"], "holds a private key"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ["RS256"], "holds a certificate"),
        (b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", ["RS256"], "is not a PEM public key that can be read"),
        (small(1024).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo), ["RS256"], "cannot be used with RS256"),
    ],
    ids=count(),  # the keys differ from process to process
)
def test_a_file_that_does_not_fit_is_refused_at_the_start(tmp_path: Path, held: bytes, algorithms: list[str], message: str) -> None:
    file = tmp_path / "key"
    file.write_bytes(held)
    with pytest.raises(PolicyError) as caught:
        FixedKey.load(file, algorithms)
    assert message in str(caught.value)
    assert "identity.jwt.key_file" in str(caught.value)
    assert "MARKED" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="cannot be read \\(No such file"):
        FixedKey.load(tmp_path / "none", ["RS256"])
