"""The store that a policy asks for: on a server, or in the memory of the only worker."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gateway_guard.challenge.grants import MemoryGrants
from gateway_guard.errors import UsageError
from gateway_guard.gate import Gate
from gateway_guard.policy.model import Policy, SentinelRules, StoreRules
from gateway_guard.ports import Grants
from gateway_guard.shared_worker import SharedWorker
from gateway_guard.stores.redis import Link, Naming, SharedStore, Shelves, Terms
from gateway_guard.view import View

if TYPE_CHECKING:
    from redis.asyncio import Redis, RedisCluster

    from gateway_guard.analysis.analyst import Analyst
    from gateway_guard.stores.redis.crew import Crew
    from gateway_guard.stores.redis.wire import ClusterWire, RedisWire

# Seconds after which a leader that is silent leads no more: half a refresh, within these bounds. So a successor's view is there within two refreshes.
LEAST_LEAD, LEAD = 0.5, 10.0
# Slots of a Redis Cluster that debts are spread over: no more nodes than these share the work.
SHELVES = 32
# Seconds after which a call to a node of a cluster is given up at the latest.
HANGS = 5.0
SECURE = {"valkey": "redis", "valkeys": "rediss"}


def is_shared(policy: Policy) -> bool:
    """Whether the policy names a server."""
    return policy.store.url is not None or policy.store.sentinel is not None


def shared_store(policy: Policy, folder: Path, key: bytes, environment: Mapping[str, str]) -> SharedStore:
    """The store on the policy's server. No connection is made before the first request; UsageError when none ever can be."""
    rules = policy.store
    sender = f"{os.getpid()}.{secrets.token_hex(6)}"
    way = wire(rules, folder, environment)
    naming = Naming(rules.prefix, key, SHELVES if rules.cluster else 0)

    def link(shelf: str = "") -> Link:
        return Link(way, naming, sender=sender, timeout=rules.timeout, flush=rules.flush, shelf=shelf)

    links = Shelves([link(str(number)) for number in range(SHELVES)]) if rules.cluster else link()
    return SharedStore(links, terms(policy), cap=policy.accounts, workers=lambda: rules.workers)


def shared_grants(shared: SharedStore, timeout: float) -> Grants:
    """The step-ups that any worker has seen met, on the store's own connection."""
    from gateway_guard.stores.redis.grants import RedisGrants  # noqa: PLC0415 - an extra
    from gateway_guard.stores.redis.wire import ClusterWire, RedisWire  # noqa: PLC0415

    way = shared.link.wire
    assert isinstance(way, RedisWire | ClusterWire)  # noqa: S101 - for the type checker: `shared_store` made it
    return RedisGrants(way, shared.link.naming, MemoryGrants(), timeout=timeout)


def shared_worker(
    store: SharedStore,
    gate: Gate,
    clock: Callable[[], float],
    analyst: Callable[[View], Analyst] | None,
    adopted: Callable[[View], None] = lambda view: None,
) -> SharedWorker:
    """This worker's part in what the workers do together; it tells the store how many there are."""
    policy = gate.rules.policy
    worker = SharedWorker(crew_of(store, policy), gate, clock, policy.analysis.refresh, analyst, adopted)
    store.workers = lambda: max(policy.store.workers, worker.workers)
    return worker


def crew_of(store: SharedStore, policy: Policy) -> Crew:
    """A seat among the workers of the store's server."""
    from gateway_guard.stores.redis.crew import Crew  # noqa: PLC0415 - an extra
    from gateway_guard.stores.redis.wire import ClusterWire, RedisWire  # noqa: PLC0415

    link = store.link
    wire = link.wire
    assert isinstance(wire, RedisWire | ClusterWire)  # noqa: S101 - for the type checker; `shared_store` has made it
    lead = min(LEAD, max(LEAST_LEAD, policy.analysis.refresh / 2))
    return Crew(lambda: wire.client, link.naming, link.sender, lead=lead, history=policy.store.history)


