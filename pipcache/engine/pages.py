"""Project pages and the project list: fetched whole, rewritten, kept as upstream sent them and as clients get them.

A page is sent when it is whole and parsed, as a page that is none must never reach a client: then the next upstream is
asked. One fetch serves all who want the same page, and what it gave is a hit for everybody from then on, also while the
disk is still syncing it. It streams to its file like any body and is read back to be formed; where the disk does not give
back what it took, the page is asked for again, into memory.

Files are found through pages: ``locate`` says where a project's page puts a file, so nothing else need survive a restart.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from attrs import define, evolve, frozen
from twisted.internet.defer import Deferred

from pipcache.engine.fetch import Expected, Fetch
from pipcache.engine.holdings import Holdings, Kept
from pipcache.engine.interfaces import Events, InThread
from pipcache.engine.outcome import BytesBody, Outcome, Request, outcome_of_stored
from pipcache.engine.upstreams import Asked, Attempt, Candidate, Manner, Upstreams
from pipcache.engine.waiters import Waiters
from pipcache.rules.errors import NotServed, PipcacheError, StorageError
from pipcache.rules.fields import Fields, get
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse
from pipcache.rules.response import CacheStatus, Representation
from pipcache.rules.routes import Route, RouteKind
from pipcache.simple.model import DistributionFile
from pipcache.simple.pages import FormedPage, form_list, form_page

MAX_PAGE_BYTES = 64 << 20
PARSED_HERE_BYTES = 1 << 16
"""A page up to this size is parsed in the reactor; a larger one in a thread, as it takes too long."""

LOOK_AGAIN_SECONDS = 10.0
"""A page that did not name a file is not fetched again for another file within this time."""

_REMEMBERED_PAGES = 10_000
_REMEMBERED_FILES = 10_000
_CONTENT_TYPE = "text/html; charset=utf-8"
_MANNER = Manner(for_page=True)

ReadAt = Callable[[int, int], bytes]
"""The bytes of a body from an offset on, at most so many and at least one; a StorageError where they cannot be had."""


@frozen
class Variant:
    """A page as clients get it, to be kept."""

    content: bytes
    shape: str


@frozen
class Located:
    """Where a file is: what the page says of it, and the name of the upstream whose page it is."""

    file: DistributionFile
    upstream: str


@frozen
class FetchedPage:
    """A page that has just come: its meta (not yet kept), and what was formed of it."""

    stored: StoredResponse
    formed: FormedPage
    fetch: Fetch


class _NotReadBack(Exception):
    """The page came, and the disk does not give back what it took of it."""


class _PageFetch(Waiters[FetchedPage]):
    """A page that is being fetched; ``attempt`` is what that has met so far, which all who wait have met."""

    def __init__(self, attempt: Attempt) -> None:
        super().__init__()
        self.attempt = attempt


@frozen
class _Rendered:
    """A kept page that was formed again, under the ETag of its new rendering."""

    stored: StoredResponse
    formed: FormedPage


@define
class _Look:
    """When a project's page was last fetched, and what came of it: what ``NotServed`` says, or whose page, under what ETag.

    No error is kept: its traceback would hold on to the frames that it went through, and to the request in them.
    """

    at: float
    refused: tuple[int, str, int | None] | None = None
    upstream: str = ""
    etag: str = ""


class Pages:
    """Answers requests for pages, and says where files are."""

    def __init__(
        self,
        holdings: Holdings,
        upstreams: Upstreams,
        in_thread: InThread,
        seconds: Callable[[], float],
        token: Callable[[int], str],
        events: Events,
    ) -> None:
        self._holdings = holdings
        self._upstreams = upstreams
        self._in_thread = in_thread
        self._seconds = seconds
        self._token = token
        self._events = events
        self._fetching: dict[str, _PageFetch] = {}
        self._rendering: dict[str, Waiters[_Rendered | None]] = {}
        self._looks: OrderedDict[str, _Look] = OrderedDict()
        self._files = _FilesByPage()

    async def respond(self, request: Request) -> Outcome:
        """The page, as HTML.

        Raises:
            NotServed: no upstream has it, or none could give it.
        """
        key = CacheKey.of(request.route)
        fetching = self._fetching.get(key.digest)
        if fetching is None:
            kept = self._holdings.find_fresh_page(key, FormedPage.SHAPE)
            if kept is not None:
                known = self._holdings.as_hit(kept.stored, request.route.kind, kept.body.length)
                return outcome_of_stored(request, _as_html(known), kept.body)
            outcome = await self._rerendered(request, key)
            if outcome is not None:
                return outcome
            fetching = self._fetching.get(key.digest)
        page = fetching.result if fetching else None
        is_hit = page is not None
        is_collapsed = fetching is not None
        if page is None:
            page = await (fetching.wait() if fetching else self._fetch(request.route, key, Attempt(request.via)))
        known = self._holdings.as_hit(page.stored, request.route.kind, len(page.formed.html))
        if not is_hit:
            known = _as_miss(known, is_collapsed=is_collapsed)
        return outcome_of_stored(request, _as_html(known), BytesBody(page.formed.html))

    async def locate(self, project: str, path: str, attempt: Attempt) -> Located | None:
        """Where the project's page puts the file at our path ``path``; None where it does not name it.

        The page is fetched where none is kept or the kept one does not name the file, but not twice in
        ``LOOK_AGAIN_SECONDS``.

        Raises:
            NotServed: there is no page, or it could not be had.
        """
        route = Route(RouteKind.PROJECT_PAGE, f"/simple/{project}/", project=project)
        key = CacheKey.of(route)
        located = await self._located_in_kept(key, route, path)
        if located is not None:
            return located
        fetching = self._fetching.get(key.digest)
        look = self._looks.get(key.digest)
        if fetching is None and look is not None and self._seconds() - look.at < LOOK_AGAIN_SECONDS:
            if look.refused is not None:
                raise NotServed(*look.refused)
            # the page may have come and not been kept
            return _located(self._files.get(look.etag), path, look.upstream)
        try:
            page = await (fetching.wait() if fetching else self._fetch(route, key, attempt))
        finally:
            if fetching is not None:
                attempt.silent.update(fetching.attempt.silent)
        return _located(page.formed.files, path, page.stored.upstream)

    # -- a page that is kept -----------------------------------------------------------------------------------------

    async def _rerendered(self, request: Request, key: CacheKey) -> Outcome | None:
        """A fresh page whose rendering is missing or of an older shape: formed again from what upstream sent."""
        rendering = self._rendering.get(key.digest)
        if rendering is None:
            kept = self._holdings.find_fresh(key)
            if kept is None:
                return None
            rendering = self._rendering[key.digest] = Waiters()
            Deferred.fromCoroutine(self._render(request.route, key, kept, rendering))
        page = await rendering.wait()
        if page is None:
            return None
        known = self._holdings.as_hit(page.stored, request.route.kind, len(page.formed.html))
        return outcome_of_stored(request, _as_html(known), BytesBody(page.formed.html))

    async def _render(self, route: Route, key: CacheKey, kept: Kept, rendering: Waiters[_Rendered | None]) -> None:
        """Form a kept page again, for all who want it, and keep that; never fails itself."""
        page = None
        try:
            if kept.body.is_suspect:
                checked = await self._holdings.checked(key, kept)
                if checked is None:
                    return
                kept = checked
            formed = await self._form(route, kept.stored, kept.body.read_at, kept.body.length)
            page = _Rendered(evolve(kept.stored, etag=f'"{self._token(16)}"'), formed)
            await self._holdings.rerender(key, kept.stored, page.stored, Variant(formed.html, FormedPage.SHAPE))
        except PipcacheError:
            pass  # what is on disk is no page: fetch it anew
        except Exception:
            self._events.crashed(f"forming {route.path} again")
        finally:
            kept.body.close()
            del self._rendering[key.digest]
            rendering.fire(page)

    async def _located_in_kept(self, key: CacheKey, route: Route, path: str) -> Located | None:
        stored = self._holdings.find(key)
        names = {site.name for site in self._upstreams.sites if site.is_trusted}
        if stored is None or stored.upstream not in names:
            return None  # the page of an upstream that is configured no more says nothing about today's
        files = self._files.get(stored.etag)
        if files is None:
            opened = self._holdings.opened(key, stored, self._holdings.store.open_body(key, stored))
            if opened is not None and opened.body.is_suspect:
                opened = await self._holdings.checked(key, opened)
            if opened is None:
                return None
            body = opened.body
            try:
                formed = await self._form(route, stored, body.read_at, body.length)
            except PipcacheError:
                return None
            finally:
                body.close()
            files = formed.files
            self._files.put(stored.etag, files)
        return _located(files, path, stored.upstream)

    # -- a page that is fetched --------------------------------------------------------------------------------------

    def _fetch(self, route: Route, key: CacheKey, attempt: Attempt) -> Deferred[FetchedPage]:
        """Begin to fetch a page, for all who want it."""
        fetching = self._fetching[key.digest] = _PageFetch(attempt)
        waiter = fetching.wait()
        Deferred.fromCoroutine(self._run(route, key, fetching))
        return waiter

    async def _run(self, route: Route, key: CacheKey, fetching: _PageFetch) -> None:
        """Fetch a page, give it to all, keep it. Every end is told to the waiters; never fails itself."""
        attempt = fetching.attempt
        look = self._looks[key.digest] = _Look(self._seconds())
        self._looks.move_to_end(key.digest)
        while len(self._looks) > _REMEMBERED_PAGES:
            self._looks.popitem(last=False)
        try:
            await self._upstreams.known()
            candidates = [
                Candidate(site.page_url(route.path), site, site.name)
                for site in self._upstreams.in_order(attempt)
                if site.is_trusted
            ]
            take: Callable[[Asked], Awaitable[FetchedPage]] = partial(self._take, route, key)
            try:
                page = await self._upstreams.ask(candidates, attempt, route.path, take, _MANNER)
            except _NotReadBack:
                take = partial(self._take, route, key, in_memory=True)
                page = await self._upstreams.ask(candidates, attempt, route.path, take, _MANNER)
        except PipcacheError as error:
            retry_after_seconds = error.retry_after_seconds if isinstance(error, NotServed) else None
            look.at, look.refused = self._seconds(), (error.status, str(error), retry_after_seconds)
            del self._fetching[key.digest]
            fetching.fail(error)
            return
        except Exception:
            self._events.crashed(f"fetching {route.path}")
            del self._fetching[key.digest]
            fetching.fail(PipcacheError("An error of this proxy; its log says more."))
            return
        try:
            self._files.put(page.stored.etag, page.formed.files)
            look.at, look.upstream, look.etag = self._seconds(), page.stored.upstream, page.stored.etag
            fetching.fire(page)
            await self._holdings.publish(key, page.fetch, page.stored, Variant(page.formed.html, FormedPage.SHAPE))
        except Exception:
            self._events.crashed(f"keeping {route.path}")
        finally:
            del self._fetching[key.digest]
            page.fetch.release()
            self._holdings.received(key)

    async def _take(self, route: Route, key: CacheKey, asked: Asked, *, in_memory: bool = False) -> FetchedPage:
        """Take a page from one upstream; an UpstreamError where it is none, _NotReadBack where the disk lost it."""
        site = asked.candidate.site
        fetch = Fetch(
            self._holdings.receive(key, asked.response.length, in_memory=in_memory),
            Expected(max_kept_bytes=self._holdings.max_kept_bytes, max_bytes=MAX_PAGE_BYTES, is_needed_whole=True),
        )
        try:
            await fetch.take(asked.response)
            etag = f'"{self._token(16)}"'
            stored = self._holdings.describe(key, route.kind, fetch, asked, etag)
            formed = await self._form(route, stored, fetch.read_at, fetch.body.size)
        except BaseException as error:
            self._holdings.drop(fetch)
            fetch.release()
            self._holdings.received(key)
            if isinstance(error, StorageError):
                self._holdings.trouble(error)
                raise _NotReadBack from error
            raise
        self._upstreams.succeeded(asked.candidate.health_name)
        self._events.fetched(route.path, site.name, fetch.body.size, self._seconds() - asked.began_at)
        return FetchedPage(stored, formed, fetch)

    async def _form(self, route: Route, stored: StoredResponse, read_at: ReadAt, size: int) -> FormedPage:
        """Read, parse and render; MalformedResponse where it is no page, StorageError where it cannot be read."""
        form = partial(_formed, route, stored, read_at, size)
        if size <= PARSED_HERE_BYTES:
            return form()
        return await self._in_thread(form)


class _FilesByPage:
    """The files that pages name, by the page's ETag: parsed once, those used least recently forgotten first."""

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


