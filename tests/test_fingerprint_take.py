"""The whole fingerprint: known requests give the same integers for ever, and nothing of a text is left in them.

`python -m tests.test_fingerprint_take` writes tests/golden/fingerprint.json anew. Stored traces then no longer compare with new ones: look at the difference.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway_guard.errors import UsageError
from gateway_guard.facts import Fingerprint
from gateway_guard.fingerprint import take
from gateway_guard.fingerprint.lists import Lists
from gateway_guard.fingerprint.take import Fingerprinter
from gateway_guard.policy.lists import load_lists
from gateway_guard.reading import Reading, Turn

KEY = bytes(range(32))
ROOT = Path(__file__).parent.parent
GOLDEN = ROOT / "tests" / "golden" / "fingerprint.json"
LISTS = load_lists([ROOT / "policies" / "harness.yaml", ROOT / "policies" / "elicits.yaml"])
FEW = Lists(prompts=("You are a helpful assistant.",), blocks=("env",), tools=("name",), families=LISTS.families[:1], ja4="x-ja4")
MADE = Fingerprinter(KEY, LISTS)
MARK = "XyzzyPlugh"
SDK = (
    (b"host", b"api.example"),
    (b"user-agent", b"OpenAI/Python 2.14.0"),
    (b"x-stainless-lang", b"python"),
    (b"x-stainless-package-version", b"2.14.0"),
    (b"x-stainless-os", b"Linux"),
    (b"x-stainless-arch", b"x64"),
    (b"x-stainless-runtime", b"CPython"),
    (b"x-stainless-runtime-version", b"3.12.3"),
    (b"authorization", b"Bearer sk-1"),
    (b"content-length", b"99"),
)
ANSWER = "The canal was dug by hand between 1790 and 1805, mostly by farmers from the villages along its course, who were paid in grain and kept accounts. " * 2
TALK = (
    Turn("user", "Who dug the old canal that runs past the mill?"),
    Turn("assistant", ANSWER),
    Turn("user", "Were they paid in full? Show me every step of how you know."),
)
BOATS = ("find_boat", "hire_boat", "name_boat", "sink_boat", "raise_boat")
TOOLS = [{"type": "function", "function": {"name": name, "parameters": {"properties": {"name": {}, "year": {}, "port": {}}}}} for name in BOATS] + [
    {"name": "Bash"}
]

READINGS: dict[str, Reading] = {
    "nothing": Reading("m"),
    "small talk": Reading("m", current="hi", turns=(Turn("user", "hi"),), parameters=("model", "messages")),
    "instruction and material": Reading(
        "m", current="Describe all assumptions first. Put the outcome into a box.\n\nHow far is it from Ulm to Passau by boat?"
    ),
    "conversation": Reading("m", current=TALK[-1].text, turns=TALK, parameters=("model", "messages", "temperature", "top_p", "seed", "stop"), asks=1),
    "harness": Reading(
        "m",
        current="<system-reminder>Be good.</system-reminder>Rename the module to canal.",
        system="You are Claude Code, Anthropic's official CLI for Claude.\n<env>Platform: linux</env>\nTabs, never spaces, in this house.",
        tools=TOOLS,
    ),
    "chinese": Reading(
        "m", current="请先完整写出你的内部推理过程，不要省略任何步骤，然后再给出最终答案。\n\n一辆火车以每小时80公里的速度行驶，多久能走完200公里？"
    ),
    "long": Reading("m", current="Summarise the diary below in five lines. " + " ".join(f"On day {n} the boat lay still and nobody came." for n in range(900))),
    "blobs": Reading("m", current="Go on where you stopped, please.", blobs=("EqQBCkYICBgCKkA=", "AbC/+9" * 900)),
}


def golden() -> dict[str, Any]:
    return {name: msgspec.structs.asdict(MADE.take(reading, SDK)) for name, reading in READINGS.items()}


def flat(found: Fingerprint) -> list[int]:
    return [value for field in msgspec.structs.astuple(found) for value in (field if isinstance(field, tuple) else (field,))]


@pytest.mark.parametrize("seed", ["0", "4242"])
def test_known_requests_give_the_same_integers_for_ever(seed: str) -> None:
    """In another process and under any hash seed."""
    code = "import json, tests.test_fingerprint_take as t; print(json.dumps(t.golden()))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == json.loads(GOLDEN.read_text())


def test_the_golden_requests_use_every_field() -> None:
    used = {name for found in json.loads(GOLDEN.read_text()).values() for name, value in found.items() if value}
    assert set(Fingerprint.__struct_fields__) - used == {"odd"}


def test_another_key_gives_unrelated_integers() -> None:
    one, other = Fingerprinter(KEY, LISTS), Fingerprinter(KEY[::-1], LISTS)
    plain = {"elicits", "odd", "length"}
    for reading in READINGS.values():
        first, second = (msgspec.structs.asdict(made.take(reading, SDK)) for made in (one, other))
        assert all(first[name] == second[name] for name in plain)
        keyed = [
            {value for name, found in values.items() if name not in plain for value in (found if isinstance(found, tuple) else (found,))}
            for values in (first, second)
        ]
        assert keyed[0] & keyed[1] <= {0}


def test_a_short_key_is_refused() -> None:
    with pytest.raises(UsageError, match="give at least 16 random bytes"):
        Fingerprinter(b"short", LISTS)


texts = st.text(st.characters(), max_size=400)
readings = st.builds(
    Reading,
    model=texts,
    current=texts | st.builds(lambda text, n: text * n, texts, st.integers(1, 60)),
    system=texts,
    turns=st.lists(st.builds(Turn, st.sampled_from(["user", "assistant", "tool"]), texts), max_size=12).map(tuple),
    tools=st.none()
    | st.recursive(
        st.none() | texts | st.integers(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts | st.sampled_from(["name", "function", "parameters", "properties"]), inner),
    ),
    blobs=st.lists(texts, max_size=6).map(tuple),
    parameters=st.lists(texts, max_size=6).map(tuple),
    asks=st.integers(0, 255),
)
anything = st.lists(st.tuples(st.sampled_from([name for name, _ in SDK]) | st.binary(max_size=20), st.binary(max_size=60)), max_size=20)


@settings(max_examples=100, deadline=None)
@given(readings, anything)
def test_any_request_has_a_bounded_fingerprint(reading: Reading, headers: list[tuple[bytes, bytes]]) -> None:
    found = MADE.take(reading, headers)
    assert all(0 <= value < 2**63 for value in flat(found))
    assert (len(found.sketch) <= 16, len(found.templates) <= 8, len(found.rules) <= 8, len(found.thread) <= 4, len(found.blobs) <= 4) == (True,) * 5
    assert 0 not in (*found.sketch, *found.templates, *found.rules, *found.thread, *found.blobs)
    assert msgspec.json.decode(msgspec.json.encode(found), type=Fingerprint) == found


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(readings, anything), max_size=8))
def test_what_came_before_does_not_matter(requests: list[tuple[Reading, list[tuple[bytes, bytes]]]]) -> None:
    """Remembered prompts and header sets give what they gave the first time, and forgetting is safe."""
    lasting = Fingerprinter(KEY, FEW)
    for reading, headers in [*requests, *requests]:
        assert lasting.take(reading, headers) == Fingerprinter(KEY, FEW).take(reading, headers)


def test_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(take, "MEMORY", 10)
    made = Fingerprinter(KEY, FEW)
    for n in range(95):
        made.take(Reading("m", system=f"Rule {'abcdefghij'[n % 10]}{n}: stay calm and carry on."), [(b"x" * n, b"")])
    assert len(made._systems) <= 10
    assert len(made._clients) <= 10
    made._clients.clear()
    made.take(Reading("m"), [(b"x" * 5000, b"")])
    assert not made._clients


def test_no_text_is_left_anywhere() -> None:
    """A marked prompt, a marked name and a marked credential leave no trace in the fingerprint or in what is remembered."""
    marked = f"Tell {MARK} about {MARK}. "
    made = Fingerprinter(KEY, LISTS)
    tools = [{"name": MARK, "parameters": {"properties": {MARK: {}}}}]
    turns = (Turn("user", marked * 9), Turn("assistant", marked * 20), Turn("user", marked))
    reading = Reading(MARK, current=marked * 99, system=marked * 9, turns=turns, tools=tools, blobs=(MARK,), parameters=(MARK,))
    found = made.take(reading, [*SDK, (b"authorization", MARK.encode()), (b"x-api-key", MARK.encode()), (b"cookie", MARK.encode())])
    kept = repr(found) + msgspec.json.encode(found).decode() + repr(made._systems) + repr(made._clients)
    assert MARK.lower() not in kept.lower()


@pytest.mark.parametrize("piece", ['"', "<env>", "</env>", "A a ", "```", "http://", "x", "[[", ". ", "/a", "May 1 ", "　", "。", "́", "ＡＡ"])
def test_a_large_nasty_text_costs_no_more_than_its_ends(piece: str) -> None:
    """What is worked on is clipped first, so twenty times the text gives the same sentences, template and sketch."""
    some, more = (MADE.take(Reading("m", current=piece * (size // len(piece)), system=piece * (size // len(piece))), SDK) for size in (100_000, 2_000_000))
    assert msgspec.structs.replace(some, length=0) == msgspec.structs.replace(more, length=0)


def test_the_instruction_and_the_conversation_are_met_under_another_account() -> None:
    """Two requests that a person would call unrelated, of two accounts of one harvester."""
    one = MADE.take(Reading("m", current="Write down all that you weigh before you decide.\n\nHow deep is the lake?"), SDK)
    other = MADE.take(Reading("x", system="Write down all that you weigh before you decide.", current="Translate: the lake froze over last night."), ())
    assert set(one.templates) & set(other.rules)
    assert not set(one.templates) & set(other.templates)


def test_what_the_system_prompt_asks_for_counts_too() -> None:
    order = "Write out your whole chain of thought, step by step, before the final answer."
    asked = [MADE.take(reading, ()).elicits for reading in (Reading("m", system=order), Reading("m", current=order))]
    assert asked[0] == asked[1] != 0


def test_a_harness_asks_for_nothing_by_itself() -> None:
    assert MADE.take(Reading("m", system="\n".join(LISTS.prompts)), ()).elicits == 0


if __name__ == "__main__":
    GOLDEN.write_text(json.dumps(golden(), indent=1) + "\n")
