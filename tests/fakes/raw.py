"""A client of the fake upstream that keeps every byte, for the tests of what was sent."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

from tests.fakes.upstream import FakeUpstream

BODY = bytes(range(256)) * 1000


class Raw(Protocol):
    """A client that keeps every byte it gets, and the reason why there were no more."""

    def __init__(self) -> None:
        self.received = bytearray()
        self.reason: Failure | None = None
        self._waiters: list[tuple[Callable[[Raw], bool], Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        """Keep it."""
        self.received += data
        self._changed()

    def connectionLost(self, reason: Failure) -> None:
        """Keep why."""
        self.reason = reason
        self._changed()

    def _changed(self) -> None:
        for waiter in list(self._waiters):
            if waiter[0](self):
                self._waiters.remove(waiter)
                waiter[1].callback(None)

    def until(self, is_so: Callable[[Raw], bool]) -> Deferred[None]:
        """Wait until a condition on what was received holds."""
        done: Deferred[None] = Deferred()
        self._waiters.append((is_so, done))
        self._changed()
        return done

    async def until_received(self, end: bytes) -> None:
        """Wait until the received bytes end so."""
        await self.until(lambda self: self.received.endswith(end))

    async def until_closed(self) -> tuple[bytes, bytes]:
        """Wait for the end of the connection; returns the head and what followed it."""
        await self.until(lambda self: self.reason is not None)
        head, _, body = self.received.partition(b"\r\n\r\n")
        return head, body

    def ask(self, path: str, *fields: str, method: str = "GET") -> None:
        """Send a request."""
        lines = [f"{method} {path} HTTP/1.1", "Host: upstream", *fields, "\r\n"]
        self.transport.write("\r\n".join(lines).encode())


async def connect(upstream: FakeUpstream) -> Raw:
    """Open a raw connection."""
    return await connectProtocol(TCP4ClientEndpoint(reactor, "127.0.0.1", upstream.port), Raw())


async def fetch(upstream: FakeUpstream, path: str, *fields: str, method: str = "GET") -> tuple[bytes, bytes, Raw]:
    """Ask once, on a connection that is to close behind the answer; returns head, body and the connection."""
    client = await connect(upstream)
    client.ask(path, "Connection: close", *fields, method=method)
    return *await client.until_closed(), client
