"""Connections to upstreams: one pool and one limit per origin, whose certificates are believed, which proxy is used.

How one connection is made is in ``endpoints``, what goes over it in ``exchange``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, cast

from attrs import frozen
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IDelayedCall, IStreamClientEndpoint
from twisted.internet.protocol import Factory

from pipcache.edges.certificates import Certificates
from pipcache.edges.connection import Connection
from pipcache.edges.endpoints import PromptEndpoint, TLSEndpoint, TunnelEndpoint
from pipcache.edges.exchange import ClientTimeouts, Exchange
from pipcache.edges.resolver import IsPrivate, PublicEndpoint
from pipcache.edges.targets import Target
from pipcache.rules.errors import UpstreamTimeout, UpstreamUnavailable
from pipcache.rules.proxies import ProxyAddress
from pipcache.rules.sites import Origin, UpstreamSite

IDLE_PER_ORIGIN = 10
OPEN_PER_ORIGIN = 50
IDLE_SECONDS = 90.0
SURPLUS_SECONDS = 2.0
"""Idle connections beyond ``IDLE_PER_ORIGIN`` are kept so long: an installer asks in bursts, the next a moment later."""

ATTEMPT_SECONDS = 0.1
IDLE_ORIGINS = 10
"""With ``IDLE_PER_ORIGIN`` idle connections each: at most 100 idle in all."""


class OriginConnections:
    """What reaches one origin: its idle connections, and the limit of connections open at once.

    ``proxy`` is asked for whole addresses, where it is not None; a tunnel through a proxy is the endpoint's affair.
    """

    def __init__(
        self, clock: Any, timeouts: ClientTimeouts, endpoint: IStreamClientEndpoint, proxy: ProxyAddress | None
    ) -> None:
        self.proxy = proxy
        self.limit = DeferredSemaphore(OPEN_PER_ORIGIN)
        self._clock = clock
        self._timeouts = timeouts
        self._endpoint = endpoint
        self._factory = Factory.forProtocol(lambda: Connection(self._became_idle, self._was_lost))
        self._factory.noisy = False
        self._idle: dict[Connection, float] = {}
        self._timer: IDelayedCall | None = None
        self._is_closed = False

    @property
    def is_unused(self) -> bool:
        """Whether no request is in progress or waiting."""
        return self.limit.tokens == self.limit.limit and not self.limit.waiting

    async def ask(self, request: bytes, *, is_head_request: bool) -> Exchange:
        """Send a request, over an idle connection where there is one; the exchange, once its head is there.

        Upstreams close idle connections whenever they like, perhaps while a request is on its way. So one that is closed
        then, before there was a byte of an answer, is sent again, once, over a new connection.

        Raises:
            UpstreamError: there was no usable answer.
            Exception: there was no connection.
        """
        due = self._clock.seconds() + self._timeouts.silence_seconds
        if self._idle:
            connection, _ = self._idle.popitem()  # the one idle for least, which is least likely to be closed by now
            exchange = Exchange(connection, self._clock, self._timeouts, due, is_head_request=is_head_request)
            connection.send(request, exchange)
            try:
                return await exchange.answered
            except UpstreamTimeout:
                raise
            except UpstreamUnavailable:
                if exchange.has_begun:
                    raise
        connection = cast(Connection, await self._endpoint.connect(self._factory))
        exchange = Exchange(connection, self._clock, self._timeouts, due, is_head_request=is_head_request)
        connection.send(request, exchange)
        return await exchange.answered

    def close(self) -> None:
        """Close what is idle, and keep nothing from now on."""
        self._is_closed = True
        for connection in tuple(self._idle):
            connection.close()
        self._idle.clear()
        self._watch()

    def _became_idle(self, connection: Connection) -> None:
        if self._is_closed:
            connection.close()
            return
        self._idle[connection] = self._clock.seconds()
        if self._timer is None or len(self._idle) == IDLE_PER_ORIGIN + 1:
            self._watch()

    def _was_lost(self, connection: Connection) -> None:
        if self._idle.pop(connection, None) is not None and not self._idle:
            self._watch()

    def _watch(self) -> None:
        """Set the timer to when the connection that is idle for longest has been so for long enough."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._idle:
            due = self._closes_first_at()
            self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._close_idle)

    def _closes_first_at(self) -> float:
        """When the connection that is idle for longest is to be closed."""
        rest = SURPLUS_SECONDS if len(self._idle) > IDLE_PER_ORIGIN else IDLE_SECONDS
        return next(iter(self._idle.values())) + rest

    def _close_idle(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        while self._idle and now >= self._closes_first_at():
            connection = next(iter(self._idle))
            del self._idle[connection]
            connection.close()
        self._watch()


@frozen
class _Way:
    """All that makes one connection unlike another: where to, whom we believe, who we are, through which proxy."""

    origin: Origin
    ca_file: str | None
    client_cert: str | None
    proxy: ProxyAddress | None
    is_public_only: bool


class Connections:
    """All connections to upstreams and file hosts; those of the origins used least recently are given up first."""

    def __init__(
        self,
        reactor: Any,
        timeouts: ClientTimeouts,
        connect_seconds: float,
        certificates: Certificates,
        is_private: IsPrivate,
    ) -> None:
        self._reactor = reactor
        self._timeouts = timeouts
        self._connect_seconds = connect_seconds
        self._certificates = certificates
        self._is_private = is_private
        self._origins: OrderedDict[_Way, OriginConnections] = OrderedDict()
        self._is_closed = False

    def to(self, target: Target, site: UpstreamSite, *, is_public_only: bool = False) -> OriginConnections:
        """The connections to the origin of ``target`` with the certificates and the proxy of ``site``.

        With ``is_public_only`` they lead to public addresses; through a proxy it is the proxy that resolves the name.

        Raises:
            ConfigError: its file of certificates cannot be read.
        """
        origin = target.origin
        client_cert = site.client_cert if origin == site.origin else None  # who we are is nobody else's business
        way = _Way(origin, site.ca_file, client_cert, site.proxy_to(origin), is_public_only)
        found = self._origins.get(way)
        if found is None:
            proxy = way.proxy if origin.scheme == "http" else None
            endpoint = PromptEndpoint(self._endpoint(way, target.host), self._reactor, self._connect_seconds)
            found = self._origins[way] = OriginConnections(self._reactor, self._timeouts, endpoint, proxy)
            if self._is_closed:
                found.close()
        self._origins.move_to_end(way)
        return found

    def release(self, connections: OriginConnections) -> None:
        """A request to this origin is over: its place is free, and its connection may have become idle."""
        connections.limit.release()
        if len(self._origins) > IDLE_ORIGINS:
            self._give_up_surplus()

    def close(self) -> None:
        """Close every idle connection, and those in use when their requests are over."""
        self._is_closed = True
        for connections in self._origins.values():
            connections.close()
        self._origins.clear()

    def _give_up_surplus(self) -> None:
        surplus = len(self._origins) - IDLE_ORIGINS
        for key in [key for key, held in self._origins.items() if held.is_unused][:surplus]:
            self._origins.pop(key).close()

    def _endpoint(self, way: _Way, host: bytes) -> IStreamClientEndpoint:
        """How an origin is reached: directly, or through a proxy, for https by its tunnel; with TLS for https."""
        endpoint: IStreamClientEndpoint
        origin, proxy = way.origin, way.proxy
        if proxy is None:
            endpoint = _host(self._reactor, host, origin.port, self._is_private if way.is_public_only else None)
        else:
            endpoint = _host(self._reactor, proxy.host.encode(), proxy.port)
        if origin.scheme == "http":
            return endpoint
        if proxy is not None:
            authorization = proxy.authorization.encode("ascii") if proxy.authorization else None
            endpoint = TunnelEndpoint(endpoint, host, origin.port, authorization)
        policy = self._certificates.policy(way.ca_file, way.client_cert)
        return TLSEndpoint(policy.creatorForNetloc(host, origin.port), endpoint)


def _host(reactor: Any, host: bytes, port: int, is_refused: IsPrivate | None = None) -> IStreamClientEndpoint:
    """A host by name. Twisted looks whether there is another address only after the delay, a refusal notwithstanding."""
    if is_refused is not None:
        return PublicEndpoint(reactor, host, port, ATTEMPT_SECONDS, is_refused)
    return HostnameEndpoint(reactor, host, port, attemptDelay=ATTEMPT_SECONDS)
