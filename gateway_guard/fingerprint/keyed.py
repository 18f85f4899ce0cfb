"""Keyed one-way numbers: the only thing that leaves this package."""

from __future__ import annotations

import hashlib

from gateway_guard import sketch
from gateway_guard.errors import UsageError

SHORTEST_KEY = 16


class Keyed:
    """Turns bytes into positive 63-bit integers, apart for each domain. Another key gives unrelated numbers."""

    def __init__(self, key: bytes) -> None:
        if len(key) < SHORTEST_KEY:
            raise UsageError(f"fingerprint key: {len(key)} bytes are too few, give at least {SHORTEST_KEY} random bytes")
        self._secret = hashlib.blake2b(key, person=b"fingerprint", digest_size=64).digest()
        self._starts: dict[str, hashlib.blake2b] = {}
        self.salts = sketch.salts(hashlib.blake2b(b"salts", key=self._secret, person=b"sketch", digest_size=48).digest())

    def number(self, domain: str, data: bytes) -> int:
        """1 to 2**63 - 1: 0 is kept for "nothing"."""
        start = self._starts.get(domain)
        if start is None:
            return int.from_bytes(self.digest(domain, data)[:8], "little") >> 1 or 1
        state = start.copy()
        state.update(data)
        return int.from_bytes(state.digest()[:8], "little") >> 1 or 1

    def digest(self, domain: str, data: bytes) -> bytes:
        """16 bytes, for a memory of what was seen that must not hold the text."""
        start = self._starts.get(domain)
        if start is None:
            start = self._starts[domain] = hashlib.blake2b(key=self._secret, person=domain.encode()[:16], digest_size=16)
        state = start.copy()
        state.update(data)
        return state.digest()
