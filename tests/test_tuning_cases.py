"""Policy cases: read strictly, played through the real gate and analyst, and told in a sentence when they fail."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway_guard.cli.app import app
from gateway_guard.errors import GuardError, PolicyError
from gateway_guard.tuning.case_load import beside, load_cases
from gateway_guard.tuning.ranges import count_range, share_range
from gateway_guard.tuning.verdict import tried
from tests import logs
from tests.fakes import policy_file

ROOT = Path(__file__).parent.parent
QUOTAS = "quotas: {hour: {limit: 60/hour}}\nladder: [{id: dim, at: 1, do: throttle, scale: 0.5}]\nsignals: {young_account: {}}\n"
HEAD = "version: 1\ncases:\n"
GOOD = HEAD + "  - id: one\n    says: Fits.\n    traffic:\n      user: {maker: steady, rate: 1/min, over: 30m}\n    expect:\n      user: {served: 100%}\n"


def file(folder: Path, text: str, policy: str = QUOTAS) -> Path:
    path = policy_file(folder, policy)
    beside(path).write_text(text)
    return beside(path)


def case(traffic: str, expect: str, more: str = "") -> str:
    return f"{HEAD}  - id: one\n    says: A sentence.\n{more}    traffic:\n      user: {traffic}\n    expect: {expect}\n"


# Reading


@pytest.mark.parametrize(
    ("value", "inside", "outside"),
    [
        ("100%", 1.0, 0.9999),
        (">= 95%", 0.95, 0.9499),
        ("<= 2%", 0.02, 0.0201),
        ("1% to 5%", 0.05, 0.051),
        (0, 0.0, 0.001),
        ("> 0", 0.001, 0.0),
        ("< 1%", 0.0, 0.01),
    ],
)
def test_ranges_of_shares(value: object, inside: float, outside: float) -> None:
    assert inside in share_range(value)
    assert outside not in share_range(value)


@pytest.mark.parametrize(("value", "inside", "outside"), [(0, 0, 1), (">= 10", 10, 9), ("3 to 5", 5, 6), ("1,000", 1000, 999)])
def test_ranges_of_counts(value: object, inside: int, outside: int) -> None:
    assert inside in count_range(value)
    assert outside not in count_range(value)


@pytest.mark.parametrize("value", ["about half", ">= 5% to 6%", "5% to 1%", "120%", True, None, [1], "9" * 50])
def test_what_is_no_range(value: object) -> None:
    with pytest.raises(ValueError, match=r"write for example|larger end|more than the whole"):
        share_range(value)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("- a\n", 1, "a file of cases is a mapping"),
        ("version: 1\n", 1, "`cases` is missing"),
        (GOOD.replace("steady", "stedy"), 6, "did you mean `steady`?"),
        (GOOD.replace("maker: steady, ", ""), 6, "`cases[one].traffic.user.maker` is nothing; it must be one of steady, burst"),
        (GOOD.replace("over:", "ovr:"), 6, "did you mean `over`?"),
        (GOOD.replace("30m", "30 parsecs"), 6, "unknown unit of time `parsecs`"),
        (GOOD.replace("1/min", "9000/s"), 6, "more than 200,000 requests"),
        (GOOD.replace("served", "serves"), 8, "did you mean `served`?"),
        (GOOD.replace("100%", "most"), 8, "`most` is not understood; write for example `100%`"),
        (GOOD.replace("      user: {served", "      usr: {served"), 8, "case `one` has no traffic `usr`; did you mean `user`?"),
        (GOOD.replace("      user: {served", "      user: {would: block, served"), 8, "did you mean `deny`?"),
        (GOOD.replace("      user: {maker", "      all: {maker").replace("      user: {served", "      all: {served"), 6, "stands for all traffic together"),
        (GOOD.replace("    says: Fits.\n", "    says: Fits.\n    calibrated: true\n"), 3, "the file has no `calibration`"),
        (GOOD + GOOD.removeprefix(HEAD), 9, "a case `one` is already in line 3"),
        (GOOD.replace("    expect", "      log: {log: a.jsonl}\n    expect"), 7, "a log is played by itself"),
        (GOOD + "calibration: {traffic: {log: {log: a.jsonl}}}\n", 9, "it must be one of steady"),
        (GOOD + "version: 1\n", 9, "a second time"),
    ],
)
def test_mistakes_are_told_with_file_and_line(tmp_path: Path, text: str, line: int, says: str) -> None:
    path = file(tmp_path, text)
    with pytest.raises(PolicyError) as refused:
        load_cases(path)
    assert any(problem.startswith(f"{path}:{line}: ") and says in problem for problem in refused.value.problems), refused.value.problems


def test_every_mistake_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(PolicyError) as refused:
        load_cases(file(tmp_path, GOOD.replace("steady", "stedy") + GOOD.removeprefix(HEAD).replace("over", "ovr").replace("id: one", "id: two")))
    assert len(refused.value.problems) >= 3


def test_reasons_that_no_request_can_have_are_refused(tmp_path: Path) -> None:
    path = file(tmp_path, GOOD.replace("served: 100%", "reasons: {quota.hours: 0}"))
    with pytest.raises(PolicyError, match=rf"{path}:8: .*`quota.hours`; did you mean `quota.hour`\?"):
        tried(load_cases(path))


def test_the_sample_in_the_documents_loads(tmp_path: Path) -> None:
    [sample] = re.findall(r"```yaml\n(version: 1\n.*?)```", (ROOT / "docs" / "tuning.md").read_text(), re.DOTALL)
    assert [case.id for case in load_cases(file(tmp_path, sample)).cases] == ["nightly_job", "swarm", "support"]


# Playing


@pytest.mark.parametrize(
    ("traffic", "expect"),
    [
        (
            "{maker: burst, requests: 100}",
            "{user: {served: 60%, touched: 40%, refused: 40%, touched_accounts: 100%, action: throttle, reasons: {quota.hour: 40}}}",
        ),
        ("{maker: burst, requests: 60, accounts: 5}", "{all: {served: 100%, touched: 0, touched_accounts: 0, action: allow, would: allow}}"),
        ("{maker: burst, requests: 100, age: 1h}", "{user: {served: 30%, reasons: {rung.dim: '>= 1', signal.young_account: '>= 1'}}}"),
    ],
)
def test_what_comes_true_is_nothing_to_tell(tmp_path: Path, traffic: str, expect: str) -> None:
    assert tried(load_cases(file(tmp_path, case(traffic, expect)))) == []


def test_each_part_is_counted_by_itself(tmp_path: Path) -> None:
    traffic = "{maker: burst, requests: 100}\n      calm: {maker: steady, rate: 30/hour, over: 1h}"
    assert tried(load_cases(file(tmp_path, case(traffic, "{user: {served: 60%}, calm: {served: 100%}, all: {served: 69% to 70%}}")))) == []


@pytest.mark.parametrize(
    ("expect", "says"),
    [
        (
            "{user: {served: '>= 99%'}}",
            "`user` served: 60.00% (60 of 100 requests), expected >= 99%; quota.hour 40 times, first 00:00:00 after the beginning on user-1",
        ),
        ("{user: {would: allow}}", "`user` would: throttle at the hardest, expected allow"),
        ("{all: {touched_accounts: 0}}", "`all` touched accounts: 100.00% (1 of 1 accounts), expected 0"),
        ("{user: {reasons: {quota.hour: 0}}}", "`user` quota.hour: 40 requests, expected 0"),
        ("{user: {delayed: 100%}}", "`user` delayed: 0.00% (0 of 100 requests), expected 100%"),
    ],
)
def test_what_does_not_is_told_where_and_why(tmp_path: Path, expect: str, says: str) -> None:
    path = file(tmp_path, case("{maker: burst, requests: 100}", expect))
    [told] = tried(load_cases(path))
    assert told.startswith(f"{path}:7: case `one`: ")
    assert says in told


def test_held_requests_are_delayed_and_in_shadow_all_are_served(tmp_path: Path) -> None:
    held = "{user: {served: 100%, touched: 40%, delayed: 40%, refused: 0}}"
    assert tried(load_cases(file(tmp_path, case("{maker: burst, requests: 100}", held), QUOTAS + "throttle: {wait: 1h}\n"))) == []
    shadow = file(tmp_path, case("{maker: burst, requests: 100}", "{user: {served: 100%, refused: 40%, action: allow, would: throttle}}"))
    policy = tmp_path / "policy.yaml"
    policy.write_text(policy.read_text().replace("enforce", "shadow"))
    assert tried(load_cases(shadow)) == []


def test_an_exemption_means_the_made_organisation_of_that_name(tmp_path: Path) -> None:
    traffic = "{maker: batch, org: acme, accounts: 2, requests: 300, over: 1m}"
    assert tried(load_cases(file(tmp_path, case(traffic, "{user: {served: 40%}}")))) == []
    exempt = QUOTAS + "exemptions: [{id: agreed, orgs: [acme], until: 2027-02-01, reason: agreed load}]\n"
    assert tried(load_cases(file(tmp_path, case(traffic, "{user: {served: 100%, reasons: {exempt.agreed: 180}}}"), exempt))) == []
    late = case(traffic, "{user: {served: 40%}}").replace("cases:", "starts: 2027-03-01\ncases:")
    assert tried(load_cases(file(tmp_path, late, exempt))) == []


@pytest.mark.parametrize("compressed", ["log.jsonl", "log.jsonl.zst"])
def test_a_small_log_is_traffic_too(tmp_path: Path, compressed: str) -> None:
    logs.log(tmp_path / compressed, [logs.exchange(n, key=f"sk-{n % 2}", after=n / 10) for n in range(200)])
    (tmp_path / "accounts.csv").write_text("key,account\nsk-0,zero\nsk-1,zero\n")
    assert tried(load_cases(file(tmp_path, case(f"{{log: {compressed}}}", "{user: {served: 60% to 61%}}")))) == []
    assert tried(load_cases(file(tmp_path, case(f"{{log: {compressed}, accounts: accounts.csv}}", "{user: {served: 30% to 31%}}")))) == []


def test_a_calibration_that_vouches_for_nothing_is_told(tmp_path: Path) -> None:
    small = (
        GOOD.replace("    says: Fits.\n", "    says: Fits.\n    calibrated: true\n")
        + "calibration: {budget: 0.1%, traffic: {few: {maker: people, accounts: 30}}}\n"
    )
    with pytest.raises(GuardError, match="give it more accounts, or a larger budget"):
        tried(load_cases(file(tmp_path, small)))


# The command


def test_check_tries_the_cases_beside_a_policy(tmp_path: Path) -> None:
    path = file(tmp_path, GOOD)
    done = CliRunner().invoke(app, ["check", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert f"ok {path} (1 case)" in done.output
    path.write_text(GOOD.replace("100%", "10%"))
    failed = CliRunner().invoke(app, ["check", str(tmp_path / "policy.yaml")])
    assert failed.exit_code == 1
    assert failed.output.splitlines()[-2:] == [f"{path}:8: case `one`: `user` served: 100.00% (30 of 30 requests), expected 10%", f"failed {path} (1 case)"]
    assert CliRunner().invoke(app, ["check", "--no-cases", str(tmp_path / "policy.yaml")]).exit_code == 0
    alone = CliRunner().invoke(app, ["check", str(path)])
    assert (alone.exit_code, len(alone.output.splitlines())) == (1, 2)


def test_cases_whose_policy_is_missing_or_broken_are_told(tmp_path: Path) -> None:
    path = file(tmp_path, GOOD.replace("version: 1\n", "version: 1\npolicy: other.yaml\n"))
    done = CliRunner().invoke(app, ["check", str(path)])
    assert done.exit_code == 1
    assert "other.yaml" in done.output
