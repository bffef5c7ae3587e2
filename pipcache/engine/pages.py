"""Project pages, the project list, and the JSON API: which rendering a client gets, how fresh, and where files are.

A fresh page is served as it is kept; a stale one first validated, or, within its graces, served as it is: at once while it
is validated behind the answer, and when no upstream gives a newer one.

Files are found through pages: ``locate`` says where a project's page puts a file, so nothing else need survive a restart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NoReturn, cast

from attrs import evolve, frozen

from pipcache.engine.absences import Absences
from pipcache.engine.fetch import Fetch
from pipcache.engine.forming import SHAPE, PageVersion, Wanted, variant_etag, wanted_of
from pipcache.engine.holdings import Holdings
from pipcache.engine.interfaces import Clock, Events, InThread, StoredBody
from pipcache.engine.lists import KeptLists, ListVersion
from pipcache.engine.outcome import BytesBody, Outcome, Request, outcome_of_stored
from pipcache.engine.page_fetches import PageFetches, Refusal
from pipcache.engine.renderings import Renderings
from pipcache.engine.repeats import Repeat
from pipcache.engine.upstreams import Attempt, Upstreams
from pipcache.rules.errors import NotCached, NotServed, PipcacheError, UpstreamTimeout
from pipcache.rules.freshness import Directives, Freshness
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse
from pipcache.rules.response import CacheStatus, Representation, shape_response
from pipcache.rules.routes import Route, RouteKind
from pipcache.simple.model import DistributionFile

LOOK_AGAIN_SECONDS = 10.0
"""A page that did not name a file is not fetched again for another file within this time; nor is one that could not be had
while there is a stale one to serve."""

PATIENCE_SECONDS = 8.0
"""So long a client waits for the validation of a page while there is a stale one to serve; installers give up after 15 s
or 30 s. The validation goes on."""

VALIDATED_LATELY_SECONDS = 2.0
"""A page that was asked for so lately is not asked for again because a client says ``no-cache``."""

_REMEMBERED_FILES = 10_000
_VARY = "Accept, Accept-Encoding"


@frozen
class Located:
    """Where a file is: what the page says of it, and the name of the upstream whose page it is."""

    file: DistributionFile
    upstream: str


class Pages:
    """Answers requests for pages, and says where files are."""

    def __init__(
        self,
        holdings: Holdings,
        upstreams: Upstreams,
        absences: Absences,
        in_thread: InThread,
        clock: Clock,
        token: Callable[[int], str],
        events: Events,
    ) -> None:
        self._holdings = holdings
        self._upstreams = upstreams
        self._absences = absences
        self._clock = clock
        self._seconds = clock.seconds
        self._fetches = PageFetches(holdings, upstreams, in_thread, clock, token, events)
        self._renderings = Renderings(holdings, in_thread, events)
        self._lists = KeptLists(holdings, in_thread, clock, events)
        self._files = _FilesByPage()

    async def respond(self, request: Request) -> Outcome:
        """The page, in the dialect and coding that the client takes.

        Raises:
            NotAcceptable: it takes none.
            NotCached: it wants nobody asked, and there is no fresh page.
            NotServed: no upstream has it, or none could give it.
        """
        wanted = wanted_of(request.route, request.fields)
        key = CacheKey.of(request.route)
        directives = self._directives(key, request)
        fetching = self._fetches.in_progress(key)
        if fetching is not None and isinstance(fetching.result, PageVersion | ListVersion):
            return await self._from_version(request, wanted, fetching.result, CacheStatus.HIT)
        stored = self._fetches.kept(key)
        if stored is not None:
            freshness = self._holdings.freshness(stored, directives)
            is_vain = not directives.is_no_cache and self._is_better_than_last(key, stored)
            if is_vain or freshness is not Freshness.STALE:
                is_fresh = freshness is Freshness.FRESH
                status = CacheStatus.HIT if is_fresh else CacheStatus.STALE
                outcome = await self._from_kept(request, wanted, key, stored, status)
                if outcome is not None:
                    if not is_fresh and not is_vain:
                        self._fetches.begin(request.route, key, Attempt(request.via))
                    return outcome
                stored = None  # what is kept is no page
        if directives.is_only_if_cached:
            raise NotCached("There is no fresh page here, and the request says only-if-cached.")
        if not directives.is_no_cache:
            self._absences.check(key)
        return await self._asked(request, wanted, key, stored, directives)

    async def locate(self, project: str, path: str, attempt: Attempt) -> Located | None:
        """Where the project's page puts the file at our path ``path``; None where it does not name it.

        The page is fetched where none is kept or the kept one does not name the file, but not twice in
        ``LOOK_AGAIN_SECONDS``.

        Raises:
            NotServed: there is no page, or it could not be had.
        """
        route = _page_of(project)
        key = CacheKey.of(route)
        located = await self._located_in_kept(key, route, path)
        if located is not None:
            return located
        fetching = self._fetches.in_progress(key)
        look = self._fetches.last_look(key)
        if fetching is None and look is not None and self._seconds() - look.at < LOOK_AGAIN_SECONDS:
            if look.refusal is not None:
                raise look.refusal.as_error()
            # the page may have come and not been kept
            return _located(self._files.get(look.stored.etag), path, look.stored.upstream) if look.stored else None
        is_joined = fetching is not None
        fetching = fetching or self._fetches.begin(route, key, attempt)
        try:
            page = await fetching.wait()
        finally:
            if is_joined:
                attempt.silent.update(fetching.attempt.silent)
        if isinstance(page, PageVersion):
            self._files.put(page.stored.etag, page.formed.files)
            return _located(page.formed.files, path, page.stored.upstream)
        return await self._located_in_kept(key, route, path)

    async def fetch_ahead(self, project: str) -> Mapping[str, DistributionFile] | None:
        """Fetch a page that nobody has asked for yet, where there is none that may be served at once.

        Returns:
            The files that it names, by our own path, where a new version of it came; else None.

        Raises:
            NotServed: no upstream has it, or none could give it.
        """
        route = _page_of(project)
        key = CacheKey.of(route)
        stored = self._fetches.kept(key)
        if stored is not None and self._holdings.freshness(stored, Directives()) is not Freshness.STALE:
            return None
        self._absences.check(key)
        try:
            page = await self._fetches.begin(route, key, Attempt()).wait()
        except NotServed as error:
            self._absences.note(key, route.kind, error)
            raise
        if not isinstance(page, PageVersion):
            return None
        self._files.put(page.stored.etag, page.formed.files)
        return page.formed.files

    # -- a page that is kept -----------------------------------------------------------------------------------------

    def _directives(self, key: CacheKey, request: Request) -> Directives:
        """What the client asks of the cache; ``no-cache`` once in a while a page, however many say it."""
        directives = Directives.of(request.fields)
        look = self._fetches.last_look(key)
        is_lately = look is not None and self._seconds() - look.at < VALIDATED_LATELY_SECONDS
        if is_lately and self._fetches.in_progress(key) is None:
            return evolve(directives, is_no_cache=False)
        return directives

    def _is_better_than_last(self, key: CacheKey, stored: StoredResponse) -> bool:
        """Whether a kept page is better than what asking came to a moment ago, so that asking again is vain."""
        look = self._fetches.last_look(key)
        if look is None or look.refusal is None or self._fetches.in_progress(key) is not None:
            return False
        return self._seconds() - look.at < LOOK_AGAIN_SECONDS and self._is_better(stored, look.refusal)

    async def _from_kept(
        self,
        request: Request,
        wanted: Wanted,
        key: CacheKey,
        stored: StoredResponse,
        status: CacheStatus,
        forwarded: str = "stale",
        *,
        is_collapsed: bool = False,
    ) -> Outcome | None:
        """A kept page, rendered before or now; None where what is kept is no page, or is gone."""
        kept = self._holdings.open_variant(key, stored, wanted.kind, SHAPE)
        body: StoredBody
        repeat: Repeat | None = None
        if kept is not None:
            body = kept.body
            if status is CacheStatus.HIT and self._fetches.in_progress(key) is None:
                repeat = self._repeat(request.route, wanted, key, stored, body.length)
        elif request.route.kind is RouteKind.PROJECT_LIST:
            growing = await self._lists.rendering(key, stored, wanted.kind)
            if growing is None:
                return None
            return self._from_growing(request, wanted, stored, growing, status, forwarded)
        else:
            content = await self._renderings.made(request.route, key, stored, wanted.kind)
            if content is None:
                return None
            body = BytesBody(content)
        known = self._holdings.as_stored(stored, request.route.kind, body.length, status)
        known = evolve(known, forwarded=forwarded, is_collapsed=is_collapsed)
        return outcome_of_stored(request, _as_rendered(known, wanted), body, repeat)

    def _repeat(self, route: Route, wanted: Wanted, key: CacheKey, stored: StoredResponse, length: int) -> Repeat:
        variant = stored.variant(wanted.kind, SHAPE)
        show = partial(_as_rendered, wanted=wanted)
        shown_as = f"{wanted.kind} {wanted.content_type}"
        return Repeat(key, stored, length, True, shown_as, self._holdings, route.kind, variant, show)

    def _is_better(self, stored: StoredResponse, refusal: Refusal) -> bool:
        """Whether a kept page is better than the error that all upstreams came to.

        That a page is not there any more is for the upstream to say that gave it; that another lacks it says nothing.
        """
        if refusal.status == 404:
            is_configured = any(site.name == stored.upstream for site in self._upstreams.sites)
            if stored.upstream in refusal.absent_at or not is_configured:
                return False
        return self._holdings.may_serve_on_error(stored)

    async def _located_in_kept(self, key: CacheKey, route: Route, path: str) -> Located | None:
        stored = self._fetches.kept(key)
        if stored is None or not any(site.name == stored.upstream for site in self._upstreams.sites):
            return None  # the page of an upstream that is configured no more says nothing about today's
        files = self._files.get(stored.etag)
        if files is None:
            formed = await self._renderings.formed(route, key, stored)
            if formed is None:
                return None
            files = formed.files
            self._files.put(stored.etag, files)
        return _located(files, path, stored.upstream)

    # -- a page that is asked for ------------------------------------------------------------------------------------

    async def _asked(
        self, request: Request, wanted: Wanted, key: CacheKey, stored: StoredResponse | None, directives: Directives
    ) -> Outcome:
        """A page that the upstreams give or say is still right; a stale one where they do neither."""
        forwarded = "uri-miss" if stored is None else "request" if directives.is_no_cache else "stale"
        is_validated = stored is not None
        for _ in range(2):
            is_collapsed = self._fetches.in_progress(key) is not None
            fetching = self._fetches.begin(
                request.route, key, Attempt(request.via), wanted.kind, is_validated=is_validated
            )
            waiter = fetching.wait()
            if stored is not None and self._holdings.may_serve_on_error(stored):
                waiter.addTimeout(PATIENCE_SECONDS, cast(Any, self._clock), _as_too_slow)
            try:
                page = await waiter
            except PipcacheError as error:
                outcome = await self._instead_of(error, request, wanted, key, stored)
                if outcome is None:
                    raise
                return outcome
            self._absences.forget(key)
            if isinstance(page, PageVersion):
                self._files.put(page.stored.etag, page.formed.files)
            if isinstance(page, PageVersion | ListVersion):
                return await self._from_version(
                    request, wanted, page, CacheStatus.MISS, forwarded, is_collapsed=is_collapsed
                )
            outcome = await self._from_kept(
                request, wanted, key, page, CacheStatus.REVALIDATED, forwarded, is_collapsed=is_collapsed
            )
            if outcome is not None:
                return outcome
            is_validated = False  # what is kept is no page, whatever its upstream says
        raise NotServed(502, "The page could not be kept and is not there any more; try again.")

    async def _instead_of(
        self, error: PipcacheError, request: Request, wanted: Wanted, key: CacheKey, stored: StoredResponse | None
    ) -> Outcome | None:
        """A stale page in place of an error; None where the error is the answer."""
        if stored is not None and self._is_better(stored, Refusal.of(error)):
            return await self._from_kept(request, wanted, key, stored, CacheStatus.STALE)
        self._absences.note(key, request.route.kind, error)
        if stored is not None and error.status == 404:
            await self._holdings.forget(key)
        return None

    async def _from_version(
        self,
        request: Request,
        wanted: Wanted,
        page: PageVersion | ListVersion,
        status: CacheStatus,
        forwarded: str = "uri-miss",
        *,
        is_collapsed: bool = False,
    ) -> Outcome:
        if isinstance(page, ListVersion):
            growing = await page.rendering(wanted.kind)
            return self._from_growing(request, wanted, page.stored, growing, status, forwarded)
        content = await page.content(wanted.kind)
        known = self._holdings.as_stored(page.stored, request.route.kind, len(content), status)
        known = evolve(known, forwarded=forwarded, is_collapsed=is_collapsed)
        return outcome_of_stored(request, _as_rendered(known, wanted), BytesBody(content))

    def _from_growing(
        self,
        request: Request,
        wanted: Wanted,
        stored: StoredResponse,
        growing: Fetch,
        status: CacheStatus,
        forwarded: str,
    ) -> Outcome:
        """A rendering of the project list, sent while it is made."""
        known = self._holdings.as_stored(stored, request.route.kind, 0, status)
        known = evolve(known, length=growing.body.size if growing.is_whole else None, forwarded=forwarded)
        shape = shape_response(request.method, request.fields, _as_rendered(known, wanted))
        return Outcome(shape, growing if shape.has_body and request.method != "HEAD" else None)


class _FilesByPage:
    """The files that pages name, by the page's ETag: read once, those used least recently forgotten first."""

    def __init__(self) -> None:
        self._pages: OrderedDict[str, Mapping[str, DistributionFile]] = OrderedDict()
        self._count = 0

    def get(self, etag: str) -> Mapping[str, DistributionFile] | None:
        """The files by local path, or None where they are not remembered."""
        files = self._pages.get(etag)
        if files is not None:
            self._pages.move_to_end(etag)
        return files

    def put(self, etag: str, files: Mapping[str, DistributionFile]) -> None:
        """Remember them."""
        if etag not in self._pages:
            self._pages[etag] = files
            self._count += len(files) + 1
        while self._count > _REMEMBERED_FILES and len(self._pages) > 1:
            self._count -= len(self._pages.popitem(last=False)[1]) + 1


def _page_of(project: str) -> Route:
    return Route(RouteKind.PROJECT_PAGE, f"/simple/{project}/", project=project)


def _as_too_slow(_: object, seconds: float) -> NoReturn:
    raise UpstreamTimeout(f"no validation in {seconds:g} s")


def _located(files: Mapping[str, DistributionFile] | None, path: str, upstream: str) -> Located | None:
    file = files.get(path) if files is not None else None
    return Located(file, upstream) if file else None


def _as_rendered(known: Representation, wanted: Wanted) -> Representation:
    """A page as we send it: of our own making, without upstream's date, which is that of other bytes."""
    others = tuple(field for field in known.fields if field[0] not in ("content-type", "last-modified"))
    coded = (("content-encoding", "gzip"),) if wanted.is_gzipped else ()
    return evolve(
        known,
        fields=(("content-type", wanted.content_type), *coded, *others),
        etag=variant_etag(known.etag or '""', wanted.kind),
        vary=_VARY,
    )
