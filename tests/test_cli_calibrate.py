"""`gateway-guard calibrate`, from a log to a file that a policy can name."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from gateway_guard.analysis.calibration import decode
from gateway_guard.cli.app import app
from gateway_guard.errors import TrafficError, UsageError
from gateway_guard.worker import load_calibration
from tests import logs
from tests.fakes import policy_file

KEY = {"GATEWAY_GUARD_KEY": "0123456789abcdef" * 4}


@pytest.fixture
def history(tmp_path: Path) -> Path:
    return logs.log(tmp_path / "log.jsonl", [logs.exchange(n, key=f"sk-{n % 40}", after=n * 3600.0) for n in range(200)])


def test_a_small_history_is_measured_and_does_not_vouch_for_the_budget(history: Path, tmp_path: Path) -> None:
    out = tmp_path / "calibration.json"
    result = CliRunner().invoke(app, ["calibrate", str(history), "--policy", str(policy_file(tmp_path)), "--out", str(out)], env=KEY)
    assert result.exit_code == 0, result.output
    assert "200 requests of 40 accounts" in result.output
    assert "stays in shadow" in result.output
    found = load_calibration(out)
    assert (found.accounts, found.events, found.budget, found.name) == (40, 200, 0.0005, "")
    assert oct(out.stat().st_mode & 0o777) == "0o600"


def test_twice_gives_the_same_bytes_and_a_larger_budget_is_vouched_for(history: Path, tmp_path: Path) -> None:
    policy = policy_file(tmp_path)
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    for out in (first, second):
        result = CliRunner().invoke(app, ["calibrate", str(history), "--policy", str(policy), "--budget", "30%", "--out", str(out)], env=KEY)
        assert result.exit_code == 0, result.output
    assert first.read_bytes() == second.read_bytes()
    assert decode(first.read_bytes()).name
    changed = first.read_bytes().replace(b'"accounts": 40', b'"accounts": 41')
    with pytest.raises(UsageError, match="digest does not fit"):
        decode(changed)


@pytest.mark.parametrize(("words", "error"), [(("--budget", "lots"), UsageError), (("--budget", "0.05%"), TrafficError)])
def test_mistakes_are_told_and_write_nothing(words: tuple[str, ...], error: type[Exception], tmp_path: Path) -> None:
    out = tmp_path / "calibration.json"
    result = CliRunner().invoke(app, ["calibrate", str(tmp_path / "missing.jsonl"), "--policy", str(policy_file(tmp_path)), "--out", str(out), *words], env=KEY)
    assert isinstance(result.exception, error)
    assert not out.exists()
