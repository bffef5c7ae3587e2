"""Where an upstream's things lie: its index, and the root under which its other paths are.

Pages lie under ``index_url``. Everything else (``/packages/...``, ``/pypi/...``) lies under ``root``; an index whose
URL does not end in ``/simple/`` has no root and is asked for nothing but its pages and what they link to.
"""

from __future__ import annotations

from typing import Protocol
from urllib.parse import SplitResult, urlsplit, urlunsplit

from attrs import frozen

from pipcache.rules.errors import UpstreamError

_DEFAULT_PORTS = {"http": 80, "https": 443}


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
    """One configured upstream, as its addresses say. URLs carry no credentials; those are in ``userinfo``.

    ``index_url`` ends in a slash, ``root`` does not. ``ca_file`` and ``proxy`` are what pip is set up with, for the
    upstream that is pip's own index, and None for the others. Pages are taken from trusted upstreams only.
    """

    name: str
    index_url: str
    root: str | None
    userinfo: str | None = None
    ca_file: str | None = None
    proxy: str | None = None
    is_trusted: bool = True

    @classmethod
    def from_root(cls, name: str, url: str, path_prefix: str = "") -> UpstreamSite:
        """An upstream whose index is at ``url`` + ``path_prefix`` + ``/simple/``."""
        clean, userinfo = without_userinfo(url)
        root = clean.rstrip("/") + path_prefix.rstrip("/")
        return cls(name, f"{root}/simple/", root, userinfo)

    @classmethod
    def from_index(
        cls, name: str, index_url: str, ca_file: str | None = None, proxy: str | None = None
    ) -> UpstreamSite:
        """An upstream whose pages lie under ``index_url``, wherever that is."""
        clean, userinfo = without_userinfo(index_url)
        clean = clean.rstrip("/")
        root = clean.removesuffix("/simple") if urlsplit(clean).path.endswith("/simple") else None
        return cls(name, clean + "/", root, userinfo, ca_file, proxy)

    @property
    def origin(self) -> Origin:
        """The origin that its index is on."""
        return Origin.of(self.index_url)

    def page_url(self, path: str) -> str:
        """The address of ``/simple/`` or ``/simple/<project>/``, given as our own canonical path."""
        return self.index_url + path.removeprefix("/simple/")

    def url(self, path: str, query: str | None = None) -> str | None:
        """The address of any other path of ours at this upstream, or None where it has no such place."""
        if self.root is None:
            return None
        return self.root + path + (f"?{query}" if query else "")

    def has(self, url: str) -> bool:
        """Whether ``url`` is on this upstream's host and port."""
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


@frozen
class UpstreamRequest:
    """One request to be sent upstream.

    ``site`` is the upstream whose certificates, proxy and credentials apply; the URL may lie on another host, to which
    its credentials do not go. ``for_page`` asks for a project page: content-encoding allowed, redirects only to
    configured upstreams. ``byte_range`` is the value of a Range field, ``if_range`` an ETag that it depends on.
    """

    url: str
    site: UpstreamSite
    method: str = "GET"
    for_page: bool = False
    byte_range: str | None = None
    if_range: str | None = None


class BodyReceiver(Protocol):
    """Where a body goes. Exactly one of ``ended`` and ``failed`` is called, last."""

    def received(self, data: bytes) -> None:
        """The next bytes, decoded; never empty."""

    def ended(self, length_was_known: bool) -> None:
        """The body is as long as upstream said, or upstream closed without having said a length."""

    def failed(self, error: UpstreamError) -> None:
        """No more bytes will come, and these are not all."""
