"""Limits and waiting times in headers: exact forms, rounding that never sends a client back too early, and no way to begin a second header."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.dialects import DIALECTS, ratelimit
from gateway_guard.dialects.anthropic_messages import moment
from gateway_guard.dialects.openai import duration
from gateway_guard.ports import LimitShown

INF, NAN = float("inf"), float("nan")
AT = 1764066000.25  # 2025-11-25T10:20:00.25Z
LIMITS = [
    LimitShown("requests-per-minute", "requests", 60, 12.9, 31.2, 60),
    LimitShown("requests-per-day", "requests", 1000, 40, 4000, 86400),
    LimitShown("tokens", "tokens", 200_000, 150_000, 0.0171, 60),
    LimitShown("in", "input_tokens", 100_000, 5000.9, 41.7, 60),
    LimitShown("out", "output_tokens", 10_000, -3.0, 361.0, 60),
    LimitShown("thought", "reasoning_tokens", 10, 1, 1, 60),
    LimitShown("held", "in_flight", 4, 1, INF),
    LimitShown("euro", "money", 5.5, 1.25, 30),
]


def test_openai_headers() -> None:
    assert dict(DIALECTS["openai.chat"].limit_headers(LIMITS, AT)) == {
        b"x-ratelimit-limit-requests": b"60",
        b"x-ratelimit-remaining-requests": b"12",
        b"x-ratelimit-reset-requests": b"31.2s",
        b"x-ratelimit-limit-tokens": b"10000",
        b"x-ratelimit-remaining-tokens": b"0",
        b"x-ratelimit-reset-tokens": b"6m1s",
    }


def test_anthropic_headers() -> None:
    assert dict(DIALECTS["anthropic.messages"].limit_headers(LIMITS, AT)) == {
        b"anthropic-ratelimit-requests-limit": b"60",
        b"anthropic-ratelimit-requests-remaining": b"12",
        b"anthropic-ratelimit-requests-reset": b"2025-11-25T10:20:32Z",
        b"anthropic-ratelimit-tokens-limit": b"200000",
        b"anthropic-ratelimit-tokens-remaining": b"150000",
        b"anthropic-ratelimit-tokens-reset": b"2025-11-25T10:20:01Z",
        b"anthropic-ratelimit-input-tokens-limit": b"100000",
        b"anthropic-ratelimit-input-tokens-remaining": b"5000",
        b"anthropic-ratelimit-input-tokens-reset": b"2025-11-25T10:20:42Z",
        b"anthropic-ratelimit-output-tokens-limit": b"10000",
        b"anthropic-ratelimit-output-tokens-remaining": b"0",
        b"anthropic-ratelimit-output-tokens-reset": b"2025-11-25T10:26:02Z",
    }


@pytest.mark.parametrize("name", DIALECTS)
@pytest.mark.parametrize("order", [1, -1])
def test_of_equal_buckets_the_slower_is_shown_in_any_order(name: str, order: int) -> None:
    slow, fast = LimitShown("a", "requests", 7, 3, 90), LimitShown("b", "requests", 9, 3, 30)
    shown = DIALECTS[name].limit_headers([slow, fast][::order], 0.0)
    assert b"7" in [value for key, value in shown if b"limit" in key]


@pytest.mark.parametrize("name", DIALECTS)
def test_what_never_resets_has_no_reset(name: str) -> None:
    assert not any(b"reset" in key for key, _ in DIALECTS[name].limit_headers([LimitShown("a", "requests", 7, 3, INF)], 0.0))


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, b"0ms"),
        (0.0001, b"1ms"),
        (0.017, b"17ms"),
        (0.9999, b"1s"),
        (1.0, b"1s"),
        (8.64, b"8.64s"),
        (8.6401, b"8.641s"),
        (59.999, b"59.999s"),
        (59.9991, b"1m0s"),
        (60.0, b"1m0s"),
        (360.0, b"6m0s"),
        (360.1, b"6m1s"),
        (3600.0, b"1h0m0s"),
        (3661.2, b"1h1m2s"),
        (-1.0, b"0ms"),
        (NAN, b"0ms"),
    ],
)
def test_durations(seconds: float, text: bytes) -> None:
    assert duration(seconds) == text


def meant(text: str) -> float:
    """The seconds that a duration says."""
    units = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
    parts = re.findall(r"([0-9.]+)(ms|h|m|s)", text)
    assert "".join(number + unit for number, unit in parts) == text
    return sum(float(number) * units[unit] for number, unit in parts)


@given(st.floats(0, 1e7))
def test_a_duration_is_never_short_and_hardly_long(seconds: float) -> None:
    said = meant(duration(seconds).decode())
    assert seconds - 1e-6 <= said <= seconds + (1.0 if seconds > 59 else 0.0011)


@pytest.mark.parametrize(("second", "text"), [(0, b"1970-01-01T00:00:00Z"), (1764066032, b"2025-11-25T10:20:32Z"), (10**15, b"9999-12-31T23:59:59Z")])
def test_moments(second: int, text: bytes) -> None:
    assert moment(second) == text


def test_the_ietf_fields() -> None:
    [policy, state] = ratelimit.fields([LIMITS[0], LIMITS[4], *LIMITS[6:]])
    assert policy == (
        b"ratelimit-policy",
        b'"requests-per-minute";q=60;w=60;qu="requests", "out";q=10000;w=60;qu="output-tokens", "held";q=4;qu="concurrent-requests", "euro";q=5;qu="money"',
    )
    assert state == (b"ratelimit", b'"requests-per-minute";r=12;t=32, "out";r=0;t=361, "held";r=1, "euro";r=1;t=30')
    assert ratelimit.fields([]) == []


STRING = r'"(?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*"'
ITEM = rf"{STRING}(?:;[a-z]+=(?:\d{{1,15}}|{STRING}))*"


@given(st.lists(st.builds(LimitShown, st.text(max_size=12), st.just("requests"), st.floats(), st.floats(), st.floats(), st.floats()), min_size=1, max_size=4))
def test_the_ietf_fields_are_structured_fields_whatever_the_names_and_numbers(limits: list[LimitShown]) -> None:
    """A quote or a line end in a quota's name would let its author write headers of his own."""
    for _, value in ratelimit.fields(limits):
        assert re.fullmatch(rf"{ITEM}(?:, {ITEM})*", value.decode("ascii"))


