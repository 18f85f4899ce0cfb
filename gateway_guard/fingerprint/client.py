"""The program behind a request: which headers it sends in which order, and what it says it is. Values that identify somebody are not read."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway_guard.fingerprint.keyed import Keyed

Headers = Sequence[tuple[bytes, bytes]]

AGENT = 256
VALUE = 300
MOST = 64
# Headers that belong to one hop (RFC 9110, section 7.6.1) or to the framing: never the program's own.
_HOP = frozenset({b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"transfer-encoding", b"content-length", b"host"})
_CUT = re.compile(r"[/ v(]\d| \(")
_PRODUCT = re.compile(r"([A-Za-z][\w.-]{0,40})/(\d[\w.]{0,24})")
_VERSION = re.compile(r"(?<=[/ v(])\d[\w.]{0,24}")
_HISTORY = frozenset({"Mozilla", "AppleWebKit", "Safari", "Gecko"})
# Product names that say nothing by themselves: all names of the line are taken together.
_PLAIN = frozenset({"mozilla", "python", "dalvik", "java", "node", "ruby"})


class Program(NamedTuple):
    """`family` name without versions, lower-case · `version` as told · `agent` the whole user-agent."""

    family: str
    version: str
    agent: str


def single(headers: Headers) -> dict[bytes, bytes]:
    """The first value of each header, not more than anything is told by."""
    found: dict[bytes, bytes] = {}
    for name, value in headers[:MOST]:
        found.setdefault(name, value[:VALUE])
    return found


def program(values: Mapping[bytes, bytes]) -> Program:
    """What the user-agent says."""
    agent = values.get(b"user-agent", b"")[:AGENT].decode("latin-1")
    cut = _CUT.search(agent)
    family = (agent[: cut.start()] if cut else agent).strip(" /(").lower()
    if family in _PLAIN:
        names = [name.lower() for name, _ in _PRODUCT.findall(agent)]
        family = " ".join(names) or family
    package = values.get(b"x-stainless-package-version", b"")[:32].decode("latin-1")
    told = _told(agent)
    return Program(family, f"{told} {package}".strip() if package != told else told, agent)


def _told(agent: str) -> str:
    """The first version; in a browser's line, which begins with history, the first that is its own."""
    if agent.startswith("Mozilla/"):
        return next((version for name, version in _PRODUCT.findall(agent) if name not in _HISTORY), "")
    found = _VERSION.search(agent)
    return found[0] if found else ""


class ClientShape:
    """Turns headers into two numbers, without what proxies add on the way."""

    def __init__(self, proxy_headers: Iterable[str], keyed: Keyed) -> None:
        listed = [name.lower().encode() for name in proxy_headers]
        self._names = _HOP | {name for name in listed if not name.endswith(b"*")}
        self._starts = tuple(name[:-1] for name in listed if name.endswith(b"*"))
        self._keyed = keyed

    def client(self, headers: Headers, what: Program) -> int:
        """Header names in their order, and the program's family."""
        names = [name for name, _ in headers[:MOST] if name not in self._names and not name.startswith(self._starts)]
        return self._keyed.number("client", b"\n".join([what.family.encode("latin-1", "replace"), *names]))

    def version(self, what: Program) -> int:
        """The program's family and version, 0 when it tells none."""
        return self._keyed.number("version", f"{what.family}\n{what.version}".encode("latin-1", "replace")) if what.version else 0
