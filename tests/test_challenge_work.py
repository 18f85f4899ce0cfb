"""Proof of work: what a client solves the guard accepts, and nothing else."""

from __future__ import annotations

import hashlib
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.challenge import work
from gateway_guard.challenge.work import PARTS, Algorithm, Puzzle, Stopped, part_holds, parts_of, solve, taken_apart

EASY: dict[Algorithm, int] = {"sha256": 300, "scrypt": 2}


@pytest.mark.parametrize("algorithm", ["sha256", "scrypt"])
def test_what_is_solved_holds(algorithm: Algorithm) -> None:
    puzzle = Puzzle("a.b.c", algorithm, EASY[algorithm])
    found = taken_apart(solve(puzzle))
    assert found is not None
    token, nonces = found
    assert token == puzzle.token
    assert len(nonces) == PARTS
    assert all(part_holds(puzzle, part, nonce) for part, nonce in enumerate(nonces))


@pytest.mark.parametrize("algorithm", ["sha256", "scrypt"])
def test_the_documented_recipe_is_what_is_checked(algorithm: Algorithm) -> None:
    """The same as docs/challenges.md tells other languages, written down once more from there."""
    target = EASY[algorithm]

    def value(part: int, n: int) -> int:
        said = f"TOKEN:{part}:{n:x}".encode()
        digest = hashlib.sha256(said).digest() if algorithm == "sha256" else hashlib.scrypt(said, salt=b"gateway-guard", n=2048, r=8, p=1)
        return int.from_bytes(digest[:8], "big")

    nonces = [next(n for n in count() if value(part, n) * target < 2**64) for part in range(2)]
    assert all(part_holds(Puzzle("TOKEN", algorithm, target), part, nonce) for part, nonce in enumerate(nonces))


def test_no_part_stands_for_another_and_no_proof_for_another_token() -> None:
    puzzle = Puzzle("token", "sha256", 5000)
    found = taken_apart(solve(puzzle))
    assert found is not None
    nonces = found[1]
    assert not any(part_holds(puzzle, part, nonces[part - 1]) for part in range(PARTS))
    assert not any(part_holds(puzzle._replace(token="other"), part, nonce) for part, nonce in enumerate(nonces))


@given(st.integers(2, 10**6), st.integers(0, 2**64 - 1), st.integers(1, 2**63))
def test_what_holds_for_much_work_holds_for_less(target: int, nonce: int, less: int) -> None:
    puzzle = Puzzle("token", "sha256", target)
    if part_holds(puzzle, 3, nonce):
        assert part_holds(puzzle._replace(work=1 + less % target), 3, nonce)


@given(st.text(max_size=80))
def test_anything_may_be_handed_in(text: str) -> None:
    found = taken_apart(text)
    assert found is None or len(found[1]) == PARTS


@pytest.mark.parametrize(
    "proof",
    [
        "",
        "~",
        "token",
        "~1.2.3.4.5.6.7.8",
        "token~1.2.3.4.5.6.7",
        "token~1.2.3.4.5.6.7.8.9",
        "token~1.2.3.4.5.6.7.",
        "token~01.2.3.4.5.6.7.8",
        "token~1.2.3.4.5.6.7.A",
        "token~1.2.3.4.5.6.7.-8",
        "token~1.2.3.4.5.6.7.8\n",
        "token~1.2.3.4.5.6.7.11111111111111111",
        "token~١.2.3.4.5.6.7.8",
    ],
)
def test_only_one_way_to_write_a_proof(proof: str) -> None:
    assert taken_apart(proof) is None


def test_a_solver_that_nobody_waits_for_stops() -> None:
    asked = iter([False, False, True])
    with pytest.raises(Stopped):
        solve(Puzzle("token", "sha256", 2**60), lambda: next(asked))


def test_the_work_of_a_time_takes_that_time() -> None:
    for seconds in (0.01, 0.2, 30.0):
        assert Puzzle("t", "sha256", parts_of(seconds, "sha256")).seconds == pytest.approx(seconds, rel=0.01)
    assert parts_of(0.0, "scrypt") == 1
    assert parts_of(1e30, "sha256") == work.SPACE
