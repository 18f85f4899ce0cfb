"""Every example runs, guarded, against the real SDKs; none is long."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from examples.demo import __main__ as demo
from examples.demo import ledger, model_server
from gateway_guard.trace.decisions import DecisionRow
from tests.served import served

EXAMPLES = Path(__file__).parent.parent / "examples"
DECISION = "x-gateway-guard-decision"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_an_example_fits_a_screen(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 60


@pytest.fixture
def app(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The application of an example, set up as its docstring says."""
    monkeypatch.setenv("GATEWAY_GUARD_KEY", bytes(range(32)).hex())
    return importlib.import_module(f"examples.{request.param}").app


@pytest.mark.parametrize("app", ["starlette_app", "fastapi_app", "bare_asgi"], indirect=True)
def test_the_openai_sdk_talks_through_a_mounted_guard(app: Any) -> None:
    with served(app) as port, openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="sk-example-1") as client:
        raw = client.chat.completions.with_raw_response.create(model="tiny-1", messages=[{"role": "user", "content": "hello"}])
    assert raw.headers[DECISION]
    usage = raw.parse().usage
    assert usage is not None
    assert usage.completion_tokens > 0


@pytest.mark.parametrize("app", ["starlette_app", "litestar_app"], indirect=True)
def test_the_anthropic_sdk_talks_through_a_mounted_guard(app: Any) -> None:
    with served(app) as port, anthropic.Anthropic(base_url=f"http://127.0.0.1:{port}", api_key="sk-example-1") as client:
        raw = client.messages.with_raw_response.create(model="tiny-1", max_tokens=50, messages=[{"role": "user", "content": "hello"}])
    assert raw.headers[DECISION]
    assert raw.parse().usage.output_tokens > 0


@pytest.fixture
def model() -> Iterator[int]:
    with served(model_server.app) as port:
        yield port


def test_the_demo_server_streams_both_dialects(model: int) -> None:
    """The same words streamed and whole, with usage."""
    with openai.OpenAI(base_url=f"http://127.0.0.1:{model}/v1", api_key="x") as client:
        whole = client.chat.completions.create(model="tiny-1", messages=[{"role": "user", "content": "hello"}])
        chunks = list(
            client.chat.completions.create(model="tiny-1", messages=[{"role": "user", "content": "hello"}], stream=True, stream_options={"include_usage": True})
        )
    streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert streamed.split() == (whole.choices[0].message.content or "").split()
    assert chunks[-1].usage == whole.usage
    with (
        anthropic.Anthropic(base_url=f"http://127.0.0.1:{model}", api_key="x") as other,
        other.messages.stream(model="tiny-1", max_tokens=50, messages=[{"role": "user", "content": "hello"}]) as stream,
    ):
        assert stream.get_final_message().usage.output_tokens > 0


def _row(ident: str, account: str, **changed: Any) -> DecisionRow:
    fields: dict[str, Any] = {"action": "allow", "enforced": True, "cluster": None, "reasons": [], "served": True, "delay_ms": 0.0}
    return DecisionRow(id=ident, ts=1.0, account=account, **(fields | changed))


def test_the_demo_tells_a_difference_between_two_logs() -> None:
    """A changed action, a changed wait and a missing row are each found; another name for the account is not a difference."""
    live = {"1": _row("1", "hash"), "2": _row("2", "hash"), "3": _row("3", "hash"), "4": _row("4", "hash")}
    again = {"1": _row("1", "amira"), "2": _row("2", "amira", action="throttle", served=False), "3": _row("3", "amira", delay_ms=5.0)}
    assert sorted(ledger.differences(live, again)) == ["2", "3", "4"]


def test_the_demo_counts_by_group() -> None:
    log = {"1": _row("1", "a"), "2": _row("2", "b", served=False, cluster="c1"), "3": _row("3", "c", delay_ms=4.0)}
    assert ledger.shares(log, {"a": "honest", "b": "swarm", "c": "honest"}) == [("honest", 2, 2, 2, 1, 0, 0), ("swarm", 1, 1, 0, 0, 1, 1)]


def test_the_demo_plays_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A small cast, the real thing otherwise: processes, sockets, SDK, recording, replays."""
    for name, value in {"FOLDER": tmp_path / "out", "PEOPLE": ("amira",), "SWARM": ("swarm-01", "swarm-02"), "EACH": 2, "BATCH": 2}.items():
        monkeypatch.setattr(demo, name, value)
    assert demo.main() == 0
    shown = capsys.readouterr().out
    assert "openai.RateLimitError" in shown
    assert "decisions are identical" in shown
    assert "5 questions answered, 0 refused" in shown
