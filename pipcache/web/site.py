"""The resource tree, and the site that serves it.

A request is routed once, by ``rules.routes`` from its target as it came over the wire; Twisted's own splitting of the path
is not used, as it decodes what must be refused. A request that is refused ends its connection.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall
from twisted.internet.protocol import Protocol
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from pipcache.edges.access_log import AccessLog
from pipcache.engine.cache import Cache
from pipcache.engine.interfaces import Clock, Events
from pipcache.rules.errors import BadRequest
from pipcache.rules.routes import Route, RouteKind, parse_target
from pipcache.rules.via import parse_via, trouble
from pipcache.web.channel import Channel
from pipcache.web.hot import HotResponses
from pipcache.web.refusals import NoRoom, Refusal, refusal_of_method
from pipcache.web.resources import Cached, Favicon, Health, Help, Redirect, Refused, Sentence

IDLE_SECONDS = 60.0
HEAD_SECONDS = 30.0
LOOK_SECONDS = 1.0
"""How often all connections are looked at; so much later than its limit says may each come to its end."""


@frozen
class ConnectionLimits:
    """What a client may take of us: how many connect, and for how long one may send no head or take no byte."""

    max_connections: int
    stall_seconds: float
    head_seconds: float = HEAD_SECONDS
    idle_seconds: float = IDLE_SECONDS


class Root(Resource):
    """The root of the tree; counts the requests in progress, which a stop waits for."""

    def __init__(
        self,
        cache: Cache,
        hot: HotResponses,
        clock: Clock,
        events: Events,
        report: Callable[[], dict[str, Any]],
        name: str,
    ) -> None:
        """The tree; ``name`` is what this process is called in Via."""
        super().__init__()
        self._name = name
        self._cache = cache
        self._hot = hot
        self._clock = clock
        self._events = events
        self._fixed: dict[RouteKind, IResource] = {
            RouteKind.HELP: Help(),
            RouteKind.FAVICON: Favicon(),
            RouteKind.HEALTH: Health(report),
            RouteKind.NOT_FOUND: Sentence(404, "There is no such thing in a package index."),
        }
        self._in_progress = 0
        self._idle: list[Deferred[None]] = []

    def getChild(self, path: bytes, request: Request) -> IResource:
        """The resource for a request; every refusal is one too."""
        self._in_progress += 1
        request.notifyFinish().addBoth(self._finished)
        refusal = refusal_of_method(request.method)
        if refusal is not None:
            return Refused(refusal)
        try:
            route = parse_target(request.uri)
        except BadRequest as error:
            return Refused(Refusal(error.status, str(error)))
        via = parse_via(value.decode("latin-1") for value in request.requestHeaders.getRawHeaders(b"via", []))
        loop = trouble(via, self._name)
        return Sentence(508, loop) if loop else self._resource(route, via)

    def when_idle(self) -> Deferred[None]:
        """Fires when no request is in progress."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._tell_if_idle()
        return idle

    def _resource(self, route: Route, via: tuple[str, ...]) -> IResource:
        if route.kind in self._fixed:
            return self._fixed[route.kind]
        if route.location is not None:
            return Redirect(route.location)
        return Cached(route, via, self._cache, self._hot, self._clock, self._events)

    def _finished(self, _: object) -> None:
        self._in_progress -= 1
        self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if self._in_progress == 0:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)


class PipcacheSite(Site):
    """A site without a server-side session, form parsing or tracebacks in its pages; it knows who is connected.

    Args:
        limits: what a client may take; ``limits.max_connections`` may be lowered before the first one comes.
        reactor: tells the time.
        events: is told when there is no room.
    """

    displayTracebacks = False
    noisy = False

    def __init__(self, root: Root, limits: ConnectionLimits, reactor: Any, events: Events) -> None:
        super().__init__(  # type: ignore[no-untyped-call]
            root, timeout=limits.idle_seconds, reactor=reactor, parsePOSTFormSubmission=False
        )
        self.limits = limits
        self.protocol = Channel  # type: ignore[assignment]
        self._reactor = reactor
        self._events = events
        self.access_log: AccessLog | None = None
        self._channels: set[Channel] = set()
        self._empty: list[Deferred[None]] = []
        self._looking: IDelayedCall | None = None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        return len(self._channels)

    def seconds(self) -> float:
        """The time, for the limits of connections."""
        return float(self._reactor.seconds())

    def buildProtocol(self, addr: IAddress | None) -> Protocol:  # type: ignore[override]  # NoRoom speaks no HTTP
        """What talks to a client that has just connected."""
        if len(self._channels) >= self.limits.max_connections:
            self._events.crowded(self.limits.max_connections)
            return NoRoom()
        return cast(Protocol, super().buildProtocol(addr))  # type: ignore[no-untyped-call]

    def close(self) -> Deferred[None]:
        """Close every connection behind the bytes that are still to be sent; fires when all are closed."""
        for channel in tuple(self._channels):
            channel.loseConnection()  # type: ignore[no-untyped-call]
        return self._when_empty()

    def abort(self) -> Deferred[None]:
        """Break every connection, so that nobody takes what was sent for the whole; fires when all are closed."""
        for channel in tuple(self._channels):
            channel.abort()
        return self._when_empty()

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 alone: a body of unknown length must be breakable, which is a matter of connections."""
        return [b"http/1.1"]

    def opened(self, channel: Channel) -> None:
        """A client has connected."""
        self._channels.add(channel)
        if self._looking is None:
            self._looking = self._reactor.callLater(LOOK_SECONDS, self._look)

    def closed(self, channel: Channel) -> None:
        """It is connected no more."""
        self._channels.discard(channel)
        self._tell_if_empty()

    def _look(self) -> None:
        """Look at every connection, as long as there are any."""
        now = self.seconds()
        for channel in tuple(self._channels):
            channel.look(now)
        self._looking = self._reactor.callLater(LOOK_SECONDS, self._look) if self._channels else None

    def _when_empty(self) -> Deferred[None]:
        empty: Deferred[None] = Deferred()
        self._empty.append(empty)
        self._tell_if_empty()
        return empty

    def _tell_if_empty(self) -> None:
        if not self._channels:
            if self._looking is not None and self._looking.active():
                self._looking.cancel()
                self._looking = None
            empty, self._empty = self._empty, []
            for waiter in empty:
                waiter.callback(None)

    def log(self, request: Request) -> None:  # type: ignore[override]
        """A request was answered: told to our own access log, as Twisted's line would carry query strings."""
        if self.access_log is None:
            return
        status = request.responseHeaders.getRawHeaders(b"x-cache-status", [b""])[0]
        self.access_log.note(
            getattr(request.getClientAddress(), "host", "-"),
            request.method.decode("latin-1"),
            request.uri,
            request.clientproto.decode("latin-1"),
            request.code,
            request.sentLength,
            request.requestHeaders.getRawHeaders(b"user-agent", [b""])[0],
            status.decode("latin-1"),
        )
