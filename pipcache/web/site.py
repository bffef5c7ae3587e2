"""The resource tree, and the site that serves it.

A request is routed once, by ``rules.routes`` from its target as it came over the wire; Twisted's own splitting of the path
is not used, as it decodes what must be refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.web.resource import IResource, Resource
from twisted.web.server import Request, Site

from pipcache.engine.cache import Cache
from pipcache.engine.interfaces import Clock, Events
from pipcache.rules.errors import BadRequest
from pipcache.rules.routes import Route, RouteKind, parse_target
from pipcache.web.resources import Cached, Favicon, Health, Help, Redirect, Sentence

IDLE_SECONDS = 60.0

_READS = (b"GET", b"HEAD")
_KNOWN_METHODS = frozenset({b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT"})
_READ_ONLY = "This index is read-only; it answers GET and HEAD. To publish a package, upload it to the index itself."


class Root(Resource):
    """The root of the tree; counts the requests in progress, which a stop waits for."""

    def __init__(self, cache: Cache, clock: Clock, events: Events, report: Callable[[], dict[str, Any]]) -> None:
        super().__init__()
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
        return self._resource(route)

    def when_idle(self) -> Deferred[None]:
        """Fires when no request is in progress."""
        idle: Deferred[None] = Deferred()
        self._idle.append(idle)
        self._tell_if_idle()
        return idle

    def _resource(self, route: Route) -> IResource:
        if route.kind in self._fixed:
            return self._fixed[route.kind]
        if route.location is not None:
            return Redirect(route.location)
        return Cached(route, self._cache, self._clock, self._events)

    def _finished(self, _: object) -> None:
        self._in_progress -= 1
        self._tell_if_idle()

    def _tell_if_idle(self) -> None:
        if self._in_progress == 0:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)


class PipcacheSite(Site):
    """A site without a server-side session, form parsing or tracebacks in its pages."""

    displayTracebacks = False
    noisy = False

    def __init__(self, root: Root) -> None:
        super().__init__(root, timeout=IDLE_SECONDS, parsePOSTFormSubmission=False)  # type: ignore[arg-type]

    def log(self, request: Request) -> None:  # type: ignore[override]
        """Nothing: Twisted's line would carry query strings. What was fetched is told by ``Events``."""


def _refusal(method: bytes) -> Sentence:
    if method in _KNOWN_METHODS:
        return Sentence(405, _READ_ONLY, (("allow", "GET, HEAD"),))
    return Sentence(501, "No such method is known here.")
