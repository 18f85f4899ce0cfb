"""Whose address a request came from, and the network that it belongs to.

Theory of operation. Anybody can write `X-Forwarded-For` or `Forwarded`; only what a declared proxy has appended is worth
something, and proxies append on the right. So the walk begins at the peer of the connection. As long as the address in hand is a
declared proxy, its word about the next one to the left is taken; the first address that is no declared proxy is the client.
Everything left of it is the client's own writing and is never looked at. An entry that cannot be read (`unknown`, `_hidden`,
a broken quote) ends the walk at the proxy that wrote it: the client then shares that proxy's network with everybody else who hides.

Both headers at once are believed only when they lead to the same client. A proxy that maintains one of them passes the other through,
so a caller could choose its address by sending the one that the proxy does not touch; when they differ, the client is the peer.

A unix socket has no peer address. It is trusted only when the policy lists `unix` among the trusted proxies.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import chain
from typing import NamedTuple

from gateway_guard.errors import PolicyError
from gateway_guard.identity.headers import Headers
from gateway_guard.identity.recent import Recent

HOPS = 32
FORWARDED_LIMIT = 4096
UNIX = "unix"
_ENTRY_LIMIT = 64
_REMEMBERED = 16_384
_LIST = b"x-forwarded-for"
NAMES = frozenset((_LIST, b"forwarded"))
_MAPPED = 96
_PAIR = re.compile(rb"""[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^\s",;]*))[ \t]*([;,]|\Z)""", re.DOTALL)
_PORT = re.compile(r":(?:[0-9]{1,5}|_[A-Za-z0-9._-]+)")
_TRAILING_ZEROS = re.compile(r"(?:(?:^|:)0)+\Z")

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


class _Hop(NamedTuple):
    text: str
    trusted: bool


_NOBODY = _Hop("", False)


def parse(text: str) -> Address | None:
    """The address; IPv6 scope dropped, IPv4 in IPv6 (`::ffff:192.0.2.1`) taken as IPv4; None when it is none."""
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def prefix(ip: str) -> str:
    """The network that an address is judged by: /24 in IPv4, /48 in IPv6, canonical; empty when `ip` is not an address.

    /48 because that is the most one site is given (RFC 6177): whoever holds one has 65,536 /64s and 256 /56s to hide in for nothing.
    """
    address = parse(ip)
    if address is None:
        return ""
    number = int(address)
    if isinstance(address, IPv4Address):
        return f"{number >> 24}.{number >> 16 & 255}.{number >> 8 & 255}.0/24"
    groups = f"{number >> 112:x}:{number >> 96 & 0xFFFF:x}:{number >> 80 & 0xFFFF:x}"
    return f"{_TRAILING_ZEROS.sub('', groups)}::/48"


class Addresses:
    """Reads client addresses, believing the declared proxies only."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        declared = list(trusted)
        self._unix = _Hop("", UNIX in declared)
        self._networks = [_network(text) for text in declared if text != UNIX]
        self._hops: Recent[str, _Hop] = Recent(_REMEMBERED)

    def trusts(self, peer: str) -> bool:
        """Is the peer of the connection a declared proxy?"""
        return self._peer(peer).trusted

    def client(self, headers: Headers, peer: str) -> str:
        """The client's address, canonical; empty when it is not known."""
        hop = self._peer(peer)
        if not hop.trusted:
            return hop.text
        sent = [pair for pair in headers if pair[0] in NAMES]
        if not sent:
            return hop.text
        lists = [value for name, value in sent if name == _LIST]
        elements = [value for name, value in sent if name != _LIST]
        if not elements:
            return self._walk(hop, _x_forwarded_for(lists))
        found = self._walk(hop, _forwarded(elements))
        return found if not lists or found == self._walk(hop, _x_forwarded_for(lists)) else hop.text

    def _walk(self, hop: _Hop, entries: Iterable[str]) -> str:
        for entry in entries:
            found = self._hop(entry)
            if found is _NOBODY:
                break
            hop = found
            if not hop.trusted:
                break
        return hop.text

    def _peer(self, peer: str) -> _Hop:
        return self._hop(peer) if peer else self._unix

    def _hop(self, text: str) -> _Hop:
        found = self._hops.get(text)
        if found is None:
            found = self._judge(text)
            if len(text) <= _ENTRY_LIMIT:
                self._hops.put(text, found)
        return found

    def _judge(self, text: str) -> _Hop:
        address = parse(text) if len(text) <= _ENTRY_LIMIT else None
        if address is None:
            return _NOBODY
        return _Hop(str(address), any(address in network for network in self._networks))


def _network(text: str) -> Network:
    try:
        network = ip_network(text.strip())
    except ValueError as error:
        raise PolicyError([f"identity.trusted_proxies: {text!r} is not an address, a network or `{UNIX}` ({error})"]) from None
    if isinstance(network, IPv6Network) and network.prefixlen >= _MAPPED and network.network_address.ipv4_mapped is not None:
        network = IPv4Network((network.network_address.ipv4_mapped, network.prefixlen - _MAPPED))
    if network.prefixlen == 0:
        raise PolicyError([f"identity.trusted_proxies: {text!r} trusts the whole internet: name the proxies' own networks"])
    return network


def _x_forwarded_for(lines: list[bytes]) -> Iterator[str]:
    """The last entries, from right to left."""
    entries = lines[0].rsplit(b",", HOPS) if len(lines) == 1 else b",".join(lines).rsplit(b",", HOPS)
    return map(_bare, entries[: -HOPS - 1 : -1])


def _forwarded(lines: list[bytes]) -> Iterator[str]:
    """`for` of the last elements (RFC 7239), from right to left; an empty text for whatever cannot be read."""
    return chain.from_iterable(reversed(_elements(line)[-HOPS:]) for line in lines[: -HOPS - 1 : -1])


def _elements(line: bytes) -> list[str]:
    """Strict, from the left: a quote that the caller left open swallows what the proxy appends, and then nothing of the line is believed."""
    if len(line) > FORWARDED_LIMIT:
        return [""]
    found: list[str] = []
    here: list[bytes] = []
    at = 0
    while True:
        pair = _PAIR.match(line, at)
        if pair is None:
            return [""]
        name, quoted, plain, end = pair.groups()
        if name.lower() == b"for":
            here.append(plain if quoted is None else quoted.replace(b"\\", b""))
        if end != b";":
            found.append(_bare(here[0]) if len(here) == 1 else "")
            here = []
        if not end:
            return found
        at = pair.end()


def _bare(entry: bytes) -> str:
    """An entry without its port and brackets; empty when it has another form."""
    text = entry.strip(b" \t").decode("latin-1")
    if ":" not in text:
        return text
    if text[0] == "[":
        host, closed, port = text[1:].partition("]")
        return host if closed and ":" in host and (not port or _is_port(port)) else ""
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host if _is_port(f":{port}") else ""
    return text


def _is_port(text: str) -> bool:
    """`:443`, or hidden as RFC 7239 has it, `:_x`."""
    return _PORT.fullmatch(text) is not None
