"""Quantities as people write them."""

from __future__ import annotations

import contextlib
import datetime
import math
import time
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway_guard.policy import units
from gateway_guard.policy.units import Limit

READERS: tuple[Callable[[object], object], ...] = (units.duration, units.size, units.limit, units.amount, units.price, units.share, units.day)

LIMITS = {
    "60/min": Limit(60, "requests", 60),
    "1000 requests/day": Limit(1000, "requests", 86400),
    "1 request/s": Limit(1, "requests", 1),
    "60 per minute": Limit(60, "requests", 60),
    "60 requests per 5 min": Limit(60, "requests", 300),
    "2M tokens/day": Limit(2e6, "tokens", 86400),
    "1.5M tokens / day": Limit(1.5e6, "tokens", 86400),
    "2,000,000 tokens/day": Limit(2e6, "tokens", 86400),
    "2_000_000 tokens/day": Limit(2e6, "tokens", 86400),
    "500k input tokens/hour": Limit(5e5, "input_tokens", 3600),
    "10k output tokens/min": Limit(1e4, "output_tokens", 60),
    "10K output_tokens/min": Limit(1e4, "output_tokens", 60),
    "1M reasoning tokens/week": Limit(1e6, "reasoning_tokens", 604800),
    "3B tokens/month": Limit(3e9, "tokens", 2592000),
    "$50/month": Limit(50, "money", 2592000),
    "$0.5/day": Limit(0.5, "money", 86400),
    "8 in flight": Limit(8, "in_flight", 0),
    "8 in-flight": Limit(8, "in_flight", 0),
}

READ: list[tuple[Callable[[object], object], object, object]] = [
    *((units.limit, text, limit) for text, limit in LIMITS.items()),
    *(
        (units.duration, text, seconds)
        for text, seconds in {"14d": 1209600, "30s": 30, "10m": 600, "2h": 7200, "1w": 604800, "500ms": 0.5, "1.5 hours": 5400, "7": 7}.items()
    ),
    (units.limit, Limit(5, "tokens", 60), Limit(5, "tokens", 60)),
    (units.duration, 5, 5.0),
    (units.duration, 0, 0.0),
    *((units.size, text, count) for text, count in {"8 MiB": 8388608, "8MB": 8000000, "1.5KiB": 1536, "17 B": 17, "1 B": 1, "17": 17}.items()),
    (units.size, 8, 8),
    *((units.amount, text, number) for text, number in {"200k": 2e5, "2M": 2e6, "$5": 5.0, "1_000": 1000.0, "0.5": 0.5}.items()),
    (units.amount, 30, 30.0),
    (units.price, "$3", 3.0),
    (units.price, 3.0, 3.0),
    (units.price, 0, 0.0),
    (units.share, "5%", 0.05),
    (units.share, "0.5 %", 0.005),
    (units.share, "0.05", 0.05),
    (units.share, 1, 1.0),
    (units.day, "2027-03-31", datetime.date(2027, 3, 31)),
    (units.day, datetime.date(2027, 3, 31), datetime.date(2027, 3, 31)),
]

