"""Connections to upstreams: one pool and one limit per origin, whose certificates are believed, which proxy is used.

How one connection is made is in ``endpoints``, what is asked for and decoded over it in ``coding``.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import URI, Agent, HTTPConnectionPool, ProxyAgent
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from pipcache.edges.certificates import Certificates
from pipcache.edges.coding import EncodingAgent
from pipcache.edges.endpoints import Losses, PromptEndpoint, TLSEndpoint, TunnelEndpoint
from pipcache.edges.resolver import IsPrivate, PublicEndpoint
from pipcache.rules.proxies import ProxyAddress
from pipcache.rules.sites import Origin, UpstreamSite

IDLE_PER_ORIGIN = 10
OPEN_PER_ORIGIN = 50
IDLE_SECONDS = 90.0
ATTEMPT_SECONDS = 0.1
IDLE_ORIGINS = 10
"""With ``IDLE_PER_ORIGIN`` idle connections each: at most 100 idle in all."""


@define
class OriginConnections:
    """What reaches one origin: its agent, its pool, and the limit of connections open at once."""

    agent: IAgent
    pool: HTTPConnectionPool
    losses: Losses
    limit: DeferredSemaphore = field(factory=lambda: DeferredSemaphore(OPEN_PER_ORIGIN))

    @property
    def is_unused(self) -> bool:
        """Whether no request is in progress or waiting."""
        return self.limit.tokens == self.limit.limit and not self.limit.waiting


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

    def __init__(self, reactor: Any, connect_seconds: float, certificates: Certificates, is_private: IsPrivate) -> None:
        self._reactor = reactor
        self._connect_seconds = connect_seconds
        self._certificates = certificates
        self._is_private = is_private
        self._origins: OrderedDict[_Way, OriginConnections] = OrderedDict()
        self._is_closed = False

    def to(self, origin: Origin, site: UpstreamSite, *, is_public_only: bool = False) -> OriginConnections:
        """The connections to ``origin`` with the certificates and the proxy of ``site``.

        With ``is_public_only`` they lead to public addresses; through a proxy it is the proxy that resolves the name.

        Raises:
            ConfigError: its file of certificates cannot be read.
        """
        client_cert = site.client_cert if origin == site.origin else None  # who we are is nobody else's business
        way = _Way(origin, site.ca_file, client_cert, site.proxy_to(origin), is_public_only)
        found = self._origins.get(way)
        if found is None:
            pool = HTTPConnectionPool(self._reactor)
            pool.maxPersistentPerHost = IDLE_PER_ORIGIN
            pool.cachedConnectionTimeout = IDLE_SECONDS  # type: ignore[assignment]  # Twisted's default is whole
            losses = Losses()
            found = self._origins[way] = OriginConnections(self._agent(way, pool, losses), pool, losses)
        self._origins.move_to_end(way)
        return found

    def release(self, connections: OriginConnections) -> None:
        """A request to this origin is over: its place is free, and its connection may have become idle."""
        connections.limit.release()
        if self._is_closed:
            connections.pool.closeCachedConnections()
        self._give_up_surplus()

    async def close(self) -> None:
        """Close every idle connection, and those in use when their requests are over."""
        self._is_closed = True
        for connections in self._origins.values():
            await connections.pool.closeCachedConnections()
        self._origins.clear()

    def _give_up_surplus(self) -> None:
        surplus = len(self._origins) - IDLE_ORIGINS
        for key in [key for key, held in self._origins.items() if held.is_unused][: max(0, surplus)]:
            self._origins.pop(key).pool.closeCachedConnections()

    def _agent(self, way: _Way, pool: HTTPConnectionPool, losses: Losses) -> IAgent:
        if way.proxy is not None and way.origin.scheme == "http":
            hop = _host(self._reactor, way.proxy.host.encode(), way.proxy.port)
            endpoint = PromptEndpoint(hop, self._reactor, self._connect_seconds, losses)
            return EncodingAgent(ProxyAgent(endpoint, self._reactor, pool), _encoded(way.proxy.authorization))
        policy = self._certificates.policy(way.ca_file, way.client_cert)
        is_refused = self._is_private if way.is_public_only else None
        factory = EndpointFactory(self._reactor, policy, self._connect_seconds, way.proxy, losses, is_refused)
        return EncodingAgent(Agent.usingEndpointFactory(self._reactor, factory, pool))


@implementer(IAgentEndpointFactory)
class EndpointFactory:
    """How a host is reached: directly, or through a proxy's tunnel; with TLS for https."""

    def __init__(
        self,
        reactor: Any,
        policy: IPolicyForHTTPS,
        connect_seconds: float,
        proxy: ProxyAddress | None,
        losses: Losses,
        is_refused: IsPrivate | None,
    ) -> None:
        self._reactor = reactor
        self._policy = policy
        self._connect_seconds = connect_seconds
        self._proxy = proxy
        self._losses = losses
        self._is_refused = is_refused

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """The endpoint for one address; connecting is given up after ``connect_seconds``."""
        endpoint: IStreamClientEndpoint
        if self._proxy is None:
            endpoint = _host(self._reactor, uri.host, uri.port, self._is_refused)
        else:
            hop = _host(self._reactor, self._proxy.host.encode(), self._proxy.port)
            endpoint = TunnelEndpoint(hop, uri.host, uri.port, _encoded(self._proxy.authorization))
        if uri.scheme == b"https":
            endpoint = TLSEndpoint(self._policy.creatorForNetloc(uri.host, uri.port), endpoint)
        return PromptEndpoint(endpoint, self._reactor, self._connect_seconds, self._losses)


def _host(reactor: Any, host: bytes, port: int, is_refused: IsPrivate | None = None) -> IStreamClientEndpoint:
    """A host by name. Twisted looks whether there is another address only after the delay, a refusal notwithstanding."""
    if is_refused is not None:
        return PublicEndpoint(reactor, host, port, ATTEMPT_SECONDS, is_refused)
    return HostnameEndpoint(reactor, host, port, attemptDelay=ATTEMPT_SECONDS)


def _encoded(authorization: str | None) -> bytes | None:
    return authorization.encode("ascii") if authorization else None
