"""What happens to a request: the one door of the engine."""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen

from pipcache.engine.absences import Absences
from pipcache.engine.files import Files
from pipcache.engine.holdings import Holdings
from pipcache.engine.interfaces import Clock, Events, InThread
from pipcache.engine.outcome import Outcome, Request
from pipcache.engine.pages import Pages
from pipcache.engine.upstreams import Upstreams
from pipcache.rules.routes import RouteKind

_PAGES = (RouteKind.PROJECT_LIST, RouteKind.PROJECT_PAGE, RouteKind.PROJECT_JSON)


@frozen
class Cache:
    """Answers requests for what comes from upstreams: pages, files, and the rest."""

    pages: Pages
    files: Files

    @classmethod
    def of(
        cls,
        holdings: Holdings,
        upstreams: Upstreams,
        absences: Absences,
        clock: Clock,
        in_thread: InThread,
        token: Callable[[int], str],
        events: Events,
        max_ahead_bytes: int = 0,
    ) -> Cache:
        """A cache over these.

        ``token`` makes random hex digits, twice as many as it is given bytes. ``max_ahead_bytes``: the largest wheel that is
        fetched before it is asked for; 0: nothing is.
        """
        pages = Pages(holdings, upstreams, absences, in_thread, clock, token, events)
        return cls(pages, Files(holdings, upstreams, absences, pages, in_thread, clock, token, events, max_ahead_bytes))

    def stop(self) -> None:
        """Begin nothing more that nobody asked for."""
        self.files.ahead.stop()

    async def respond(self, request: Request) -> Outcome:
        """The response to a GET or HEAD whose route is a page, a file, or another path of the upstreams.

        The caller follows the outcome's source at once, or drops it.

        Raises:
            PipcacheError: there is none; the error's status and text are for the client.
        """
        if request.route.kind in _PAGES:
            return await self.pages.respond(request)
        return await self.files.respond(request)
