"""Which addresses are private, and which hosts are addresses."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.addresses import is_private, literal

PRIVATE = {
    "loopback": ["127.0.0.1", "127.255.255.254", "::1"],
    "private": ["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "fc00::1", "fd12:3456::1"],
    "link-local": ["169.254.169.254", "fe80::1", "fe80::1%eth0", "fec0::1"],
    "shared by a carrier's customers": ["100.64.0.1", "100.127.255.255"],
    "unspecified": ["0.0.0.0", "0.1.2.3", "::"],
    "multicast": ["224.0.0.1", "239.255.255.250", "ff02::1", "ff0e::1"],
    "reserved": ["240.0.0.1", "255.255.255.255", "198.18.0.1", "192.0.2.1", "2001:db8::1", "100::1"],
    "mapped": ["::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe"],
    "compatible": ["::127.0.0.1", "::10.0.0.1"],
    "6to4": ["2002:7f00:1::", "2002:a00:1::1", "2002:a9fe:a9fe::"],
    "Teredo": ["2001:0:7f00:1::1"],
    "NAT64": ["64:ff9b::7f00:1", "64:ff9b::10.0.0.1", "64:ff9b:1::1"],
}
PUBLIC = ["1.1.1.1", "172.32.0.1", "100.128.0.1", "11.0.0.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]


@pytest.mark.parametrize("address", [each for kind in PRIVATE.values() for each in kind])
def test_an_address_of_a_private_kind_is_private(address: str) -> None:
    """This machine, its networks, and what belongs to nobody; in IPv6 clothes too."""
    assert is_private(address)


@pytest.mark.parametrize("address", [*PUBLIC, "2002:101:101::1"])
def test_an_address_of_the_internet_is_not(address: str) -> None:
    """Neighbours of the private ranges, and IPv6 addresses that stand for public ones."""
    assert not is_private(address)


@given(st.integers(0, 2**32 - 1))
def test_in_ipv6_an_address_stays_what_it_is(number: int) -> None:
    """Mapped, or behind NAT64, an IPv4 address is private exactly where it is by itself."""
    plain = is_private(str(IPv4Address(number)))
    assert is_private(str(IPv6Address((0xFFFF << 32) + number))) is plain
    assert is_private(str(IPv6Address((0x64FF9B << 96) + number))) is plain


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0X7F.0.0.1", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f000001", "127.0.0.1"),
        ("017700000001", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("127.1", "127.0.0.1"),
        ("127.0.257", "127.0.1.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("\uff11\uff12\uff17.0.0.1", "127.0.0.1"),
        ("127\u30020\u30020\u30021", "127.0.0.1"),
        ("10.0x10.1", "10.16.0.1"),
        ("0", "0.0.0.0"),
        ("::1", "::1"),
        ("[::FFFF:127.0.0.1]", "::ffff:127.0.0.1"),
        ("fe80::1%1", "fe80::1"),
        ("localhost", "127.0.0.1"),
        ("LOCALHOST.", "127.0.0.1"),
        ("a.b.localhost", "127.0.0.1"),
    ],
)
def test_an_address_in_any_spelling_is_one(host: str, address: str) -> None:
    """What a resolver takes for an address is one, however it is written."""
    found = literal(host)
    assert found is not None
    assert ip_address(found) == ip_address(address)


@pytest.mark.parametrize(
    "host",
    [
        "mirror.example",
        "localhost.example",
        "0x7g.1",
        "1.2.3.4.5",
        "256.1",
        "1.2.3.256",
        "08.1",
        "4294967296",
        "9" * 6000,
        "1..2",
        "-1",
        "a",
        "",
    ],
)
def test_a_name_is_none(host: str) -> None:
    """What has to be resolved says nothing by itself; nor does a number too large for an address."""
    assert literal(host) is None


@given(st.text(max_size=30))
def test_whatever_a_host_is_it_is_an_address_or_not(host: str) -> None:
    """No text is too odd, and what is an address can be judged."""
    address = literal(host)
    assert address is None or is_private(address) in (True, False)
