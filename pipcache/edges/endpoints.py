"""How one connection to an upstream is made: in time, with TLS, through a proxy's tunnel.

Knows neither HTTP's requests nor pools; Twisted's own endpoints do the connecting.
"""

from __future__ import annotations

from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from pipcache.edges.connection import READ_BYTES, Connection
from pipcache.edges.records import read_on
from pipcache.rules.errors import UpstreamTimeout

_TUNNEL_HEAD_BYTES = 1 << 14


@implementer(IStreamClientEndpoint)
class PromptEndpoint:
    """An endpoint that gives up in time, name resolution and all attempts included."""

    def __init__(self, endpoint: IStreamClientEndpoint, clock: Any, seconds: float) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._seconds = seconds

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; fails with ``UpstreamTimeout`` when it took too long."""
        connecting: Deferred[IProtocol] = self._endpoint.connect(factory)
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
            return result

        timer = self._clock.callLater(self._seconds, give_up)
        return connecting.addBoth(done)


class _GatheringTLS(TLSMemoryBIOProtocol):
    """TLS that hands on what came in one read in one piece: its records are of 16 KiB, and each would be a chunk."""

    def makeConnection(self, transport: Any) -> None:
        """There is a connection to encrypt."""
        transport.bufferSize = READ_BYTES
        super().makeConnection(transport)  # type: ignore[no-untyped-call]

    def dataReceived(self, data: bytes) -> None:
        """Decrypt what came, and hand it on."""
        inner = cast(Connection, self.wrappedProtocol)
        inner.gather()
        super().dataReceived(data)  # type: ignore[no-untyped-call]
        inner.hand_on()


class _TLSFactory(TLSMemoryBIOFactory):
    protocol = _GatheringTLS
    noisy = False


@implementer(IOpenSSLClientConnectionCreator)
class _ReadingCreator:
    """Makes what another makes, and lets it bring all records of a read at once."""

    def __init__(self, creator: IOpenSSLClientConnectionCreator) -> None:
        self._creator = creator

    def clientConnectionForTLS(self, tlsProtocol: Any) -> Any:
        connection = self._creator.clientConnectionForTLS(tlsProtocol)
        read_on(connection)
        return connection


@implementer(IStreamClientEndpoint)
class TLSEndpoint:
    """TLS over what another endpoint connects to; for a ``PromptEndpoint`` around it."""

    def __init__(self, creator: IOpenSSLClientConnectionCreator, endpoint: IStreamClientEndpoint) -> None:
        self._creator = _ReadingCreator(creator)
        self._endpoint = endpoint

    def connect(self, factory: IProtocolFactory) -> Deferred[IProtocol]:
        """Connect; the handshake goes on behind."""
        wrapped = _TLSFactory(self._creator, True, factory)  # type: ignore[arg-type]
        connecting: Deferred[Any] = self._endpoint.connect(wrapped)  # type: ignore[arg-type]
        return connecting.addCallback(lambda tls: tls.wrappedProtocol)


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
        outer = Factory.forProtocol(lambda: tunnel)
        outer.noisy = False
        connecting: Deferred[IProtocol] = self._proxy.connect(outer)
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
