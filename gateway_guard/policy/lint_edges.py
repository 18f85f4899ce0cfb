"""Lint for the edges: what is guarded, who asks, what is recorded, how the upstream is reached."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from gateway_guard.policy.finding import Finding, odd, ruled
from gateway_guard.policy.model import JwtRules, Policy

_SHAPE = "starts with a letter and has letters, digits, `_` and `-`, at most 64"
_LOCAL = ("localhost", "127.0.0.1", "::1")
# Names end up in headers, metrics and reason codes.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,63}", re.ASCII)
_BODY_MOST = 128 * 2**20
# A unix socket has no address: its peer is trusted by this word.
UNIX = "unix"
_ROTATE_LEAST = 64 * 2**10
_PATH = re.compile(r"(?:/[A-Za-z0-9._~-]+)+", re.ASCII)


def names(policy: Policy) -> Iterator[Finding]:
    """Names of quotas and rungs go into headers and metrics; the policy's own name is a line of text."""
    if not policy.name.strip() or len(policy.name) > 64 or not policy.name.isprintable():
        yield Finding(("name",), "the name must be one line of 1 to 64 characters")
    for name in policy.quotas:
        if not _NAME.fullmatch(name):
            yield Finding(("quotas", name), f"quota `{name}`: a name {_SHAPE}")
    for section, items in (("ladder", policy.ladder), ("exemptions", policy.exemptions)):
        for index, ident in enumerate(item.id for item in items):
            if not _NAME.fullmatch(ident):
                yield Finding((section, index, "id"), f"id `{ident}`: an id {_SHAPE}")


def guard(policy: Policy) -> Iterator[Finding]:
    """Paths that can be requested, and a body cap that can be held in memory."""
    if not policy.guard.paths:
        yield Finding(("guard", "paths"), "guards no path; take `paths` out for the usual ones")
    for path in policy.guard.paths:
        if not path.startswith("/") or "?" in path or "#" in path or " " in path:
            yield Finding(("guard", "paths", path), f"`{path}` is no path of a URL; it starts with `/` and has no `?`")
    if policy.guard.body_limit > _BODY_MOST:
        yield odd(("guard", "body_limit"), "each request's body is held in memory up to `body_limit`; more than 128 MiB lets few callers fill it")


def identity(policy: Policy) -> Iterator[Finding]:
    """Somebody can be identified, and only by what cannot be forged."""
    rules = policy.identity
    if not rules.keys and rules.jwt is None and rules.header is None and rules.anonymous == "refuse":
        yield Finding(("identity", "keys"), "nobody can ever be identified; list key headers in `keys`, or give `jwt` or `header`")
    if rules.header is not None and not rules.trusted_proxies:
        yield Finding(("identity", "header"), "never used: an identity in headers is believed only from `trusted_proxies`, and none is given")
    if rules.unknown_keys == "refuse" and rules.directory is None:
        yield odd(("identity", "unknown_keys"), "every key is unknown to a guard without a `directory`: unless the program hands one over, all are refused")
    for index, text in enumerate(rules.trusted_proxies):
        yield from _proxy(index, text)
    if rules.jwt is not None:
        yield from _jwt(rules.jwt)


def record(policy: Policy) -> Iterator[Finding]:
    """Two logs, two files, neither cut after every few lines."""
    rules = policy.record
    if rules.decisions is not None and rules.decisions == rules.exchanges:
        yield Finding(("record", "exchanges"), f"decisions and exchanges would both be written to `{rules.exchanges}`; name two files")
    if rules.rotate < _ROTATE_LEAST:
        yield Finding(("record", "rotate"), f"{rules.rotate} bytes would start a new file every few lines; write for example `256 MiB`")
    if rules.audit is not None and not rules.audit.endswith(".jsonl"):
        yield Finding(("record", "audit"), f"the audit log is plain lines, so that each can be checked: name `{rules.audit}` NAME.jsonl")
    if rules.audit is not None and rules.audit in (rules.decisions, rules.exchanges):
        yield Finding(("record", "audit"), f"`{rules.audit}` is another log's file already; name one for the audit log alone")
    if "sample" in rules.model_fields_set and rules.exchanges is None:
        yield odd(("record", "sample"), "`sample` thins out `exchanges`, which are not recorded")