def _formed(route: Route, stored: StoredResponse, read_at: ReadAt, size: int) -> FormedPage:
    content = _whole(read_at, size)
    charset = _charset(stored.headers)
    if route.project is None:
        return form_list(content, charset)
    return form_page(content, stored.url, charset, route.project, stored.upstream_root)


def _whole(read_at: ReadAt, size: int) -> bytes:
    """All bytes of a body, in as few reads as it takes: one, where it is all in its file or all in memory."""
    pieces: list[bytes] = []
    position = 0
    while position < size:
        pieces.append(read_at(position, size - position))
        position += len(pieces[-1])
    return b"".join(pieces)


def _located(files: Mapping[str, DistributionFile] | None, path: str, upstream: str) -> Located | None:
    file = files.get(path) if files is not None else None
    return Located(file, upstream) if file else None


def _charset(fields: Fields) -> str | None:
    for parameter in (get(fields, "content-type") or "").split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"') or None
    return None


def _as_html(known: Representation) -> Representation:
    """A page as we send it: HTML of our own, without upstream's date, which is that of other bytes."""
    others = tuple(field for field in known.fields if field[0] not in ("content-type", "last-modified"))
    return evolve(known, fields=(("content-type", _CONTENT_TYPE), *others))


def _as_miss(known: Representation, *, is_collapsed: bool) -> Representation:
    return evolve(known, cache_status=CacheStatus.MISS, is_collapsed=is_collapsed)
