"""Debts in memory are one process's: nobody gets every quota once more from a second one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from gateway_guard.asgi import alone
from gateway_guard.asgi.alone import declared, ensure_alone, held
from gateway_guard.errors import UsageError
from tests.fakes import policy_file

ROOT = Path(__file__).parent.parent
APP = """
from gateway_guard import GatewayGuard
async def model(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})
app = GatewayGuard(model, "policy.yaml")
"""


@pytest.mark.parametrize(
    ("argv", "environment", "child", "count"),
    [
        (["uvicorn", "app:app"], {}, False, 1),
        (["uvicorn", "app:app", "--workers", "4"], {}, True, 4),
        (["uvicorn", "--workers=2", "app:app"], {}, True, 2),
        (["uvicorn", "app:app"], {"WEB_CONCURRENCY": "3"}, True, 3),
        (["gateway-guard", "serve"], {"WEB_CONCURRENCY": "3"}, False, 1),
        (["/usr/bin/gunicorn", "-w", "8", "app:app"], {}, False, 8),
        (["/usr/bin/gunicorn", "app:app"], {"WEB_CONCURRENCY": "5"}, False, 5),
        (["fastapi", "run", "--workers", "2"], {}, True, 2),
        (["tool", "-w", "8"], {}, False, 1),
        (["uvicorn", "--workers"], {}, True, 1),
        ([], {}, False, 1),
    ],
)
def test_servers_say_how_many_workers_they_start(argv: Sequence[str], environment: Mapping[str, str], child: bool, count: int) -> None:
    assert declared(argv, environment, child=child) == count


def test_several_workers_are_refused_with_what_to_do(tmp_path: Path) -> None:
    path = policy_file(tmp_path)
    with pytest.raises(UsageError, match=r"2 workers would each grant every quota in full.*store: .*or run one worker"):
        ensure_alone(path, argv=["uvicorn", "--workers", "2"], environment={})


def other_process(path: Path) -> subprocess.Popen[bytes]:
    """Another process that holds the policy until its standard input ends."""
    code = "import sys; from pathlib import Path; from gateway_guard.asgi.alone import held; print(held(Path(sys.argv[1])), flush=True); sys.stdin.read()"
    process = subprocess.Popen([sys.executable, "-c", code, str(path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"True\n"
    return process


def test_a_second_process_does_not_come_up_until_the_first_has_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "PATIENCE", 0.0)
    path = policy_file(tmp_path)
    path.chmod(0o444)
    with other_process(path) as other:
        assert not held(path, patience=0.0)
        with pytest.raises(UsageError, match="another process guards with this policy"):
            ensure_alone(path, argv=["uvicorn"], environment={})
        other.kill()
        other.wait()
        assert held(path), "however the other one ended"
        assert held(path), "and one process may mount it twice"


def test_a_policy_that_is_replaced_is_held_anew(tmp_path: Path) -> None:
    path = policy_file(tmp_path)
    assert held(path)
    path.with_name("new.yaml").write_text(path.read_text())
    path.with_name("new.yaml").replace(path)
    with other_process(path) as other:
        assert not held(path, patience=0.0)
        other.communicate()
    assert held(path)


def test_uvicorn_with_two_workers_stops_at_once_and_says_why(tmp_path: Path) -> None:
    policy_file(tmp_path)
    (tmp_path / "app.py").write_text(APP)
    command = [sys.executable, "-m", "uvicorn", "app:app", "--uds", str(tmp_path / "s"), "--workers", "2"]
    done = subprocess.run(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=60)
    assert "2 workers would each grant every quota in full" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Uvicorn running" not in done.stderr.split("2 workers")[1]
