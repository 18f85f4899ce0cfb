"""Policy files: strictly read, refused with every mistake at its line, named by what they mean."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
import yaml

from gateway_guard.errors import PolicyError
from gateway_guard.policy import text
from gateway_guard.policy.files import LARGEST
from gateway_guard.policy.load import Loaded, load, loads
from gateway_guard.policy.tree import Problem, Tree

HERE = Path("tests/policies")
GOOD = sorted(HERE.glob("good/*.yaml"))
BAD = sorted(HERE.glob("bad/*.yaml"))
TODAY = datetime.date(2026, 11, 25)
HEAD = "version: 1\nname: test\n"


@pytest.fixture(autouse=True)
def _at_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages show paths as they were given."""
    monkeypatch.chdir(Path(__file__).parent.parent)


def problems(content: str, *, today: datetime.date | None = TODAY) -> tuple[str, ...]:
    with pytest.raises(PolicyError) as error:
        loads(content, "p.yaml", today=today)
    return error.value.problems


def load_text(content: str) -> Loaded:
    return loads(content, "p.yaml", today=TODAY)


@pytest.mark.parametrize("path", GOOD, ids=lambda path: path.stem)
def test_good_files_load_without_a_warning(path: Path) -> None:
    assert load(path, today=TODAY).warnings == ()


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_bad_files_are_refused_with_exactly_what_they_expect(path: Path) -> None:
    expected = [line.removeprefix("# expect: ") for line in path.read_text().splitlines() if line.startswith("# expect: ")]
    assert expected
    with pytest.raises(PolicyError) as error:
        load(path, today=TODAY)
    for part in expected:
        assert any(part in problem for problem in error.value.problems), (part, error.value.problems)
    for problem in error.value.problems:
        assert any(part in problem for part in expected), f"not expected: {problem}"
        assert problem.startswith(f"{HERE}/bad/")


@pytest.mark.parametrize("path", BAD, ids=lambda path: path.stem)
def test_messages_stay_in_a_line(path: Path) -> None:
    with pytest.raises(PolicyError) as error:
        load(path, today=TODAY)
    assert all("\n" not in problem and len(problem) < 320 for problem in error.value.problems)


def test_each_mistake_is_at_its_own_line() -> None:
    content = "version: 1\nname: test\nquotas:\n  a:\n    limit: 60 rpm\n    per: user\n  b: {limit: 5/min}\nladder:\n  - id: x\n    at: high\n    do: deny\n"
    assert [problem.split(" ")[0] for problem in problems(content)] == ["p.yaml:5:", "p.yaml:6:", "p.yaml:10:"]


def test_wrong_types_in_one_section_hide_no_folly_in_another() -> None:
    found = problems(HEAD + "plans: [free]\nquotas:\n  a: {limit: 0.1/min}\n  b: {limit: 60/min, plans: [fre]}\nidentity: {trusted_proxies: [0.0.0.0/0]}\n")
    assert [problem.split(" ", 1)[1][:20] for problem in found] == ["`plans` must be a ma", "quota `a` has a burs", "`0.0.0.0/0` trusts e"]


def test_a_mistake_is_not_reported_for_what_it_causes() -> None:
    """Were the broken section merely dropped, every quota that names a plan would be wrong as well."""
    found = problems(HEAD + "plans:\n  default: {}\n  free: {skale: 2}\nquotas:\n  a: {limit: 60/min, plans: [free]}\n")
    assert found == ("p.yaml:5: unknown key `skale` in `plans.free`; did you mean `scale`?",)


def test_a_misspelt_section_is_not_missed_elsewhere() -> None:
    found = problems(HEAD + "plan:\n  default: {}\n  free: {}\nquotas:\n  a: {limit: 60/min, plans: [free]}\n")
    assert found == ("p.yaml:3: unknown key `plan`; did you mean `plans`?",)


def test_what_a_file_holds_cannot_paint_on_the_terminal() -> None:
    found = problems(HEAD + '"a\\n\\e[31m": 1\nmode: "' + "x" * 5000 + '"\n')
    assert all(problem.isprintable() and len(problem) < 450 for problem in found)


