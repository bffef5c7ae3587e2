"""Where an upstream's things lie: its index, and the root under which its other paths are.

Pages lie under ``index_url``. Everything else (``/packages/...``, ``/pypi/...``) lies under ``root``; an index whose
URL does not end in ``/simple/`` has no root and is asked for nothing but its pages and what they link to.
"""

from __future__ import annotations

from functools import cached_property
from typing import Protocol
from urllib.parse import SplitResult, urlsplit, urlunsplit

from attrs import field, frozen

from pipcache.rules.credentials import of_userinfo
from pipcache.rules.errors import UpstreamError
from pipcache.rules.fields import Fields
from pipcache.rules.proxies import Proxies, ProxyAddress

PIPS_PROXY = "the proxy of pip's configuration"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NO_PROXIES = Proxies()


@frozen
class Origin:
    """Scheme, host and port of a URL (RFC 6454); what credentials, limits and loops are counted by."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of an absolute http or https URL.

        Raises:
            ValueError: the URL has another scheme, no host, or a port that is none.
        """
        parts = urlsplit(url)
        if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
            raise ValueError("not an absolute http or https URL")
        return cls(parts.scheme, parts.hostname, parts.port or _DEFAULT_PORTS[parts.scheme])


@frozen
class UpstreamSite:
    """One configured upstream: where its things lie, how it is reached, and who we are there.

    ``index_url`` ends in a slash, ``root`` does not. No URL carries credentials: ``authorization`` is the value of the
    field that its own origin gets, and nobody else. ``ca_file`` names the certificates to believe instead of the
    system's, here and at the hosts that it links to; ``client_cert`` the certificate and key that its own origin is
    shown. Pages are taken from trusted upstreams only. ``redirect_hosts`` are further places that it may send us to,
    ``host`` or ``host:port`` in lower case.
    """

    name: str
    index_url: str
    root: str | None
    authorization: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    client_cert: str | None = None
    proxies: Proxies = _NO_PROXIES
    is_trusted: bool = True
    redirect_hosts: tuple[str, ...] = ()

    @classmethod
    def from_root(cls, name: str, url: str, path_prefix: str = "") -> UpstreamSite:
        """An upstream whose index is at ``url`` + ``path_prefix`` + ``/simple/``."""
        clean, userinfo = without_userinfo(url)
        root = clean.rstrip("/") + path_prefix.rstrip("/")
        return cls(name, f"{root}/simple/", root, _authorization(userinfo))

    @classmethod
    def from_index(
        cls, name: str, index_url: str, ca_file: str | None = None, proxy: str | None = None
    ) -> UpstreamSite:
        """An upstream whose pages lie under ``index_url``, wherever that is, with what pip is set up with.

        Raises:
            ConfigError: ``proxy`` is no address of a proxy.
        """
        clean, userinfo = without_userinfo(index_url)
        clean = clean.rstrip("/")
        root = clean.removesuffix("/simple") if urlsplit(clean).path.endswith("/simple") else None
        proxies = Proxies.always(ProxyAddress.of(proxy, PIPS_PROXY)) if proxy else _NO_PROXIES
        return cls(name, clean + "/", root, _authorization(userinfo), ca_file, proxies=proxies)

    @cached_property
    def origin(self) -> Origin:
        """The origin that its index is on."""
        return Origin.of(self.index_url)

    @cached_property
    def _start(self) -> str:
        """What the URLs of its index begin with, up to the path."""
        parts = urlsplit(self.index_url)
        return f"{parts.scheme}://{parts.netloc}/"

    def page_url(self, path: str) -> str:
        """The address of ``/simple/`` or ``/simple/<project>/``, given as our own canonical path."""
        return self.index_url + path.removeprefix("/simple/")

    def url(self, path: str, query: str | None = None) -> str | None:
        """The address of any other path of ours at this upstream, or None where it has no such place."""
        if self.root is None:
            return None
        return self.root + path + (f"?{query}" if query else "")

    def proxy_to(self, origin: Origin) -> ProxyAddress | None:
        """The proxy through which this upstream's things on ``origin`` are fetched; None: directly."""
        return self.proxies.to(origin.scheme, origin.host, origin.port)

    def lists(self, origin: Origin) -> bool:
        """Whether ``origin`` is among the places that it may send us to; a host alone is its scheme's own port."""
        host = f"[{origin.host}]" if ":" in origin.host else origin.host
        is_default = origin.port == _DEFAULT_PORTS[origin.scheme]
        return f"{host}:{origin.port}" in self.redirect_hosts or (is_default and host in self.redirect_hosts)

    def has(self, url: str) -> bool:
        """Whether ``url`` is on this upstream's host and port."""
        if url.startswith(self._start):
            return True
        try:
            return Origin.of(url) == self.origin
        except ValueError:
            return False


def without_secrets(url: str) -> str:
    """The URL without user, password, query and fragment: what may be stored, logged and shown."""
    parts = urlsplit(without_userinfo(url)[0])
    return urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))


def without_userinfo(url: str) -> tuple[str, str | None]:
    """The URL without user and password, and these as they were written, or None."""
    parts: SplitResult = urlsplit(url)
    userinfo, at, host = parts.netloc.rpartition("@")
    return (urlunsplit(parts._replace(netloc=host)), userinfo) if at else (url, None)


def _authorization(userinfo: str | None) -> str | None:
    return None if userinfo is None else of_userinfo(userinfo)


@frozen
class UpstreamRequest:
    """One request to be sent upstream.

    ``site`` is the upstream whose certificates, proxy and credentials apply; the URL may lie on another host, to which
    its credentials do not go. ``for_page`` asks for a project page: content-encoding allowed, redirects only to
    configured upstreams and the site's ``redirect_hosts``. ``byte_range`` is the value of a Range field, ``if_range`` an
    ETag that it depends on. ``validators`` are the fields of a conditional request, ``accept`` is the Accept field.
    ``via`` are the hops that the client's request came through, see ``rules.via``.
    """

    url: str
    site: UpstreamSite
    method: str = "GET"
    for_page: bool = False
    byte_range: str | None = None
    if_range: str | None = None
    via: tuple[str, ...] = ()
    validators: Fields = ()
    accept: str = "*/*"


class BodyReceiver(Protocol):
    """Where a body goes. Exactly one of ``ended`` and ``failed`` is called, last."""

    def received(self, data: bytes) -> None:
        """The next bytes, decoded; never empty."""

    def ended(self, length_was_known: bool) -> None:
        """The body is as long as upstream said, or upstream closed without having said a length."""

    def failed(self, error: UpstreamError) -> None:
        """No more bytes will come, and these are not all."""
