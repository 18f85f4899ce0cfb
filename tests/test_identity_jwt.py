"""Identity tokens: one that is right in all respects is taken, one that is wrong in any is not."""

from __future__ import annotations

import json
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.errors import RequestError, Unidentified
from gateway_guard.facts import Identity
from gateway_guard.identity.credentials import TOKEN_LIMIT
from gateway_guard.identity.jwt import Tokens
from gateway_guard.identity.keys import FixedKey, VerifyingKey, from_jwk
from gateway_guard.identity.pseudonyms import Pseudonyms
from tests.issuer import AT, AUDIENCE, CLAIMS, ISSUER, handmade, jwk, pem, rules, signed, token

pytestmark = pytest.mark.anyio
P = Pseudonyms(bytes(range(32)))
ACME = Identity(P.text("account", "acme"))
SECRET = b"MARKED-secret-of-32-bytes-or-more-0123456789abcdef"


class Ring:
    """Keys at hand, by id; counts how often one was looked for."""

    def __init__(self, *keys: VerifyingKey | None) -> None:
        self.keys = {key.kid: key for key in keys if key is not None}
        self.asked = 0

    def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        self.asked += 1
        key = self.keys.get(kid)
        return key if key is not None and algorithm in key.algorithms else None

    async def obtain(self, kid: str, algorithm: str, at: float) -> VerifyingKey | None:
        return self.find(kid, algorithm)

    async def close(self) -> None:
        self.keys.clear()


EVERY = ["RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA", "HS256"]


def tokens(ring: Ring | FixedKey | None = None, /, **changes: Any) -> Tokens:
    return Tokens(rules(**changes), ring or Ring(from_jwk(jwk(), frozenset(["RS256"]))), P)


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"])
async def test_a_good_token_of_every_algorithm(algorithm: str, tmp_path: Path) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(pem(algorithm))
    taken = tokens(FixedKey.load(file, [algorithm]), algorithms=[algorithm])
    assert await taken.verify(token(algorithm=algorithm), AT) == ACME
    assert await taken.verify(token(algorithm=algorithm, kid=None), AT) == ACME
    assert taken.recorded(token(algorithm=algorithm), AT) == ACME
    with pytest.raises(Unidentified, match="its signature is wrong"):
        await taken.verify(token(algorithm=algorithm, number=1), AT)


async def test_a_shared_secret() -> None:
    taken = tokens(FixedKey(VerifyingKey("", frozenset(["HS256"]), SECRET)), algorithms=["HS256"])
    assert await taken.verify(handmade({"alg": "HS256"}, secret=SECRET), AT) == ACME
    with pytest.raises(Unidentified) as caught:
        await taken.verify(handmade({"alg": "HS256"}, secret=SECRET[:-1]), AT)
    assert "MARKED" not in repr(caught.value)


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"iss": "https://evil.example/"}, "another issuer"),
        ({"iss": None}, "another issuer"),
        ({"iss": ISSUER.rstrip("/")}, "another issuer"),
        ({"iss": [ISSUER]}, "another issuer"),
        ({"aud": "other"}, "another audience"),
        ({"aud": None}, "another audience"),
        ({"aud": ["a", "b"]}, "another audience"),
        ({"aud": {AUDIENCE: 1}}, "another audience"),
        ({"aud": f"{AUDIENCE} x"}, "another audience"),
        ({"exp": None}, "`exp` is missing or is not a time"),
        ({"exp": str(AT + 600)}, "`exp` is missing or is not a time"),
        ({"exp": True}, "`exp` is missing or is not a time"),
        ({"exp": [AT]}, "`exp` is missing or is not a time"),
        ({"nbf": "now"}, "`nbf` is missing or is not a time"),
        ({"iat": False}, "`iat` is missing or is not a time"),
        ({"exp": AT - 31}, "has expired"),
        ({"exp": AT - 30}, "has expired"),
        ({"exp": 10**30, "iat": 10**30}, "not valid yet"),
        ({"nbf": AT + 31}, "not valid yet"),
        ({"iat": AT + 31}, "not valid yet"),
        ({"sub": None}, "has no `sub`"),
        ({"sub": ""}, "has no `sub`"),
        ({"sub": ["acme"]}, "`sub` is not a name"),
        ({"sub": True}, "`sub` is not a name"),
        ({"sub": "a" * 513}, "`sub` is not a name"),
    ],
)
async def test_wrong_claims(claims: dict[str, Any], why: str) -> None:
    with pytest.raises(Unidentified) as caught:
        await tokens().verify(claiming(claims), AT)
    assert why in str(caught.value)


