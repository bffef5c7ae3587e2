"""Connections to upstreams: one pool and one limit per origin, TLS, pip's proxy, and content-decoding.

The agents here are what treq talks through. The innermost one decides what encoding is asked for (treq would always add
gzip) and decodes what comes back, noticing an encoded body that ends too early.
"""

from __future__ import annotations

import zlib
from base64 import b64encode
from collections import OrderedDict
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote, urlsplit

from attrs import define, field
from OpenSSL.crypto import Error as OpenSSLError
from twisted.internet.defer import Deferred, DeferredSemaphore
from twisted.internet.endpoints import HostnameEndpoint, wrapClientTLS
from twisted.internet.error import ConnectError, ConnectionDone
from twisted.internet.interfaces import (
    IAddress,
    IProtocol,
    IProtocolFactory,
    IPushProducer,
    IStreamClientEndpoint,
    ITransport,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.internet.ssl import Certificate, trustRootFromCertificates
from twisted.protocols.policies import ProtocolWrapper, WrappingFactory
from twisted.python.components import proxyForInterface
from twisted.python.failure import Failure
from twisted.web.client import URI, Agent, BrowserLikePolicyForHTTPS, HTTPConnectionPool, ProxyAgent
from twisted.web.http_headers import Headers
from twisted.web.iweb import (
    UNKNOWN_LENGTH,
    IAgent,
    IAgentEndpointFactory,
    IBodyProducer,
    IPolicyForHTTPS,
    IResponse,
)
from zope.interface import implementer

from pipcache.rules.errors import ConfigError, MalformedResponse, TruncatedBody, UpstreamTimeout
from pipcache.rules.sites import Origin, UpstreamSite

IDLE_PER_ORIGIN = 10
OPEN_PER_ORIGIN = 50
IDLE_SECONDS = 90.0
IDLE_ORIGINS = 10
"""With ``IDLE_PER_ORIGIN`` idle connections each: at most 100 idle in all."""

_DECODED_CHUNK_BYTES = 1 << 18
_TUNNEL_HEAD_BYTES = 1 << 14


@define
class Losses:
    """Whether a connection is being lost without a farewell at this very moment.

    The end of a body without a length is the end of its connection, and Twisted says of both ends the same. So those
    who are told of a body's end look here.
    """

    is_unclean: bool = False


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
                HostnameEndpoint(self._reactor, proxy.host.encode(), proxy.port),
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
            endpoint = HostnameEndpoint(self._reactor, uri.host, uri.port)
        else:
            hop = HostnameEndpoint(self._reactor, self._proxy.host.encode(), self._proxy.port)
            endpoint = TunnelEndpoint(hop, uri.host, uri.port, self._proxy.authorization)
        if uri.scheme == b"https":
            endpoint = wrapClientTLS(self._policy.creatorForNetloc(uri.host, uri.port), endpoint)
        return PromptEndpoint(endpoint, self._reactor, self._connect_seconds, self._losses)


@implementer(IStreamClientEndpoint)
class PromptEndpoint:
    """An endpoint that gives up in time, name resolution and all attempts included; its connections close at once."""

    def __init__(self, endpoint: IStreamClientEndpoint, clock: Any, seconds: float, losses: Losses) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._seconds = seconds
        self._losses = losses

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; fails with ``UpstreamTimeout`` when it took too long."""
        cast(Any, factory).noisy = False  # a log line for every connection would hide the others
        connecting: Deferred[Any] = self._endpoint.connect(_PromptFactory(factory, self._losses))
        is_late = False

        def give_up() -> None:
            nonlocal is_late
            is_late = True
            connecting.cancel()

        def done(result: Any) -> Any:
            if timer.active():
                timer.cancel()
            if is_late:  # what a cancelled attempt fails with depends on how far it came
                raise UpstreamTimeout(f"no connection in {self._seconds:g} s")
            return result if isinstance(result, Failure) else result.wrappedProtocol

        timer = self._clock.callLater(self._seconds, give_up)
        return connecting.addBoth(done)


class _PromptConnection(ProtocolWrapper):
    """A connection whose close waits for nobody.

    TLS sends its farewell and then waits for the peer's, for ever where the peer hangs; and until then nobody learns that
    the connection is lost. Here the connection below is closed as soon as our own farewell is written.
    """

    def loseConnection(self) -> None:
        """Close, in both directions."""
        super().loseConnection()
        cast(Any, self.transport).stopProducing()  # of TLS, that is the one of the connection below

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Say how, while the protocol inside is told that."""
        losses = cast(_PromptFactory, self.factory).losses
        losses.is_unclean = not reason.check(ConnectionDone)
        try:
            super().connectionLost(reason)
        finally:
            losses.is_unclean = False


class _PromptFactory(WrappingFactory):  # type: ignore[type-arg]  # generic in newer Twisteds only
    protocol = _PromptConnection
    noisy = False

    def __init__(self, factory: IProtocolFactory, losses: Losses) -> None:
        super().__init__(factory)
        self.losses = losses


@implementer(IStreamClientEndpoint)
class TunnelEndpoint:
    """A connection through an HTTP proxy, by CONNECT (RFC 9110, section 9.3.6)."""

    def __init__(self, proxy: IStreamClientEndpoint, host: bytes, port: int, authorization: bytes | None) -> None:
        self._proxy = proxy
        target = b"[%s]:%d" % (host, port) if b":" in host else b"%s:%d" % (host, port)
        self._head = b"CONNECT %s HTTP/1.1\r\nHost: %s\r\n" % (target, target)
        if authorization:
            self._head += b"Proxy-Authorization: %s\r\n" % authorization
        self._head += b"\r\n"

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect to the proxy, ask for the tunnel, then build the factory's protocol in it."""

        def cancelled(_: Deferred[IProtocol]) -> None:
            connecting.cancel()
            if tunnel.transport is not None:
                tunnel.transport.loseConnection()

        ready: Deferred[IProtocol] = Deferred(cancelled)
        tunnel = _Tunnel(factory, self._head, ready)
        connecting: Deferred[IProtocol] = self._proxy.connect(Factory.forProtocol(lambda: tunnel))
        connecting.addErrback(lambda failure: None if ready.called else ready.errback(failure))
        return ready


class _Tunnel(Protocol):
    """Asks for a tunnel; once it stands, is nothing but the pipe to the protocol inside."""

    def __init__(self, factory: IProtocolFactory, head: bytes, ready: Deferred[IProtocol]) -> None:
        self._factory = factory
        self._head = head
        self._ready = ready
        self._received = b""
        self._inner: IProtocol | None = None

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._head)

    def dataReceived(self, data: bytes) -> None:
        if self._inner is not None:
            self._inner.dataReceived(data)
            return
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end and len(self._received) < _TUNNEL_HEAD_BYTES:
            return
        assert self.transport is not None
        status = head.split(b" ", 2)[1:2]
        if not end or not head.startswith(b"HTTP/1.") or not status or status[0][:1] != b"2":
            said = head.partition(b"\r\n")[0][:80].decode("latin-1")
            self._refuse(f"the proxy refused a tunnel: {said!r}")
            return
        address: IAddress = self.transport.getPeer()
        inner = self._factory.buildProtocol(address)
        if inner is None:
            self._refuse("the connection was not wanted any more")
            return
        self._inner = inner
        inner.makeConnection(self.transport)
        if not self._ready.called:
            self._ready.callback(inner)
        if rest:
            inner.dataReceived(rest)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._inner is not None:
            self._inner.connectionLost(reason)
        elif not self._ready.called:
            self._ready.errback(ConnectError(string="the proxy closed the connection"))

    def _refuse(self, why: str) -> None:
        assert self.transport is not None
        if not self._ready.called:
            self._ready.errback(ConnectError(string=why))
        self.transport.loseConnection()


