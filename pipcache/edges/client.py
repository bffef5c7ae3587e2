"""Requests to upstreams, over treq: redirects, timeouts, credentials, and bodies as plain calls.

What Twisted says about a body's end becomes one of our errors here, so the engine needs to know nothing of it. A timeout
means silence: while connecting, before the first byte, or between two reads (time that we paused upstream ourselves does
not count). The total time of a body has a limit of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urljoin

from attrs import define, evolve
from treq.client import HTTPClient
from twisted.internet.defer import CancelledError
from twisted.internet.error import ConnectError, ConnectingCancelledError, ConnectionClosed, DNSLookupError
from twisted.internet.interfaces import IDelayedCall, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed, ResponseNeverReceived
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse

from pipcache import __version__
from pipcache.edges.agent import Connections
from pipcache.edges.certificates import Certificates
from pipcache.edges.endpoints import Losses
from pipcache.edges.resolver import IsPrivate, Neighbours, leads_inside
from pipcache.rules.addresses import is_private as is_private_address
from pipcache.rules.addresses import literal
from pipcache.rules.errors import (
    MalformedResponse,
    PipcacheError,
    TruncatedBody,
    UpstreamError,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from pipcache.rules.fields import Fields
from pipcache.rules.sites import (
    BodyReceiver,
    Origin,
    UpstreamRequest,
    UpstreamSite,
    without_secrets,
    without_userinfo,
)
from pipcache.rules.via import format_via

USER_AGENT = f"pipcache/{__version__}"
MAX_REDIRECTS = 5
CONNECT_SECONDS = 5.0
"""The longest that connecting takes, whatever ``upstream.timeout`` says."""

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DISCARD_BYTES = 1 << 16
_SAID_CHARACTERS = 200


@define
class ClientTimeouts:
    """Seconds; ``silence`` without a byte, ``body`` for a whole body."""

    silence_seconds: float
    body_seconds: float


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
        self._reactor = reactor
        self._timeouts = timeouts
        self._name = name
        self._is_private = is_private
        connect_seconds = min(timeouts.silence_seconds, CONNECT_SECONDS)
        self._connections = Connections(reactor, connect_seconds, certificates or Certificates(), is_private)
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
        await self._connections.close()

    async def _send_once(self, request: UpstreamRequest) -> ReceivedResponse:
        try:
            url, _ = without_userinfo(request.url)  # whoever wrote the link does not choose whom we are
            origin = Origin.of(url)
        except ValueError as error:
            raise MalformedResponse("an address that is none") from error
        is_public_only = not await self._may_be_private(origin, request.site)
        address = literal(origin.host)
        if is_public_only and address is not None and self._is_private(address):
            # what a name leads to is seen when it is connected to; through a proxy only the proxy sees that
            raise leads_inside(origin.host)
        connections = self._connections.to(origin, request.site, is_public_only=is_public_only)
        await connections.limit.acquire()
        try:
            response = cast(
                IResponse,
                await HTTPClient(connections.agent).request(
                    request.method,
                    url,
                    headers=_headers(request, origin, self._name),
                    allow_redirects=False,
                    unbuffered=True,
                    reactor=self._reactor,
                    timeout=self._timeouts.silence_seconds,
                ),
            )
        except BaseException as error:
            self._connections.release(connections)
            if isinstance(error, Exception):
                raise _as_ours(error) from error
            raise
        body = _Body(self._timeouts, self._reactor, connections.losses, lambda: self._connections.release(connections))
        return ReceivedResponse(response, url, body, connections.losses.options)

    async def _may_be_private(self, origin: Origin, site: UpstreamSite) -> bool:
        """Whether a request may go to this origin wherever that is: the operator named it, or is its neighbour's guest."""
        if origin == site.origin or origin in self._page_origins or site.lists(origin):
            return True
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

    def __init__(self, response: IResponse, url: str, body: _Body, options: frozenset[str]) -> None:
        self.status: int = response.code
        self.url = without_secrets(url)
        lines = ((name.decode("latin-1").lower(), values) for name, values in response.headers.getAllRawHeaders())
        self.fields: Fields = tuple(
            (name, value.decode("latin-1"))
            for name, values in lines
            for value in values
            # what Connection names is about that alone; and a body is decoded, Twisted leaves an empty field behind
            if name not in options and name != "content-encoding"
        )
        self.length: int | None = None if response.length is UNKNOWN_LENGTH else int(response.length)
        self._response = response
        self._body = body

    @property
    def location(self) -> str | None:
        """Where a redirect leads, as it was written."""
        return next((value for name, value in self.fields if name == "location"), None)

    def deliver(self, receiver: BodyReceiver) -> None:
        """Hand the body over as it comes."""
        self._body.receiver = receiver
        self._response.deliverBody(self._body)
        self._body.delivered()

    def pause(self) -> None:
        """Let no more bytes come for now; the timeouts stand still."""
        self._body.pause()

    def resume(self) -> None:
        """Let bytes come again."""
        self._body.resume()

    def abandon(self) -> None:
        """Take no more of it: a short rest is read, so the connection can be used again; else it is closed."""
        self._body.abandon()
        if self._body.transport is None:
            self._response.deliverBody(self._body)