def test_the_first_hundred_problems_are_told() -> None:
    found = problems(HEAD + "".join(f"colour{index}: 1\n" for index in range(300)))
    assert len(found) == 101
    assert found[-1] == "and more; begin with these"


def test_an_exemption_ends_with_its_last_day() -> None:
    content = HEAD + "exemptions:\n  - {id: a, orgs: [x], until: 2026-11-25, reason: test}\n"
    assert loads(content, today=datetime.date(2026, 11, 25)).warnings == ()
    assert "ended on 2026-11-25" in problems(content, today=datetime.date(2026, 11, 26))[0]


def test_without_a_day_nothing_has_ended() -> None:
    loads(HEAD + "exemptions:\n  - {id: a, orgs: [x], until: 2020-01-01, reason: test}\n")


SAME = """
name: "test"   # comments mean nothing
quotas: {minute: {burst: 6000.0, limit: 1 request/s}}
ladder: []
version: 1
plans: {"default": {scale: 1.0}}
"""


def test_the_digest_is_that_of_the_meaning() -> None:
    plain = "version: 1\nname: test\nplans:\n  default: {}\nquotas:\n  minute:\n    limit: 1/s\n    burst: 6k\n"
    assert load_text(SAME).digest == load_text(plain).digest
    assert len(load_text(SAME).digest) == 16


@pytest.mark.parametrize(
    ("old", "new"), [("1 request/s", "1 token/s"), ("6000.0", "6001"), ('"test"', "other"), ("scale: 1.0", "scale: 2"), ("ladder: []", "mode: enforce")]
)
def test_another_meaning_has_another_digest(old: str, new: str) -> None:
    assert old in SAME
    assert load_text(SAME.replace(old, new)).digest != load_text(SAME).digest


def test_the_order_of_prices_has_a_meaning() -> None:
    one, two = "  large-*: {input: 1, output: 1}\n", '  "*-mini": {input: 2, output: 2}\n'
    assert load_text(f"{HEAD}prices:\n{one}{two}").digest != load_text(f"{HEAD}prices:\n{two}{one}").digest


def test_includes_lie_under_what_a_file_says_itself() -> None:
    loaded = load(HERE / "good/built_on_two.yaml")
    policy = loaded.policy
    assert (policy.name, policy.mode) == ("built_on_two", "shadow")  # the later part wins over the earlier
    assert sorted(policy.quotas) == ["hour", "minute"]  # an empty value takes out what is under it
    assert (str(policy.quotas["minute"].limit), policy.quotas["minute"].burst) == ("30 requests/min", 10)
    assert [path.name for path in loaded.files] == ["built_on_two.yaml", "first.yaml", "second.yaml", "third.yaml"]


def test_lists_are_replaced_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "signals: {harvest: {}}\nladder:\n  - {id: a, at: 1, do: throttle, scale: 0.5}\n  - {id: b, at: 2, do: throttle, scale: 0.2}\n"
    )
    (tmp_path / "top.yaml").write_text(f"include: base.yaml\n{HEAD}ladder:\n  - {{id: c, at: 3, do: throttle, scale: 0.5}}\n")
    assert [rung.id for rung in load(tmp_path / "top.yaml").policy.ladder] == ["c"]


