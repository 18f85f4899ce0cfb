"""The client's address: only what declared proxies have appended is believed."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway_guard.errors import PolicyError
from gateway_guard.identity.address import FORWARDED_LIMIT, HOPS, Addresses, prefix

PROXIES = ["10.0.0.0/8", "2001:db8:ffff::/48", "192.0.2.7"]
PEER = "10.0.0.1"
ADDRESSES = Addresses(PROXIES)


def client(peer: str = PEER, **sent: str | list[str]) -> str:
    headers = [(b"host", b"api.example.com")]
    for name, values in sent.items():
        headers += [(name.replace("_", "-").encode(), value.encode("latin-1")) for value in ([values] if isinstance(values, str) else values)]
    return ADDRESSES.client(headers, peer)


@pytest.mark.parametrize(
    ("peer", "sent", "expected"),
    [
        ("203.0.113.5", "198.51.100.1", "203.0.113.5"),  # an undeclared peer speaks for itself only
        ("203.0.113.5", "10.0.0.2", "203.0.113.5"),
        (PEER, "198.51.100.1", "198.51.100.1"),
        (PEER, "6.6.6.6, 198.51.100.1", "198.51.100.1"),  # the left part is the client's own writing
        (PEER, "6.6.6.6, 198.51.100.1, 10.9.9.9", "198.51.100.1"),
        (PEER, "10.6.6.6, 198.51.100.1, 10.9.9.9", "198.51.100.1"),  # a forged inner proxy
        (PEER, ["6.6.6.6", "198.51.100.1"], "198.51.100.1"),  # two lines are one list
        (PEER, ["198.51.100.1, 10.2.2.2", "10.3.3.3"], "198.51.100.1"),
        (PEER, "10.1.1.1, 10.2.2.2", "10.1.1.1"),  # a client inside
        (PEER, " 198.51.100.1\t", "198.51.100.1"),
        (PEER, "198.51.100.1:4711", "198.51.100.1"),
        (PEER, "2001:DB8::1", "2001:db8::1"),
        (PEER, "[2001:db8::1]", "2001:db8::1"),
        (PEER, "[2001:db8::1]:443", "2001:db8::1"),
        (PEER, "::ffff:198.51.100.1", "198.51.100.1"),
        (PEER, "fe80::1%eth0", "fe80::1"),
        (PEER, "198.51.100.1, ::ffff:10.1.1.1", "198.51.100.1"),
        (PEER, "198.51.100.1, 2001:db8:ffff::9", "198.51.100.1"),
        ("::ffff:10.0.0.1", "198.51.100.1", "198.51.100.1"),
        ("2001:db8:ffff::1", "198.51.100.1", "198.51.100.1"),
        ("192.0.2.7", "198.51.100.1", "198.51.100.1"),
        ("192.0.2.8", "198.51.100.1", "192.0.2.8"),
        # What cannot be read ends the walk at the proxy that wrote it.
        (PEER, "", PEER),
        (PEER, "unknown", PEER),
        (PEER, "198.51.100.1,", PEER),
        (PEER, "198.51.100.1, unknown, 10.9.9.9", "10.9.9.9"),
        (PEER, "198.51.100.1:x", PEER),
        (PEER, "198.51.100.1:1234567", PEER),
        (PEER, "198.51.100.01", PEER),
        (PEER, "[2001:db8::1", PEER),
        (PEER, "[2001:db8::1]x", PEER),
        (PEER, "[198.51.100.1]:80", PEER),
        (PEER, "198.51.100.1" + " " * 80 + "x", PEER),
        (PEER, "1" * 5000, PEER),
        (PEER, "198.51.100.1, " + "10.1.1.1, " * (HOPS - 1) + "10.1.1.2", "10.1.1.1"),  # the walk is bounded
        # The peer itself.
        ("testclient", "198.51.100.1", ""),
        ("", "198.51.100.1", ""),  # a unix socket that was not declared
        ("FE80::1%eth0", "198.51.100.1", "fe80::1"),
    ],
)
def test_x_forwarded_for_is_walked_from_the_right(peer: str, sent: str | list[str], expected: str) -> None:
    assert client(peer, x_forwarded_for=sent) == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("for=198.51.100.1", "198.51.100.1"),
        ("For=198.51.100.1;proto=https;by=10.0.0.1", "198.51.100.1"),
        ("proto=https;for=198.51.100.1:4711", "198.51.100.1"),
        ('for="198.51.100.1:4711"', "198.51.100.1"),
        ('for="[2001:db8:cafe::17]:4711"', "2001:db8:cafe::17"),
        ('for="[2001:db8:cafe::17]:_obf"', "2001:db8:cafe::17"),
        ('for="[2001:db8:cafe::17]"', "2001:db8:cafe::17"),
        ('for="\\1\\98.51.100.1"', "198.51.100.1"),
        ("for=6.6.6.6, for=198.51.100.1, for=10.1.1.1", "198.51.100.1"),
        ("for=6.6.6.6,for=198.51.100.1", "198.51.100.1"),
        (["for=6.6.6.6", "for=198.51.100.1"], "198.51.100.1"),
        ('for=6.6.6.6;host="a,b;for=1.1.1.1", for=198.51.100.1', "198.51.100.1"),
        # Hidden or unreadable.
        ("for=_hidden", PEER),
        ("for=unknown", PEER),
        ("for=198.51.100.1, for=_SEVKISEK, for=10.1.1.1", "10.1.1.1"),
        ("proto=https", PEER),
        ("for=1.1.1.1;for=198.51.100.1", PEER),
        ("", PEER),
        ("for", PEER),
        ("198.51.100.1", PEER),
        ("for = 198.51.100.1", PEER),
        ("for=198.51.100.1;" + "a=b;" * (FORWARDED_LIMIT // 4), PEER),
        # A quote left open by the caller swallows what the proxy appends.
        ('for="6.6.6.6, for=198.51.100.1', PEER),
        ('for=6.6.6.6, for=", for=198.51.100.1', PEER),
        ('for="6.6.6.6, for="[2001:db8::1]"', PEER),
        ('for="\\", for="[2001:db8::1]:443"', PEER),
        ('for=6.6.6.6;x="\\, for=198.51.100.1', PEER),
        (['for="6.6.6.6', "for=198.51.100.1"], "198.51.100.1"),  # the proxy's own line is whole
    ],
)
def test_forwarded_is_read_strictly(sent: str | list[str], expected: str) -> None:
    assert client(forwarded=sent) == expected


@pytest.mark.parametrize(
    ("listed", "forwarded", "expected"),
    [
        ("198.51.100.1", "for=198.51.100.1", "198.51.100.1"),
        ("6.6.6.6, 198.51.100.1", 'for="198.51.100.1:99"', "198.51.100.1"),
        # The proxy writes one of them, the caller the other: neither is believed.
        ("6.6.6.6", "for=198.51.100.1", PEER),
        ("198.51.100.1", "for=6.6.6.6", PEER),
        ("198.51.100.1", 'for="', PEER),
        ("unknown", "for=198.51.100.1", PEER),
    ],
)
def test_both_headers_must_agree(listed: str, forwarded: str, expected: str) -> None:
    assert client(x_forwarded_for=listed, forwarded=forwarded) == expected


def test_a_unix_socket_is_trusted_only_when_declared() -> None:
    headers = [(b"x-forwarded-for", b"6.6.6.6, 198.51.100.1")]
    assert not Addresses(["127.0.0.0/8"]).trusts("")
    declared = Addresses(["unix", "10.0.0.0/8"])
    assert declared.trusts("")
    assert declared.client(headers, "") == "198.51.100.1"
    assert declared.client([], "") == ""
    assert declared.client([(b"x-forwarded-for", b"unknown")], "") == ""
    assert not declared.trusts("testclient")


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("0.0.0.0/0", "trusts the whole internet"),
        ("::/0", "trusts the whole internet"),
        ("::ffff:0:0/96", "trusts the whole internet"),
        ("10.0.0.1/8", "has host bits set"),
        ("proxy.internal", "is not an address, a network or `unix`"),
        ("", "is not an address"),
        ("UNIX", "is not an address"),
    ],
)
def test_a_proxy_that_cannot_be_meant_is_refused(proxy: str, message: str) -> None:
    with pytest.raises(PolicyError) as caught:
        Addresses([proxy])
    assert "identity.trusted_proxies" in str(caught.value)
    assert message in str(caught.value)


def test_a_mapped_network_covers_plain_peers() -> None:
    assert Addresses(["::ffff:10.0.0.0/104"]).trusts("10.1.2.3")
    assert not Addresses(["::ffff:10.0.0.0/104"]).trusts("11.1.2.3")


@pytest.mark.parametrize(
    ("ip", "network"),
    [
        ("198.51.100.77", "198.51.100.0/24"),
        ("::ffff:198.51.100.77", "198.51.100.0/24"),
        ("2001:db8:1:2::3", "2001:db8:1::/48"),
        ("2001:DB8:0:2::3", "2001:db8::/48"),
        ("2001:0:0:2::3", "2001::/48"),
        ("2001:0:5:2::3", "2001:0:5::/48"),
        ("::1", "::/48"),
        ("fe80::1%eth0", "fe80::/48"),
        ("", ""),
        ("nonsense", ""),
        ("198.51.100", ""),
    ],
)
def test_prefixes(ip: str, network: str) -> None:
    assert prefix(ip) == network


@given(st.ip_addresses())
def test_a_prefix_is_canonical_and_holds_its_address(address: object) -> None:
    network = prefix(str(address))
    assert str(ip_network(network)) == network
    inside = ip_address(str(address))
    assert inside in ip_network(network) or getattr(inside, "ipv4_mapped", None) in ip_network(network)


@given(st.lists(st.tuples(st.sampled_from([b"x-forwarded-for", b"forwarded"]), st.binary(max_size=300)), max_size=6), st.text(max_size=60))
def test_whatever_is_sent_gives_an_address_or_nothing(headers: list[tuple[bytes, bytes]], peer: str) -> None:
    found = Addresses([*PROXIES, "unix"]).client(headers, peer)
    assert found == "" or str(ip_address(found)) == found


@given(st.text(alphabet='for=;,"\\ 198.2_[]:x', max_size=80), st.sampled_from(["for=198.51.100.1", 'for="[2001:db8::1]:443"', 'for="[2001:db8::1]";by="_p"']))
def test_no_prelude_makes_the_caller_anybody_but_himself_or_the_proxy(prelude: str, appended: str) -> None:
    assert client(forwarded=f"{prelude}, {appended}") in {"198.51.100.1", "2001:db8::1", PEER}


def test_what_is_remembered_is_bounded() -> None:
    addresses = Addresses(PROXIES)
    for number in range(70_000):
        addresses.trusts(f"198.51.{number >> 8 & 255}.{number & 255}-{number >> 16}")
    assert len(addresses._hops) <= 2 * 16_384
