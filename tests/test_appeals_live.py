"""The whole way back, with real parts: an SDK is refused, its account appeals, an operator answers on the command line, the next request passes."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from gateway_guard import GatewayGuard
from gateway_guard.evidence import Family
from gateway_guard.identity.pseudonyms import Pseudonyms
from gateway_guard.view import Cluster, Standing, View
from tests.commands import command
from tests.fakes import KEY, ModelServer, policy_file
from tests.served import served

PATH = "/.well-known/gateway-guard/appeals"
PATIENCE = 20.0
ALICE = Pseudonyms(KEY).text("credential", "sk-alice")
FAMILIES: tuple[Family, ...] = ("content", "network")
POLICY = """
signals: {coordination: {ceiling: 3}, harvest: {ceiling: 3}}
ladder: [{id: shut, at: 4, do: deny}]
state: guard/state.sqlite
record: {audit: guard/audit.jsonl}
"""
CHATS: list[Any] = [{"role": "user", "content": "hello"}]


def suspected(at: float) -> View:
    """Alice acts as one with others and harvests."""
    standing = Standing("c-" + "1" * 12, at, 5.0, 5.0, FAMILIES, (3.0, 3.0))
    return View(1, at, {ALICE: standing}, {standing.cluster: Cluster(standing.cluster, 9, 0.99, 5.0, 5.0, FAMILIES)}, "calibrated")


@contextmanager
def guarded(folder: Path, text: str = POLICY) -> Iterator[tuple[int, GatewayGuard]]:
    guard = GatewayGuard(ModelServer(), policy_file(folder, text), key=KEY)
    guard.engine.gate.view = suspected(guard.engine.clock())
    guard.engine.books.adopted(guard.engine.gate.view)
    with served(guard) as port:
        yield port, guard
    asyncio.run(guard.engine.books.close())


def ask(port: int, key: str = "sk-alice") -> str | None:
    with openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key=key, max_retries=0) as client:
        return client.chat.completions.create(model="m", messages=CHATS).choices[0].message.content


def refused(port: int) -> dict[str, Any]:
    with pytest.raises(openai.PermissionDeniedError) as error:
        ask(port)
    assert isinstance(error.value.body, dict)
    details: dict[str, Any] = error.value.body["gateway_guard"]
    assert details["decision"] in str(error.value)
    assert PATH in str(error.value)
    return details


def appeal(port: int, decision: str, key: str = "sk-alice", reason: str = "a course of ours") -> httpx.Response:
    body = {"decision": decision, "reason": reason}
    return httpx.post(f"http://127.0.0.1:{port}{PATH}", json=body, headers={"authorization": f"Bearer {key}"})


def process(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "GATEWAY_GUARD_POLICY": str(folder / "policy.yaml"), "GATEWAY_GUARD_KEY": KEY.decode()}
    return subprocess.run([sys.executable, "-m", "gateway_guard", *words], env=environment, capture_output=True, text=True, check=False)


def eventually_served(port: int) -> float:
    """Seconds until the next request passes."""
    start = time.monotonic()
    while time.monotonic() - start < PATIENCE:
        try:
            assert ask(port) == "hi"
            return time.monotonic() - start
        except openai.PermissionDeniedError:
            continue
    raise AssertionError("still refused")


def test_refused_appealed_released_served(tmp_path: Path) -> None:
    with guarded(tmp_path) as (port, _):
        decision = refused(port)["decision"]
        filed = appeal(port, decision)
        assert (filed.status_code, filed.json()["status"], filed.json()["decision"]) == (202, "open", decision)
        place = filed.json()["self"]
        assert filed.headers["location"] == place
        listed = command(tmp_path, "appeals", "list")
        assert filed.json()["appeal"] in listed.stdout
        shown = command(tmp_path, "appeals", "show", decision).stdout
        assert all(says in shown for says in ("a course of ours", "acts as one with 8 others (c-111111111111)", "content, network", "rung.shut"))
        done = process(tmp_path, "appeals", "release", filed.json()["appeal"], "--reason", "the course is known")
        assert (done.returncode, done.stderr) == (0, "")
        assert eventually_served(port) < PATIENCE
        after = httpx.get(f"http://127.0.0.1:{port}{place}", headers={"authorization": "Bearer sk-alice"}).json()
        assert (after["status"], after["answer"]) == ("released", "the course is known")
    verified = command(tmp_path, "audit", "verify")
    assert (verified.returncode, verified.stderr) == (0, "")
    told = command(tmp_path, "audit", "show").stdout
    kinds = [line.split("  ")[1] for line in told.splitlines()]
    assert {"opened", "policy.loaded", "view.adopted", "denied", "appeal.filed", "appeal.released", "acknowledged", "closed"} <= set(kinds)
    assert "sk-alice" not in told


def test_a_restart_keeps_decisions_appeals_and_acknowledgements(tmp_path: Path) -> None:
    with guarded(tmp_path) as (port, _):
        decision = refused(port)["decision"]
    with guarded(tmp_path) as (port, _):
        filed = appeal(port, decision)
        assert filed.status_code == 202
    assert command(tmp_path, "acknowledge", ALICE, "--reason", "known", "--until", "2099-01-01").returncode == 2
    with guarded(tmp_path) as (port, _):
        assert appeal(port, decision).json()["appeal"] == filed.json()["appeal"]
        refused(port)
        assert command(tmp_path, "appeals", "release", decision, "--reason", "known").returncode == 0
        eventually_served(port)
    with guarded(tmp_path) as (port, _):
        assert ask(port) == "hi"
    assert command(tmp_path, "audit", "verify").returncode == 0


def test_an_answer_is_given_once_and_a_quota_is_no_evidence(tmp_path: Path) -> None:
    with guarded(tmp_path, POLICY + "quotas: {day: {limit: 1/day}}\n") as (port, guard):
        guard.engine.gate.view = View()
        assert ask(port) == "hi"
        with pytest.raises(openai.RateLimitError) as error:
            ask(port)
        assert isinstance(error.value.body, dict)
        details = error.value.body["gateway_guard"]
        assert details["appeals"] == PATH
        assert appeal(port, details["decision"]).status_code == 202
        mistaken = command(tmp_path, "appeals", "release", details["decision"], "--reason", "known")
        assert (mistaken.returncode, "quota.day" in mistaken.stderr) == (2, True)
        assert command(tmp_path, "appeals", "confirm", details["decision"], "--reason", "the plan has one a day").returncode == 0
        assert command(tmp_path, "appeals", "confirm", details["decision"], "--reason", "again").returncode == 2
        assert appeal(port, details["decision"]).json()["answer"] == "the plan has one a day"