class _Body(TwistedProtocol):
    """Turns Twisted's calls into those of a ``BodyReceiver`` and keeps the time."""

    def __init__(self, timeouts: ClientTimeouts, clock: Any, losses: Losses, on_end: Callable[[], None]) -> None:
        self.receiver: BodyReceiver | None = None
        self._timeouts = timeouts
        self._clock = clock
        self._losses = losses
        self._on_end = on_end
        self._left_seconds = timeouts.body_seconds
        self._resumed_at = 0.0
        self._timer: IDelayedCall | None = None
        self._last_at = 0.0
        self._error: UpstreamError | None = None
        self._discarded_bytes = 0
        self._is_paused = False
        self._is_over = False

    def connectionMade(self) -> None:
        if self._is_paused:
            self._producer.pauseProducing()
        else:
            self._start_clock()

    def delivered(self) -> None:
        """Twisted lets bytes come when it has delivered those that came with the head, whatever was said meanwhile."""
        if self._is_paused:
            self._producer.pauseProducing()

    def dataReceived(self, data: bytes) -> None:
        self._last_at = self._clock.seconds()
        if self.receiver is not None:
            if self._error is None:
                self.receiver.received(data)
            return
        self._discarded_bytes += len(data)
        if self._discarded_bytes > _DISCARD_BYTES:
            self._close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._is_over = True
        self._stop_clock()
        self._on_end()
        receiver, self.receiver = self.receiver, None
        if receiver is None:
            return
        if self._error is not None:
            receiver.failed(self._error)
        elif reason.check(ResponseDone):
            receiver.ended(length_was_known=True)
        elif reason.check(PotentialDataLoss) and not self._losses.is_unclean:
            receiver.ended(length_was_known=False)
        elif isinstance(reason.value, UpstreamError):
            receiver.failed(reason.value)
        else:
            receiver.failed(TruncatedBody("the connection broke before the body was whole"))

    def pause(self) -> None:
        if self._is_paused or self._is_over:
            return
        self._is_paused = True
        if self.transport is not None:
            self._stop_clock()
            self._producer.pauseProducing()

    def resume(self) -> None:
        if not self._is_paused or self._is_over:
            return
        self._is_paused = False
        if self.transport is not None:
            self._start_clock()
            self._producer.resumeProducing()

    def abandon(self) -> None:
        self.receiver = None
        self._left_seconds = min(self._left_seconds, self._timeouts.silence_seconds)
        self.resume()
        if self.transport is not None:
            self._close()

    @property
    def _producer(self) -> IPushProducer:
        return cast(IPushProducer, self.transport)

    def _start_clock(self) -> None:
        self._resumed_at = self._last_at = self._clock.seconds()
        self._arm()

    def _arm(self) -> None:
        now = self._clock.seconds()
        due = min(self._last_at + self._timeouts.silence_seconds, self._resumed_at + self._left_seconds)
        self._timer = self._clock.callLater(max(0.0, due - now), self._look)

    def _look(self) -> None:
        """One timer for both limits, moved on when bytes have come since: no timer is touched for each chunk."""
        self._timer = None
        now = self._clock.seconds()
        if now >= self._resumed_at + self._left_seconds:
            self._error = UpstreamTimeout(f"the body took longer than {self._timeouts.body_seconds:g} s")
        elif now >= self._last_at + self._timeouts.silence_seconds:
            self._error = UpstreamTimeout(f"no byte for {self._timeouts.silence_seconds:g} s in mid-body")
        else:
            self._arm()
            return
        self._close()

    def _stop_clock(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left_seconds -= self._clock.seconds() - self._resumed_at

    def _close(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _headers(request: UpstreamRequest, origin: Origin, name: str) -> Headers:
    headers = Headers(
        {
            "User-Agent": [USER_AGENT],
            "Accept": [request.accept],
            "Accept-Encoding": ["gzip" if request.for_page else "identity"],
            "Via": [format_via(request.via, name)],
        }
    )
    if request.byte_range:
        headers.setRawHeaders("Range", [request.byte_range])
    if request.if_range:
        headers.setRawHeaders("If-Range", [request.if_range])
    for name, value in request.validators:
        headers.setRawHeaders(name, [value])
    if request.site.authorization is not None and origin == request.site.origin:
        headers.setRawHeaders("Authorization", [request.site.authorization])
    return headers


def _as_ours(error: Exception) -> PipcacheError:
    """What went wrong before a response began, in our words."""
    if isinstance(error, PipcacheError):
        return error
    reasons = (
        [reason.value for reason in error.reasons] if isinstance(error, (ResponseNeverReceived, ResponseFailed)) else []
    )
    for cause in reasons:
        if isinstance(cause, PipcacheError):
            return cause
    for cause in [error, *reasons]:
        if isinstance(cause, (CancelledError, ConnectingCancelledError, TimeoutError)):
            return UpstreamTimeout("no answer in time")
    for cause in [error, *reasons]:
        if isinstance(cause, DNSLookupError):
            return UpstreamUnavailable("its host name cannot be resolved")
        if isinstance(cause, (ConnectError, OSError)):
            return UpstreamUnavailable(f"no connection: {cause}")
        if isinstance(cause, ConnectionClosed):
            return UpstreamUnavailable("the connection was closed before an answer")
    if not reasons:
        return MalformedResponse(f"no usable answer: {type(error).__name__}: {error}")
    said = "; ".join(str(reason) or type(reason).__name__ for reason in reasons)[:_SAID_CHARACTERS]
    if isinstance(error, ResponseNeverReceived):  # not a byte of one: TLS, mostly
        return UpstreamUnavailable(f"no answer: {said}")
    return MalformedResponse(f"no usable answer: {said}")
