"""A body is one request to every reader, or it is refused with one clear sentence."""

from __future__ import annotations

import gzip
import json
import zlib
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.dialects import body as module
from gateway_guard.dialects.body import COUNTED, MEMBERS, Parsed, decoded, gunzip, parse
from gateway_guard.errors import BodyTooLarge, UnreadableBody

LONG = b" " * COUNTED  # after which colons are not counted

UNIQUE = [
    b"{}",
    b' { "a" : 1 } ',
    b'{"a":{"a":{"a":1}},"b":[{"a":1},{"a":2}]}',
    b'{"a": "a:b", "b": ":::"}',
    b'{"a":"\\u003a"}',
    b'{"a\\u003a":1,"a":2}',
    b'{"a":"\\ud83d\\ude00","b":1e3,"c":-0,"d":1.50,"e":12345678901234567890123}',
    b'{"":1," ":2}',
    b'{"a":1,"A":2}',
]
TWICE = [
    (b'{"a":1,"a":1}', "a"),
    (b'{"a":1, "a":2}', "a"),
    (b'{"model":"cheap","messages":[],"model":"dear"}', "model"),
    (b'{"a":[{"b":{"c":1,"d":2,"c":3}}]}', "c"),
    (b'{"a":1,"\\u0061":2}', "a"),
    (b'{"x":{"a":1},"x":{"a":1}}', "x"),
    (b'{"":1,"":2}', ""),
    # A colon dropped with the duplicate, another hidden in an escape: the counts agree, the keys do not.
    (b'{"a":"\\u003a","b":1,"b":2}', "b"),
    (b'{"a":"\\u003A","b":1,"b":2}', "b"),
    (b'{"a:":1, "a:":2, "c":"\\u003a\\u003a"}', "a:"),
    ('{"ключ":1,"ключ":2}'.encode(), "\\u043a\\u043b\\u044e\\u0447"),
    (b'{"a\\n":1,"a\\n":2}', "a\\n"),
]


@pytest.mark.parametrize("padding", [b"", LONG], ids=["short", "long"])
@pytest.mark.parametrize("raw", UNIQUE)
def test_a_body_without_duplicates_passes_as_it_is(raw: bytes, padding: bytes) -> None:
    assert parse(raw + padding) == Parsed(orjson.loads(raw), raw + padding)


@pytest.mark.parametrize("padding", [b"", LONG], ids=["short", "long"])
@pytest.mark.parametrize(("raw", "key"), TWICE)
def test_a_key_given_twice_is_refused_by_name(raw: bytes, key: str, padding: bytes) -> None:
    with pytest.raises(UnreadableBody) as caught:
        parse(raw + padding)
    assert f"'{key}'" in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(("raw", "_"), TWICE)
def test_rewritten_it_says_to_every_reader_what_was_read(raw: bytes, _: str) -> None:
    parsed = parse(raw, duplicates="rewrite")
    assert parsed.raw != raw
    assert parse(parsed.raw) == Parsed(parsed.body, parsed.raw)


@pytest.mark.parametrize("raw", UNIQUE)
def test_rewriting_leaves_a_clean_body_alone(raw: bytes) -> None:
    assert parse(raw, duplicates="rewrite").raw == raw


UNREADABLE = {
    b"": "empty",
    b" \n": "not valid JSON",
    b"{": "not valid JSON",
    b'{"a":1}{"a":2}': "not valid JSON",
    b'{"a":NaN}': "not valid JSON",
    b'{"a":Infinity}': "not valid JSON",
    b'{"a":1e999}': "not valid JSON",
    b'{"a":' + b"9" * 400 + b"}": "not valid JSON",
    b'{"a":"\xff"}': "not valid JSON",
    b'{"a":"\\ud800"}': "not valid JSON",
    b'\xef\xbb\xbf{"a":1}': "not valid JSON",
    '{"a":1}'.encode("utf-16"): "not valid JSON",
    b"{'a':1}": "not valid JSON",
    b'{"a":1,}': "not valid JSON",
    b'{"a":1}//': "not valid JSON",
    b'{"a":"\x00"}': "not valid JSON",
    b"[]": "an array",
    b'"model"': "a string",
    b"12": "a number",
    b"1.5": "a number",
    b"true": "a boolean",
    b"null": "null",
    b'{"a":' + b"[" * 255 + b"]" * 255 + b"}": "nested too deeply",
    b'{"a":' * 300 + b"1" + b"}" * 300: "nested too deeply",
    b"[" * 100_000 + b"]" * 100_000: "not valid JSON",
    b'{"a":' * 100_000 + b"1" + b"}" * 100_000: "not valid JSON",
    b"[" * 5_000_000: "not valid JSON",
}


@pytest.mark.parametrize(("raw", "says"), UNREADABLE.items(), ids=[str(raw[:24]) for raw in UNREADABLE])
def test_what_two_readers_may_see_differently_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(UnreadableBody) as caught:
        parse(raw)
    assert says in caught.value.message
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 250
    assert caught.value.status == 400


def test_the_deepest_body_that_is_read_is_looked_at_for_duplicates_too() -> None:
    deep = b'{"a":' * 253 + b'{"b": 1}' + b"}" * 253
    assert parse(deep).raw == deep
    with pytest.raises(UnreadableBody, match="'b'"):
        parse(deep.replace(b'{"b": 1}', b'{"b": 1, "b": 1}') + LONG)


def test_a_nearly_full_stack_is_no_crash() -> None:
    def call(depth: int) -> None:
        if depth:
            call(depth - 1)
        else:
            parse(b'{"a": ' * 250 + b"1" + b"}" * 250 + LONG)

    def fill() -> None:
        for depth in range(550, 900, 10):
            call(depth)

    with pytest.raises(UnreadableBody, match="nested too deeply"):
        fill()