REFUSED: list[tuple[Callable[[object], object], object, str]] = [
    (units.limit, "abc", "`abc` is not understood"),
    (units.limit, "", "an empty value is not understood"),
    (units.limit, None, "an empty value is neither a text nor a number"),
    (units.limit, 60, "`60` says neither of what nor in which time"),
    (units.limit, True, "`true` is neither a text nor a number"),
    (units.limit, ["60/min"], "a list is neither a text nor a number"),
    (units.limit, "-5/min", "is not understood"),
    (units.limit, "1,5/min", "is not understood"),
    (units.limit, "5/0s", "has a time of nothing"),
    (units.limit, "0/min", "lets nothing through, ever"),
    (units.limit, "999999999999999999M/min", "is out of range"),
    (units.limit, "60", "says no time; write for example `60/min` or `60/day`"),
    (units.limit, "$50", "says no time; write for example `$50/month` or `$50/day`"),
    (units.limit, "60rpm", "says `rpm`, which is written out here; write for example `60 requests/min`"),
    (units.limit, "8 parallel", "write for example `8 in flight`"),
    (units.limit, "2Mtokens/day", "(meant `tokens`?)"),
    (units.limit, "60/Min", "has an unknown unit of time `Min` (meant `min`?)"),
    (units.duration, "1h30m", "`1h30m` is not understood; write for example `30s` or `14d`"),
    (units.duration, "10M", "has an unknown unit of time `M` (meant `m`?)"),
    (units.duration, -1, "`-1` is out of range"),
    (units.duration, math.nan, "`nan` is out of range"),
    (units.duration, math.inf, "`inf` is out of range"),
    (units.size, "8M", "has an unknown unit of size `M` (meant `MB`?); write for example `8 MiB` or `512 KiB`"),
    (units.size, 0, "`0` is not a whole number of bytes"),
    (units.size, "0.5 B", "is not a whole number of bytes"),
    (units.amount, 0, "`0` must be more than 0"),
    (units.amount, "200k tokens", "is not understood; write for example `200k` or `30`"),
    (units.amount, False, "`false` is neither a text nor a number"),
    (units.price, "€3", "`€3` is not understood; write for example `$3` or `$0.25`"),
    (units.share, 5, "`5` is more than the whole; write for example `5%` or `0.05`"),
    (units.share, "105%", "`105%` is more than the whole"),
    (units.day, "31.3.2027", "is not written as year-month-day"),
    (units.day, 20270331, "is not written as year-month-day"),
    (units.day, "2027-02-30", "is no day of the calendar"),
    (units.day, datetime.datetime(2027, 3, 31, tzinfo=datetime.UTC), "is not written as year-month-day"),
]


@pytest.mark.parametrize(("read", "value", "meaning"), READ)
def test_what_people_write_is_read(read: Callable[[object], object], value: object, meaning: object) -> None:
    assert read(value) == meaning


@pytest.mark.parametrize(("read", "value", "says"), REFUSED)
def test_what_is_wrong_is_said_with_two_examples_that_are_right(read: Callable[[object], object], value: object, says: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the text is what is looked at
        read(value)
    assert says in str(error.value)
    examples = str(error.value).rpartition("write for example ")[2].split("`")[1::2]
    assert len(examples) == 2
    for text in examples:
        read(text)


limits = st.builds(
    Limit,
    st.one_of(st.integers(1, 10**15), st.decimals("0.000001", 10**9, places=6)).map(float),
    st.sampled_from(["requests", "tokens", "input_tokens", "output_tokens", "reasoning_tokens", "money"]),
    st.one_of(st.sampled_from([1.0, 60.0, 3600.0, 86400.0, 604800.0, 2592000.0]), st.integers(1, 999_999).map(float)),
)


@given(st.one_of(limits, st.integers(1, 10**6).map(lambda n: Limit(float(n), "in_flight", 0.0))))
@example(Limit(0.1, "money", 60.0))
def test_a_limit_reads_back_from_what_it_shows(limit: Limit) -> None:
    assert units.limit(str(limit)) == limit


@given(
    st.one_of(
        st.text(max_size=80), st.from_regex(r"[$ ]?[0-9][0-9_,.]{0,9} ?[kKMBmh%$]{0,2}[ /a-z]{0,30}"), st.floats(), st.integers(), st.none(), st.booleans()
    )
)
def test_nothing_else_than_a_value_error_comes_out(value: object) -> None:
    for read in READERS:
        with contextlib.suppress(ValueError):
            read(value)


@given(st.integers(0, 10**9))
def test_a_number_means_the_same_with_and_without_quotes(number: int) -> None:
    assert units.duration(str(number)) == units.duration(number)
    assert units.price(str(number)) == units.price(number)


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("part", ["1", "1,000", " ", "a ", "1_000_", "per ", "$", "1.1"])
def test_long_texts_are_refused_at_once(read: Callable[[object], object], part: str) -> None:
    start = time.process_time()
    with pytest.raises(ValueError, match="write for example"):
        read(part * 100_000)
    assert time.process_time() - start < 0.5
