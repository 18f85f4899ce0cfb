"""One secret a request, read as the server behind reads it; and nothing of it left in a record."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.errors import RequestError, Unidentified
from gateway_guard.identity.credentials import KEY_LIMIT, SECRET, TOKEN_LIMIT, Credentials, KeyHeader, hide, is_token, recorded_form
from gateway_guard.identity.headers import Pairs
from gateway_guard.identity.pseudonyms import Pseudonyms

MARK = "sk-MARKED-0123456789abcdef"
ALL: list[KeyHeader] = ["authorization", "x-api-key", "api-key"]
PSEUDONYMS = Pseudonyms(bytes(range(32)))
HASH = PSEUDONYMS.text("credential", MARK)
TOKEN = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln"


def pairs(*lines: str) -> Pairs:
    return [(name.encode(), value.encode("latin-1")) for name, _, value in (line.partition(": ") for line in lines)]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([f"authorization: Bearer {MARK}"], MARK),
        ([f"authorization: bEARER   {MARK} \t"], MARK),
        ([f"authorization:  Bearer {MARK}"], MARK),
        ([f"x-api-key: {MARK}"], MARK),
        ([f"api-key:  {MARK} "], MARK),
        ([f"authorization: Bearer {MARK}", f"x-api-key: {MARK}"], MARK),  # the same twice is one
        ([f"x-api-key: {MARK}", f"x-api-key: {MARK}"], MARK),
        (["authorization: Bearer ", f"x-api-key: {MARK}"], MARK),  # SDKs without a key send an empty one
        (["authorization: ", "x-api-key: "], None),
        (["authorization: bearer"], None),
        (["cookie: a=b", "host: x"], None),
        ([], None),
        ([f"x-api-key: {'k' * KEY_LIMIT}"], "k" * KEY_LIMIT),
    ],
)
def test_the_secret_is_found(lines: list[str], expected: str | None) -> None:
    assert Credentials(ALL).secret(pairs(*lines)) == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([f"authorization: Bearer {MARK}", "x-api-key: other"], "two different"),
        ([f"x-api-key: {MARK}", "x-api-key: other"], "two different"),
        ([f"x-api-key: {MARK}", "x-api-key: ", f"api-key: {MARK}2"], "two different"),
        ([f"authorization: Bearer {MARK}", f"authorization: Bearer {MARK.upper()}"], "two different"),
        ([f"authorization: Basic {MARK}"], "another scheme"),
        ([f"authorization: {MARK}"], "another scheme"),
        ([f"authorization: Bearer\t{MARK}"], "another scheme"),
        ([f"authorization: Token {MARK}", f"x-api-key: {MARK}"], "another scheme"),
        ([f"authorization: Bearer {MARK}, Bearer other"], "cannot be read"),
        ([f"x-api-key: {MARK},other"], "cannot be read"),
        ([f"x-api-key: {MARK} other"], "cannot be read"),
        ([f"x-api-key: {MARK}\x00"], "cannot be read"),
        ([f"x-api-key: {MARK}\xe9"], "cannot be read"),
        ([f"x-api-key: {'k' * (KEY_LIMIT + 1)}"], "too long"),
        ([f"authorization: Bearer eyJ{'k' * TOKEN_LIMIT}"], "too long"),
    ],
)
def test_an_ambiguous_credential_is_refused(lines: list[str], message: str) -> None:
    with pytest.raises(Unidentified) as caught:
        Credentials(ALL).secret(pairs(*lines))
    assert message in str(caught.value)
    assert MARK not in repr(caught.value) + str(caught.value.__context__)


def test_only_the_policys_headers_are_read() -> None:
    reader = Credentials(["x-api-key"])
    assert reader.secret(pairs("authorization: Basic abc", "api-key: other", f"x-api-key: {MARK}")) == MARK
    assert str(reader.missing()) == "No credential was given: send `x-api-key: KEY`."


def test_tokens_are_taken_from_authorization_even_where_keys_are_not() -> None:
    reader = Credentials(["x-api-key"], tokens=True)
    assert reader.secret(pairs(f"authorization: Bearer {TOKEN}")) == TOKEN
    assert reader.secret(pairs(f"x-api-key: {MARK}")) == MARK
    for refused in (MARK, f"hashed:{HASH}"):
        with pytest.raises(Unidentified, match="no identity token"):
            reader.secret(pairs(f"authorization: Bearer {refused}"))
    assert reader.secret(pairs(f"authorization: Bearer account:{HASH}"), recorded=True) == f"account:{HASH}"
    with pytest.raises(Unidentified, match="two different"):
        reader.secret(pairs(f"authorization: Bearer {TOKEN}", f"x-api-key: {MARK}"))
    assert "Bearer TOKEN" in str(reader.missing())


@pytest.mark.parametrize(("text", "expected"), [(TOKEN, True), ("eyJ..", True), ("eyJ.a", False), ("a.b.c", False), ("eyJ.a.b.c", False), (MARK, False)])
def test_the_form_of_a_token(text: str, expected: bool) -> None:
    assert is_token(text) is expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"hashed:{HASH}", (HASH, False)),
        (f"account:{HASH}", (HASH, True)),
        (f"hashed:{HASH[:-1]}", None),
        (f"hashed:{HASH.upper()}", None),
        (f"hashed:{HASH}\n", None),
        (f"Hashed:{HASH}", None),
        (HASH, None),
    ],
)
def test_the_form_of_a_recorded_credential(text: str, expected: tuple[str, bool] | None) -> None:
    assert recorded_form(text) == expected


OTHER = PSEUDONYMS.text("secret", MARK)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (f"authorization: Bearer {MARK}", f"authorization: Bearer hashed:{HASH}"),
        (f"authorization: bEARER  {MARK} ", f"authorization: bEARER hashed:{HASH}"),
        (f"authorization: Basic {MARK}", f"authorization: Basic hashed:{HASH}"),
        (f"authorization: {MARK}", f"authorization: hashed:{HASH}"),
        (f"proxy-authorization: Basic {MARK}", f"proxy-authorization: Basic hashed:{OTHER}"),
        (f"x-api-key: {MARK}", f"x-api-key: hashed:{HASH}"),
        (f"api-key: {MARK}", f"api-key: hashed:{HASH}"),
        (f"cookie: {MARK}", f"cookie: hashed:{OTHER}"),
        ("x-api-key: ", "x-api-key: "),
        ("authorization: Bearer ", "authorization: Bearer "),
        (f"user-agent: {MARK}", f"user-agent: {MARK}"),
    ],
)
def test_a_recorder_hides_the_secret_and_nothing_else(sent: str, kept: str) -> None:
    assert hide(pairs(sent), PSEUDONYMS) == pairs(kept)


def test_a_first_word_that_is_no_scheme_is_part_of_the_secret() -> None:
    [(_, value)] = hide(pairs(f"authorization: {MARK} and more"), PSEUDONYMS)
    assert value.startswith(b"hashed:")
    assert MARK.encode() not in value


def test_names_and_order_stay_and_named_headers_are_hidden_by_their_kind() -> None:
    sent = pairs("host: h", f"x-account: {MARK}", f"x-api-key: {MARK}", "accept: */*")
    kept = hide(sent, PSEUDONYMS, named={b"x-account": "account"})
    assert kept == pairs("host: h", f"x-account: hashed:{PSEUDONYMS.text('account', MARK)}", f"x-api-key: hashed:{HASH}", "accept: */*")


def test_the_account_stands_for_its_credential_but_not_for_other_secrets() -> None:
    kept = hide(pairs(f"authorization: Bearer {TOKEN}", f"cookie: {MARK}"), PSEUDONYMS, account="a" * 20, tokens=True)
    assert kept == pairs(f"authorization: Bearer account:{'a' * 20}", f"cookie: hashed:{OTHER}")


@pytest.mark.parametrize("form", ["hashed", "account"])
def test_a_recorded_form_in_live_traffic_is_a_key_like_any_other(form: str) -> None:
    [(_, value)] = hide(pairs(f"x-api-key: {form}:{HASH}"), PSEUDONYMS)
    assert value == f"hashed:{PSEUDONYMS.text('credential', f'{form}:{HASH}')}".encode()


def test_hiding_a_log_again_changes_nothing() -> None:
    sent = pairs(f"authorization: Bearer {MARK}", f"x-api-key: {MARK}\xe9", f"cookie: {MARK}", f"api-key: {TOKEN}", "authorization: Digest a, b")
    once = hide(sent, PSEUDONYMS, tokens=True)
    assert hide(once, PSEUDONYMS, recorded=True) == once
    assert hide(once, PSEUDONYMS) != once


@pytest.mark.parametrize("line", [f"x-api-key: {MARK}\xe9", f"x-api-key: a,{MARK}", f"authorization: Bearer {'k' * 5000}", f"authorization: Bearer {TOKEN}"])
def test_what_was_refused_live_is_refused_from_the_record(line: str) -> None:
    kept = hide(pairs(line), PSEUDONYMS, tokens=True)
    with pytest.raises(Unidentified):
        Credentials(ALL, tokens=True).secret(kept, recorded=True)


secrets = st.binary(min_size=12, max_size=60).filter(lambda secret: len(secret.strip(b" \t")) >= 12)


@given(st.lists(st.tuples(st.sampled_from(sorted(SECRET)), secrets), max_size=5))
def test_no_secret_survives(headers: Pairs) -> None:
    for (name, value), (kept, hidden) in zip(headers, hide(headers, PSEUDONYMS), strict=True):
        assert name == kept
        assert value.strip(b" \t") not in hidden
        assert re.search(rb"hashed:[0-9a-f]{20}", hidden)


@given(st.lists(st.tuples(st.sampled_from(ALL), st.binary(max_size=40) | st.just(MARK.encode())), max_size=4), st.booleans(), st.booleans())
def test_arbitrary_bytes_raise_nothing_but_refusals(sent: list[tuple[str, bytes]], tokens: bool, recorded: bool) -> None:
    headers = [(name.encode(), value) for name, value in sent]
    try:
        found = Credentials(ALL, tokens=tokens).secret(headers, recorded=recorded)
    except RequestError:
        return
    assert found is None or (found.isascii() and found.isprintable() and " " not in found)