@implementer(IAgent)
class EncodingAgent:
    """Asks for files as they are and for pages in gzip, and hands on bodies decoded.

    The first of a caller's Accept-Encoding values goes up alone: treq adds its own behind it.
    """

    def __init__(self, agent: IAgent, proxy_authorization: bytes | None = None) -> None:
        self._agent = agent
        self._proxy_authorization = proxy_authorization

    def request(
        self,
        method: bytes,
        uri: bytes,
        headers: Headers | None = None,
        bodyProducer: IBodyProducer | None = None,
    ) -> Deferred[IResponse]:
        """Send; the response's body, length and fields are those of the decoded content."""
        headers = headers.copy() if headers else Headers()
        wanted = headers.getRawHeaders(b"accept-encoding", [b"identity"])[0]
        headers.setRawHeaders(b"accept-encoding", [wanted])
        if self._proxy_authorization:
            headers.setRawHeaders(b"proxy-authorization", [self._proxy_authorization])
        return self._agent.request(method, uri, headers, bodyProducer).addCallback(_decoded)


def _decoded(response: IResponse) -> IResponse:
    codings = [
        coding.strip().lower()
        for value in response.headers.getRawHeaders(b"content-encoding", [])
        for coding in value.split(b",")
        if coding.strip().lower() not in (b"", b"identity")
    ]
    response.headers.removeHeader(b"content-encoding")
    if not codings or response.code in (204, 304):
        return response
    response.headers.removeHeader(b"content-length")  # of HEAD; it is that of the encoded body
    return DecodedResponse(response, codings)


