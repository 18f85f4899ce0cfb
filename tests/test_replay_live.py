"""What a live guard let pass although it could not read or name it, a replay of its recording lets pass in the same way."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from gateway_guard import GatewayGuard
from gateway_guard.replay.session import Outputs, Session
from gateway_guard.replay.stage import set_up
from tests.fakes import BEARER, KEY, ModelServer, call, chat

pytestmark = pytest.mark.anyio
POLICY = """version: 1
name: test
mode: {mode}
guard: {{unreadable: {unreadable}, body_limit: 4000}}
quotas: {{minute: {{limit: 6/min}}, day: {{limit: 5000 tokens/day}}}}
record: {{decisions: decisions.jsonl, exchanges: exchanges.jsonl}}
"""
PLAIN = [(b"content-type", b"application/json")]
PACKED = [*BEARER, (b"content-encoding", b"gzip")]
REQUESTS = [
    (chat("plain"), BEARER),
    (chat("nobody"), PLAIN),
    (gzip.compress(chat("packed")), PACKED),
    (b"", BEARER),
    (b"no JSON \xff at all", BEARER),
    (b'{"model":"m","messages":[],"model":"twice"}', BEARER),
    (b'["a list"]', BEARER),
    (b'{\n  "model": "m",\r\n  "messages": [{"role": "user", "content": "on lines"}]\n}', BEARER),
    (b"not gzip", PACKED),
    (chat("x" * 5000), BEARER),
    (chat("two keys"), [*BEARER, (b"x-api-key", b"sk-bob")]),
    *[(chat(f"more {n}"), BEARER) for n in range(4)],
]


@pytest.mark.parametrize(("mode", "unreadable"), [("shadow", "refuse"), ("shadow", "pass"), ("enforce", "refuse"), ("enforce", "pass")])
async def test_odd_requests_are_replayed_as_they_were_taken(tmp_path: Path, mode: str, unreadable: str) -> None:
    (tmp_path / "policy.yaml").write_text(POLICY.format(mode=mode, unreadable=unreadable))
    guard = GatewayGuard(ModelServer(), tmp_path / "policy.yaml", key=KEY)
    for body, headers in REQUESTS:
        await call(guard, body, headers=headers).run()
    await guard.engine.close()
    live, again = found_and_replayed(tmp_path)
    assert live.count(b"\n") == (len(REQUESTS) if mode == "shadow" else 7 if unreadable == "refuse" else 12)
    assert again == live


def found_and_replayed(folder: Path) -> tuple[bytes, bytes]:
    (traffic,), (live,) = folder.glob("exchanges.*"), folder.glob("decisions.*")
    Session(set_up(str(traffic), folder / "policy.yaml", KEY)).run(Outputs(decisions=str(folder / "again.jsonl")), lambda: None)
    return live.read_bytes(), (folder / "again.jsonl").read_bytes()