def candidate(policy: Policy) -> Iterator[Finding]:
    """What a candidate decides is written somewhere, and its quotas mean what they say."""
    if policy.candidate is None:
        return
    if policy.record.decisions is None:
        yield odd(("candidate",), "what the candidate decides is written to the decision log, and none is kept: name one as `record.decisions`")
    if policy.store.url is not None or policy.store.sentinel is not None:
        yield odd(("candidate",), "each worker has a candidate of its own, for its own requests: its quotas are as many times as wide as there are workers")


def appeals(policy: Policy) -> Iterator[Finding]:
    """Whoever is acted on can be told where to appeal, and the appeal is kept."""
    rules, record = policy.appeals, policy.record
    taken = {*policy.guard.paths, policy.passes.path}
    if rules.path is not None and (not _PATH.fullmatch(rules.path) or rules.path in taken):
        yield Finding(("appeals", "path"), f"`{rules.path}` is no path of its own; write for example `/.well-known/gateway-guard/appeals`, or null for none")
    if rules.limit.unit != "requests":
        yield Finding(("appeals", "limit"), "appeals are counted, so their limit is a number in a time; write for example `10/day`")
    if policy.state is not None and policy.state in (record.decisions, record.exchanges, record.audit):
        yield Finding(("state",), f"`{policy.state}` is a log's file already; name one for the state alone")
    grave = [rung.id for rung in policy.ladder if rung.do not in ("allow", "throttle") and rung.mode == "enforce"]
    if policy.mode == "enforce" and grave and policy.state is None:
        yield odd(("ladder",), f"rung `{grave[0]}` acts on accounts, and nobody can appeal: give the policy a `state` file, for example `guard/state.sqlite`")


def upstream(policy: Policy) -> Iterator[Finding]:
    """A reservation should outlive the request that it is for."""
    if policy.reservation.expires < policy.upstream.read_timeout:
        yield odd(
            ("reservation", "expires"),
            f"reservations expire after {policy.reservation.expires:g} s while an answer may be silent for {policy.upstream.read_timeout:g} s "
            "(`upstream.read_timeout`); long answers count only once they end",
        )


def _proxy(index: int, text: str) -> Iterator[Finding]:
    steps = ("identity", "trusted_proxies", index)
    if text == UNIX:
        return
    try:
        network = ipaddress.ip_network(text)
    except ValueError:
        try:
            wider = ipaddress.ip_network(text, strict=False)
        except ValueError:
            yield Finding(steps, f"`{text}` is neither an address nor a network; write for example `10.0.0.0/8`, `127.0.0.1`, or `unix` for a unix socket")
        else:
            yield Finding(steps, f"`{text}` has bits set beyond its prefix; did you mean `{wider}`?")
        return
    if network.prefixlen == 0:
        yield Finding(steps, f"`{text}` trusts everybody: anyone could say who they are and where from; name the proxies' own networks")
    elif network.prefixlen < (8 if network.version == 4 else 16):
        yield odd(steps, f"`{text}` trusts a large part of the Internet; name the proxies' own networks")


def _jwt(rules: JwtRules) -> Iterator[Finding]:
    steps = ("identity", "jwt")
    shared = [name for name in rules.algorithms if name.startswith("HS")]
    if shared and len(shared) < len(rules.algorithms):
        # Key confusion: an HS* token "signed" with the public key would verify.
        yield Finding((*steps, "algorithms"), f"{shared[0]} beside public-key algorithms lets whoever has the public key sign; keep one kind")
    if rules.jwks is not None:
        url = urlsplit(rules.jwks)
        if not url.hostname or url.scheme not in ("https", "http"):
            yield Finding((*steps, "jwks"), f"`{rules.jwks}` is no URL; write for example `https://login.example.com/.well-known/jwks.json`")
        elif url.scheme == "http" and url.hostname not in _LOCAL:
            yield Finding((*steps, "jwks"), f"`{rules.jwks}` is not encrypted: whoever sits on the way could hand over keys; use `https://`")
    if rules.leeway > 300:
        yield odd((*steps, "leeway"), f"tokens stay good {rules.leeway:g} s past their end; 30s is usual")


RULES = (
    ruled("name quotas ladder exemptions", names),
    ruled("guard", guard),
    ruled("identity", identity),
    ruled("record", record),
    ruled("candidate record store", candidate),
    ruled("reservation upstream", upstream),
    ruled("appeals guard passes record state ladder mode", appeals),
)