@pytest.mark.parametrize(
    ("name", "text"),
    [("plain", '"plain"'), ('a"b', r'"a\"b"'), ("a\\b", r'"a\\b"'), ("a\r\nset-cookie: b", '"a??set-cookie: b"'), ("ключ", '"????"'), ("\x7f", '"?"')],
)
def test_names_are_quoted(name: str, text: str) -> None:
    assert ratelimit.quoted(name) == text


@pytest.mark.parametrize(
    ("wait", "again", "seconds", "milliseconds", "asked"),
    [
        (3.2, None, b"4", b"3200", b"true"),
        (3.0, None, b"3", b"3000", b"true"),
        (0.0001, None, b"1", b"1", b"true"),
        (0.0, None, b"1", b"1", b"true"),
        (-5.0, None, b"1", b"1", b"true"),
        (120.0, None, b"120", b"120000", b"true"),
        (120.1, None, b"121", b"120100", b"false"),
        (120.1, True, b"121", b"120100", b"true"),
        (1.0, False, b"1", b"1000", b"false"),
        (INF, None, None, None, b"false"),
        (NAN, None, None, None, b"false"),
        (INF, False, None, None, b"false"),
    ],
)
def test_when_to_come_back(wait: float, again: bool | None, seconds: bytes | None, milliseconds: bytes | None, asked: bytes) -> None:
    headers = dict(ratelimit.retry(wait, again=again))
    assert headers[b"x-should-retry"] == asked
    assert headers.get(b"retry-after") == seconds
    assert headers.get(b"retry-after-ms") == milliseconds


@given(st.floats(0, 1e9))
def test_retry_after_is_never_short(wait: float) -> None:
    headers = dict(ratelimit.retry(wait))
    assert int(headers[b"retry-after"]) >= wait
    assert int(headers[b"retry-after-ms"]) >= wait * 1000 - 1e-3
    assert int(headers[b"retry-after"]) * 1000 >= int(headers[b"retry-after-ms"])
