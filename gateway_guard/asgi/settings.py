"""How a guard is set up: by arguments, else by the environment, which is all that `vllm serve --middleware` leaves one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from gateway_guard.errors import UsageError
from gateway_guard.identity.pseudonyms import load_key

POLICY = "GATEWAY_GUARD_POLICY"
DIRECTORY = "GATEWAY_GUARD_DIRECTORY"


class Settings(NamedTuple):
    """`policy` and `directory` are files; `key` makes the keyed hashes."""

    policy: Path
    key: bytes
    directory: Path | None = None


def settle_settings(environment: Mapping[str, str], *, policy: str | Path | None, directory: str | Path | None, key: bytes | None) -> Settings:
    """Arguments win over the environment. UsageError says what is missing and how to give it."""
    chosen = policy or environment.get(POLICY)
    if not chosen:
        raise UsageError(f"no policy: pass GatewayGuard(app, policy=FILE) or set {POLICY}; policies/default.yaml only records and is the one to start with")
    path = Path(chosen)
    table = directory or environment.get(DIRECTORY)
    if key is not None and len(key) < 16:
        raise UsageError("key: at least 16 bytes, the same in every process that shares quotas or logs")
    return Settings(path, key or load_key(environment, path.with_name(".gateway-guard.key")), Path(table) if table else None)
