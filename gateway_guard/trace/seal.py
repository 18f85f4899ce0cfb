"""The chain of an audit log: every line carries the seal of the line before, and is sealed itself.

A line is a JSON object whose last two members are `prev` and `seal`. The seal is a keyed hash (BLAKE2b, RFC 7693) of the very bytes before it, `prev`
included. So an edited, inserted, moved or deleted line breaks the chain, and whoever does not have the key cannot mend it. The first line
of the first file hangs on the key's anchor.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

VERSION = 1
DIGITS = 64
MARK = b',"seal":"'
# What a line has beside its own members: both seals, and a number with all its digits.
EXTRA = 2 * DIGITS + 64
_LINE = re.compile(rb'(\{.*),"seal":"([0-9a-f]{64})"\}', re.DOTALL)
_KEY, _ANCHOR = b"audit key", b"audit anchor"


class Sealed(NamedTuple):
    """A line that holds by itself: its members, and its seal."""

    entry: dict[str, Any]
    seal: str


class Sealer:
    """Seals and checks under one key, derived from the installation's so that neither tells the other."""

    def __init__(self, key: bytes) -> None:
        self._key = blake2b(key, digest_size=32, person=_KEY).digest()
        self.anchor = self.seal(_ANCHOR)

    def seal(self, data: bytes) -> str:
        """The keyed hash in hexadecimal digits."""
        return blake2b(data, key=self._key, digest_size=DIGITS // 2).hexdigest()

    def line(self, entry: Mapping[str, Any], prev: str) -> tuple[bytes, str]:
        """The line of an entry after the one sealed `prev`, and its seal."""
        part = msgspec.json.encode({"v": VERSION, **entry, "prev": prev})[:-1]
        seal = self.seal(part)
        return part + MARK + seal.encode() + b'"}\n', seal

    def read(self, line: bytes) -> Sealed | str:
        """What a line without its line end says, or what is wrong with it."""
        found = _LINE.fullmatch(line)
        if found is None:
            return "is not a sealed entry"
        seal = found[2].decode()
        if not hmac.compare_digest(self.seal(found[1]), seal):
            return "does not match its seal: it was edited, or sealed with another key"
        return Sealed(msgspec.json.decode(found[1] + b"}"), seal)
