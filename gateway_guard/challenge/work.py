"""Proof of work. The guard and its clients share this module: it needs nothing but the standard library.

Theory of operation. A puzzle has eight parts. For each part i a nonce is to be found such that the first eight bytes of

    sha256(b"TOKEN:i:NONCE")        or        scrypt(password=b"TOKEN:i:NONCE", salt=b"gateway-guard", n=2048, r=8, p=1)

as a big-endian number, times the puzzle's `work`, stay below 2^64; NONCE is written in lower-case hexadecimal without leading zeros. That takes
`work` hashes on average for each part. Eight parts instead of one make the time even: the luckiest and the unluckiest of a hundred differ by a
factor of five, not of five hundred. The part's number is hashed, so that no part can be put in another one's place.

Checking all parts takes eight SHA-256. A scrypt takes milliseconds and 2 MiB, and is made for one part only, which the guard picks by a keyed hash of the
whole proof. Whoever solves only some of the parts is caught in proportion, and a wrong proof uses its challenge up: leaving parts out gains nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from hashlib import scrypt, sha256
from itertools import count
from typing import Literal, NamedTuple

Algorithm = Literal["sha256", "scrypt"]
PARTS = 8
SPACE = 2**64
SALT = b"gateway-guard"
# Hashes a second of one plain core under CPython: the measure of `effort`.
RATES: dict[str, float] = {"sha256": 1_000_000.0, "scrypt": 150.0}
# How often a solver asks whether it is still wanted.
LOOK: dict[str, int] = {"sha256": 8192, "scrypt": 1}
SEPARATOR = "~"
_NONCES = re.compile(rf"(?:0|[1-9a-f][0-9a-f]{{0,15}})(?:\.(?:0|[1-9a-f][0-9a-f]{{0,15}})){{{PARTS - 1}}}", re.ASCII)


class Puzzle(NamedTuple):
    """`token` the guard's signed statement · `work` hashes that each part takes on average."""

    token: str
    algorithm: Algorithm
    work: int

    @property
    def seconds(self) -> float:
        """Time that it takes one plain core on average."""
        return PARTS * self.work / RATES[self.algorithm]


class Stopped(Exception):
    """Nobody waits for the solution any more."""


def solve(puzzle: Puzzle, stopped: Callable[[], bool] = bool) -> str:
    """The proof. `stopped` is asked now and then; Stopped when it says so."""
    nonces = [_solve_part(puzzle, part, stopped) for part in range(PARTS)]
    return puzzle.token + SEPARATOR + ".".join(f"{nonce:x}" for nonce in nonces)


def taken_apart(proof: str) -> tuple[str, tuple[int, ...]] | None:
    """The token and the nonces of a proof, None when it is not written as one."""
    token, _, nonces = proof.rpartition(SEPARATOR)
    if not token or not _NONCES.fullmatch(nonces):
        return None
    return token, tuple(int(nonce, 16) for nonce in nonces.split("."))


def part_holds(puzzle: Puzzle, part: int, nonce: int) -> bool:
    """Whether one part is solved."""
    return _hash_of(puzzle, part)(b"%x" % nonce) <= _bound(puzzle)


def parts_of(seconds: float, algorithm: Algorithm) -> int:
    """The `work` of a puzzle that takes one plain core `seconds` on average."""
    return min(SPACE, max(1, round(seconds * RATES[algorithm] / PARTS)))


def _solve_part(puzzle: Puzzle, part: int, stopped: Callable[[], bool]) -> int:
    hashed, bound, look = _hash_of(puzzle, part), _bound(puzzle), LOOK[puzzle.algorithm]
    for start in count(step=look):
        for nonce in range(start, start + look):
            if hashed(b"%x" % nonce) <= bound:
                return nonce
        if stopped():
            raise Stopped
    raise AssertionError("nonces do not end")


def _bound(puzzle: Puzzle) -> bytes:
    """The highest digest that holds: one whose first eight bytes, times the work, stay below 2^64."""
    return ((SPACE - 1) // puzzle.work).to_bytes(8) + b"\xff" * 24


def _hash_of(puzzle: Puzzle, part: int) -> Callable[[bytes], bytes]:
    """From a nonce, as it is written, to the part's digest."""
    stem = f"{puzzle.token}:{part}:".encode()
    if puzzle.algorithm == "scrypt":
        return lambda nonce: scrypt(stem + nonce, salt=SALT, n=2048, r=8, p=1, dklen=32)
    begun = sha256(stem)

    def hashed(nonce: bytes) -> bytes:
        digest = begun.copy()
        digest.update(nonce)
        return digest.digest()

    return hashed
