"""Requests to upstreams: whom they go to, redirects, credentials, and bodies as plain calls.

What Twisted says of a failure becomes one of our errors here, so the engine needs to know nothing of it.
"""

from __future__ import annotations

from functools import partial
from typing import Any
from urllib.parse import urljoin

from attrs import evolve
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectingCancelledError, DNSLookupError

from pipcache import __version__
from pipcache.edges.agent import Connections
from pipcache.edges.certificates import Certificates
from pipcache.edges.coding import Decoder
from pipcache.edges.exchange import ClientTimeouts, Exchange
from pipcache.edges.resolver import IsPrivate, Neighbours, leads_inside
from pipcache.edges.targets import Target
from pipcache.rules.addresses import is_private as is_private_address
from pipcache.rules.addresses import literal
from pipcache.rules.errors import MalformedResponse, PipcacheError, UpstreamTimeout, UpstreamUnavailable
from pipcache.rules.proxies import ProxyAddress
from pipcache.rules.sites import BodyReceiver, Origin, UpstreamRequest, UpstreamSite
from pipcache.rules.via import format_via

USER_AGENT = f"pipcache/{__version__}"
MAX_REDIRECTS = 5
CONNECT_SECONDS = 5.0
"""The longest that connecting takes, whatever ``upstream.timeout`` says."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})


class UpstreamClient:
    """Sends requests to upstreams and the file hosts that they link to."""

    def __init__(
        self,
        reactor: Any,
        timeouts: ClientTimeouts,
        name: str,
        certificates: Certificates | None = None,
        is_private: IsPrivate = is_private_address,
    ) -> None:
        """A client; ``name`` is what this process is called in Via."""
        self._name = name
        self._is_private = is_private
        connect_seconds = min(timeouts.silence_seconds, CONNECT_SECONDS)
        self._connections = Connections(reactor, timeouts, connect_seconds, certificates or Certificates(), is_private)
        self._neighbours = Neighbours(reactor, is_private, connect_seconds)
        self._page_origins: set[Origin] = set()

    def allow_pages_from(self, sites: tuple[UpstreamSite, ...]) -> None:
        """Say whose pages are taken: a page's redirect may lead to these hosts, and to what a site lists."""
        self._page_origins = {site.origin for site in sites}

    async def send(self, request: UpstreamRequest) -> ReceivedResponse:
        """The response, once its head is there, redirects followed.

        The caller delivers or abandons it. Waiting for a free connection is not limited and nobody's failure.

        Raises:
            UpstreamError: there was no usable answer.
        """
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._send_once(request)
            if response.status not in _REDIRECTS or response.location is None:
                return response
            response.abandon()
            request = evolve(request, url=self._redirected(request, response.location))
        raise MalformedResponse(f"more than {MAX_REDIRECTS} redirects")

    async def close(self) -> None:
        """Close what is idle."""
        self._connections.close()

    async def _send_once(self, request: UpstreamRequest) -> ReceivedResponse:
        try:
            target = Target.of(request.url)
        except ValueError as error:
            raise MalformedResponse("an address that is none") from error
        origin = target.origin
        is_public_only = not (self._is_named(origin, request.site) or await self._is_neighbour(request.site))
        if is_public_only:
            # what a name leads to is seen when it is connected to; through a proxy only the proxy sees that
            address = literal(origin.host)
            if address is not None and self._is_private(address):
                raise leads_inside(origin.host)
        connections = self._connections.to(target, request.site, is_public_only=is_public_only)
        head = _head(request, target, self._name, connections.proxy)
        await connections.limit.acquire()
        try:
            exchange = await connections.ask(head, is_head_request=request.method == "HEAD")
        except BaseException as error:
            self._connections.release(connections)
            if isinstance(error, Exception):
                raise _as_ours(error) from error
            raise
        exchange.on_over = partial(self._connections.release, connections)
        return ReceivedResponse(exchange, target.shown)

    def _is_named(self, origin: Origin, site: UpstreamSite) -> bool:
        """Whether the operator named this origin: a request may go there wherever that is."""
        return origin == site.origin or origin in self._page_origins or site.lists(origin)

    async def _is_neighbour(self, site: UpstreamSite) -> bool:
        """Whether an upstream is at a private address itself, so that what it leads to may be there too."""
        return await self._neighbours.has(site.origin.host, is_resolved=site.proxy_to(site.origin) is None)

    def _redirected(self, request: UpstreamRequest, location: str) -> str:
        """Where a redirect leads.

        Raises:
            MalformedResponse: where this request may not go.
        """
        try:
            url = urljoin(request.url, location)
            before, after = Origin.of(request.url), Origin.of(url)
        except ValueError as error:
            raise MalformedResponse("a redirect to what is no http address") from error
        if before.scheme == "https" and after.scheme == "http":
            raise MalformedResponse("a redirect from https to http")
        upgraded = before.host == after.host and after.scheme == "https"
        may_go = after == before or after in self._page_origins or upgraded or request.site.lists(after)
        if request.for_page and not may_go:
            raise MalformedResponse(
                f"a page redirected to {after.host}, which is no configured upstream; if it may be asked, list it in"
                " this upstream's redirect_hosts"
            )
        return url


