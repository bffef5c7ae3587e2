"""Fetching ahead: what an installer will ask for next is on its way before it does.

A resolver asks for a page, then for core metadata, then for the pages of what that needs, one after the other or a level at
a time, and each waits for an upstream that may be far away. So when core metadata comes, the pages that it leads to are
fetched, and the core metadata of their newest releases, and so on; each is there, or on its way, when it is asked for. When
a client asks for the core metadata of a wheel, and the wheel is small, that is fetched too.

It is all fetched as for a client: once, verified, kept, and whoever asks meanwhile joins. What fails is nobody's failure;
whoever asks for it will hear of it. What is kept is not fetched, and a page that is leads no further.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Protocol

from pipcache.engine.interfaces import Clock, Events
from pipcache.engine.queue import Queue
from pipcache.rules.routes import Route, parse_target
from pipcache.simple.ahead import needed_projects, newest_metadata
from pipcache.simple.filenames import project_of
from pipcache.simple.model import DistributionFile

PAGES_AT_ONCE = 12
WHEELS_AT_ONCE = 8
"""Together less than half of the connections that one upstream gets."""

WAITING = 500

PAGES_A_MINUTE = 600
"""More than any tree needs; so nobody who publishes packages that need each other without end keeps us busy without end."""

REST_SECONDS = 60.0
"""Of one project no other wheel is fetched ahead so soon: who asks for one release after the other wants one of them."""

MAX_RESTING = 1000


FetchPage = Callable[[str], Awaitable[Mapping[str, DistributionFile] | None]]
"""See ``Pages.fetch_ahead``."""


class FetchFile(Protocol):
    """See ``Files.fetch_ahead``."""

    def __call__(self, route: Route, max_bytes: int | None = None) -> Awaitable[None]:
        """Fetch a file."""
        ...


class Ahead:
    """Fetches ahead.

    Args:
        page: fetches a project's page, where there is none; gives the files that it names, by our own path.
        file: fetches a file, where there is none.
        max_wheel_bytes: the largest wheel that is fetched before it is asked for; 0: nothing is.
        clock: lets what a client waits for go first.
        events: see ``Queue``.
    """

    def __init__(self, page: FetchPage, file: FetchFile, max_wheel_bytes: int, clock: Clock, events: Events) -> None:
        self.is_wanted = max_wheel_bytes > 0
        self._page = page
        self._file = file
        self._max_wheel_bytes = max_wheel_bytes
        self._clock = clock
        self._rests_until: OrderedDict[str, float] = OrderedDict()
        self._minute = 0
        self._pages_this_minute = 0
        self._pages = Queue(PAGES_AT_ONCE, WAITING, events)
        self._wheels = Queue(WHEELS_AT_ONCE, WAITING, events)

    def metadata_came(self, content: bytes) -> None:
        """Core metadata has come: see what it leads to."""
        minute = int(self._clock.seconds() // 60)
        if minute != self._minute:
            self._minute, self._pages_this_minute = minute, 0
        for project in needed_projects(content):
            if self._pages_this_minute >= PAGES_A_MINUTE:
                return
            self._pages_this_minute += self._pages.put(project, partial(self._fetch_page, project))

    def metadata_is_asked_for(self, wheel: Route) -> None:
        """A client asks for the core metadata of a wheel, which it is given first."""
        project = project_of(wheel.filename or "")
        now = self._clock.seconds()
        if not self.is_wanted or project is None or now < self._rests_until.get(project, now):
            return
        self._rests_until[project] = now + REST_SECONDS
        self._rests_until.move_to_end(project)
        if len(self._rests_until) > MAX_RESTING:
            self._rests_until.popitem(last=False)
        self._clock.callLater(0, self._wheels.put, wheel.path, partial(self._file, wheel, self._max_wheel_bytes))

    def stop(self) -> None:
        """Fetch nothing more."""
        self._pages.stop()
        self._wheels.stop()

    async def _fetch_page(self, project: str) -> None:
        files = await self._page(project)
        path = None if files is None else newest_metadata(files)
        if path is not None:
            await self._file(parse_target(path.encode()))
