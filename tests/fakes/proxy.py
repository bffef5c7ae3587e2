"""An HTTP proxy that tunnels, refuses, talks nonsense, or goes deaf, as the test says.

It knows CONNECT only. Whatever host a client names, the tunnel leads to that port of 127.0.0.1, so that a test may
use names that nobody resolves. (For plain http a `FakeUpstream` serves as the proxy: it records absolute targets.)
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory, Protocol

from tests.fakes.replies import Recorded


class FakeProxy:
    """A proxy on a port of 127.0.0.1; `async with FakeProxy() as it`.

    Args:
        credentials: `user:password` that a client must send; None asks for none.
        answer: these bytes for every request, instead of a tunnel.
        hangs_up: close behind the answer.
    """

    def __init__(self, credentials: str | None = None, answer: bytes | None = None, hangs_up: bool = False) -> None:
        self.requests: list[Recorded] = []
        self.is_deaf = False
        """Once set, what comes from either side is dropped and no end is passed on: a peer that hangs."""
        self.answer = answer
        self.hangs_up = hangs_up
        self.authorization = None if credentials is None else f"Basic {b64encode(credentials.encode()).decode()}"
        self.port = 0
        self._sides: set[_Side] = set()
        self._waiters: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self._listening: Any = None

    async def __aenter__(self) -> FakeProxy:
        factory = Factory.forProtocol(lambda: _Client(self))
        factory.noisy = False
        self._listening = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.port = self._listening.getHost().port
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._listening.stopListening()
        for side in list(self._sides):
            side.transport.abortConnection()
        await self.until(lambda: not self._sides)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def client_connections(self) -> int:
        """How many connections of clients are open."""
        return sum(isinstance(side, _Client) for side in self._sides)

    def hang_up(self) -> None:
        """Close every tunnel in the middle of whatever was said in it."""
        for side in list(self._sides):
            side.transport.loseConnection()

    def until(self, is_so: Callable[[], bool]) -> Deferred[None]:
        """Wait until a condition on this object holds; it is asked now and after every event here."""
        done: Deferred[None] = Deferred()
        self._waiters.append((is_so, done))
        self.changed()
        return done

    def changed(self) -> None:
        """Fire the Deferreds whose conditions hold, and forget those given up."""
        for waiter in list(self._waiters):
            if waiter[1].called or waiter[0]():
                self._waiters.remove(waiter)
                if not waiter[1].called:
                    waiter[1].callback(None)


class _Side(Protocol):
    """One of the two connections of a tunnel."""

    def __init__(self, proxy: FakeProxy) -> None:
        self._proxy = proxy
        self.other: _Side | None = None

    def connectionMade(self) -> None:
        self._proxy._sides.add(self)
        self._proxy.changed()

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None and not self._proxy.is_deaf:
            self.other.transport.write(data)

    def connectionLost(self, reason: object = None) -> None:
        self._proxy._sides.discard(self)
        if self.other is not None and not self._proxy.is_deaf:
            self.other.transport.loseConnection()
        self._proxy.changed()


class _Client(_Side):
    """A client's connection, until the tunnel stands and after."""

    def __init__(self, proxy: FakeProxy) -> None:
        super().__init__(proxy)
        self._received = b""

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            super().dataReceived(data)
            return
        self._received += data
        head, end, _ = self._received.partition(b"\r\n\r\n")
        if not end:
            return
        self._received = b""
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        self._proxy.requests.append(Recorded(method, target, headers, reactor.seconds()))
        self._answer(int(target.rpartition(":")[2]), headers.get("proxy-authorization"))
        self._proxy.changed()

    def _answer(self, port: int, authorization: str | None) -> None:
        if self._proxy.answer is not None:
            self.transport.write(self._proxy.answer)
            if self._proxy.hangs_up:
                self.transport.loseConnection()
        elif authorization != self._proxy.authorization:
            self.transport.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
        else:
            factory = Factory.forProtocol(lambda: _Side(self._proxy))
            factory.noisy = False
            reached = TCP4ClientEndpoint(reactor, "127.0.0.1", port).connect(factory)
            reached.addCallbacks(self._join, lambda _: self.transport.loseConnection())

    def _join(self, server: _Side) -> None:
        self.other, server.other = server, self
        self.transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
