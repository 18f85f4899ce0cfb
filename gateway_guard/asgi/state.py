"""Where a policy keeps its state: in a file beside it, or on the server that its workers share."""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway_guard.appeals.ledger import Ledger
from gateway_guard.appeals.state import State
from gateway_guard.asgi.sharing import address, hosts_of, name_of, needs_redis, options, sentinel_options
from gateway_guard.policy.model import SHARED, Policy, StoreRules

if TYPE_CHECKING:
    from redis import Redis, RedisCluster

    from gateway_guard.appeals.shared_ledger import SharedLedger

# Seconds after which a server that hangs is not waited for any more. No request waits for it, but whoever appeals does.
PATIENCE = 2.0


def state_of(policy: Policy, folder: Path, environment: Mapping[str, str], *, create: bool = True) -> State | None:
    """The state of a policy in `folder`; None when it keeps none. UsageError when its file or what is on its server cannot be used.

    `create`: make a file that is missing. A server that does not answer is told by the first call, with StoreError.
    """
    if policy.state is None:
        return None
    return _shared(policy, folder, environment) if policy.state == SHARED else Ledger(folder / policy.state, create=create)


def _shared(policy: Policy, folder: Path, environment: Mapping[str, str]) -> SharedLedger:
    with needs_redis():
        from gateway_guard.appeals.shared_ledger import SharedLedger  # noqa: PLC0415 - an extra
    rules = policy.store
    how = options(rules, folder, environment)
    home = f"{platform.node()}:{(folder / policy.record.audit).absolute() if policy.record.audit else ''}"
    return SharedLedger(_connected(rules, how), name_of(rules), rules.prefix, home)


def _connected(rules: StoreRules, how: dict[str, Any]) -> Callable[[], Redis | RedisCluster]:
    """What connects with the same settings as the store does. Nothing is sent a second time: an acknowledgement would be given twice."""
    from redis import Redis, RedisCluster, Sentinel  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415
    from redis.retry import Retry  # noqa: PLC0415

    once = {"socket_timeout": PATIENCE, "socket_connect_timeout": PATIENCE, "retry": Retry(NoBackoff(), 0)}

    def single() -> Redis:
        return Redis.from_url(address(rules), **how | once)

    def led() -> Redis:
        assert rules.sentinel is not None  # noqa: S101 - for the type checker
        ways = sentinel_options(rules, how)
        sentinel = Sentinel(hosts_of(rules.sentinel), sentinel_kwargs=once | ways, **how | ways | once)  # type: ignore[no-untyped-call]
        found: Redis = sentinel.master_for(rules.sentinel.master)  # type: ignore[no-untyped-call]
        return found

    def cluster() -> RedisCluster:
        return RedisCluster.from_url(address(rules), **how | once)

    return led if rules.sentinel is not None else cluster if rules.cluster else single
