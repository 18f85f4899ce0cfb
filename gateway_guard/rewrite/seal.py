"""Sealed state: what a client keeps for the model server and cannot read, alter, or hand to another account unnoticed.

Theory of operation. A sealed blob is AES-SIV (RFC 5297) over its owner and its content, under a key derived from the guard's own. It is deterministic: the
same state is the same blob in every event and every answer, so clients and caches that compare blobs see no difference. The owner is inside, not beside it, so
that state which comes back under another account can still be opened where the policy only records that. Nothing is stored: the client carries the state,
as it carries the server's own.
"""

from __future__ import annotations

import base64
import binascii
from hashlib import blake2b
from typing import Literal

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV

# Base64 like the blobs of the APIs, and eight characters: none of theirs begins so by chance.
MARK = "ggState1"
OWNER = 16
# Sealed where binding is off: it opens for everybody.
NOBODY = bytes(OWNER)
PLACE = [b"gateway-guard state 1"]

Kind = Literal["blob", "block"]
KINDS: tuple[Kind, ...] = ("blob", "block")


class Opened(msgspec.Struct, frozen=True):
    """What was sealed: a server's own `blob`, or a whole `block` of an answer as JSON."""

    owner: bytes
    kind: Kind
    content: bytes


class Seals:
    """Seals and opens under one key of at least 32 bytes."""

    __slots__ = ("_cipher", "_key")

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._cipher = AESSIV(blake2b(key, person=b"gg-state-seal", digest_size=64).digest())

    def owner(self, subject: str, conversation: str | None = None) -> bytes:
        """Who state belongs to: an account or an organisation, and the first turn of its conversation where that counts."""
        digest = blake2b(key=self._key[:64], person=b"gg-state-owner", digest_size=OWNER)
        digest.update(b"%d:" % len(subject) + subject.encode("utf-8", "surrogatepass"))
        if conversation is not None:
            digest.update(b"\0" + conversation.encode("utf-8", "surrogatepass"))
        return digest.digest()

    def seal(self, content: bytes, owner: bytes, kind: Kind = "blob") -> str:
        """A blob in base64."""
        return MARK + base64.b64encode(self._cipher.encrypt(owner + bytes([KINDS.index(kind)]) + content, PLACE)).decode()

    def open(self, blob: str) -> Opened | None:
        """What `seal` sealed. None for whatever else has its mark: it was altered, cut short, or sealed under another key."""
        try:
            plain = self._cipher.decrypt(base64.b64decode(blob[len(MARK) :].encode(), validate=True), PLACE)
        except (InvalidTag, binascii.Error, ValueError):
            return None
        return Opened(plain[:OWNER], KINDS[plain[OWNER]], plain[OWNER + 1 :])


def is_sealed(blob: str) -> bool:
    """Whether it bears the mark."""
    return blob.startswith(MARK)


class Sealer(msgspec.Struct, frozen=True):
    """Seals the state of one exchange for its `owner`. `binds`: the server's own blobs too, not only what the guard took out of an answer."""

    seals: Seals
    owner: bytes = NOBODY
    binds: bool = False

    def blob(self, blob: str) -> str:
        """A server's blob, bound to the owner."""
        return blob if not blob or is_sealed(blob) else self.seals.seal(blob.encode("utf-8", "surrogatepass"), self.owner)

    def block(self, block: bytes) -> str:
        """A block that the client is to keep and not to see."""
        return self.seals.seal(block, self.owner, "block")
