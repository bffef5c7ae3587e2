"""Which proxy a host is reached through, if any: `HTTP_PROXY`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`.

There is no standard for these variables; this is what curl and Python's own tools agree on, so that one environment
means one thing to pip, to uv and here:

- A name in lower case wins over the same in capitals, also when it is empty, which says "no proxy". `ALL_PROXY` is for
  the schemes that have none of their own.
- `NO_PROXY` is a list, with commas or blanks between. An entry is a domain, which stands for itself and every host under
  it (with or without a leading dot or `*.`); an address; a network such as `10.0.0.0/8`, which only a host written as an
  address can be in; each of the first two may have a port, and then that port alone is meant. `*` is every host.
- Nothing else keeps a host from the proxy: `localhost` goes through it too, unless it is listed.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from attrs import field, frozen

from pipcache.rules.credentials import of_userinfo
from pipcache.rules.errors import ConfigError
from pipcache.rules.kinds import show

_HOST: Final = re.compile(r"[A-Za-z0-9._:%-]+")
_DEFAULT_PORT: Final = 80
_ALLOWED: Final = "http://host:port, with or without user:password@; no other kind of proxy is spoken"


@frozen
class ProxyAddress:
    """Where an HTTP proxy listens, and the value of its Proxy-Authorization field where it wants one."""

    host: str
    port: int
    authorization: str | None = field(default=None, repr=False)

    @classmethod
    def of(cls, url: str, where: str) -> ProxyAddress:
        """The address in a proxy's URL, whose scheme may be missing.

        Args:
            url: as somebody wrote it.
            where: the variable or setting that it comes from, for the error.

        Raises:
            ConfigError: it is none that we can speak to; the operator's fault.
        """
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname or "", _DEFAULT_PORT if parts.port is None else parts.port
        except ValueError:
            host, port = "", 0
        if not port or not _HOST.fullmatch(host) or parts.scheme != "http" or parts.path.strip("/") or parts.fragment:
            raise ConfigError(f"{where}: {show(url)} is not a proxy's address; allowed: {_ALLOWED}")
        userinfo, at, _ = parts.netloc.rpartition("@")
        return cls(host, port, of_userinfo(userinfo) if at else None)


@frozen
class Proxies:
    """The proxy for each scheme, and the hosts that are reached without."""

    http: ProxyAddress | None = None
    https: ProxyAddress | None = None
    exceptions: tuple[str, ...] = ()

    @classmethod
    def always(cls, proxy: ProxyAddress) -> Proxies:
        """One proxy for every host."""
        return cls(proxy, proxy)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Proxies:
        """What the variables say; one that no scheme needs is not looked at.

        Raises:
            ConfigError: a variable holds no address of a proxy; the operator's fault.
        """
        return cls(
            _proxy_for("http", environ),
            _proxy_for("https", environ),
            tuple(re.findall(r"[^,\s]+", (_variable("no_proxy", environ) or ("", ""))[1].lower())),
        )

    def to(self, scheme: str, host: str, port: int) -> ProxyAddress | None:
        """The proxy that this host is reached through, or None: directly."""
        proxy = self.https if scheme == "https" else self.http
        if proxy is None or any(_covers(entry, host.lower().rstrip("."), port) for entry in self.exceptions):
            return None
        return proxy


def _variable(name: str, environ: Mapping[str, str]) -> tuple[str, str] | None:
    """The name as it is set, and the value."""
    return next(((each, environ[each].strip()) for each in (name, name.upper()) if each in environ), None)


def _proxy_for(scheme: str, environ: Mapping[str, str]) -> ProxyAddress | None:
    found = _variable(f"{scheme}_proxy", environ) or _variable("all_proxy", environ)
    if found is None or not found[1]:
        return None
    name, url = found
    return ProxyAddress.of(url, name)


def _covers(entry: str, host: str, port: int) -> bool:
    """Whether an entry of `NO_PROXY` means this host; both in lower case."""
    if entry == "*":
        return True
    name, wanted_port = _split_port(entry)
    if wanted_port is not None and wanted_port != port:
        return False
    address = _address(host)
    if address is not None:
        return address == _address(name) or _is_in(address, name)
    domain = name.removeprefix("*").strip(".")
    return bool(domain) and (host == domain or host.endswith(f".{domain}"))


def _split_port(entry: str) -> tuple[str, int | None]:
    """An entry's host, without brackets, and its port where there is one."""
    match = re.fullmatch(r"\[(.*)\](?::([0-9]+))?|([^:]*):([0-9]+)", entry)
    if match is None:
        return entry, None
    inside, inside_port, name, port = match.groups()
    found = inside_port or port
    return (name if inside is None else inside), int(found) if found else None


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


def _is_in(address: ipaddress.IPv4Address | ipaddress.IPv6Address, network: str) -> bool:
    try:
        return "/" in network and address in ipaddress.ip_network(network, strict=False)
    except ValueError:
        return False
