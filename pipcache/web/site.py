"""The resource tree, and the site that serves it.

A request is routed once, by ``rules.routes`` from its target as it came over the wire; Twisted's own splitting of the path
is not used, as it decodes what must be refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web.http import HTTPChannel
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from pipcache.engine.cache import Cache
from pipcache.engine.interfaces import Clock, Events
from pipcache.rules.errors import BadRequest
from pipcache.rules.routes import Route, RouteKind, parse_target
from pipcache.rules.via import parse_via, trouble
from pipcache.web.resources import Cached, Favicon, Health, Help, Redirect, Sentence

IDLE_SECONDS = 60.0

_READS = (b"GET", b"HEAD")
_KNOWN_METHODS = frozenset({b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT"})
_READ_ONLY = "This index is read-only; it answers GET and HEAD. To publish a package, upload it to the index itself."


class Root(Resource):
    """The root of the tree; counts the requests in progress, which a stop waits for."""

    def __init__(
        self, cache: Cache, clock: Clock, events: Events, report: Callable[[], dict[str, Any]], name: str
    ) -> None:
        """The tree; ``name`` is what this process is called in Via."""
        super().__init__()
        self._name = name
        self._cache = cache
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
        if request.method not in _READS:
            return _refusal(request.method)
        try:
            route = parse_target(request.uri)
        except BadRequest as error:
            return Sentence(error.status, str(error))
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
        return Cached(route, via, self._cache, self._clock, self._events)

    def _finished(self, _: object) -> None:
        self._in_progress -= 1
        self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if self._in_progress == 0:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)


class PipcacheSite(Site):
    """A site without a server-side session, form parsing or tracebacks in its pages; it knows who is connected."""

    displayTracebacks = False
    noisy = False

    def __init__(self, root: Root) -> None:
        super().__init__(root, timeout=IDLE_SECONDS, parsePOSTFormSubmission=False)  # type: ignore[arg-type]
        self.protocol = _Channel  # type: ignore[assignment]
        self._channels: set[_Channel] = set()
        self._empty: list[Deferred[None]] = []

    def close(self) -> Deferred[None]:
        """Close every connection behind the bytes that are still to be sent; fires when all are closed."""
        for channel in tuple(self._channels):
            channel.loseConnection()
        return self._when_empty()

    def abort(self) -> Deferred[None]:
        """Break every connection, so that nobody takes what was sent for the whole; fires when all are closed."""
        for channel in tuple(self._channels):
            cast(Any, channel.transport).abortConnection()
        return self._when_empty()

    def acceptableProtocols(self) -> list[bytes]:
        """HTTP/1.1 alone: a body of unknown length must be breakable, which is a matter of connections."""
        return [b"http/1.1"]

    def opened(self, channel: _Channel) -> None:
        """A client has connected."""
        self._channels.add(channel)

    def closed(self, channel: _Channel) -> None:
        """It is connected no more."""
        self._channels.discard(channel)
        self._tell_if_empty()

    def _when_empty(self) -> Deferred[None]:
        empty: Deferred[None] = Deferred()
        self._empty.append(empty)
        self._tell_if_empty()
        return empty

    def _tell_if_empty(self) -> None:
        if not self._channels:
            empty, self._empty = self._empty, []
            for waiter in empty:
                waiter.callback(None)

    def log(self, request: Request) -> None:  # type: ignore[override]
        """Nothing: Twisted's line would carry query strings. What was fetched is told by ``Events``."""


class _Channel(HTTPChannel):
    """One client's connection, which the site is told of."""

    site: PipcacheSite

    def connectionMade(self) -> None:
        """A client is there."""
        super().connectionMade()  # type: ignore[no-untyped-call]
        self.site.opened(self)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """It has left, or was sent away."""
        super().connectionLost(reason)  # type: ignore[no-untyped-call]
        self.site.closed(self)


def _refusal(method: bytes) -> Sentence:
    if method in _KNOWN_METHODS:
        return Sentence(405, _READ_ONLY, (("allow", "GET, HEAD"),))
    return Sentence(501, "No such method is known here.")
