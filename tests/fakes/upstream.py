"""An upstream that misbehaves on demand, down to the byte.

It speaks HTTP over raw TCP with a parser of its own, because a proper HTTP server cannot be made to lie
about a length, break a chunk or reset a connection in the middle of a body. It runs in the test's reactor, on
a port of 127.0.0.1 that the system chose, and owns no timer. What it answers is in `tests.fakes.replies`.

A connection is a pull producer: the next step of a response is taken only when the bytes of the one before
are with the kernel. So a client that stops reading stops the upstream too, and `bytes_sent` tells the truth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPullProducer
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import CertificateOptions
from zope.interface import implementer

from tests.fakes.replies import Move, Recorded, Reply, Route

__all__ = ["ANYTHING_ELSE", "FakeUpstream", "Recorded", "Reply"]

ANYTHING_ELSE = "*"
"""The path to register what every other path answers; without it: 404."""


class FakeUpstream:
    """A server whose every answer the test decides; `async with FakeUpstream() as it`, or start and stop.

    A path registered without a query answers with any query. Registering a path again replaces its answers.
    With `tls` (the options of a certificate) it speaks https. `host` is where it listens, of 127.0.0.0/8.
    """

    def __init__(self, tls: CertificateOptions | None = None, host: str = "127.0.0.1") -> None:
        self._tls = tls
        self._host = host
        self.requests: list[Recorded] = []
        self.bytes_sent = 0  # of bodies, without the framing of chunks, all connections together
        self.connections_made = 0
        self._routes: dict[str, Route] = {}
        self._connections: set[_Connection] = set()
        self._waiters: list[tuple[Callable[[], bool], Deferred[None]]] = []
        self._listening: Any = None
        self.port = 0  # chosen by the first start, kept from then on

    async def __aenter__(self) -> FakeUpstream:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @property
    def url(self) -> str:
        """Where it listens, without a final slash."""
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    @property
    def open_connections(self) -> int:
        """How many connections are open now."""
        return len(self._connections)

    async def start(self) -> None:
        """Listen, on the same port as before where there was one."""
        factory = Factory.forProtocol(lambda: _Connection(self))
        factory.noisy = False
        if self._tls is None:
            self._listening = reactor.listenTCP(self.port, factory, interface=self._host)
        else:
            self._listening = reactor.listenSSL(self.port, factory, self._tls, interface=self._host)
        self.port = self._listening.getHost().port

    async def stop(self) -> None:
        """Refuse connections from now on and reset the open ones, which are gone when this returns."""
        if self._listening is not None:
            await self._listening.stopListening()
            self._listening = None
        for connection in list(self._connections):
            connection.transport.abortConnection()
        await self.until(lambda: not self._connections)

    async def pause(self) -> None:
        """Go away like a server that crashed: connections are refused, the open ones reset."""
        await self.stop()

    async def resume(self) -> None:
        """Come back on the same port after a pause."""
        await self.start()

    def add(self, path: str, body: bytes = b"", **options: Any) -> None:
        """Answer every request for a path with `Reply(body=body, **options)`."""
        self.add_sequence(path, [Reply(body=body, **options)])

    def add_sequence(self, path: str, replies: Sequence[Reply]) -> None:
        """Answer requests for a path with one reply after the other, and the last one from then on."""
        self._routes[path] = Route(replies)

    def release(self, path: str) -> None:
        """Let every response of a path go on that stalls, now or later."""
        self._routes[path].is_released = True
        self._poke()

    def push(self, path: str, data: bytes) -> None:
        """Add bytes to the body of a reply in pieces; who asks later gets those pushed before as well."""
        self._routes[path].stream += data
        self._poke()

    def finish(self, path: str) -> None:
        """End the body of a reply in pieces."""
        self._routes[path].is_finished = True
        self._poke()

    def count(self, target: str, method: str | None = None) -> int:
        """Count the requests with exactly this target, of all methods where none is named."""
        return sum(each.target == target and method in (None, each.method) for each in self.requests)

    async def wait_for_request(self, target: str, nth: int = 1) -> Recorded:
        """Wait for the n-th request with a target, counted from the start, whether it came already or not."""
        await self.until(lambda: self.count(target) >= nth)
        return [each for each in self.requests if each.target == target][nth - 1]

    def until(self, is_so: Callable[[], bool]) -> Deferred[None]:
        """Wait until a condition on this object holds; it is asked now and after every event here.

        Returns:
            A Deferred of the caller's own, which may be cancelled.
        """
        done: Deferred[None] = Deferred(self._forget)
        self._waiters.append((is_so, done))
        self._changed()
        return done

    def _forget(self, cancelled: Deferred[None]) -> None:
        self._waiters = [each for each in self._waiters if each[1] is not cancelled]

    def _changed(self) -> None:
        """Fire the Deferreds whose conditions hold; called after every event."""
        for is_so, done in list(self._waiters):
            if not done.called and is_so():
                self._forget(done)
                done.callback(None)

    def _poke(self) -> None:
        for connection in list(self._connections):
            connection.poke()

    def _respond(self, request: Recorded) -> Iterator[bytes | Move]:
        """Record a request and find the steps of its response."""
        self.requests.append(request)
        route = Route([Reply(status=404, body=b"no such path\n", content_type="text/plain")])
        for path in (ANYTHING_ELSE, request.target.partition("?")[0], request.target):
            route = self._routes.get(path, route)
        return route.steps(request, self._sent)

    def _sent(self, size: int) -> None:
        self.bytes_sent += size


@implementer(IPullProducer)
class _Connection(Protocol):
    """One connection: parses heads, and sends one response at a time in the order of the requests."""

    def __init__(self, upstream: FakeUpstream) -> None:
        self._upstream = upstream
        self._received = b""
        self._steps: Iterator[bytes | Move] | None = None
        self._is_waiting = False

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)
        self._upstream.connections_made += 1
        self._upstream._connections.add(self)
        self._upstream._changed()

    def connectionLost(self, reason: object = None) -> None:
        self._steps = None
        self._upstream._connections.discard(self)
        self._upstream._changed()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        self._begin_next()

    def _begin_next(self) -> None:
        """Take the next request from what was received, unless a response is under way."""
        if self._steps is not None or b"\r\n\r\n" not in self._received:
            return
        head, _, self._received = self._received.partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _version = first.split(" ")
        headers: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(":")
            headers[name.lower()] = ", ".join(filter(None, [headers.get(name.lower()), value.strip()]))
        self._steps = self._upstream._respond(Recorded(method, target, headers, reactor.seconds()))
        self.transport.registerProducer(self, False)  # which takes the first step
        self._upstream._changed()

    def poke(self) -> None:
        """Look again whether a response that waits may go on."""
        if self._is_waiting:
            self.resumeProducing()

    def resumeProducing(self) -> None:
        """Take the next step; the transport calls this when all bytes before it are with the kernel."""
        if self._steps is None:
            return
        step = next(self._steps, None)
        self._is_waiting = step is Move.WAIT
        if isinstance(step, bytes):
            self.transport.write(step)
        elif step is not Move.WAIT:
            self._end(step)
        self._upstream._changed()

    def _end(self, step: Move | None) -> None:
        """End the response; the connection stays for another where there is no last move."""
        self.transport.unregisterProducer()
        if step is Move.RESET:
            self.transport.abortConnection()
        elif step is Move.CLOSE:
            self.transport.loseConnection()
        else:
            self._steps = None
            self._begin_next()

    def stopProducing(self) -> None:
        """The client is gone; `connectionLost` follows."""
