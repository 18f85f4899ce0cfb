"""An issuer's keys over real HTTP: fetched once for all who wait, never on an attacker's demand, never lost to an issuer that fails."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
import uvicorn
from anyio.lowlevel import checkpoint

from gateway_guard.errors import PolicyError
from gateway_guard.identity import jwks as module
from gateway_guard.identity.jwks import ABSENT_WAIT, BODY_LIMIT, FIRST_WAIT, FORCED_WAIT, KEYS_LIMIT, Jwks
from tests.issuer import AT, KeyServer, jwk, private
from tests.served import served

pytestmark = pytest.mark.anyio
RS = ["RS256"]


@pytest.fixture
def server() -> KeyServer:
    return KeyServer(jwk("k1"))


@pytest.fixture
def url(server: KeyServer) -> Iterator[str]:
    with served(uvicorn.Config(server, log_level="critical", lifespan="off", ws="none")) as port:
        yield f"http://127.0.0.1:{port}/jwks"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(trust_env=False) as opened:
        yield opened


async def settled(keys: Jwks) -> None:
    """Wait for a fetch that is under way, as any caller with an unknown id would."""
    await keys.obtain("nobody has this one", "RS256", AT)


async def test_all_who_wait_share_one_fetch(url: str, server: KeyServer, client: httpx.AsyncClient) -> None:
    keys = Jwks(url, RS, client)
    assert keys.find("k1", "RS256") is None
    found = await asyncio.gather(*(keys.obtain("k1", "RS256", AT) for _ in range(100)))
    assert found[0] is not None
    assert set(found) == {keys.find("k1", "RS256")}
    assert server.asked == 1
    assert keys.find("k1", "ES256") is None


async def test_a_flood_of_unknown_ids_is_one_fetch(url: str, server: KeyServer, client: httpx.AsyncClient) -> None:
    keys = Jwks(url, RS, client)
    await asyncio.gather(*(keys.obtain(f"x{number}", "RS256", AT) for number in range(1000)))
    assert server.asked == 1
    for number in range(1000):
        assert await keys.obtain(f"y{number}", "RS256", AT + number * 0.029) is None
    assert server.asked == 1
    for number in range(1000):
        assert await keys.obtain(f"z{number}", "RS256", AT + FORCED_WAIT + number * 0.029) is None
    assert server.asked == 2
    assert len(keys._absent) <= 2048


async def test_a_new_key_is_found_when_it_is_first_used(url: str, server: KeyServer, client: httpx.AsyncClient) -> None:
    keys = Jwks(url, RS, client)
    await keys.obtain("k1", "RS256", AT)
    server.publish(jwk("k1"), jwk("k2", number=1))
    assert await keys.obtain("k2", "RS256", AT + FORCED_WAIT - 1) is None
    assert await keys.obtain("k2", "RS256", AT + FORCED_WAIT) is not None
    assert server.asked == 2


async def test_an_id_that_was_missed_forces_no_fetch_again_for_a_while(url: str, server: KeyServer, client: httpx.AsyncClient) -> None:
    keys = Jwks(url, RS, client)
    assert await keys.obtain("x", "RS256", AT) is None
    assert await keys.obtain("x", "RS256", AT + FORCED_WAIT) is None
    assert server.asked == 1
    assert await keys.obtain("x", "RS256", AT + ABSENT_WAIT) is None
    assert server.asked == 2


async def test_a_failed_fetch_says_nothing_about_an_id(url: str, server: KeyServer, client: httpx.AsyncClient) -> None:
    keys = Jwks(url, RS, client)
    await keys.obtain("k1", "RS256", AT)
    server.status = 503
    assert await keys.obtain("k2", "RS256", AT + FORCED_WAIT) is None
    server.status = 200
    server.publish(jwk("k1"), jwk("k2", number=1))
    assert await keys.obtain("k2", "RS256", AT + 2 * FORCED_WAIT - 1) is None
    assert await keys.obtain("k2", "RS256", AT + 2 * FORCED_WAIT) is not None
    assert server.asked == 3


async def test_keys_are_fetched_again_in_the_background_before_they_age(url: str, server: KeyServer, client: httpx.AsyncClient) -> None:
    keys = Jwks(url, RS, client, refresh=1000.0)
    first = await keys.obtain("k1", "RS256", AT)
    assert await keys.obtain("k1", "RS256", AT + 799) is first
    assert server.asked == 1
    server.publish(jwk("k1", number=1))
    assert await keys.obtain("k1", "RS256", AT + 800) is first  # nobody waits
    await settled(keys)
    assert server.asked == 2
    assert await keys.obtain("k1", "RS256", AT + 801) not in {first, None}
    assert server.asked == 2


async def test_an_unknown_id_joins_a_fetch_that_is_under_way(url: str, server: KeyServer, client: httpx.AsyncClient) -> None:
    keys = Jwks(url, RS, client, refresh=1000.0)
    await keys.obtain("k1", "RS256", AT)
    server.publish(jwk("k1"), jwk("k2", number=1))
    await keys.obtain("k1", "RS256", AT + 800)
    assert await keys.obtain("k2", "RS256", AT + 800) is not None
    assert server.asked == 2


async def test_a_key_that_was_withdrawn_is_gone_with_the_next_fetch(url: str, server: KeyServer, client: httpx.AsyncClient) -> None:
    keys = Jwks(url, RS, client, refresh=1000.0)
    assert await keys.obtain("k1", "RS256", AT) is not None
    server.publish(jwk("k2"))
    assert await keys.obtain("k1", "RS256", AT + 800) is not None
    await settled(keys)
    assert await keys.obtain("k1", "RS256", AT + 801) is None


def nonsense() -> list[Any]:
    good = {"keys": [jwk("k9")]}
    return [
        pytest.param({"status": 500}, "answered 500", id="500"),
        pytest.param({"status": 404}, "answered 404", id="404"),
        pytest.param({"status": 302, "headers": [(b"location", b"http://127.0.0.1:1/evil")]}, "answered 302", id="redirect"),
        pytest.param({"body": b"<html>"}, "JSONDecodeError", id="html"),
        pytest.param({"body": b"[]"}, "not a key set", id="list"),
        pytest.param({"body": b'{"keys": {}}'}, "not a key set", id="no list"),
        pytest.param({"body": b'{"keys": []}'}, "no key that can be used", id="empty"),
        pytest.param({"body": json.dumps({"keys": [{"kty": "oct", "k": "AAAA", "kid": "k9", "alg": "HS256"}]}).encode()}, "no key that can be used", id="oct"),
        pytest.param({"body": json.dumps({"keys": [jwk("k9", use="enc"), jwk("k8", "ES256")]}).encode()}, "no key that can be used", id="unsuitable"),
        pytest.param({"body": json.dumps({"keys": [{}] * (KEYS_LIMIT + 1)}).encode()}, "not a key set", id="too many"),
        pytest.param({"body": json.dumps(good).encode() + b" " * BODY_LIMIT}, "longer than", id="too long"),
        pytest.param({"body": gzip.compress(json.dumps(good).encode()), "headers": [(b"content-encoding", b"gzip")]}, "compressed", id="gzip"),
        pytest.param({"body": b"[" * 100_000}, "JSONDecodeError", id="deep"),
    ]


@pytest.mark.parametrize(("answer", "trouble"), nonsense())
async def test_the_last_good_keys_outlive_an_issuer_that_talks_nonsense(
    url: str, server: KeyServer, client: httpx.AsyncClient, answer: dict[str, Any], trouble: str
) -> None:
    keys = Jwks(url, RS, client, refresh=1000.0)
    first = await keys.obtain("k1", "RS256", AT)
    for name, value in answer.items():
        setattr(server, name, value)
    assert await keys.obtain("k1", "RS256", AT + 900) is first
    await settled(keys)
    assert server.asked == 2
    assert (keys.failures, trouble in keys.trouble) == (1, True)
    assert keys.trouble.startswith("127.0.0.1: ")
    assert keys.find("k9", "RS256") is None
    for at in (AT + 901, AT + 900 + FORCED_WAIT - 1):
        assert await keys.obtain("k1", "RS256", at) is first
        await settled(keys)
    assert server.asked == 2  # a failing issuer is not hammered
    server.status, server.headers = 200, []
    server.publish(jwk("k1"))
    assert await keys.obtain("k1", "RS256", AT + 900 + FORCED_WAIT) is first
    await settled(keys)
    assert (server.asked, keys.failures, keys.trouble) == (3, 0, "")


async def test_an_issuer_that_is_down_at_the_start_is_tried_again_soon(client: httpx.AsyncClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    keys = Jwks(f"http://127.0.0.1:{port}/jwks", RS, client)
    for at in (AT, AT + 1, AT + FIRST_WAIT - 0.1):
        assert await keys.obtain("k1", "RS256", at) is None
    assert (keys.failures, "ConnectError" in keys.trouble) == (1, True)
    server = KeyServer(jwk("k1"))
    config = uvicorn.Config(server, log_level="critical", lifespan="off", ws="none")
    with served(config) as reached:
        keys._url = keys._url.copy_with(port=reached)
        assert await keys.obtain("k1", "RS256", AT + FIRST_WAIT) is not None


async def test_an_issuer_that_hangs_holds_nobody_for_long(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FETCH_LIMIT", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        keys = Jwks(f"http://127.0.0.1:{silent.getsockname()[1]}/", RS, client)
        assert await keys.obtain("k1", "RS256", AT) is None
    assert "TimeoutError" in keys.trouble


async def test_a_caller_who_leaves_does_not_end_the_fetch_for_the_others(url: str, server: KeyServer, client: httpx.AsyncClient) -> None:
    keys = Jwks(url, RS, client)
    leaving = asyncio.create_task(keys.obtain("k1", "RS256", AT))
    staying = asyncio.create_task(keys.obtain("k1", "RS256", AT))
    await checkpoint()
    leaving.cancel()
    assert await staying is not None
    assert leaving.cancelled()
    assert server.asked == 1


async def test_close_ends_a_fetch_under_way(client: httpx.AsyncClient) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        keys = Jwks(f"http://127.0.0.1:{silent.getsockname()[1]}/", RS, client)
        waiting = asyncio.create_task(keys.obtain("k1", "RS256", AT))
        await checkpoint()
        await keys.close()
        assert await waiting is None
        assert await keys.obtain("k1", "RS256", AT + 1000) is None
        await keys.close()


async def test_without_a_client_nothing_is_fetched(url: str, server: KeyServer) -> None:
    assert await Jwks(url, RS, None).obtain("k1", "RS256", AT) is None
    assert server.asked == 0


async def test_a_clock_that_was_set_back_does_not_stop_the_fetching(url: str, server: KeyServer, client: httpx.AsyncClient) -> None:
    keys = Jwks(url, RS, client, refresh=1000.0)
    await keys.obtain("k1", "RS256", AT)
    await keys.obtain("k1", "RS256", AT - 3600)
    await settled(keys)
    assert server.asked == 2


async def test_a_token_without_an_id_needs_a_set_with_one_suitable_key(url: str, server: KeyServer, client: httpx.AsyncClient) -> None:
    keys = Jwks(url, ["RS256", "ES256"], client)
    server.publish(jwk(None), jwk("e1", "ES256"), jwk("e2", "ES256", 1))
    assert await keys.obtain("", "RS256", AT) is not None
    assert keys.find("", "ES256") is None
    assert keys.find("e1", "ES256") is not keys.find("e2", "ES256")


async def test_of_two_keys_with_one_id_the_first_counts(url: str, server: KeyServer, client: httpx.AsyncClient) -> None:
    server.publish(jwk("k1"), jwk("k1", number=1), {"kty": "oct", "kid": "k1", "k": "AAAA"})
    key = await Jwks(url, RS, client).obtain("k1", "RS256", AT)
    assert key is not None
    assert key.material.public_numbers() == private().public_key().public_numbers()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://issuer.example/jwks", "only https is taken"),
        ("http://127.0.0.1.evil.example/jwks", "only https is taken"),
        ("http://localhost.evil.example/jwks", "only https is taken"),
        ("ftp://localhost/jwks", "only https is taken"),
        ("file:///etc/passwd", "only https is taken"),
        ("/jwks", "only https is taken"),
        ("https://", "only https is taken"),
        ("https://user:MARKED@issuer.example/jwks", "user name or password"),
        ("https://issuer.example:notaport/", "not a URL"),
    ],
)
async def test_a_url_that_is_not_safe_is_refused(url: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Jwks(url, RS, None)
    assert message in str(caught.value)
    assert "MARKED" not in str(caught.value)


@pytest.mark.parametrize("url", ["https://issuer.example/jwks", "http://localhost:1/jwks", "http://127.9.9.9/", "http://[::1]:80/"])
async def test_urls_that_are_taken(url: str) -> None:
    Jwks(url, RS, None)
