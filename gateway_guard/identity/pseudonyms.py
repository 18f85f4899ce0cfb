"""Keyed hashes in place of names: equal values stay equal, nobody without the key gets a value back or tries a guess."""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path

from gateway_guard.errors import UsageError

KEY_BYTES = 32
KEY_FILE_LIMIT = 4096
_KIND_BYTES = 16


class Pseudonyms:
    """Hashes under one key. `kind` separates domains: an account and a network of the same spelling have nothing in common."""

    __slots__ = ("_key", "_numbers", "_texts")

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES // 2:
            raise UsageError(f"the pseudonym key has {len(key)} bytes: give at least {KEY_BYTES // 2}")
        self._key = key if len(key) <= KEY_BYTES else blake2b(key, digest_size=KEY_BYTES).digest()
        self._texts: dict[str, blake2b] = {}
        self._numbers: dict[str, blake2b] = {}

    def text(self, kind: str, value: str) -> str:
        """20 hex digits."""
        started = self._texts.get(kind) or self._start(self._texts, kind, 10)
        digest = started.copy()
        digest.update(value.encode("utf-8", "surrogatepass"))
        return digest.hexdigest()

    def number(self, kind: str, value: str) -> int:
        """A number from 1 to 2^63-1; 0 is left free to mean unknown."""
        started = self._numbers.get(kind) or self._start(self._numbers, kind, 8)
        digest = started.copy()
        digest.update(value.encode("utf-8", "surrogatepass"))
        return int.from_bytes(digest.digest(), "big") >> 1 or 1

    def subkey(self, kind: str) -> bytes:
        """32 bytes for another use than hashing names."""
        return blake2b(key=self._key, person=kind.encode(), digest_size=KEY_BYTES).digest()

    def _start(self, table: dict[str, blake2b], kind: str, size: int) -> blake2b:
        person = kind.encode()
        if not 0 < len(person) <= _KIND_BYTES:
            raise ValueError(f"a kind has 1 to {_KIND_BYTES} bytes")
        table[kind] = started = blake2b(key=self._key, person=person, digest_size=size)
        return started


def load_key(environment: Mapping[str, str], path: Path | None = None) -> bytes:
    """The key from GATEWAY_GUARD_KEY, else from the file GATEWAY_GUARD_KEY_FILE, else from `path`; a missing file is created."""
    stated = environment.get("GATEWAY_GUARD_KEY", "").strip()
    if stated:
        return _key(stated, "GATEWAY_GUARD_KEY")
    named = environment.get("GATEWAY_GUARD_KEY_FILE", "").strip()
    file = Path(named) if named else path
    if file is None:
        raise UsageError("no pseudonym key: set GATEWAY_GUARD_KEY (64 hex digits) or GATEWAY_GUARD_KEY_FILE")
    try:
        return _read(file)
    except FileNotFoundError:
        pass
    try:
        _create(file)
        return _read(file)
    except OSError as error:
        raise UsageError(f"{file}: the key file cannot be made ({error.strerror}): create the directory or set GATEWAY_GUARD_KEY") from None


def _key(text: str, where: str) -> bytes:
    if len(set(text)) < 8:
        raise UsageError(f"{where}: looks like a placeholder: give 64 random hex digits, such as `openssl rand -hex 32` prints")
    if len(text) >= 2 * KEY_BYTES:
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    if len(text) < KEY_BYTES:
        raise UsageError(f"{where}: {len(text)} characters are too few: give 64 hex digits or a text of at least {KEY_BYTES} characters")
    return text.encode("utf-8", "surrogateescape")


def _read(file: Path) -> bytes:
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UsageError(f"{file}: the key file cannot be read ({error.strerror})") from None
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            raise UsageError(f"{file}: the key file is not a regular file")
        if mode & 0o077:
            raise UsageError(f"{file}: others can read the key file (mode {stat.S_IMODE(mode):04o}): run `chmod 600 {file}`")
        held = os.read(descriptor, KEY_FILE_LIMIT + 1)
    finally:
        os.close(descriptor)
    if len(held) > KEY_FILE_LIMIT or not held.isascii():
        raise UsageError(f"{file}: not a key file: it holds 64 hex digits, or one line of text")
    return _key(held.decode("ascii").strip(), str(file))


def _create(file: Path) -> None:
    """Whole or not at all: written aside, then linked into place, so that a worker that starts at the same moment never reads half a key."""
    aside = file.with_name(f".{file.name}.{secrets.token_hex(8)}")
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb") as opened:
            opened.write(secrets.token_hex(KEY_BYTES).encode() + b"\n")
            opened.flush()
            os.fsync(descriptor)
        try:
            os.link(aside, file)
        except FileExistsError:
            return  # another worker was first: its key is the one
    finally:
        os.unlink(aside)