def claiming(claims: dict[str, Any]) -> str:
    return signed(json.dumps({name: value for name, value in {**CLAIMS, **claims}.items() if value is not None}).encode())


@pytest.mark.parametrize(
    "claims",
    [
        {"exp": AT - 29.5},
        {"nbf": AT + 30},
        {"iat": AT + 30},
        {"iat": None},
        {"aud": ["other", AUDIENCE]},
        {"exp": AT + 10**9},
    ],
)
async def test_claims_within_the_leeway_and_forms_that_are_right_too(claims: dict[str, Any]) -> None:
    assert await tokens().verify(claiming(claims), AT) == ACME


async def test_time_is_the_callers_and_not_the_wall_clocks() -> None:
    long_ago = token({"iat": 1000, "exp": 2000})
    assert await tokens().verify(long_ago, 1500.0) == ACME
    assert time.time() > 2100
    with pytest.raises(Unidentified, match="expired"):
        await tokens().verify(long_ago, 2100.0)


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", "", "HS256", "hs256", "RS384", "ES256", "RS256 ", None, 7, ["RS256"]])
async def test_no_other_algorithm_is_taken(name: object) -> None:
    for odd in (handmade({"alg": name, "kid": "k1"}), handmade({"alg": name, "kid": "k1"}, secret=pem())):
        with pytest.raises(Unidentified, match="its algorithm is not taken here"):
            await tokens().verify(odd, AT)
    with pytest.raises(Unidentified, match="its algorithm is not taken here"):
        await tokens().verify(handmade({"kid": "k1"}), AT)


@pytest.mark.parametrize("confused", [pem(), pem().strip(), pem().replace(b"\n", b"")], ids=["pem", "stripped", "one line"])
async def test_a_public_key_never_serves_as_a_shared_secret(confused: bytes) -> None:
    ring = Ring(from_jwk(jwk(), frozenset(EVERY)))
    taken = tokens(ring, algorithms=EVERY)  # even where the policy's list has both kinds
    with pytest.raises(Unidentified, match="its key is not known"):
        await taken.verify(handmade({"alg": "HS256", "kid": "k1"}, secret=confused), AT)
    assert await taken.verify(token(), AT) == ACME


@pytest.mark.parametrize(
    ("header", "why"),
    [
        ({"kid": "../../x"}, "its key is not known"),
        ({"kid": "https://evil.example/jwks"}, "its key is not known"),
        ({"kid": "' OR 1=1 --"}, "its key is not known"),
        ({"kid": "\x00"}, "its key is not known"),
        ({"kid": "k" * 257}, "its key is not known"),
        ({"kid": 7}, "its key is not known"),
        ({"kid": ["k1"]}, "its key is not known"),
        ({"kid": "k" * 10_000}, "its header cannot be read"),
        ({"kid": "k1", "crit": ["exp"]}, "its header cannot be read"),
        ({"kid": "k1", "crit": []}, "its header cannot be read"),
        ({"kid": "k1", "b64": False, "crit": ["b64"]}, "its header cannot be read"),
        ({"kid": "k1", "b64": True}, "its header cannot be read"),
    ],
)
async def test_headers_that_ask_for_something(header: dict[str, Any], why: str) -> None:
    with pytest.raises(Unidentified) as caught:
        await tokens().verify(handmade({"alg": "RS256", **header}), AT)
    assert why in str(caught.value)


@pytest.mark.parametrize("name", ["jku", "x5u", "jwk", "x5c"])
async def test_a_key_that_the_token_brings_along_is_not_looked_at(name: str) -> None:
    evil: dict[str, Any] = {"jku": "https://evil.example/jwks", "x5u": "https://evil.example/c", "jwk": jwk("k1", number=1), "x5c": ["AAAA"]}
    with pytest.raises(Unidentified, match="its signature is wrong"):
        await tokens().verify(token(number=1, **{name: evil[name]}), AT)
    assert await tokens().verify(token(**{name: evil[name]}), AT) == ACME


def tampered(whole: str, part: int) -> str:
    parts = whole.split(".")
    parts[part] = ("A" if parts[part][0] != "A" else "B") + parts[part][1:]
    return ".".join(parts)