def terms(policy: Policy) -> Terms:
    """How spends are shared. A policy in shadow refuses nobody, whatever happens to the server."""
    exact = frozenset(name for name, rule in policy.quotas.items() if rule.spend == "exact")
    return Terms(policy.store.lease, exact, policy.store.down if policy.mode == "enforce" else "open")


def wire(rules: StoreRules, folder: Path, environment: Mapping[str, str]) -> RedisWire | ClusterWire:
    """The way to the policy's server."""
    with needs_redis():
        from gateway_guard.stores.redis.wire import ClusterWire, RedisWire  # noqa: PLC0415 - an extra
    how = options(rules, folder, environment)
    if rules.cluster:
        return ClusterWire(lambda: _cluster(rules, how), name_of(rules))
    return RedisWire(lambda: _client(rules, how), name_of(rules))


@contextmanager
def needs_redis() -> Iterator[None]:
    """What is imported here is an extra: UsageError when it is not installed."""
    try:
        yield
    except ImportError:
        raise UsageError("the policy shares debts on a server (`store`), and redis-py is not installed: pip install 'gateway-guard[redis]'") from None


def name_of(rules: StoreRules) -> str:
    """The server as messages name it."""
    return rules.url or (f"{rules.sentinel.master} (by {', '.join(rules.sentinel.hosts)})" if rules.sentinel is not None else "")


def options(rules: StoreRules, folder: Path, environment: Mapping[str, str]) -> dict[str, Any]:
    """What every connection is made with. Certificates are read now, so that one that is missing is told at the start."""
    out: dict[str, Any] = {"username": rules.user, "password": environment.get(rules.password_from)}
    if rules.tls is None:
        return out
    named = {"ssl_ca_certs": rules.tls.ca, "ssl_certfile": rules.tls.certificate, "ssl_keyfile": rules.tls.key}
    for option, name in named.items():
        if name is not None:
            if not (folder / name).is_file():
                raise UsageError(f"{folder / name}: the policy's `store.tls` names this file, and it cannot be read")
            out[option] = str(folder / name)
    return out


def _client(rules: StoreRules, how: dict[str, Any]) -> Redis:
    from redis.asyncio import Redis  # noqa: PLC0415
    from redis.asyncio.retry import Retry  # noqa: PLC0415
    from redis.asyncio.sentinel import Sentinel  # noqa: PLC0415
    from redis.backoff import NoBackoff  # noqa: PLC0415

    # One more try, for a connection that the server has closed meanwhile; when to try again later is the link's to say.
    how = how | {"retry": Retry(NoBackoff(), 1)}
    if rules.sentinel is not None:
        ways = sentinel_options(rules, how)
        sentinel = Sentinel(hosts_of(rules.sentinel), sentinel_kwargs={"socket_timeout": rules.timeout} | ways, **how | ways)  # type: ignore[no-untyped-call]
        found: Redis = sentinel.master_for(rules.sentinel.master)
        return found
    return Redis.from_url(address(rules), **how)


def hosts_of(sentinel: SentinelRules) -> list[tuple[str, int]]:
    """Where the sentinels are."""
    return [(host.rpartition(":")[0], int(host.rpartition(":")[2])) for host in sentinel.hosts]


def sentinel_options(rules: StoreRules, how: dict[str, Any]) -> dict[str, Any]:
    """What connections to sentinels are made with: they have users of their own, and the servers' certificates."""
    return {"ssl": True} | {option: value for option, value in how.items() if option.startswith("ssl_")} if rules.tls is not None else {}


def _cluster(rules: StoreRules, how: dict[str, Any]) -> RedisCluster:
    from redis.asyncio import RedisCluster  # noqa: PLC0415

    # A node that hangs keeps none of the calls that nobody waits for any more.
    return RedisCluster.from_url(address(rules), socket_timeout=max(HANGS, 2 * rules.timeout), **how)


def address(rules: StoreRules) -> str:
    """The server's URL, in the schemes that redis-py knows."""
    scheme, colon, rest = (rules.url or "").partition(":")
    return SECURE.get(scheme, scheme) + colon + rest
