"""The live recorder never holds up a request, and what it writes replays."""

from __future__ import annotations

import errno
import json
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gateway_guard.decision import Action, Decision
from gateway_guard.facts import Identity, Usage
from gateway_guard.identity.credentials import hide
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.trace import recorder as module
from gateway_guard.trace.decisions import read_decisions, row
from gateway_guard.trace.exchanges import Exchange, line, read
from gateway_guard.trace.recorder import Recorder
from gateway_guard.trace.recording import Recording, exchange_of

NAMES = Pseudonyms(b"a key for tests that is long enough!")
HEADERS = [(b"authorization", b"Bearer sk-secret"), (b"x-note", b"caf\xe9")]


def hidden(headers: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
    return hide(headers, NAMES)


def recorder(folder: Path, **more: Any) -> Recorder:
    arguments: dict[str, Any] = {"exchanges": folder / "log.jsonl.zst", "hide": hidden, "number": NAMES.number}
    return Recorder(**arguments | more)


def recording(ticket: int, ident: str = "x", body: bytes = b'{"a":1}', **more: Any) -> Recording:
    account = more.pop("account", "ab")
    return Recording(ticket, ident, 1000.000001, 1001.5, "192.0.2.7", "POST", "/v1/messages", HEADERS, body, Identity(account), **more)


def found(folder: Path) -> list[Exchange]:
    return [exchange for path in sorted(folder.glob("log.*")) for exchange in read(path)]


def test_an_exchange_is_written_as_it_was(tmp_path: Path) -> None:
    taking = recorder(tmp_path)
    ticket = taking.opened("ab")
    taking.exchange(recording(ticket, status=200, first=1000.5, usage=Usage(5, 7, 2, True), finish_reason="stop", held=0.25))
    assert taking.close()
    (exchange,) = found(tmp_path)
    assert (exchange.id, exchange.ts, exchange.ends, exchange.client, exchange.identity) == ("x", 1000.000001, 1001.5, "192.0.2.7", Identity("ab"))
    assert exchange.headers[1] == ("x-note", "caf\xe9")
    assert exchange.headers[0] == ("authorization", f"Bearer hashed:{NAMES.text('credential', 'sk-secret')}")
    response = exchange.response
    assert response is not None
    assert (response.status, response.ttft_ms, response.held_ms, response.finish_reason, response.ending) == (200, 499.999, 250.0, "stop", "done")
    assert response.usage is not None
    assert (response.usage.input_tokens, response.usage.output_tokens, response.usage.reasoning_tokens, response.usage.estimated) == (5, 7, 2, True)
    assert taking.counts[:4] == (1, 0, 0, 0)
    assert taking.counts.bytes == sum(path.stat().st_size for path in tmp_path.iterdir())


BODIES = {
    "several lines": (b'{\n"a": "x\\ny"\r\n}', b'{ "a": "x\\ny"  }'),
    "none": (b"", b'""'),
    "another value": (b'"text"', b'"\\"text\\""'),
    "null": (b"null", b'"null"'),
    "no JSON": (b'{"a', b'"{\\"a"'),
    "not UTF-8": (b'{"a":"\xff"}', '"{\\"a\\":\\"\u00ff\\"}"'.encode()),
    "nested": (b"[" * 100_000, b'"' + b"[" * 100_000 + b'"'),
}


@pytest.mark.parametrize(("body", "kept"), BODIES.values(), ids=BODIES)
def test_any_body_stays_on_its_line(body: bytes, kept: bytes) -> None:
    exchange = exchange_of(recording(1, body=body), hidden)
    assert bytes(exchange.body) == kept
    assert exchange.octets == body.translate(bytes.maketrans(b"\r\n", b"  ") if body[:1] == b"{" and kept[:1] == b"{" else None)
    json.loads(kept)
    assert b"\n" not in line(exchange)[:-1]


def test_lines_are_in_the_order_of_deciding_whatever_the_order_of_ending(tmp_path: Path) -> None:
    taking = recorder(tmp_path)
    tickets = [taking.opened("ab") for _ in range(5)]
    for number in (3, 1, 4, 0, 2):
        taking.exchange(recording(tickets[number], f"x{number}"))
    assert taking.close()
    assert [exchange.id for exchange in found(tmp_path)] == ["x0", "x1", "x2", "x3", "x4"]
    assert taking.counts.late == 0


def test_an_exchange_that_never_ends_does_not_keep_the_others(tmp_path: Path) -> None:
    taking = recorder(tmp_path)
    taking.opened("ab")
    taking.exchange(recording(taking.opened("ab"), "x1"))
    assert taking.close()
    assert [exchange.id for exchange in found(tmp_path)] == ["x1"]


def test_what_is_held_is_bounded_and_who_comes_later_is_late(tmp_path: Path) -> None:
    taking = recorder(tmp_path, held_bytes=2000)
    slow = taking.opened("ab")
    for number in range(1, 6):
        taking.exchange(recording(taking.opened("ab"), f"x{number}", body=b'"' + b"y" * 700 + b'"'))
    taking.exchange(recording(slow, "x0"))
    assert taking.close()
    assert [exchange.id for exchange in found(tmp_path)] == ["x1", "x2", "x3", "x4", "x0", "x5"]
    assert taking.counts.late == 1


class Stuck:
    """A disk that hangs until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.release = threading.Event()

    def __call__(self, headers: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
        self.reached.set()
        self.release.wait(20)
        return headers


def test_a_slow_disk_drops_lines_and_holds_up_nobody(tmp_path: Path) -> None:
    stuck = Stuck()
    taking = recorder(tmp_path, hide=stuck, queue_bytes=20_000)
    first = taking.opened("ab")
    taking.exchange(recording(first, "first"))
    assert stuck.reached.wait(20)
    tickets = [taking.opened("ab") for _ in range(100)]
    assert 0 < len([ticket for ticket in tickets if ticket]) < 20
    for ticket in tickets:
        taking.exchange(recording(ticket, "later", body=b'"' + b"y" * 9000 + b'"'))
    dropped = taking.counts.dropped
    assert dropped >= 80
    assert not taking.close(timeout=0.01)
    stuck.release.set()
    assert taking.close(timeout=20)
    assert taking.counts.dropped == dropped
    written = [exchange.id for exchange in found(tmp_path)]
    assert written[0] == "first"
    assert len(written) == taking.counts.written


def test_a_dropped_exchange_does_not_keep_those_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.001)
    stuck = Stuck()
    taking = recorder(tmp_path, hide=stuck, queue_bytes=20_000)
    taking.exchange(recording(taking.opened("ab"), "first"))
    assert stuck.reached.wait(20)
    taking.exchange(recording(taking.opened("ab"), "dropped", body=b'"' + b"y" * 20_000 + b'"'))
    taking.exchange(recording(taking.opened("ab"), "last"))
    stuck.release.set()
    pause = threading.Event()
    for _ in range(5000):
        if taking.counts.written == 2:
            break
        pause.wait(0.001)
    assert taking.close(timeout=20)
    assert [exchange.id for exchange in found(tmp_path)] == ["first", "last"]


def test_after_closing_nothing_is_taken(tmp_path: Path) -> None:
    taking = recorder(tmp_path)
    assert taking.close()
    assert taking.opened("ab") == 0
    assert taking.counts.dropped == 1
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_counted_and_outlived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = threading.Event()

    def full(*_: Any) -> None:
        tried.set()
        raise OSError(errno.ENOSPC, "No space left on device")

    taking = recorder(tmp_path, exchanges=tmp_path / "log.jsonl")
    monkeypatch.setattr(module, "BLOCK", 1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        taking.exchange(recording(taking.opened("ab"), "lost"))
        assert tried.wait(20)
        for _ in range(5000):
            if taking.counts.errors:
                break
            tried.wait(0.01)
    taking.exchange(recording(taking.opened("ab"), "kept"))
    assert taking.close()
    assert [exchange.id for exchange in found(tmp_path)] == ["kept"]
    assert taking.counts[:3] == (1, 1, 1)


def test_an_odd_exchange_does_not_end_the_recording(tmp_path: Path) -> None:
    def fussy(headers: Sequence[tuple[bytes, bytes]]) -> Sequence[tuple[bytes, bytes]]:
        if headers is odd:
            raise ValueError
        return headers

    odd = [(b"odd", b"")]
    taking = recorder(tmp_path, hide=fussy)
    taking.exchange(recording(taking.opened("ab"), "odd")._replace(headers=odd))
    taking.exchange(recording(taking.opened("ab"), "even"))
    assert taking.close()
    assert [exchange.id for exchange in found(tmp_path)] == ["even"]
    assert taking.counts.dropped == 1


def test_whole_accounts_are_sampled_and_always_the_same(tmp_path: Path) -> None:
    accounts = [NAMES.text("account", str(n)) for n in range(1000)]
    half, again = (recorder(tmp_path, sample=0.3) for _ in range(2))
    taken = [account for account in accounts if half.opened(account)]
    assert 240 < len(taken) < 360
    assert [account for account in accounts if again.opened(account)] == taken
    assert set(taken) < {account for account in accounts if NAMES.number("sample", account) < 0.5 * 2**63}
    none = recorder(tmp_path, sample=0.0)
    assert not any(none.opened(account) for account in accounts)
    for one in (half, again, none):
        assert one.close()
        assert one.counts.dropped == 0


def test_decisions_are_written_and_not_sampled(tmp_path: Path) -> None:
    taking = recorder(tmp_path, exchanges=None, decisions=tmp_path / "decisions.jsonl", sample=0.0)
    rows = [row(Decision(f"x{n}", 1.0, "ab", Action.ALLOW, Action.ALLOW), "ab") for n in range(20)]
    for one in rows:
        taking.decision(one)
    assert taking.opened("ab") == 0
    assert taking.close()
    (path,) = tmp_path.iterdir()
    assert list(read_decisions(path)) == rows
    assert taking.counts == (20, 0, 0, 0, path.stat().st_size)


def test_files_are_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", 1)
    taking = recorder(tmp_path, exchanges=tmp_path / "log.jsonl", rotate=2000, keep=3)
    for number in range(30):
        taking.exchange(recording(taking.opened("ab"), f"x{number}"))
    assert taking.close()
    assert len(list(tmp_path.iterdir())) == 3
    assert [exchange.id for exchange in found(tmp_path)][-1] == "x29"


def test_what_came_is_written_without_closing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TICK", 0.001)
    taking = recorder(tmp_path)
    taking.exchange(recording(taking.opened("ab"), "x"))
    pause = threading.Event()
    for _ in range(5000):
        if taking.counts.written:
            break
        pause.wait(0.001)
    assert [exchange.id for exchange in found(tmp_path)] == ["x"]
    assert taking.close()


def test_no_secret_and_no_path_to_one_is_written(tmp_path: Path) -> None:
    taking = recorder(tmp_path, exchanges=tmp_path / "log.jsonl")
    taking.exchange(recording(taking.opened("ab")))
    assert taking.close()
    (path,) = tmp_path.iterdir()
    assert b"sk-secret" not in path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o600