def test_a_long_key_is_shown_shortened() -> None:
    key = b"k" * 100_000
    with pytest.raises(UnreadableBody) as caught:
        parse(b'{"%b":1,"%b":2}' % (key, key))
    assert len(caught.value.message) < 200


values: Any = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.text(':\\"u03aA{},é', max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab:\\u03", max_size=3), inner, max_size=3),
    max_leaves=12,
)


def written(value: Any, draw: Any) -> tuple[str, bool]:
    """JSON with random spaces and escapes and, now and then, a key given twice."""
    if isinstance(value, dict):
        members = [(key, *written(inner, draw)) for key, inner in value.items()]
        twice = bool(members) and draw(st.integers(0, 5)) == 0
        if twice:
            members.insert(draw(st.integers(0, len(members))), draw(st.sampled_from(members)))
        text = ",".join(f"{string(key, draw)}{draw(st.sampled_from(['', ' ']))}:{inner}" for key, inner, _ in members)
        return f"{{{text}}}", twice or any(found for _, _, found in members)
    if isinstance(value, list):
        items = [written(inner, draw) for inner in value]
        return f"[{','.join(text for text, _ in items)}]", any(found for _, found in items)
    return (string(value, draw) if isinstance(value, str) else json.dumps(value)), False


def string(text: str, draw: Any) -> str:
    """A JSON string, some of its characters escaped that need not be."""
    plain = json.dumps(text)
    escaped = '"' + "".join(f"\\u{ord(char):04x}" for char in text) + '"'
    return draw(st.sampled_from([plain, escaped, escaped.upper().replace("\\U", "\\u")]))  # type: ignore[no-any-return]


@given(value=st.dictionaries(st.text("ab:", max_size=2), values, max_size=4), data=st.data())
def test_duplicates_are_found_exactly_when_there_are_any(value: dict[str, Any], data: st.DataObject) -> None:
    text, twice = written(value, data.draw)
    padding = data.draw(st.sampled_from([b"", LONG]))
    try:
        parsed = parse(text.encode() + padding)
    except UnreadableBody:
        assert twice
    else:
        assert not twice
        assert parsed.body == orjson.loads(text)


def test_canonical_bodies_are_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact search costs more than all the rest; a client that writes compact JSON never pays for it."""
    monkeypatch.setattr(module, "_duplicate", lambda raw: pytest.fail("searched"))
    parse(orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "a:b\n\u003a"}], "n": 2**63, "t": 0.1}) + b"")
    parse(b'{"model": "m", "messages": [{"role": "user", "content": "a:b"}]}')


PLAIN = b'{"model":"m"}' * 500


def zipped(data: bytes, level: int = 9) -> bytes:
    """The same bytes at any time."""
    return gzip.compress(data, level, mtime=0)


@pytest.mark.parametrize("packed", [zipped(PLAIN), zipped(PLAIN, 0), zipped(PLAIN[:99]) + zipped(b"") + zipped(PLAIN[99:])])
def test_gzip_is_undone(packed: bytes) -> None:
    assert gunzip(packed, len(PLAIN)) == PLAIN
    with pytest.raises(BodyTooLarge, match=f"{len(PLAIN) - 1} bytes"):
        gunzip(packed, len(PLAIN) - 1)


NOT_GZIP = {
    "empty": b"",
    "plain": PLAIN,
    "cut": zipped(PLAIN)[:-1],
    "cut head": zipped(PLAIN)[:5],
    "wrong sum": zipped(PLAIN)[:-8] + b"\0" * 8,
    "garbage behind": zipped(PLAIN) + b"garbage",
    "zeros behind": zipped(PLAIN) + b"\0\0",
    "second member cut": zipped(PLAIN) + zipped(PLAIN)[:9],
    "zlib": zlib.compress(PLAIN),
    "many members": zipped(b"") * (MEMBERS + 1),
}


@pytest.mark.parametrize("packed", NOT_GZIP.values(), ids=NOT_GZIP)
def test_what_is_not_quite_gzip_is_refused(packed: bytes) -> None:
    with pytest.raises(UnreadableBody) as caught:
        gunzip(packed, 10**6)
    assert "gzip" in caught.value.message


def test_a_bomb_takes_no_more_memory_than_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight megabytes in eight kilobytes; nested bombs are just data."""
    asked: list[int] = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, bits: int) -> None:
            self._stream = real(bits)

        def decompress(self, raw: bytes, most: int) -> bytes:
            asked.append(most)
            return self._stream.decompress(raw, most)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._stream, name)

    bomb = gzip.compress(b"\0" * 8_000_000) * 2
    monkeypatch.setattr(zlib, "decompressobj", Watched)
    with pytest.raises(BodyTooLarge) as caught:
        gunzip(bomb, 1000)
    assert caught.value.status == 413
    assert asked == [1001]


@pytest.mark.parametrize(("encoding", "raw"), [("", PLAIN), ("identity", PLAIN), (" Identity ", PLAIN), ("gzip", zipped(PLAIN)), ("X-GZIP", zipped(PLAIN))])
def test_known_encodings_are_undone(encoding: str, raw: bytes) -> None:
    assert decoded(raw, encoding, 10**6) == PLAIN
    with pytest.raises(BodyTooLarge):
        decoded(raw, encoding, 100)


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "gzip,identity", "\r\nx: y", "é" * 1000])
def test_unknown_encodings_are_refused_by_name(encoding: str) -> None:
    with pytest.raises(UnreadableBody) as caught:
        decoded(zipped(PLAIN), encoding, 10**6)
    assert "not supported" in caught.value.message
    assert caught.value.message.isprintable()
    assert len(caught.value.message) < 200