class ReceivedResponse:
    """An upstream's response whose body has yet to be taken: ``deliver`` or ``abandon``, once."""

    def __init__(self, exchange: Exchange, url: str) -> None:
        head = exchange.head
        self.status = head.status
        self.url = url
        self.fields = head.fields
        self._codings = head.codings if head.status not in (204, 304) else ()
        self.length = None if self._codings else head.length
        self._exchange = exchange
        self._flow: Exchange | Decoder = exchange

    @property
    def location(self) -> str | None:
        """Where a redirect leads, as it was written."""
        return next((value for name, value in self.fields if name == "location"), None)

    def deliver(self, receiver: BodyReceiver) -> None:
        """Hand the body over as it comes, decoded."""
        if self._codings:
            self._flow = decoder = Decoder(self._exchange, receiver, self._codings)
            decoder.begin()
        else:
            self._exchange.deliver(receiver)

    def pause(self) -> None:
        """Let no more bytes come for now; the timeouts stand still."""
        self._flow.pause()

    def resume(self) -> None:
        """Let bytes come again."""
        self._flow.resume()

    def abandon(self) -> None:
        """Take no more of it: a short rest is read, so the connection can be used again; else it is closed."""
        self._flow.abandon()


def _head(request: UpstreamRequest, target: Target, name: str, proxy: ProxyAddress | None) -> bytes:
    """The bytes of a request; ours have no bodies."""
    fields = [
        ("Host", target.authority),
        ("User-Agent", USER_AGENT),
        ("Accept", request.accept),
        ("Accept-Encoding", "gzip" if request.for_page else "identity"),
        ("Via", format_via(request.via, name)),
    ]
    if request.byte_range:
        fields.append(("Range", request.byte_range))
    if request.if_range:
        fields.append(("If-Range", request.if_range))
    fields += request.validators
    site = request.site
    if site.authorization is not None and target.origin == site.origin:
        fields.append(("Authorization", site.authorization))
    if proxy is not None and proxy.authorization:
        fields.append(("Proxy-Authorization", proxy.authorization))
    path = target.path if proxy is None else target.absolute
    lines = "\n".join([f"{name}: {value}" for name, value in fields])
    if "\r" in lines or lines.count("\n") >= len(fields):
        raise MalformedResponse("a field of the request to it would break the request apart")
    lines = lines.replace("\n", "\r\n")
    return f"{request.method} {path} HTTP/1.1\r\n{lines}\r\n\r\n".encode("latin-1", "replace")


def _as_ours(error: Exception) -> PipcacheError:
    """What went wrong before there was a response, in our words."""
    if isinstance(error, PipcacheError):
        return error
    if isinstance(error, (CancelledError, ConnectingCancelledError, TimeoutError)):
        return UpstreamTimeout("no answer in time")
    if isinstance(error, DNSLookupError):
        return UpstreamUnavailable("its host name cannot be resolved")
    if isinstance(error, (ConnectError, OSError)):
        return UpstreamUnavailable(f"no connection: {error}")
    return MalformedResponse(f"no usable answer: {type(error).__name__}: {error}")