@pytest.mark.parametrize(
    "odd",
    [
        tampered(token(), 1),
        tampered(token(), 2),
        token().rsplit(".", 1)[0] + ".",
        token() + "=",
        token() + "!",
        "eyJ..",
        "eyJhbGciOiJSUzI1NiJ9..",
        "eyJ" + "A" * (TOKEN_LIMIT - 5) + "..",
        handmade({"alg": "RS256", "kid": "k1"}, [1]),
        handmade([]),
        handmade("x"),
    ],
    ids=count(),  # the tokens differ from process to process
)
async def test_damaged_tokens(odd: str) -> None:
    with pytest.raises(Unidentified) as caught:
        await tokens().verify(odd, AT)
    assert odd[3:40] not in str(caught.value) + str(caught.value.__cause__)


async def test_signed_nonsense() -> None:
    for payload in (b"", b"[]", b'"x"', b"\xff", b"[" * 100_000):
        with pytest.raises(Unidentified):
            await tokens().verify(signed(payload), AT)


@given(st.lists(st.text(alphabet="eyJhbGciOiJSUzI1NiJ9_-A=+!", max_size=40), min_size=3, max_size=3).map(".".join))
async def test_any_text_raises_nothing_but_refusals(odd: str) -> None:
    with pytest.raises(RequestError):
        await tokens().verify("eyJ" + odd, AT)


@pytest.mark.parametrize(
    ("claims", "paths", "expected"),
    [
        ({"org": "o", "plan": "team"}, {"org": "org", "plan": "plan"}, Identity(ACME.account, P.text("org", "o"), "team")),
        (
            {"customer": {"id": 17, "tier": {"name": "pro"}}},
            {"account": "customer.id", "plan": "customer.tier.name"},
            Identity(P.text("account", "17"), "", "pro"),
        ),
        ({"https://x.example/plan": "pro"}, {"plan": "https://x.example/plan"}, Identity(ACME.account, "", "pro")),
        ({"a.b": "whole", "a": {"b": "path"}}, {"plan": "a.b"}, Identity(ACME.account, "", "whole")),
        ({"org": None}, {"org": "org", "plan": "x.y.z"}, ACME),
        ({"org": "text"}, {"org": "org.id"}, ACME),
    ],
)
async def test_claims_are_found_by_dotted_paths(claims: dict[str, Any], paths: dict[str, Any], expected: Identity) -> None:
    assert await tokens(**paths).verify(token(claims), AT) == expected


@pytest.mark.parametrize("value", [["o"], {"id": "o"}, True, 1.5])
async def test_an_organisation_that_is_no_name_is_refused(value: object) -> None:
    with pytest.raises(Unidentified, match="its `org` is not a name"):
        await tokens(org="org").verify(token({"org": value}), AT)


async def test_a_verified_token_is_remembered_until_it_expires() -> None:
    ring = Ring(from_jwk(jwk(), frozenset(["RS256"])))
    taken = tokens(ring, refresh=3600.0)
    good = token({"exp": AT + 600})
    for at in (AT, AT + 1, AT + 629):
        assert await taken.verify(good, at) == ACME
    assert ring.asked == 1
    with pytest.raises(Unidentified, match="expired"):
        await taken.verify(good, AT + 630)
    with pytest.raises(Unidentified, match="not valid yet"):
        await taken.verify(good, AT - 100)


async def test_a_withdrawn_key_stops_working_within_a_refresh() -> None:
    ring = Ring(from_jwk(jwk(), frozenset(["RS256"])))
    taken = tokens(ring, refresh=60.0)
    good = token()
    assert await taken.verify(good, AT) == ACME
    await taken.close()
    assert await taken.verify(good, AT + 59) == ACME
    with pytest.raises(Unidentified, match="key is not known"):
        await taken.verify(good, AT + 60)


async def test_what_was_refused_is_not_remembered() -> None:
    ring = Ring()
    taken = tokens(ring)
    good = token()
    with pytest.raises(Unidentified):
        await taken.verify(good, AT)
    ring.keys["k1"] = from_jwk(jwk(), frozenset(["RS256"]))  # type: ignore[assignment]
    assert await taken.verify(good, AT) == ACME
    with pytest.raises(Unidentified):
        await taken.verify(tampered(good, 2), AT)
