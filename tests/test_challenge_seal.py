"""Statements of the guard: nobody else makes them, and they hold for their time and purpose only."""

from __future__ import annotations

import base64
import hmac
import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.challenge.seal import SKEW, Seal, derived
from tests.fakes import KEY

NOON = 1_795_000_000.0
CLAIMS: dict[str, Any] = {"for": "somebody", "iat": NOON, "exp": NOON + 100}
SEAL = Seal(KEY, "gg-pass", ["b", "a"])
TOKEN = SEAL.sign(CLAIMS)
MINE = derived(KEY, "gg-pass", "b")


def encoded(held: Any) -> str:
    return base64.urlsafe_b64encode(held if isinstance(held, bytes) else json.dumps(held).encode()).decode().rstrip("=")


def forged(header: dict[str, Any], key: bytes = b"", claims: dict[str, Any] = CLAIMS) -> str:
    stem = f"{encoded(header)}.{encoded(claims)}"
    return f"{stem}.{encoded(hmac.digest(key, stem.encode(), 'sha256')) if key else ''}"


def test_what_was_signed_is_read() -> None:
    assert SEAL.read(TOKEN, NOON) == CLAIMS
    assert jwt.get_unverified_header(TOKEN) == {"alg": "HS256", "kid": "b", "typ": "gg-pass+jwt"}


def public_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key()
    return key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


GOOD = {"alg": "HS256", "kid": "b", "typ": "gg-pass+jwt"}
FORGED = {
    "no signature": forged({**GOOD, "alg": "none"}),
    "no signature, spelled otherwise": forged({**GOOD, "alg": "nOnE"}),
    "no signature under an algorithm": forged(GOOD),
    "another key": forged(GOOD, b"x" * 32),
    "the guard's own secret instead of one derived from it": forged(GOOD, KEY),
    "an empty key": forged(GOOD, b"\0"),
    "another algorithm under the right key": forged({**GOOD, "alg": "HS512"}, MINE),
    "a public key's bytes as the secret": forged({**GOOD, "alg": "HS256", "kid": "rsa"}, public_key()),
    "RS256 said, HS256 done": forged({**GOOD, "alg": "RS256"}, MINE),
    "a key that is not listed": forged({**GOOD, "kid": "c"}, derived(KEY, "gg-pass", "c")),
    "a path for a kid": forged({**GOOD, "kid": "../../../../dev/null"}, b"\0"),
    "an injection for a kid": forged({**GOOD, "kid": "x' UNION SELECT 'k"}, b"k"),
    "a list for a kid": forged({**GOOD, "kid": ["b"]}, MINE),
    "no kid": forged({"alg": "HS256", "typ": "gg-pass+jwt"}, MINE),
    "a key in the header": forged({"alg": "HS256", "typ": "gg-pass+jwt", "kid": "x", "jwk": {"kty": "oct", "k": "eA"}, "jku": "https://evil"}, b"x"),
    "the key of another purpose": forged(GOOD, derived(KEY, "gg-challenge", "b")),
    "a statement of another purpose": Seal(KEY, "gg-challenge", ["b"]).sign(CLAIMS),
    "no type": forged({"alg": "HS256", "kid": "b"}, MINE),
    "no times": forged(GOOD, MINE, {"for": "somebody"}),
    "times that are no numbers": forged(GOOD, MINE, {**CLAIMS, "exp": True}),
    "times that are texts": forged(GOOD, MINE, {**CLAIMS, "exp": "9" * 12}),
    "an end beyond all times": forged(GOOD, MINE, {**CLAIMS, "exp": 1e300}),
    "a payload that is a list": f"{encoded(GOOD)}.{encoded([1])}.{encoded(hmac.digest(MINE, f'{encoded(GOOD)}.{encoded([1])}'.encode(), 'sha256'))}",
    "a header of a thousand brackets": encoded(b"[" * 1400) + ".e30.x",
    "longer than a token is": TOKEN + "A" * 4000,
    "nothing": "",
    "dots": "..",
    "not ASCII": TOKEN + "é",
}


@pytest.mark.parametrize("token", FORGED.values(), ids=FORGED.keys())
def test_nothing_else_is_read(token: str) -> None:
    assert SEAL.read(token, NOON) is None


@given(st.integers(0, len(TOKEN) - 1), st.sampled_from("ABCabc019-_.="))
def test_no_character_can_be_changed(at: int, char: str) -> None:
    """Every bit of a signature counts, but for the last four of a base64 text, which stand for nothing."""
    changed = TOKEN[:at] + char + TOKEN[at + 1 :]
    if changed != TOKEN and at < len(TOKEN) - 1:
        assert SEAL.read(changed, NOON) is None
    assert SEAL.read(TOKEN[:at], NOON) is None


@pytest.mark.parametrize(
    ("at", "holds"),
    [(NOON, True), (NOON + 99.999, True), (NOON + 100, False), (NOON + 1e9, False), (NOON - SKEW, True), (NOON - SKEW - 0.001, False), (0.0, False)],
)
def test_it_holds_for_its_time(at: float, holds: bool) -> None:
    assert (SEAL.read(TOKEN, at) is not None) is holds


def test_keys_rotate_by_their_names() -> None:
    """The first name signs, all listed ones are read, and a name that is taken out ends what it signed."""
    before, between, after = Seal(KEY, "gg-pass", ["a"]), SEAL, Seal(KEY, "gg-pass", ["b"])
    old, new = before.sign(CLAIMS), between.sign(CLAIMS)
    assert [seal.read(old, NOON) is not None for seal in (before, between, after)] == [True, True, False]
    assert [seal.read(new, NOON) is not None for seal in (before, between, after)] == [False, True, True]


def test_another_guard_reads_nothing() -> None:
    assert Seal(KEY + b"!", "gg-pass", ["b"]).read(TOKEN, NOON) is None


def test_keys_have_nothing_in_common() -> None:
    keys = {derived(secret, purpose, name) for secret in (KEY, b"k" * 40) for purpose in ("gg-pass", "gg-challenge") for name in ("1", "2", "")}
    assert len(keys) == 12
    assert all(len(key) == 32 for key in keys)