class DecodedResponse(proxyForInterface(IResponse)):  # type: ignore[misc]
    """A response whose body is decoded on the way; its length is not known beforehand."""

    def __init__(self, original: IResponse, codings: list[bytes]) -> None:
        super().__init__(original)
        self._codings = codings
        self.length = UNKNOWN_LENGTH

    def deliverBody(self, protocol: IProtocol) -> None:
        """Hand the decoded bytes to ``protocol``; its connection is lost for ``TruncatedBody`` on half a stream."""
        self.original.deliverBody(_Decoder(protocol, self._codings))


@implementer(IPushProducer)
class _Decoder(Protocol):
    """Decodes what upstream's connection brings; is itself the transport of the body's protocol.

    A few encoded bytes may stand for very many. So a pause holds them back encoded, and the end behind them.
    """

    def __init__(self, inner: IProtocol, codings: list[bytes]) -> None:
        self._inner = inner
        self._codings = codings
        self._error: Exception | None = None
        self._held = b""
        self._reason: Failure | None = None
        self._is_paused = False
        self._is_decoding = False
        self._is_over = False
        self._is_started = False
        self._stream = self._new_stream()

    def _new_stream(self) -> Any:
        # 47: gzip or zlib, told apart by the header; a `deflate` without one is not what RFC 9110 names so
        return zlib.decompressobj(47)

    def connectionMade(self) -> None:
        self._inner.makeConnection(cast(ITransport, self))
        if self._codings not in ([b"gzip"], [b"x-gzip"], [b"deflate"]):
            self._fail(MalformedResponse("the body has a content-encoding that was not asked for"))

    def dataReceived(self, data: bytes) -> None:
        if self._error is None:
            self._held += data
            self._go_on()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._reason = reason
        self._go_on()

    def pauseProducing(self) -> None:
        self._is_paused = True
        self._upstream.pauseProducing()

    def resumeProducing(self) -> None:
        self._is_paused = False
        self._go_on()
        if not self._is_paused:
            self._upstream.resumeProducing()

    def stopProducing(self) -> None:
        self.loseConnection()

    def loseConnection(self) -> None:
        self._held = b""
        self._upstream.loseConnection()
        self._go_on()

    @property
    def _upstream(self) -> Any:
        return self.transport

    def _go_on(self) -> None:
        """Hand on what may be handed on; a call from within ``dataReceived`` of the inner protocol changes nothing."""
        if self._is_decoding:
            return
        self._is_decoding = True
        while self._held and not self._is_paused:
            self._decode()
        self._is_decoding = False
        if self._reason is not None and not self._held and not self._is_over:
            self._is_over = True
            if self._error is None and self._is_started and not self._stream.eof:
                self._error = TruncatedBody("the encoded body ended before it was whole")
            self._inner.connectionLost(Failure(self._error) if self._error else self._reason)

    def _decode(self) -> None:
        if self._stream.eof:  # a gzip file may have several members
            self._stream = self._new_stream()
        self._is_started = True
        try:
            decoded = self._stream.decompress(self._held, _DECODED_CHUNK_BYTES)
        except zlib.error:
            self._fail(MalformedResponse("the body is not in the content-encoding that it says"))
            return
        self._held = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
        if decoded:
            self._inner.dataReceived(decoded)

    def _fail(self, error: Exception) -> None:
        self._error = error
        self.loseConnection()


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
