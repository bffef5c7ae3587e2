"""Which addresses are private: those of this machine and of its networks, in whatever form they are written.

Decides on addresses, and on hosts that are one; what a name leads to is `edges.resolver`'s to find out. Sources: the
registries of special-purpose addresses (RFC 6890), by way of `ipaddress`; RFC 4291 2.5.5, RFC 3056 and RFC 6052 for
addresses that hold another one; inet_aton(3) for the spellings of an IPv4 address.
"""

from __future__ import annotations

import re
import unicodedata
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Final

_NAT64: Final = IPv6Network("64:ff9b::/96")
_DOTS: Final = str.maketrans("\u3002\uff0e\uff61", "...")  # what IDNA takes for a dot, too
_NUMBER: Final = re.compile(r"0x[0-9a-f]*|[0-9]+")


def is_private(address: str) -> bool:
    """Whether an IP address is not one of the public internet: loopback, private, shared, link-local, reserved, none.

    An IPv6 address that stands for an IPv4 one is private where that is.

    Raises:
        ValueError: it is no address.
    """
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        inner = _inside(ip)
        if inner is not None:
            return is_private(str(inner))
        if ip.is_site_local:
            return True
    return not ip.is_global or ip.is_multicast or ip.is_reserved


def literal(host: str) -> str | None:
    """The address that a URL's host is without anybody being asked, as `ipaddress` writes it; None for a name.

    Any form counts that a resolver takes for an address: ``0x7f.1``, ``2130706433``, full-width digits; and
    ``localhost``, which never leads elsewhere (RFC 6761).
    """
    host = unicodedata.normalize("NFKC", host.translate(_DOTS)).lower().strip("[]").removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return "127.0.0.1"
    try:
        return str(ip_address(host.partition("%")[0]))
    except ValueError:
        return _ipv4(host)


def _inside(ip: IPv6Address) -> IPv4Address | None:
    """The IPv4 address that an IPv6 address leads to, by the system, a translator or a tunnel."""
    if ip in _NAT64:
        return IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour


def _ipv4(host: str) -> str | None:
    """An IPv4 address of one to four numbers, the last of which fills what is left; each decimal, octal or hex."""
    parts = host.split(".")
    if len(parts) > 4 or not all(_NUMBER.fullmatch(part) for part in parts):
        return None
    try:
        *leading, last = [_number(part) for part in parts]
    except ValueError:  # an 8 in what begins like an octal number, or very many digits
        return None
    if any(number > 255 for number in leading) or last >= 256 ** (4 - len(leading)):
        return None
    high = sum(number << (24 - 8 * position) for position, number in enumerate(leading))
    return str(IPv4Address(high + last))


def _number(text: str) -> int:
    if text.startswith("0x"):
        return int(text[2:] or "0", 16)
    return int(text, 8 if text.startswith("0") else 10)