def test_the_same_part_may_come_in_twice(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("mode: enforce\n")
    (tmp_path / "left.yaml").write_text("include: base.yaml\n")
    (tmp_path / "top.yaml").write_text(f"include: [left.yaml, base.yaml]\n{HEAD}")
    assert load(tmp_path / "top.yaml").policy.mode == "enforce"


def test_long_chains_and_many_files_are_refused(tmp_path: Path) -> None:
    for step in range(12):
        (tmp_path / f"{step}.yaml").write_text(f"include: {step + 1}.yaml\n")
    with pytest.raises(PolicyError, match=r"7\.yaml:1: too many files; at most 8 within each other"):
        load(tmp_path / "0.yaml")
    for step in range(20):
        (tmp_path / f"part{step}.yaml").write_text("mode: shadow\n")
    (tmp_path / "wide.yaml").write_text(f"{HEAD}include: [{', '.join(f'part{step}.yaml' for step in range(20))}]\n")
    with pytest.raises(PolicyError, match="and 16 in all"):
        load(tmp_path / "wide.yaml")


def test_files_that_cannot_be_read_are_told_without_a_trace_back(tmp_path: Path) -> None:
    cases: list[tuple[str, bytes | None, str]] = [
        ("missing.yaml", None, "cannot be read: no such file or directory"),
        ("latin.yaml", "version: 1\nname: caf\xe9\n".encode("latin-1"), "latin.yaml:2: not UTF-8; save the file as UTF-8 text"),
        ("zero.yaml", b"version: 1\nname: \x00\n", "zero.yaml:2: not YAML: control characters are not allowed"),
        ("huge.yaml", HEAD.encode() + b"#" * LARGEST, "huge.yaml: larger than 1 MiB; split it with `include`"),
    ]
    for name, content, says in cases:
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(PolicyError) as error:
            load(path)
        assert len(error.value.problems) == 1
        assert says in error.value.problems[0]
    with pytest.raises(PolicyError, match="is a directory"):
        load(tmp_path)


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(HEAD, encoding="utf-8-sig")
    assert load(tmp_path / "p.yaml").policy.name == "test"


def test_a_text_cannot_reach_files() -> None:
    assert problems("include: /etc/passwd\n" + HEAD) == ("p.yaml:1: `include` works in files only; write the included policy here",)


def test_aliases_are_bounded() -> None:
    some = "keys: [&a authorization, " + ", ".join(["*a"] * 100)
    assert load_text(f"{HEAD}identity: {{{some}]}}\n").policy.identity.keys == ["authorization"] * 101
    assert "more than 100 aliases" in problems(f"{HEAD}identity: {{{some}, *a]}}\n")[0]


def test_deep_nesting_is_refused_before_the_tree_is_built() -> None:
    for bomb in ("[" * 500_000, "{a: " * 200_000, "- " * 200_000, "a:\n" + "".join(" " * depth + "a:\n" for depth in range(1, 900))):
        assert len(problems(HEAD + "x: " + bomb if bomb[0] != "-" else bomb)) == 1


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5", 5), ("-5", -5), ("+5", 5), ("0", 0), ("1_000", 1000), ("1e3", 1000.0), ("1.5", 1.5), ("5.", 5.0), (".5", 0.5), ("-1.5E-3", -0.0015),
        ("true", True), ("false", False), ("null", None), ("~", None), ("", None),
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("True", "True"), ("1:30", "1:30"),
        ("0x1F", "0x1F"), ("0o17", "0o17"), (".inf", ".inf"), (".nan", ".nan"),
        ("1__0", "1__0"), ("1_0", "1_0"), ("e5", "e5"), (".", "."), ("2027-03-31", "2027-03-31"),
        ("'5'", "5"), ('"true"', "true"), ("|-\n  5", "5"), ("9" * 30, "9" * 30),
    ],
)  # fmt: skip
def test_a_value_means_what_it_seems_to(written: str, meant: object) -> None:
    found: list[Problem] = []
    value = text.read(f"a: {written}\n", "p.yaml", found).value["a"].value
    assert (value, type(value), found) == (meant, type(meant), [])


def test_the_slow_reader_of_pyyaml_reads_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = load(HERE / "good/everything.yaml").digest
    monkeypatch.setattr(text, "_LOADER", yaml.SafeLoader)
    assert load(HERE / "good/everything.yaml").digest == fast
    assert "more than 20 mappings" in problems("version: 1\nname: " + "[" * 5000)[0]


def test_a_path_ends_where_the_file_does() -> None:
    found: list[Problem] = []
    tree = text.read("a:\n  b: word\nc: [5]\n", "p.yaml", found)
    places: list[tuple[tuple[str | int, ...], int]] = [(("a", "b", 0), 2), (("a", "x"), 1), (("c", 0), 3), (("c", 7), 3), (("c", "x"), 3), (("x", "y"), 1)]
    for steps, line in places:
        part = tree.find(steps)
        assert isinstance(part, Tree)
        assert part.at == ("p.yaml", line), steps


def test_warnings_are_told_and_refuse_nothing() -> None:
    loaded = load_text(HEAD + "quotas:\n  loose: {limit: 600/min}\n  tight: {limit: 60/min}\n")
    assert loaded.warnings == ("p.yaml:4: warning: quota `loose` decides nothing: `tight` is tighter in rate and burst",)
