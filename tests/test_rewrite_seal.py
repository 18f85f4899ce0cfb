"""Sealed state opens to what was sealed, for nobody without the key, and only whole."""

from __future__ import annotations

import base64

from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.facts import STATES
from gateway_guard.rewrite.returned import verdict
from gateway_guard.rewrite.seal import MARK, NOBODY, Opened, Sealer, Seals, is_sealed

SEALS = Seals(b"k" * 32)
ALICE, BOB = SEALS.owner("account/alice"), SEALS.owner("account/bob")


@given(content=st.binary(max_size=200), kind=st.sampled_from(["blob", "block"]))
def test_what_is_sealed_opens_again(content: bytes, kind: str) -> None:
    blob = SEALS.seal(content, ALICE, kind)  # type: ignore[arg-type]
    assert SEALS.open(blob) == Opened(ALICE, kind, content)  # type: ignore[arg-type]
    assert SEALS.seal(content, ALICE, kind) == blob, "the same state is the same blob"  # type: ignore[arg-type]
    assert base64.b64decode(blob, validate=True), "a client that checks for base64 finds it"
    assert Seals(b"K" * 32).open(blob) is None


@given(flip=st.integers(0, 8 * 60 - 1))
def test_no_bit_of_it_can_be_changed(flip: int) -> None:
    sealed = bytearray(base64.b64decode(SEALS.seal(b"x" * 40, ALICE)[len(MARK) :]))
    at = flip % (8 * len(sealed))
    sealed[at // 8] ^= 1 << at % 8
    assert SEALS.open(MARK + base64.b64encode(bytes(sealed)).decode()) is None


@given(text=st.text(max_size=60))
def test_no_text_makes_it_raise(text: str) -> None:
    assert SEALS.open(MARK + text) is None


def test_owners_are_told_apart_by_account_and_by_conversation() -> None:
    owners = {SEALS.owner(*who) for who in (("a",), ("b",), ("a", ""), ("a", "x"), ("a\0x",), ("a", "\ud800"))}
    assert len(owners) == 6
    assert Seals(b"other key, other owners, 32 bytes").owner("account/alice") != ALICE


def test_the_most_telling_blob_decides() -> None:
    mine, other = SEALS.seal(b"m", ALICE), SEALS.seal(b"o", BOB)
    hidden, free = SEALS.seal(b"{}", NOBODY, "block"), SEALS.seal(b"s", NOBODY)
    cases = {"own": [mine, hidden], "unbound": [mine, "EqQB"], "foreign": ["EqQB", other, mine], "altered": [other, mine[:-4]]}
    assert {name: verdict(blobs, ALICE, SEALS) for name, blobs in cases.items()} == {name: name for name in STATES}
    assert verdict([free], ALICE, SEALS) == "unbound"
    assert verdict([], ALICE, SEALS) == "own"


def test_a_blob_is_sealed_once() -> None:
    sealer = Sealer(SEALS, ALICE, binds=True)
    once = sealer.blob("EqQB")
    assert is_sealed(once)
    assert (sealer.blob(once), sealer.blob("")) == (once, "")
