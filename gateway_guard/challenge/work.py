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
from collections.abc import Callable, Iterator
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
    return next(_values(puzzle, part, (nonce,))) * puzzle.work < SPACE


def parts_of(seconds: float, algorithm: Algorithm) -> int:
    """The `work` of a puzzle that takes one plain core `seconds` on average."""
    return min(SPACE, max(1, round(seconds * RATES[algorithm] / PARTS)))


def _solve_part(puzzle: Puzzle, part: int, stopped: Callable[[], bool]) -> int:
    look, work = LOOK[puzzle.algorithm], puzzle.work
    for nonce, value in enumerate(_values(puzzle, part, count())):
        if value * work < SPACE:
            return nonce
        if not nonce % look and stopped():
            raise Stopped
    raise AssertionError("nonces do not end")


def _values(puzzle: Puzzle, part: int, nonces: Iterator[int] | tuple[int, ...]) -> Iterator[int]:
    """What each nonce makes of a part."""
    stem = f"{puzzle.token}:{part}:".encode()
    if puzzle.algorithm == "sha256":
        begun = sha256(stem)
        for nonce in nonces:
            hashed = begun.copy()
            hashed.update(b"%x" % nonce)
            yield int.from_bytes(hashed.digest()[:8])
    else:
        for nonce in nonces:
            yield int.from_bytes(scrypt(stem + b"%x" % nonce, salt=SALT, n=2048, r=8, p=1, dklen=8))
