"""Connections to upstreams: one pool and one limit per origin, whose certificates are believed, which proxy is used.

How one connection is made is in ``endpoints``, what is asked for and decoded over it in ``coding``.
"""

from __future__ import annotations

from base64 import b64encode
from collections import OrderedDict
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from attrs import define, field
from OpenSSL.crypto import Error as OpenSSLError
from twisted.internet.defer import DeferredSemaphore
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, ProxyAgent
from twisted.web.iweb import IAgent, IAgentEndpointFactory, IPolicyForHTTPS
from zope.interface import implementer

from pipcache.edges.coding import EncodingAgent
from pipcache.edges.endpoints import Losses, PromptEndpoint, TunnelEndpoint
from pipcache.rules.errors import ConfigError
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


class Connections:
    """All connections to upstreams and file hosts; those of the origins used least recently are given up first."""

    def __init__(self, reactor: Any, connect_seconds: float) -> None:
        self._reactor = reactor
        self._connect_seconds = connect_seconds
        self._origins: OrderedDict[tuple[Origin, str | None, str | None], OriginConnections] = OrderedDict()
        self._policies: dict[str | None, IPolicyForHTTPS] = {}
        self._is_closed = False

    def to(self, origin: Origin, site: UpstreamSite) -> OriginConnections:
        """The connections to ``origin`` with the certificates and the proxy of ``site``.

        Raises:
            ConfigError: its file of certificates cannot be read.
        """
        key = (origin, site.ca_file, site.proxy)
        found = self._origins.get(key)
        if found is None:
            pool = HTTPConnectionPool(self._reactor)
            pool.maxPersistentPerHost = IDLE_PER_ORIGIN
            pool.cachedConnectionTimeout = IDLE_SECONDS  # type: ignore[assignment]  # Twisted's default is whole
            losses = Losses()
            found = self._origins[key] = OriginConnections(self._agent(origin, site, pool, losses), pool, losses)
        self._origins.move_to_end(key)
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

    def _agent(self, origin: Origin, site: UpstreamSite, pool: HTTPConnectionPool, losses: Losses) -> IAgent:
        if site.proxy is not None and origin.scheme == "http":
            proxy = _ProxyAddress(site.proxy)
            endpoint = PromptEndpoint(
                _host(self._reactor, proxy.host.encode(), proxy.port),
                self._reactor,
                self._connect_seconds,
                losses,
            )
            return EncodingAgent(ProxyAgent(endpoint, self._reactor, pool), proxy.authorization)
        policy = self._policy(site.ca_file)
        factory = EndpointFactory(self._reactor, policy, self._connect_seconds, site.proxy, losses)
        return EncodingAgent(Agent.usingEndpointFactory(self._reactor, factory, pool))

    def _policy(self, ca_file: str | None) -> IPolicyForHTTPS:
        if ca_file not in self._policies:
            self._policies[ca_file] = (
                BrowserLikePolicyForHTTPS(trustRootFromCertificates(_read_certificates(ca_file)))
                if ca_file
                else BrowserLikePolicyForHTTPS()
            )
        return self._policies[ca_file]


@implementer(IAgentEndpointFactory)
class EndpointFactory:
    """How a host is reached: directly, or through a proxy's tunnel; with TLS for https."""

    def __init__(
        self, reactor: Any, policy: IPolicyForHTTPS, connect_seconds: float, proxy: str | None, losses: Losses
    ) -> None:
        self._reactor = reactor
        self._policy = policy
        self._connect_seconds = connect_seconds
        self._proxy = _ProxyAddress(proxy) if proxy else None
        self._losses = losses

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        """The endpoint for one address; connecting is given up after ``connect_seconds``."""
        endpoint: IStreamClientEndpoint
        if self._proxy is None:
            endpoint = _host(self._reactor, uri.host, uri.port)
        else:
            hop = _host(self._reactor, self._proxy.host.encode(), self._proxy.port)
            endpoint = TunnelEndpoint(hop, uri.host, uri.port, self._proxy.authorization)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), endpoint)
        return PromptEndpoint(endpoint, self._reactor, self._connect_seconds, self._losses)


def _host(reactor: Any, host: bytes, port: int) -> HostnameEndpoint:
    """A host by name. Twisted looks whether there is another address only after the delay, a refusal notwithstanding."""
    return HostnameEndpoint(reactor, host, port, attemptDelay=ATTEMPT_SECONDS)


class _ProxyAddress:
    """A proxy's URL, taken apart.

    Raises:
        ConfigError: it is none that we can speak to.
    """

    def __init__(self, url: str) -> None:
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            self.port = parts.port or 80
        except ValueError:
            parts = urlsplit("")
        if parts.scheme != "http" or not parts.hostname:
            raise ConfigError("the proxy of pip's configuration is not an http:// address; no other kind is spoken")
        self.host = parts.hostname
        self.authorization: bytes | None = None
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self.authorization = b"Basic " + b64encode(pair.encode())


def _read_certificates(path: str) -> list[Certificate]:
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"the certificates in {path} cannot be read: {error.strerror}") from error
    end = b"-----END CERTIFICATE-----"
    begin = b"-----BEGIN CERTIFICATE-----"
    blocks = [begin + block.split(begin, 1)[1] + end for block in text.split(end) if begin in block]
    if not blocks:
        raise ConfigError(f"there are no certificates in {path}; a file in PEM form is wanted")
    try:
        return [Certificate.loadPEM(block) for block in blocks]
    except OpenSSLError as error:
        raise ConfigError(f"there is something in {path} that is no certificate") from error
