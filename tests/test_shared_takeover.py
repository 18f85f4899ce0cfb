"""The worker that analyses is killed in the middle of everything: another one goes on with all that was sent, each event once."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from tests.member import Said
from tests.servers import BINARIES, running

ROOT = Path(__file__).parent.parent


class Member:
    """A worker's process and what it has said."""

    def __init__(self, url: str, name: str) -> None:
        command = [sys.executable, "-m", "tests.member", url, name]
        self.process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.sent: list[str] = []
        self.view = self.token = 0

    def hear(self) -> Said | None:
        """The next line; None when there are no more."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        # The last line of a process that was killed may be half a one: that event may have been taken or not.
        if not line.endswith(b"\n"):
            return None
        said = msgspec.json.decode(line, type=Said)
        self.sent += said.sent
        self.view, self.token = max(self.view, said.view), said.token or self.token
        return said

    def until(self, view: int, token: int) -> None:
        """Listen until it goes by that view and leads under that token."""
        while self.view < view or self.token != token:
            assert self.hear() is not None

    def kill(self) -> None:
        self.process.kill()
        while self.hear() is not None:
            pass
        self._gone()

    def end(self) -> list[str]:
        """What its analyst was told."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        told: list[str] = []
        while (said := self.hear()) is not None:
            told = said.told or told
        self._gone()
        return told

    def _gone(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
        self.process.wait()


@contextmanager
def members(url: str, *names: str) -> Iterator[list[Member]]:
    found = [Member(url, name) for name in names]
    try:
        yield found
    finally:
        for member in found:
            if member.process.poll() is None:
                member.process.kill()
                member._gone()


@pytest.mark.parametrize("kind", BINARIES)
def test_a_leader_that_is_killed_is_followed_by_one_who_knows_all_and_nothing_twice(tmp_path: Path, kind: str) -> None:
    with running(kind, tmp_path) as server, members(server.url, "a") as [first]:
        first.until(view=1, token=1)
        with members(server.url, "b", "c") as others:
            for other in others:
                assert other.hear() is not None
            before = first.view
            first.until(view=before + 1, token=1)
            first.kill()
            # Whoever comes first leads; both go by its next view.
            while not (leaders := [other for other in others if other.token == 2]):
                for other in others:
                    other.hear()
            [leader], before = leaders, first.view
            leader.until(view=before + 2, token=2)
            [follower] = [other for other in others if other is not leader]
            while follower.view < before + 2:
                assert follower.hear() is not None
            assert follower.token == 0
            assert follower.end() == []
            told = leader.end()
        sent = first.sent + follower.sent + leader.sent
        assert len(told) == len(set(told)), "nothing twice"
        assert set(sent) <= set(told), "nothing lost"
        # Of the one that was killed the last entry may have been taken without a word.
        assert len(set(told) - set(sent)) <= 1
        for name in "abc":
            numbers = [int(ident[1:]) for ident in told if ident[0] == name]
            assert numbers == list(range(1, len(numbers) + 1)), "in order, from the first one on"
