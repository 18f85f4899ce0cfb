"""The audit log: what is written holds, and whatever is done to it afterwards is found."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.trace.audit import OTHERS, AuditLog
from gateway_guard.trace.seal import Sealer
from gateway_guard.trace.verify import Checked, Head, verify
from tests.commands import command
from tests.fakes import KEY, policy_file

AT = 1_795_000_000.0


def written(folder: Path, entries: int = 6, *, close: bool = True, rotate: int = 2**20) -> list[Head]:
    """A log of some entries; how far it goes."""
    heads: dict[str, Head] = {}
    log = AuditLog(folder / "audit.jsonl", KEY, rotate=rotate, written=lambda file, n, seal: heads.update({file: Head(file, n, seal)}))
    for number in range(entries):
        log.write([{"at": AT + number, "kind": "test", "account": f"{number:020x}", "says": "naïve, \u2028 and <b>"}])
    if close:
        assert log.close()
    return list(heads.values())


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("audit.*.jsonl"))


def check(folder: Path, heads: Sequence[Head] = (), *, whole: bool = True) -> Checked:
    return verify(files(folder), Sealer(KEY), heads=heads, whole=whole)


def test_what_is_written_holds(tmp_path: Path) -> None:
    heads = written(tmp_path)
    checked = check(tmp_path, heads)
    assert (checked.entries, checked.mistakes, checked.notes) == (8, [], [])
    (path,) = files(tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, list[Head]]:
    folder = tmp_path_factory.mktemp("audit")
    heads = written(folder)
    return files(folder)[0].read_bytes(), heads


def found(folder: Path, data: bytes, heads: list[Head]) -> bool:
    path = folder / "audit.000001.jsonl"
    path.write_bytes(data)
    return bool(verify([path], Sealer(KEY), heads=heads, whole=True).mistakes)


@given(place=st.integers(min_value=0), bit=st.integers(0, 7))
def test_a_flipped_bit_is_found(place: int, bit: int, good: tuple[bytes, list[Head]], tmp_path_factory: pytest.TempPathFactory) -> None:
    data, heads = good
    changed = bytearray(data)
    changed[place % len(data)] ^= 1 << bit
    assert found(tmp_path_factory.getbasetemp(), bytes(changed), heads)


@given(data=st.data())
def test_lines_that_are_deleted_moved_or_doubled_are_found(
    data: st.DataObject, good: tuple[bytes, list[Head]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = good[0].splitlines(keepends=True)
    how, one, two = data.draw(st.sampled_from(["delete", "swap", "double", "cut"])), *data.draw(st.permutations(range(len(lines))))[:2]
    changed = list(lines)
    match how:
        case "delete":
            del changed[one]
        case "swap":
            changed[one], changed[two] = changed[two], changed[one]
        case "double":
            changed.insert(two, changed[one])
        case "cut":
            changed = changed[:one]
    assert found(tmp_path_factory.getbasetemp(), b"".join(changed), good[1])


@given(keep=st.integers(min_value=0))
def test_a_log_that_is_cut_anywhere_is_found(keep: int, good: tuple[bytes, list[Head]], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert found(tmp_path_factory.getbasetemp(), good[0][: keep % len(good[0])], good[1])


def test_without_the_key_nobody_writes_an_entry(tmp_path: Path) -> None:
    """Whoever has only the file can neither add to it nor seal what was edited."""
    written(tmp_path, close=False)
    line, _ = Sealer(b"another key of many bytes").line({"n": 8, "at": AT, "kind": "test"}, "0" * 64)
    (path,) = files(tmp_path)
    path.write_bytes(path.read_bytes() + line)
    (mistake,) = check(tmp_path).mistakes
    assert (mistake.line, "sealed with another key" in mistake.says) == (8, True)


def test_mistakes_name_the_line_and_what_is_wrong(tmp_path: Path) -> None:
    heads = written(tmp_path)
    (path,) = files(tmp_path)
    lines = path.read_bytes().splitlines(keepends=True)
    cases = [
        (lines[:3] + lines[4:], 4, "entry 5 follows entry 3: entries are missing"),
        (lines[:-2], 6, "ends after entry 6, and had 8 (the guard's own note): it was cut off"),
        ([*lines[:2], lines[2].replace(b"test", b"nest"), *lines[3:]], 3, "does not match its seal"),
        ([*lines[:-1], lines[-1][:-9]], 8, "has no end"),
        (lines[1:], 1, "entry 2 follows entry 0"),
        ([b""], 0, "is empty"),
    ]
    for changed, line, says in cases:
        path.write_bytes(b"".join(changed))
        first = check(tmp_path, heads).mistakes[0]
        assert (first.line, says in first.says) == (line, True), first


def test_an_entry_of_another_file_does_not_fit(tmp_path: Path) -> None:
    """It is sealed under the right key and has the right number; it only does not continue what stands before it."""
    written(tmp_path)
    written(tmp_path)
    one, two = (path.read_bytes().splitlines(keepends=True) for path in files(tmp_path))
    files(tmp_path)[0].write_bytes(b"".join([*one[:3], two[3], *one[4:]]))
    assert [(mistake.line, "does not continue" in mistake.says) for mistake in check(tmp_path).mistakes] == [(4, True), (5, True)]


def test_each_start_continues_the_file_before(tmp_path: Path) -> None:
    heads = [*written(tmp_path), *written(tmp_path), *written(tmp_path, close=False)]
    checked = check(tmp_path, heads)
    assert (checked.files, checked.mistakes) == (3, [])
    assert checked.notes == ["audit.000003.jsonl has no closing entry: its process still runs, or was killed"]
    files(tmp_path)[1].unlink()
    assert ["is missing" in mistake.says or "continues audit.000002" in mistake.says for mistake in check(tmp_path, heads).mistakes] == [True, True]
    assert check(tmp_path, heads, whole=False).mistakes == []


def test_the_end_of_a_file_is_vouched_for_by_the_next_one(tmp_path: Path) -> None:
    written(tmp_path)
    written(tmp_path)
    first = files(tmp_path)[0]
    first.write_bytes(b"".join(first.read_bytes().splitlines(keepends=True)[:-2]))
    (mistake,) = check(tmp_path).mistakes
    assert "ends after entry 6, and had 8 (audit.000002.jsonl)" in mistake.says


def test_a_line_torn_by_a_crash_is_accounted_for(tmp_path: Path) -> None:
    """The next start names the bytes after the last whole entry. Other bytes there are found."""
    written(tmp_path, close=False)
    first = files(tmp_path)[0]
    whole = first.read_bytes()
    first.write_bytes(whole + b'{"v":1,"n":8,"at":17')
    written(tmp_path)
    assert check(tmp_path).mistakes == []
    first.write_bytes(whole + b'{"v":1,"n":8,"at"')
    assert [mistake.line for mistake in check(tmp_path).mistakes] == [8]


def test_a_log_is_rotated_and_goes_on(tmp_path: Path) -> None:
    heads = written(tmp_path, 40, rotate=3000)
    assert len(files(tmp_path)) > 3
    assert check(tmp_path, heads).mistakes == []


def test_what_happens_at_every_request_is_counted(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", KEY)
    for number in range(1000):
        log.deed(AT + number, "denied", "a" * 20, cluster="c-1", rung="shut", decision=f"d{number}")
    log.deed(AT, "denied", "b" * 20, decision="e")
    log.close()
    denied = [line for line in files(tmp_path)[0].read_text().splitlines() if '"denied"' in line]
    assert len(denied) == 2
    assert '"count":1000' in denied[0]
    assert '"decision":"d0"' in denied[0]


def test_a_crowd_of_accounts_shares_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_guard.trace.audit.COUNTED", 3)
    log = AuditLog(tmp_path / "audit.jsonl", KEY)
    for number in range(9):
        log.deed(AT, "denied", f"{number}")
    log.close()
    assert f'"account":"{OTHERS}","cluster":"","rung":"","count":6' in files(tmp_path)[0].read_text()


def test_entries_wait_for_a_disk_that_refuses_and_what_is_lost_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway_guard.trace.audit.QUEUE", 4)
    (tmp_path / "log").write_text("in the way")
    log = AuditLog(tmp_path / "log" / "audit.jsonl", KEY)
    log.start()
    for number in range(6):
        log.note(AT, "test", number=number)
    (tmp_path / "log").unlink()
    log.close()
    text = files(tmp_path / "log")[0].read_text()
    assert [f'"number":{number}' in text for number in range(6)] == [True] * 4 + [False] * 2
    assert '"kind":"lost","count":2' in text


def test_threads_write_one_chain(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit.jsonl", KEY)
    log.start()

    def work(name: str) -> None:
        for number in range(50):
            log.note(AT, "note", who=name, number=number)
            if number % 10 == 0:
                log.write([{"at": AT, "kind": "written", "who": name}])

    threads = [threading.Thread(target=work, args=(str(number),)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log.close()
    checked = check(tmp_path)
    assert (checked.mistakes, checked.entries) == ([], 4 * 55 + 2)


def test_nothing_is_written_when_nothing_happened(tmp_path: Path) -> None:
    AuditLog(tmp_path / "audit.jsonl", KEY).close()
    assert list(tmp_path.iterdir()) == []


def test_verify_on_the_command_line(tmp_path: Path) -> None:
    policy_file(tmp_path, "record: {audit: guard/audit.jsonl}\n")
    assert command(tmp_path, "audit", "verify").returncode == 2
    written(tmp_path / "guard")
    told = command(tmp_path, "audit", "verify")
    assert (told.returncode, told.stdout) == (0, "ok: 8 entries in 1 file, nothing changed, nothing missing\n")
    (path,) = files(tmp_path / "guard")
    assert command(tmp_path, "audit", "verify", str(path), key=b"another key that is long enough!").returncode == 1
    path.write_bytes(path.read_bytes().replace(b'"kind":"test"', b'"kind":"none"', 1))
    told = command(tmp_path, "audit", "verify", str(path))
    assert told.returncode == 1
    assert told.stdout.startswith(f"{path}:2: does not match its seal")


def test_show_filters(tmp_path: Path) -> None:
    policy_file(tmp_path, "record: {audit: guard/audit.jsonl}\n")
    written(tmp_path / "guard")
    assert len(command(tmp_path, "audit", "show").stdout.splitlines()) == 8
    assert len(command(tmp_path, "audit", "show", "--kind", "test").stdout.splitlines()) == 6
    assert len(command(tmp_path, "audit", "show", "--about", f"{3:020x}").stdout.splitlines()) == 1
    assert command(tmp_path, "audit", "show", "--since", "2999-01-01").stdout == ""
    assert command(tmp_path, "audit", "show", "--since", "soon").returncode == 2
    assert command(tmp_path, "audit", "show", "--json", "--kind", "closed").stdout.startswith('{"v":1,"n":8,')
