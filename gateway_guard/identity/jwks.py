"""An issuer's public keys (RFC 7517), kept at hand.

Theory of operation. One fetch at a time, whoever asks; all who wait share it. Keys older than four fifths of `refresh` are fetched again in the
background while the old ones serve. A key id that is not known forces a fetch, but whatever callers send, at most one each 30 seconds,
and the same id at most once a minute: else anybody could make the guard hammer the issuer. What an issuer that is down, slow or
talking nonsense answers changes nothing: the last good keys stay. `at` is the only clock; a step of the clock in either direction only allows a fetch.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from ipaddress import ip_address

import httpx
import orjson

from gateway_guard.errors import PolicyError
from gateway_guard.identity.keys import VerifyingKey, from_jwk
from gateway_guard.identity.recent import Recent

FORCED_WAIT = 30.0
FIRST_WAIT = 5.0
ABSENT_WAIT = 60.0
BODY_LIMIT = 262_144
KEYS_LIMIT = 100
FETCH_LIMIT = 10.0
_TIMEOUT = httpx.Timeout(5.0)
_ABSENT = 1024
_NEVER = -1e18
# Plain bytes only: a small compressed answer can unpack to gigabytes before a cap on its size is looked at.
_ASK = {"accept": "application/jwk-set+json, application/json", "accept-encoding": "identity"}


class Jwks:
    """The keys at `url`. `client` belongs to the caller; without one (a replay) nothing is fetched.

    `failures` counts those in a row, `trouble` tells the last one: both are for whoever watches.
    """

    def __init__(self, url: str, algorithms: Iterable[str], client: httpx.AsyncClient | None, *, refresh: float = 600.0) -> None:
        self._url = _checked(url)
        self._algorithms = frozenset(algorithms)
        self._client = client
        self._refresh = refresh
        self._keys: dict[tuple[str, str], VerifyingKey] = {}
        self._flight: asyncio.Task[None] | None = None
        self._loaded = self._tried = self._forced = _NEVER
        self._absent: Recent[str, float] = Recent(_ABSENT)
        self.failures = 0
        self.trouble = ""

    def find(self, kid: str, algorithm: str) -> VerifyingKey | None:
        """The key with this id. A token without an id gets the key only where there is just one."""
        return self._keys.get((kid, algorithm))

    async def obtain(self, kid: str, algorithm: str, at: float) -> VerifyingKey | None:
        """The key, at once when it is at hand; else after a fetch, if one may be made."""
        key = self.find(kid, algorithm)
        if key is not None:
            if self._due(at):
                self._start(at)
            return key
        own = self._may_force(kid, at) and self._start(at)
        if own:
            self._forced = at
        if self._flight is None or self._flight.done():
            return None
        await asyncio.wait((self._flight,))  # a caller who leaves takes only himself out of the wait
        key = self.find(kid, algorithm)
        if own and key is None and self._loaded == at:
            self._absent.put(kid, at)
        return key

    async def close(self) -> None:
        """End a fetch that is under way, and make no more."""
        self._client = None
        if self._flight is not None:
            self._flight.cancel()
            await asyncio.wait((self._flight,))

    def _due(self, at: float) -> bool:
        return abs(at - self._loaded) >= 0.8 * self._refresh and abs(at - self._tried) >= FORCED_WAIT

    def _may_force(self, kid: str, at: float) -> bool:
        if abs(at - self._forced) < (FORCED_WAIT if self._keys else FIRST_WAIT):
            return False
        missed = self._absent.get(kid)
        return missed is None or abs(at - missed) >= ABSENT_WAIT

    def _start(self, at: float) -> bool:
        if self._client is None or (self._flight is not None and not self._flight.done()):
            return False
        self._tried = at
        self._flight = asyncio.create_task(self._fetch(self._client, at))
        return True

    async def _fetch(self, client: httpx.AsyncClient, at: float) -> None:
        try:
            async with asyncio.timeout(FETCH_LIMIT):
                self._keys = _read(await self._body(client), self._algorithms)
        except Exception as error:  # whatever an issuer does, the keys at hand go on serving
            self.failures += 1
            self.trouble = f"{self._url.host}: {type(error).__name__}: {error}"
        else:
            self._loaded, self.failures, self.trouble = at, 0, ""

    async def _body(self, client: httpx.AsyncClient) -> bytes:
        async with client.stream("GET", self._url, headers=_ASK, follow_redirects=False, timeout=_TIMEOUT) as answer:
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"answered {answer.status_code}")
            if answer.headers.get("content-encoding", "identity") != "identity":
                raise ValueError("answered in a compressed form that was not asked for")
            body = bytearray()
            async for chunk in answer.aiter_raw():
                body += chunk
                if len(body) > BODY_LIMIT:
                    raise ValueError(f"the key set is longer than {BODY_LIMIT} bytes")
            return bytes(body)


def _read(body: bytes, algorithms: frozenset[str]) -> dict[tuple[str, str], VerifyingKey]:
    """Usable keys by id and algorithm; under the id "" those that are the only one for their algorithm."""
    held = orjson.loads(body)
    listed = held.get("keys") if isinstance(held, dict) else None
    if not isinstance(listed, list) or len(listed) > KEYS_LIMIT:
        raise ValueError("the answer is not a key set")
    usable = [(name, key) for key in (from_jwk(jwk, algorithms) for jwk in listed) if key is not None for name in key.algorithms]
    if not usable:
        raise ValueError("the key set has no key that can be used with the policy's algorithms")
    found = {(key.kid, name): key for name, key in reversed(usable) if key.kid}
    for name in {name for name, _ in usable}:
        candidates = [key for held, key in usable if held == name]
        if len(candidates) == 1:
            found["", name] = candidates[0]
    return found


def _checked(url: str) -> httpx.URL:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        raise PolicyError(["identity.jwt.jwks: not a URL"]) from None
    if parsed.userinfo:
        raise PolicyError(["identity.jwt.jwks: a URL with a user name or password in it: key sets are public, leave it out"])
    if not parsed.host or (parsed.scheme != "https" and not (parsed.scheme == "http" and _is_loopback(parsed.host))):
        raise PolicyError([f"identity.jwt.jwks: {url}: only https is taken (http from this machine alone): else anybody on the way can hand over keys"])
    return parsed


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
