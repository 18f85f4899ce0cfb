"""Traces of events."""

from __future__ import annotations

import io
import os
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.errors import TrafficError
from gateway_guard.facts import BLANK, Adopted, Cut, Done, Event, Fingerprint, Identity, RequestFacts, Seen, Usage
from gateway_guard.trace import events as module
from gateway_guard.trace.events import MARK, Trace, TraceWriter, is_trace
from gateway_guard.trace.output import Output

WHO = Identity("ab", "org", "pro", 12.5, 2**62, 3, 4)
PRINT = Fingerprint(1, 2, 3, 4, 5, 2**62, (1, 2**62), (7,), (), 8, 9, 10)


def seen(number: int, who: Identity = WHO) -> Seen:
    facts = RequestFacts(f"x{number}", float(number), who, "openai.chat", "m", PRINT, 11, 12, 13, 14, 15, ("p",))
    return Seen(facts, "throttle", "c1")


EVENTS: list[Event] = [
    seen(1),
    Done("x1", 1.5, "ab", Usage(1, 2, 3, True), 500, "raised"),
    Cut(2.0, 7),
    seen(2, Identity("ab", plan="free")),
    Adopted(3.0, 7),
    seen(3),
    seen(4, Identity("cd", anonymous=True)),
]


def written(path: Path, events: list[Event], key: str = "k") -> Path:
    with Output(path) as output:
        writer = TraceWriter(output, key=key)
        for event in events:
            writer(event)
        writer.finish()
    return path


@pytest.mark.parametrize("block", [1, 2, 3, 4096])
def test_what_is_written_is_read_again(tmp_path: Path, block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    trace = Trace(written(tmp_path / "t.ggt", EVENTS))
    assert trace.header.key == "k"
    assert list(trace) == EVENTS
    assert trace.position == trace.size == (tmp_path / "t.ggt").stat().st_size


def test_fingerprints_are_left_out_when_nobody_looks_at_them(tmp_path: Path) -> None:
    found = [event for event in Trace(written(tmp_path / "t.ggt", EVENTS), fingerprints=False) if isinstance(event, Seen)]
    assert {event.facts.fingerprint for event in found} == {BLANK}
    assert [event.facts.identity for event in found] == [event.facts.identity for event in EVENTS if isinstance(event, Seen)]


def test_an_empty_trace_is_a_trace(tmp_path: Path) -> None:
    assert list(Trace(written(tmp_path / "t.ggt", []))) == []


def test_a_trace_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    assert is_trace(written(tmp_path / "t.jsonl", EVENTS))
    (tmp_path / "t.ggt").write_text("{}")
    assert not is_trace(tmp_path / "t.ggt")
    assert not is_trace(tmp_path / "nothing")
    assert not is_trace(tmp_path)


def test_a_named_pipe_is_not_read_to_find_out(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    assert not is_trace(tmp_path / "fifo")


def test_a_trace_that_was_cut_off_is_an_error(tmp_path: Path) -> None:
    whole = written(tmp_path / "t.ggt", EVENTS).read_bytes()
    first = len(MARK) + 4 + int.from_bytes(whole[8:12], "big")
    for cut in range(len(whole)):
        if cut == first:
            continue  # between two blocks
        with pytest.raises(TrafficError, match="t: "):
            list(Trace("t", stream=io.BytesIO(whole[:cut])))


@given(st.data())
def test_damage_is_an_error_or_changes_nothing_and_never_another_event(data: st.DataObject) -> None:
    whole = bytearray(packed(EVENTS))
    at = data.draw(st.integers(0, len(whole) - 1))
    whole[at] ^= data.draw(st.integers(1, 255))
    with suppress(TrafficError):
        assert list(Trace("t", stream=io.BytesIO(bytes(whole)))) == EVENTS


def packed(events: list[Event]) -> bytes:
    class Held(Output):
        def __init__(self) -> None:
            self.data = bytearray()

        def write(self, data: bytes) -> None:
            self.data += data

    output = Held()
    writer = TraceWriter(output)
    for event in events:
        writer(event)
    writer.finish()
    return bytes(output.data)


def block(data: bytes) -> bytes:
    frame = zstandard.ZstdCompressor().compress(data)
    return len(frame).to_bytes(4, "big") + frame


HEADER = block(b"\x82\xa1v\x01\xa3key\xa0")
REFUSED = {
    "no trace": (b"{}", "is not a trace"),
    "later version": (MARK + block(b"\x81\xa1v\x02"), "format version 2"),
    "no header": (MARK + block(b"\xc3"), "header cannot be read"),
    "not events": (MARK + HEADER + block(b"\x92\x90\x91\x93\x09\x01\x02"), "holds no events"),
    "nobody's event": (MARK + HEADER + block(b"\x92\x90\x91\x9f\x00\xa1x\x01\x05" + b"\xa0" * 2 + b"\x90" + b"\x00" * 5 + b"\x90\xa0\xa0"), "holds no events"),
    "a bomb": (MARK + HEADER + block(bytes(module.PLAIN_CAP + 1)), "no block of this size"),
    "a length beyond all": (MARK + HEADER + b"\xff\xff\xff\xff" + b"x" * 100, "damaged near byte"),
}


@pytest.mark.parametrize(("data", "says"), REFUSED.values(), ids=REFUSED)
def test_a_trace_that_cannot_be_one_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(TrafficError, match=says):
        list(Trace("t", stream=io.BytesIO(data)))


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(TrafficError, match="nothing: cannot be opened: No such file"):
        Trace(tmp_path / "nothing")
