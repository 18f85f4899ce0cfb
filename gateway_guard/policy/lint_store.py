"""Lint for the shared store: one place, no secret in the file, and a bound that is one."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway_guard.policy.finding import Finding, odd, ruled
from gateway_guard.policy.model import SHARED, Policy, StoreRules

SCHEMES = ("redis", "rediss", "valkey", "valkeys", "unix")
_SLOW = 1.0
_LOOSE = 0.2


def store(policy: Policy) -> Iterator[Finding]:
    """The server can be reached as it is written, and its password is not written."""
    rules = policy.store
    if rules.url is not None and rules.sentinel is not None:
        yield Finding(("store", "sentinel"), "`url` names one server and `sentinel` asks which one leads; give one of the two")
    if rules.url is not None:
        yield from _url(rules)
    if rules.sentinel is not None:
        for index, host in enumerate(rules.sentinel.hosts):
            name, _, port = host.rpartition(":")
            if not name or not port.isdigit():
                yield Finding(("store", "sentinel", "hosts", index), f"`{host}` is no address of a sentinel; write for example `10.0.0.5:26379`")
    if not rules.prefix or len(rules.prefix) > 64 or not rules.prefix.isprintable() or set(rules.prefix) & set("{} "):
        yield Finding(("store", "prefix"), "the keys' prefix is 1 to 64 characters without spaces and braces")


def sharing(policy: Policy) -> Iterator[Finding]:
    """What is said about sharing has a server to mean something, and figures that hold."""
    rules = policy.store
    if rules.url is None and rules.sentinel is None:
        if policy.state == SHARED:
            yield Finding(("state",), "`redis` keeps the state on the server that `store` names, and it names none: give `store: {url: ...}`, or a file")
        for key in sorted(rules.model_fields_set):
            yield Finding(("store", key), f"`{key}` says how debts are shared, and no server is named: give `url`, for example `unix:///run/redis/redis.sock`")
        for name, rule in policy.quotas.items():
            if "spend" in rule.model_fields_set:
                yield odd(("quotas", name, "spend"), "`spend` is for a shared store (`store.url`); in one worker every spend is exact")
        return
    if rules.timeout > _SLOW:
        yield odd(("store", "timeout"), f"a request may wait {rules.timeout:g} s for a server that hangs; 50ms is usual")
    if rules.flush >= rules.timeout:
        yield odd(
            ("store", "flush"), f"spends are reported every {rules.flush:g} s only; a request waits no longer for an answer (`timeout`, {rules.timeout:g} s)"
        )
    if rules.lease > _LOOSE:
        yield odd(("store", "lease"), f"each further worker may overspend {rules.lease:.0%} of a burst; 2% is usual")


def _url(rules: StoreRules) -> Iterator[Finding]:
    url = urlsplit(rules.url or "")
    if rules.cluster and (url.scheme == "unix" or url.path not in ("", "/", "/0")):
        yield Finding(("store", "cluster"), "a Redis Cluster is reached by host and port, and has the database 0 only: write `redis://host:6379`")
    if url.scheme not in SCHEMES or (url.scheme != "unix" and not url.hostname) or (url.scheme == "unix" and not url.path.startswith("/")):
        yield Finding(("store", "url"), f"`{rules.url}` is no address of a server; write `redis://host:6379/0`, `rediss://...` for TLS, or `unix:///path`")
    if url.password or url.username:
        yield Finding(("store", "url"), f"the URL holds a name or a password; write `user`, and set {rules.password_from} in the environment")
    if rules.tls is not None and url.scheme not in ("rediss", "valkeys"):
        yield Finding(("store", "tls"), "`tls` has a meaning for `rediss://` only; this connection would not be encrypted")


RULES = (ruled("store", store), ruled("store quotas state", sharing))
