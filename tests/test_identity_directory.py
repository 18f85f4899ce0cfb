"""The account directory: what is read, what is refused and with which words."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_guard.errors import DirectoryError
from gateway_guard.facts import Identity
from gateway_guard.identity.address import prefix
from gateway_guard.identity.columns import Builder
from gateway_guard.identity.directory import CallableDirectory, CsvDirectory
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.identity.records import identity

P = Pseudonyms(bytes(range(32)))
MARK = "sk-MARKED-0123456789abcdef"
HEADER = "key,account,created_at,plan,org,payment,email_domain,signup_ip"
ACME = Identity(
    account=P.text("account", "acme"),
    org=P.text("org", "Acme Ltd"),
    plan="team",
    created_at=1767225600.5,
    payment=P.number("payment", "fp1"),
    email_domain=P.number("email_domain", "acme.example"),
    signup=P.number("network", "198.51.100.0/24"),
)


def load(tmp_path: Path, text: str | bytes) -> CsvDirectory:
    path = tmp_path / "accounts.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return CsvDirectory.load(path, P)


def by_key(directory: CsvDirectory, key: str) -> Identity | None:
    return directory.find(P.text("credential", key))


def test_every_column_is_hashed_into_the_identity(tmp_path: Path) -> None:
    directory = load(tmp_path, f"{HEADER}\n{MARK},acme,1767225600.5,team,Acme Ltd,fp1,ACME.example,198.51.100.9\n")
    assert by_key(directory, MARK) == ACME
    assert by_key(directory, MARK) == ACME  # the second time from what is remembered
    assert directory.account(ACME.account) == ACME
    assert directory.name(ACME.account) == "acme"
    assert len(directory) == 1
    assert MARK not in repr(directory)


@pytest.mark.parametrize(
    "text",
    [
        "account\nacme\n",
        "\ufeffaccount\r\nacme\r\n",
        "account,shoe_size\nacme,44\n",
        "account , plan\nacme,\n",
        f"{HEADER}\n,acme,,,,,,\n",
        "account\n\nacme\n\n",
        '"account","plan"\n"acme",""',
        " account\n acme \n",
        "key,account\n,acme\n,acme\n",
    ],
)
def test_everything_but_the_account_may_be_missing(tmp_path: Path, text: str) -> None:
    directory = load(tmp_path, text)
    assert directory.account(P.text("account", "acme")) == Identity(P.text("account", "acme"))
    assert len(directory) == 1


def test_an_unknown_name_is_nobody(tmp_path: Path) -> None:
    directory = load(tmp_path, f"key,account\n{MARK},acme\n")
    assert by_key(directory, "other") is None
    assert directory.account(P.text("account", "other")) is None
    assert directory.name("f" * 20) == "f" * 20
    assert directory.find(ACME.account) is None
    assert directory.account(P.text("credential", MARK)) is None
    for odd in ("", "zz", "g" * 20, "1" * 40):
        assert directory.find(odd) is None


def test_a_hashed_key_stands_for_the_key(tmp_path: Path) -> None:
    directory = load(tmp_path, f"key,account\nhashed:{P.text('credential', MARK)},acme\n")
    found = by_key(directory, MARK)
    assert found is not None
    assert found.account == ACME.account


def test_an_account_may_have_several_keys_and_tell_of_itself_in_pieces(tmp_path: Path) -> None:
    directory = load(tmp_path, f"{HEADER}\nk1,acme,,team,,,,\nk2,acme,1767225600.5,,Acme Ltd,fp1,,\nk1,acme,,,,,acme.example,198.51.100.1\nk3,other,,,,,,\n")
    assert by_key(directory, "k1") == by_key(directory, "k2") == directory.account(ACME.account) == ACME
    assert len(directory) == 2


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("", 1, "no `account` column: the first line names the columns"),
        ("key,name\nk,acme\n", 1, "no `account` column"),
        ("account,plan,plan\nacme,a,b\n", 1, "column `plan` is there twice"),
        ("account,plan\nacme,a\n,b\n", 3, "`account` is empty"),
        ("account,created_at\nacme,2026-01-01\n", 2, "`created_at` is not a time: give seconds since 1970"),
        ("account,created_at\nacme,1767225600000\n", 2, "`created_at` is not a time"),
        ("account,created_at\nacme,-1\n", 2, "`created_at` is not a time"),
        ("account,created_at\nacme,nan\n", 2, "`created_at` is not a time"),
        ("account,created_at\nacme,inf\n", 2, "`created_at` is not a time"),
        ("account,signup_ip\nacme,somewhere\n", 2, "`signup_ip` is not an IP address"),
        ("key,account\nk,a\nx,c\nk,b\n", 4, "one key for two accounts (the other is in line 2)"),
        ("key,account,plan\nk,a,free\nl,a,team\n", 3, "two values of `plan` for one account (the other is in line 2)"),
        ("account,org\na,x\na,\na,y\n", 4, "two values of `org` for one account"),
        ("account,payment\na,\na,x\na,y\n", 3, "two values of `payment` for one account"),
        ("account,plan\nacme\n", 2, "1 fields where the header has 2"),
        ("account\nacme\nother,1\n", 3, "2 fields where the header has 1"),
        ('account\n"acme\n', 2, "not CSV"),
        (f"account\n{'a' * 1025}\n", 2, "`account` has 1025 characters"),
        (f"key,account\n{'a' * 4097},x\n", 2, "`key` has 4097 characters"),
        (f"account\n{'a' * 200_000}\n", 2, "not CSV (field larger than field limit"),
        (b"account,plan\nacme,free\ncaf\xe9,free\n", 3, "not UTF-8: save the file in UTF-8"),
        ("account\nac\x1b[2Jme\n", 2, "control characters"),
        ("account,plan\nacme,\x00\n", 2, "control characters"),
    ],
)
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str | bytes, line: int, message: str) -> None:
    with pytest.raises(DirectoryError) as caught:
        load(tmp_path, text)
    assert f"accounts.csv:{line}: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_mistake_beside_a_key_does_not_tell_the_key(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError) as caught:
        load(tmp_path, f"key,account,created_at\n{MARK},{MARK},{MARK}\n")
    assert MARK not in str(caught.value) + repr(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DirectoryError, match="cannot be read \\(No such file or directory\\)"):
        CsvDirectory.load(tmp_path / "none.csv", P)
    with pytest.raises(DirectoryError, match="cannot be read"):
        CsvDirectory.load(tmp_path, P)


def test_reloaded_is_the_same_until_the_file_changes(tmp_path: Path) -> None:
    first = load(tmp_path, "account\nacme\n")
    assert first.reloaded() is first
    aside = tmp_path / "new"
    aside.write_text("account\nacme\nother\n")
    aside.rename(tmp_path / "accounts.csv")
    second = first.reloaded()
    assert (len(first), len(second)) == (1, 2)
    (tmp_path / "accounts.csv").write_text("account\nacme\n,\n")
    with pytest.raises(DirectoryError):
        second.reloaded()
    assert len(second) == 2
    (tmp_path / "accounts.csv").unlink()
    with pytest.raises(DirectoryError, match="cannot be read"):
        second.reloaded()


def test_a_file_that_changes_under_the_reader_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "accounts.csv"
    build = Builder.build

    def meanwhile(builder: Builder) -> object:
        os.truncate(path, 8)
        return build(builder)

    monkeypatch.setattr(Builder, "build", meanwhile)
    with pytest.raises(DirectoryError, match="changed while it was read"):
        load(tmp_path, "account\nacme\nother\n")


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).map(str.strip).filter(bool)


@settings(max_examples=50)
@given(st.dictionaries(names, st.tuples(st.sets(names, max_size=3), st.sampled_from(["", "free", "team"])), max_size=40), st.randoms(use_true_random=False))
def test_columns_hold_what_a_dict_would(accounts: dict[str, tuple[set[str], str]], rng: random.Random) -> None:
    owners: dict[str, str] = {}
    for account, (keys, _) in accounts.items():
        owners.update(dict.fromkeys(keys, account))
    rows = list(owners.items()) + [("", account) for account in accounts]
    rng.shuffle(rows)
    builder = Builder()
    for line, (key, account) in enumerate(rows):
        builder.add(P.text("credential", key) if key else "", account, Identity(P.text("account", account), plan=accounts[account][1]), line)
    columns = builder.build()
    assert len(columns.accounts) == len(accounts)
    for account, (_, plan) in accounts.items():
        row = columns.accounts.row(P.text("account", account))
        assert columns.name(row) == account
        assert columns.identity(row) == Identity(P.text("account", account), plan=plan)
    for key, account in owners.items():
        assert columns.name(columns.credentials.row(P.text("credential", key))) == account


def test_equal_upper_bits_are_told_apart() -> None:
    builder = Builder()
    names = ["0" * 16 + f"{number:04x}" for number in (3, 1, 2)]
    for line, name in enumerate(names):
        builder.add(name, name, Identity(name), line)
    columns = builder.build()
    assert [columns.name(columns.credentials.row(name)) for name in names] == names
    assert columns.credentials.row("0" * 20) == -1
    assert columns.credentials.row("0" * 16 + "0004") == -1


@pytest.mark.anyio
async def test_a_function_is_asked_for_the_raw_key() -> None:
    record = {"account": "acme", "created_at": 1767225600.5, "plan": "team", "org": "Acme Ltd", "payment": "fp1", "email_domain": "Acme.Example"}

    def plain(key: str) -> Mapping[str, object] | None:
        return {**record, "signup_ip": "198.51.100.77", "password": "x"} if key == MARK else None

    async def waiting(key: str) -> Mapping[str, object] | None:
        return plain(key)

    for function in (plain, waiting):
        directory = CallableDirectory(function, P)
        assert await directory.find(MARK) == ACME
        assert await directory.find("other") is None


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (KeyError(MARK), "raised KeyError"),
        (ValueError(MARK), "raised ValueError"),
        ({}, "`account` is empty"),
        ({"account": True}, "`account` is not text"),
        ({"account": ["a"]}, "`account` is not text"),
        ({"account": "a", "created_at": "yesterday"}, "`created_at` is not a time"),
        ({"account": "a", "created_at": True}, "`created_at` is not a time"),
        ({"account": "a", "created_at": 10**400}, "`created_at` is not a time"),
        ({"account": "a", "signup_ip": 7}, "`signup_ip` is not an IP address"),
    ],
)
async def test_a_function_that_fails_does_not_give_the_key_away(answer: object, message: str) -> None:
    def function(key: str) -> Mapping[str, object] | None:
        if isinstance(answer, Exception):
            raise answer
        return answer  # type: ignore[return-value]

    with pytest.raises(DirectoryError) as caught:
        await CallableDirectory(function, P).find(MARK)
    assert message in str(caught.value)
    assert MARK not in str(caught.value) + str(caught.value.__context__)


def test_an_integer_account_is_its_digits() -> None:
    assert identity({"account": 17}, P) == identity({"account": "17"}, P)
    assert identity({"account": "a", "signup_ip": "2001:db8:1:2::3"}, P).signup == P.number("network", prefix("2001:db8:1::"))
