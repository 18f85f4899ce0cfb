"""Who asks, live and from a record: the same answer at both doors, and no way to be somebody else."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st

from gateway_guard.errors import DirectoryError, PolicyError, RequestError, Unidentified, UsageError
from gateway_guard.facts import Identity
from gateway_guard.identity.assemble import identifier
from gateway_guard.identity.directory import CallableDirectory, CsvDirectory
from gateway_guard.identity.headers import Pairs
from gateway_guard.identity.identify import Identifier
from gateway_guard.identity.jwt import Tokens
from gateway_guard.identity.keys import FixedKey, VerifyingKey
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.policy.model import IdentityRules
from tests.issuer import AT, KeyServer, handmade, jwk, pem, private, rules, token
from tests.served import served

pytestmark = pytest.mark.anyio
P = Pseudonyms(bytes(range(32)))
MARK = "sk-MARKED-0123456789abcdef"
PEER = "203.0.113.5"
PROXY = "10.0.0.1"
BY_KEY = Identity(P.text("credential", MARK))
TABLE = f"key,account,created_at,plan,org\n{MARK},acme,1767225600,team,Acme\nsk-other,other,,free,\n"
ACME = Identity(P.text("account", "acme"), P.text("org", "Acme"), "team", 1767225600.0)
HEADER = {"account": "X-Account", "org": "X-Org", "plan": "X-Plan"}


def pairs(*lines: str) -> Pairs:
    return [(name.encode(), value.encode()) for name, _, value in (line.partition(": ") for line in lines)]


BEARER = pairs(f"authorization: Bearer {MARK}")


@pytest.fixture
def table(tmp_path: Path) -> CsvDirectory:
    (tmp_path / "accounts.csv").write_text(TABLE)
    return CsvDirectory.load(tmp_path / "accounts.csv", P)


def made(directory: CsvDirectory | None = None, callable: CallableDirectory | None = None, **changes: Any) -> Identifier:
    tokens = None
    if "jwt" in changes:
        tokens = Tokens(changes["jwt"], FixedKey(VerifyingKey("", frozenset(["RS256"]), private().public_key())), P)
    return Identifier(IdentityRules.model_validate(changes), P, directory, tokens, callable)


async def test_without_a_directory_an_account_is_its_credential() -> None:
    who = made()
    assert await who.identify(BEARER, PEER, AT) == BY_KEY
    assert await who.identify(pairs(f"x-api-key: {MARK}"), PEER, AT) == BY_KEY
    assert who.identify_key(MARK) == BY_KEY


async def test_a_directory_knows_the_account_behind_a_key(table: CsvDirectory) -> None:
    assert await made(table).identify(BEARER, PEER, AT) == ACME
    unknown = pairs("x-api-key: sk-unknown")
    assert await made(table).identify(unknown, PEER, AT) == Identity(P.text("credential", "sk-unknown"))
    with pytest.raises(Unidentified, match="The API key is not known"):
        await made(table, unknown_keys="refuse").identify(unknown, PEER, AT)


async def test_the_directory_can_be_replaced_by_one_assignment(table: CsvDirectory) -> None:
    who = made()
    who.directory = table
    assert await who.identify(BEARER, PEER, AT) == ACME


@pytest.mark.parametrize("form", ["hashed", "account"])
async def test_live_traffic_cannot_present_what_a_log_holds(form: str, table: CsvDirectory) -> None:
    victim = P.text("credential", MARK) if form == "hashed" else ACME.account
    stolen = pairs(f"authorization: Bearer {form}:{victim}")
    who = made(table)
    assert await who.identify(stolen, PEER, AT) == Identity(P.text("credential", f"{form}:{victim}"))
    assert who.recorded(stolen, PEER, AT) == ACME
    # ... nor by way of a recorder.
    assert who.recorded(who.hide(stolen, PEER), PEER, AT).account == P.text("credential", f"{form}:{victim}")


async def test_callers_without_a_credential() -> None:
    with pytest.raises(Unidentified, match="No credential was given: send `authorization: Bearer KEY` or `x-api-key: KEY`"):
        await made().identify([], PEER, AT)
    who = made(anonymous="accept", anonymous_plan="trial", trusted_proxies=["10.0.0.0/8"])
    expected = Identity(P.text("network", "203.0.113.0/24"), plan="trial", anonymous=True)
    assert await who.identify([], PEER, AT) == expected
    assert await who.identify([], "203.0.113.200", AT) == expected
    assert await who.identify(pairs(f"x-forwarded-for: 6.6.6.6, {PEER}"), PROXY, AT) == expected
    assert who.recorded([], PEER, AT) == expected
    assert (await who.identify([], "", AT)).account == P.text("network", "")
    with pytest.raises(Unidentified, match="another scheme"):  # a credential that cannot be read is no missing one
        await who.identify(pairs("authorization: Basic abc"), PEER, AT)


async def test_identity_headers_are_believed_from_a_trusted_proxy_only(table: CsvDirectory) -> None:
    who = made(table, header=HEADER, trusted_proxies=["10.0.0.0/8"])
    stated = pairs("x-account: other", "x-org: O", "x-plan: gold")
    told = Identity(P.text("account", "other"), P.text("org", "O"), "gold")
    assert await who.identify(stated, PROXY, AT) == told
    assert await who.identify([*stated, *BEARER], PROXY, AT) == told
    assert await who.identify([*stated, *BEARER], PEER, AT) == ACME
    with pytest.raises(Unidentified, match="No credential"):
        await who.identify(stated, PEER, AT)
    assert await who.identify(BEARER, PROXY, AT) == ACME  # the proxy states nobody
    assert await who.identify(pairs("x-account: ", *(f"{n.decode()}: {v.decode()}" for n, v in BEARER)), PROXY, AT) == ACME
    assert who.names_to_strip(PEER) == {b"x-account", b"x-org", b"x-plan"}
    assert who.names_to_strip("") == {b"x-account", b"x-org", b"x-plan"}
    assert who.names_to_strip(PROXY) == frozenset()
    assert made().names_to_strip(PEER) == frozenset()


async def test_a_key_beside_a_stated_identity_is_recorded_as_itself() -> None:
    who = made(header=HEADER, trusted_proxies=["10.0.0.0/8"])
    sent = pairs("x-account: acme", f"x-api-key: {MARK}")
    kept = who.hide(sent, PROXY, await who.identify(sent, PROXY, AT))
    assert kept == pairs(f"x-account: hashed:{ACME.account}", f"x-api-key: hashed:{BY_KEY.account}")


async def test_the_directory_completes_what_a_proxy_states(table: CsvDirectory) -> None:
    who = made(table, header=HEADER, trusted_proxies=["10.0.0.0/8"])
    assert await who.identify(pairs("x-account: acme"), PROXY, AT) == ACME
    assert await who.identify(pairs("x-account: acme", "x-plan: gold"), PROXY, AT) == Identity(ACME.account, ACME.org, "gold", ACME.created_at)


@pytest.mark.parametrize(
    ("headers", "message"),
    [
        ([(b"x-account", b"a"), (b"x-account", b"b")], "sent twice"),
        ([(b"x-account", b"a"), (b"x-org", b"a"), (b"x-org", b"b")], "sent twice"),
        ([(b"x-account", b"\xff")], "not UTF-8"),
        ([(b"x-account", b"a" * 513)], "longer than 512"),
        ([(b"x-account", b"a"), (b"x-org", b"\xff")], "not UTF-8"),
        ([(b"x-account", b"a"), (b"x-plan", b"\xff")], "not UTF-8"),
    ],
)
async def test_identity_headers_that_contradict_themselves_or_cannot_be_read(headers: Pairs, message: str) -> None:
    who = made(header=HEADER, trusted_proxies=["10.0.0.0/8"])
    with pytest.raises(Unidentified, match=message):
        await who.identify(headers, PROXY, AT)
    with pytest.raises(Unidentified, match=message):
        who.recorded(who.hide(headers, PROXY), PROXY, AT)


async def test_a_token_is_told_from_a_key_by_its_form_and_by_the_policy(table: CsvDirectory) -> None:
    good = token()
    sent = pairs(f"authorization: Bearer {good}")
    assert await made(table, jwt=rules()).identify(sent, PEER, AT) == ACME
    assert await made(jwt=rules()).identify(sent, PEER, AT) == Identity(ACME.account)
    assert await made(jwt=rules()).identify(BEARER, PEER, AT) == BY_KEY
    assert await made().identify(sent, PEER, AT) == Identity(P.text("credential", good))
    with pytest.raises(Unidentified, match="expired"):
        await made(jwt=rules()).identify(sent, PEER, AT + 10_000)
    with pytest.raises(Unidentified, match="two different"):
        await made(jwt=rules()).identify([*sent, *pairs(f"x-api-key: {MARK}")], PEER, AT)


async def test_only_tokens_where_the_policy_lists_no_keys() -> None:
    who = made(keys=[], jwt=rules())
    assert await who.identify(pairs(f"authorization: Bearer {token()}"), PEER, AT) == Identity(ACME.account)
    with pytest.raises(Unidentified, match="no identity token"):
        await who.identify(BEARER, PEER, AT)
    with pytest.raises(Unidentified, match="send `authorization: Bearer TOKEN`"):
        await who.identify(pairs(f"x-api-key: {MARK}"), PEER, AT)


async def test_claims_win_over_the_directory(table: CsvDirectory) -> None:
    sent = pairs(f"authorization: Bearer {token({'plan': 'gold'})}")
    assert await made(table, jwt=rules(plan="plan")).identify(sent, PEER, AT) == Identity(ACME.account, ACME.org, "gold", ACME.created_at)


async def test_the_host_applications_function_is_asked_after_the_directory(table: CsvDirectory) -> None:
    asked: list[str] = []

    def function(key: str) -> Mapping[str, object] | None:
        asked.append(key)
        return {"account": "acme", "plan": "trial"} if key == "sk-new" else None

    who = made(table, CallableDirectory(function, P), unknown_keys="refuse")
    assert await who.identify(BEARER, PEER, AT) == ACME
    assert asked == []
    assert await who.identify(pairs("x-api-key: sk-new"), PEER, AT) == Identity(ACME.account, plan="trial")
    with pytest.raises(Unidentified, match="not known"):
        await who.identify(pairs("x-api-key: sk-nobody"), PEER, AT)
    assert asked == ["sk-new", "sk-nobody"]
    with pytest.raises(Unidentified, match="not known"):
        who.recorded(pairs("x-api-key: sk-new"), PEER, AT)  # a replay asks nobody
    assert asked == ["sk-new", "sk-nobody"]


@pytest.mark.parametrize("directory", [True, False])
@pytest.mark.parametrize(
    ("headers", "peer"),
    [
        (BEARER, PEER),
        (pairs(f"x-api-key: {MARK}", f"authorization: Bearer {MARK}"), PEER),
        (pairs("x-api-key: sk-unknown"), PEER),
        (pairs(f"authorization: Bearer {token()}"), PEER),
        (pairs(f"authorization: Bearer {token({'sub': 'stranger'})}"), PEER),
        (pairs("x-account: acme"), PROXY),
        (pairs("x-account: stranger", "x-org: Umbrella", f"x-api-key: {MARK}"), PROXY),
        (pairs("x-account: victim", f"x-api-key: {MARK}"), PEER),
        ([], PEER),
        (pairs("x-account: victim", "cookie: session"), PEER),
    ],
)
async def test_a_record_leads_to_the_same_identity(headers: Pairs, peer: str, directory: bool, table: CsvDirectory) -> None:
    who = made(table if directory else None, header=HEADER, trusted_proxies=["10.0.0.0/8"], jwt=rules(), anonymous="accept")
    live = await who.identify(headers, peer, AT)
    kept = who.hide(headers, peer, live)
    assert who.recorded(kept, peer, AT + 1e6) == live  # long after the token has expired
    text = repr(kept)
    for name, value in headers:
        assert name == b"x-plan" or value.decode() not in text
    assert "victim" not in text


@pytest.mark.parametrize(
    "headers",
    [
        pairs(f"authorization: Bearer {token({'exp': AT - 100})}"),
        pairs(f"authorization: Bearer {MARK}", "x-api-key: other"),
        pairs(f"authorization: Basic {MARK}"),
        [(b"x-api-key", b"\xff" * 20)],
        [(b"x-api-key", b"k" * 5000)],
    ],
)
async def test_a_record_of_what_was_refused_is_refused(headers: Pairs) -> None:
    who = made(jwt=rules())
    with pytest.raises(Unidentified):
        await who.identify(headers, PEER, AT)
    with pytest.raises(Unidentified):
        who.recorded(who.hide(headers, PEER), PEER, AT)


async def test_a_replay_verifies_raw_tokens_with_the_keys_at_hand() -> None:
    sent = pairs(f"authorization: Bearer {token()}")
    assert made(jwt=rules()).recorded(sent, PEER, AT) == Identity(ACME.account)
    with pytest.raises(Unidentified, match="expired"):
        made(jwt=rules()).recorded(sent, PEER, AT + 10_000)


def test_networks_are_keyed_and_zero_when_unknown() -> None:
    who = made()
    assert who.network("203.0.113.5") == who.network("203.0.113.77") == P.number("network", "203.0.113.0/24")
    assert who.network("2001:db8:1:2::3") == P.number("network", "2001:db8:1::/48")
    assert who.network("") == who.network("testclient") == 0


def test_rules_that_cannot_be_carried_out_are_refused() -> None:
    with pytest.raises(PolicyError, match="unknown_keys: refuse: there is no directory"):
        made(unknown_keys="refuse")
    with pytest.raises(UsageError, match="`tokens` goes with"):
        Identifier(IdentityRules(jwt=rules()), P)


async def test_assembled_from_files_and_a_served_key_set(tmp_path: Path) -> None:
    (tmp_path / "accounts.csv").write_text(TABLE)
    server = KeyServer(jwk("k1"))
    sent = pairs(f"authorization: Bearer {token()}")
    with served(uvicorn.Config(server, log_level="critical", lifespan="off", ws="none")) as port:
        policy = IdentityRules(directory="accounts.csv", jwt=rules(key_file=None, jwks=f"http://127.0.0.1:{port}/jwks"))
        async with httpx.AsyncClient(trust_env=False) as client:
            who = identifier(policy, P, folder=tmp_path, client=client)
            assert await who.identify(sent, PEER, AT) == ACME
            for number in range(1000):
                with pytest.raises(Unidentified):
                    await who.identify(pairs(f"authorization: Bearer {handmade({'alg': 'RS256', 'kid': f'x{number}'})}"), PEER, AT + 1)
            assert server.asked == 1
            await who.close()
        replayed = identifier(policy, P, folder=tmp_path)
        with pytest.raises(Unidentified, match="its key is not known"):
            replayed.recorded(sent, PEER, AT)
        assert await replayed.identify(BEARER, PEER, AT) == ACME
        await replayed.close()
    assert server.asked == 1


async def test_assembled_with_a_key_file_and_a_function(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(pem())
    who = identifier(IdentityRules(jwt=rules(), unknown_keys="refuse"), P, folder=tmp_path, function=lambda key: {"account": "acme"})
    assert await who.identify(pairs(f"authorization: Bearer {token()}"), PEER, AT) == Identity(ACME.account)
    assert await who.identify(BEARER, PEER, AT) == Identity(ACME.account)
    await who.close()
    with pytest.raises(DirectoryError, match=r"none\.csv"):
        identifier(IdentityRules(directory="none.csv"), P, folder=tmp_path)


async def test_the_secret_is_in_no_text_of_an_error(table: CsvDirectory) -> None:
    def function(key: str) -> Mapping[str, object] | None:
        raise LookupError(key)

    secret = f"eyJ{MARK}.{MARK}.{MARK}"
    attempts = [
        (made(table, unknown_keys="refuse"), pairs(f"x-api-key: {MARK}2")),
        (made(callable=CallableDirectory(function, P)), BEARER),
        (made(jwt=rules()), pairs(f"authorization: Bearer {secret}")),
        (made(), pairs(f"authorization: Basic {MARK}")),
        (made(), pairs(f"x-api-key: {MARK}", "api-key: x")),
        (made(), pairs(f"x-api-key: {MARK}é")),
    ]
    for who, headers in attempts:
        with pytest.raises((RequestError, DirectoryError)) as caught:
            await who.identify(headers, PEER, AT)
        assert "MARKED" not in "".join(traceback.format_exception(caught.value)) + repr(caught.value) + repr(who)
        assert caught.value.__context__ is None or "MARKED" not in repr(caught.value.__context__)


names = st.sampled_from([b"authorization", b"x-api-key", b"api-key", b"x-account", b"x-org", b"x-plan", b"forwarded", b"x-forwarded-for", b"cookie"])
values = st.binary(max_size=60) | st.sampled_from([b"Bearer " + token().encode(), b"Bearer eyJ.e.", MARK.encode(), b"hashed:" + b"0" * 20, b"for=1.2.3.4"])


@given(st.lists(st.tuples(names, values), max_size=6), st.sampled_from([PEER, PROXY, "", "testclient", "\ud800"]))
@example([(b"authorization", b"Bearer " + token().encode()), (b"x-account", b"")], PROXY)
async def test_arbitrary_headers_raise_nothing_but_refusals(headers: Pairs, peer: str) -> None:
    who = made(header=HEADER, trusted_proxies=["10.0.0.0/8", "unix"], jwt=rules(), anonymous="accept")
    live: Identity | None = None
    with contextlib.suppress(RequestError):
        live = await who.identify(headers, peer, AT)
    kept = who.hide(headers, peer, live)
    try:
        again: Identity | None = who.recorded(kept, who.client(headers, peer), AT)
    except RequestError:
        again = None
    assert again == live
