"""Pages that are being fetched or validated: once for all who want the same one, kept as they come.

A page is handed on when it is whole and read, as a page that is none must never reach a client: then the next upstream is
asked. From then on it is a hit for everybody, also while the disk is still syncing it.
It streams to its file like any body and is read back to be formed; where the disk does not give back what it took, the page
is asked for again, into memory.

A page that is kept is validated: the upstream that gave it is asked whether it is still right, by the validators that it
gave; a 304 makes it fresh again. The others are asked for theirs, and one of them that lags behind what is kept does not
replace it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from attrs import define, evolve, frozen
from twisted.internet.defer import Deferred

from pipcache.engine.fetch import Expected, Fetch
from pipcache.engine.forming import PageVersion, Rendering, here_or_in_thread, read_page, rendered
from pipcache.engine.holdings import Holdings
from pipcache.engine.interfaces import Clock, Events, InThread
from pipcache.engine.lists import ListVersion, new_list_version
from pipcache.engine.upstreams import Asked, Attempt, Candidate, Manner, Upstreams
from pipcache.engine.waiters import Waiters
from pipcache.rules.errors import (
    NotServed,
    Outdated,
    PipcacheError,
    StorageError,
    TruncatedBody,
    Unwanted,
    UpstreamError,
)
from pipcache.rules.fields import Fields, get
from pipcache.rules.key import CacheKey
from pipcache.rules.meta import StoredResponse
from pipcache.rules.negotiation import ASKED_OF_UPSTREAMS
from pipcache.rules.routes import Route, RouteKind
from pipcache.rules.sites import UpstreamSite

MAX_PAGE_BYTES = 64 << 20
_REMEMBERED_PAGES = 10_000
_ANY_KIND = "json"
"""The rendering of a list that nobody waits for: one has to be made to see that it is a list."""

_PAGE = Manner(for_page=True, accept=ASKED_OF_UPSTREAMS)
_PROJECT_JSON = Manner(for_page=True, accept="application/json")


@frozen
class Refusal:
    """What an error comes to for a client; the error itself would hold on to every frame and request it went through."""

    status: int
    text: str
    absent_at: frozenset[str] = frozenset()
    retry_after_seconds: int | None = None

    @classmethod
    def of(cls, error: PipcacheError) -> Refusal:
        """What this error comes to."""
        if isinstance(error, NotServed):
            return cls(error.status, str(error), error.absent_at, error.retry_after_seconds)
        return cls(error.status, str(error))

    def as_error(self) -> NotServed:
        """The same for another client."""
        return NotServed(self.status, self.text, absent_at=self.absent_at, retry_after_seconds=self.retry_after_seconds)


@define
class Look:
    """When a page was last asked for, and what came of it: a refusal, or what is stored."""

    at: float
    refusal: Refusal | None = None
    stored: StoredResponse | None = None


@define
class _Come:
    """A page that came whole, and the fetch that its body is in."""

    version: PageVersion
    fetch: Fetch


@define
class _Coming:
    """A project list on its way: ``taking`` fires when all of it has come: with None, or with what went wrong."""

    version: ListVersion
    fetch: Fetch
    asked: Asked
    taking: Deferred[UpstreamError | None]


class _NotReadBack(Exception):
    """The page came, and the disk does not give back what it took of it."""


class PageFetch(Waiters[PageVersion | ListVersion | StoredResponse]):
    """A page that is being fetched: comes to a new version of it, or to the meta of the kept one, which is fresh again.

    ``attempt`` is what it has met so far, which all who wait have met. ``kind`` is the rendering that is wanted first.
    """

    def __init__(self, attempt: Attempt, kind: str | None) -> None:
        super().__init__()
        self.attempt = attempt
        self.kind = kind


class PageFetches:
    """Fetches and validates pages, and remembers how that went."""

    def __init__(
        self,
        holdings: Holdings,
        upstreams: Upstreams,
        in_thread: InThread,
        clock: Clock,
        token: Callable[[int], str],
        events: Events,
    ) -> None:
        self._holdings = holdings
        self._upstreams = upstreams
        self._in_thread = in_thread
        self._clock = clock
        self._seconds = clock.seconds
        self._token = token
        self._events = events
        self._fetching: dict[str, PageFetch] = {}
        self._looks: OrderedDict[str, Look] = OrderedDict()

    def in_progress(self, key: CacheKey) -> PageFetch | None:
        """The page's fetch; also one that has come and is still being kept."""
        return self._fetching.get(key.digest)

    def last_look(self, key: CacheKey) -> Look | None:
        """How it went when the page was last asked for, where that is remembered."""
        return self._looks.get(key.digest)

    def kept(self, key: CacheKey) -> StoredResponse | None:
        """What is stored under the key and may be served; not the page of an upstream that is not trusted any more."""
        stored = self._holdings.find(key)
        is_untrusted = stored is not None and any(
            site.name == stored.upstream and not site.is_trusted for site in self._upstreams.sites
        )
        return None if is_untrusted else stored

    def begin(
        self, route: Route, key: CacheKey, attempt: Attempt, kind: str | None = None, *, is_validated: bool = True
    ) -> PageFetch:
        """Fetch a page, for all who want it; the fetch in progress where there is one.

        Args:
            route: of the page.
            key: of the route.
            attempt: what the client's request has met so far.
            kind: the rendering that will be wanted first, None where none will.
            is_validated: whether the kept page will do, if its upstream says that it is right; else it counts for
                nothing.
        """
        fetching = self._fetching.get(key.digest)
        if fetching is None:
            fetching = self._fetching[key.digest] = PageFetch(attempt, kind)
            Deferred.fromCoroutine(self._run(route, key, fetching, is_validated=is_validated))
        return fetching

    async def _run(self, route: Route, key: CacheKey, fetching: PageFetch, *, is_validated: bool) -> None:
        """Fetch a page, give it to all, keep it. Every end is told to those who wait; never fails itself."""
        look = self._looks[key.digest] = Look(self._seconds())
        self._looks.move_to_end(key.digest)
        while len(self._looks) > _REMEMBERED_PAGES:
            self._looks.popitem(last=False)
        try:
            await self._upstreams.known()
            kept = self.kept(key) if is_validated else None
            come = await self._asked(route, key, fetching, kept)
        except PipcacheError as error:
            look.at, look.refusal = self._seconds(), Refusal.of(error)
            del self._fetching[key.digest]
            fetching.fail(error)
            return
        except Exception:
            self._events.crashed(f"fetching {route.path}")
            del self._fetching[key.digest]
            fetching.fail(PipcacheError("An error of this proxy; its log says more."))
            return
        look.at = self._seconds()
        if come is None:
            assert kept is not None
            look.stored = await self._holdings.freshen(key, kept, route.kind)
            del self._fetching[key.digest]  # who finds that the kept page cannot be read begins another fetch at once
            fetching.fire(look.stored)
            return
        look.stored = come.version.stored
        try:
            fetching.fire(come.version)
            await (self._keep_list(route, key, come) if isinstance(come, _Coming) else self._keep(key, come))
        except Exception:
            self._events.crashed(f"keeping {route.path}")
        finally:
            del self._fetching[key.digest]
            come.fetch.release()
            self._holdings.received(key)

    async def _asked(
        self, route: Route, key: CacheKey, fetching: PageFetch, kept: StoredResponse | None
    ) -> _Come | _Coming | None:
        """What the upstreams come to: a page, or None, where the kept one is still right."""
        candidates = [
            evolve(candidate, validators=_validators(kept))
            if kept is not None and kept.upstream == candidate.site.name
            else candidate
            for site in self._upstreams.in_order(fetching.attempt)
            if site.is_trusted and (candidate := _candidate(route, site)) is not None
        ]
        manner = _PROJECT_JSON if route.kind is RouteKind.PROJECT_JSON else _PAGE
        take: Callable[[Asked], Awaitable[_Come | _Coming | None]] = partial(self._take, route, key, fetching, kept)
        try:
            return await self._upstreams.ask(candidates, fetching.attempt, route.path, take, manner)
        except _NotReadBack:
            take = partial(self._take, route, key, fetching, kept, in_memory=True)
            return await self._upstreams.ask(candidates, fetching.attempt, route.path, take, manner)

    async def _take(
        self,
        route: Route,
        key: CacheKey,
        fetching: PageFetch,
        kept: StoredResponse | None,
        asked: Asked,
        *,
        in_memory: bool = False,
    ) -> _Come | _Coming | None:
        """Take a page from one upstream; None where the kept one is still right.

        Raises:
            UpstreamError: it is none, or older than what is kept.
            _NotReadBack: the disk lost it.
        """
        if asked.response.status == 304:
            asked.response.abandon()
            self._upstreams.succeeded(asked.candidate.health_name)
            self._events.validated(route.path, asked.candidate.site.name)
            return None
        fetch = Fetch(
            self._holdings.receive(key, asked.response.length, in_memory=in_memory),
            Expected(max_kept_bytes=self._holdings.max_kept_bytes, max_bytes=MAX_PAGE_BYTES, is_needed_whole=True),
            appending=self._holdings.appending,
        )
        if route.kind is RouteKind.PROJECT_LIST:
            return await self._take_list(route, key, fetching, asked, fetch)
        try:
            await fetch.take(asked.response)
            version = await self._version(route, key, fetching, asked, fetch)
            self._check_serial(kept, version.stored)
        except BaseException as error:
            self._dropped(key, fetch)
            if isinstance(error, StorageError):
                self._holdings.trouble(error)
                raise _NotReadBack from error
            raise
        self._upstreams.succeeded(asked.candidate.health_name)
        seconds = self._seconds() - asked.began_at
        self._events.fetched(route.path, asked.candidate.site.name, fetch.body.size, seconds)
        if kept is not None and _says_the_same(kept, version.stored):
            self._dropped(key, fetch)
            return None
        return _Come(version, fetch)

    async def _take_list(self, route: Route, key: CacheKey, fetching: PageFetch, asked: Asked, fetch: Fetch) -> _Coming:
        """Take the project list; returns when it has shown that it is one, while the rest goes on."""

        async def take() -> UpstreamError | None:
            try:
                await fetch.take(asked.response)
            except UpstreamError as error:
                fetch.give_up()
                return error
            return None

        taking = Deferred.fromCoroutine(take())
        stored = self._holdings.describe(key, route.kind, fetch, asked, f'"{self._token(16)}"')
        version = new_list_version(stored, lambda: fetch, self._holdings, self._in_thread, self._clock, self._events)
        try:
            await version.rendering(fetching.kind or _ANY_KIND)
        except BaseException as error:
            fetch.abandon(Unwanted("it is no project list"))
            broke = await taking
            await version.finished()
            version.release(is_kept=False)
            self._dropped(key, fetch)
            raise (broke if isinstance(error, TruncatedBody) and broke else error) from error
        return _Coming(version, fetch, asked, taking)

    async def _keep_list(self, route: Route, key: CacheKey, coming: _Coming) -> None:
        """See the list to its end, and keep it, with the renderings that were wanted meanwhile."""
        version, asked, fetch = coming.version, coming.asked, coming.fetch
        kept = None
        error = await coming.taking
        if error is None:
            self._upstreams.succeeded(asked.candidate.health_name)
            seconds = self._seconds() - asked.began_at
            self._events.fetched(route.path, asked.candidate.site.name, fetch.body.size, seconds)
            stored = self._holdings.describe(key, route.kind, fetch, asked, version.stored.etag)
            kept = await self._holdings.publish(key, fetch, stored)
        else:
            self._upstreams.failed(asked.candidate.health_name, asked.began_at, error)
            self._events.fetch_broke(route.path, asked.candidate.site.name, error)
            self._holdings.drop(fetch)
        while version.is_growing:
            made = await version.finished()
            if made and kept is not None:
                await self._holdings.add_variants(key, kept, made)
        version.release(is_kept=kept is not None)

    async def _version(
        self, route: Route, key: CacheKey, fetching: PageFetch, asked: Asked, fetch: Fetch
    ) -> PageVersion:
        """The page that a body is, with the rendering that is wanted first."""
        stored = self._holdings.describe(key, route.kind, fetch, asked, f'"{self._token(16)}"')
        kind = fetching.kind

        def form() -> PageVersion:
            formed = read_page(route, stored, fetch.read_at)
            version = PageVersion(evolve(stored, last_serial=formed.last_serial), formed, self._in_thread)
            if kind is not None:
                version.contents[kind] = rendered(formed, kind)
            return version

        return await here_or_in_thread(fetch.body.size, self._in_thread, form)

    def _check_serial(self, kept: StoredResponse | None, come: StoredResponse) -> None:
        """Refuse a page of a mirror that lags behind the one whose page is kept."""
        if kept is None or kept.upstream == come.upstream or kept.last_serial is None or come.last_serial is None:
            return
        is_configured = any(site.name == kept.upstream for site in self._upstreams.sites)
        if come.last_serial < kept.last_serial and is_configured and self._holdings.may_serve_on_error(kept):
            raise Outdated(f"its page has serial {come.last_serial}, that of {kept.upstream} had {kept.last_serial}")

    def _dropped(self, key: CacheKey, fetch: Fetch) -> None:
        self._holdings.drop(fetch)
        fetch.release()
        self._holdings.received(key)

    async def _keep(self, key: CacheKey, come: _Come) -> None:
        """Publish a page with the renderings that were made so far; then those that were made meanwhile."""
        version = come.version
        made = dict(version.contents)
        kept = await self._holdings.publish(key, come.fetch, version.stored, _renderings(made))
        added = {kind: content for kind, content in version.contents.items() if kind not in made}
        if kept is not None and added:
            await self._holdings.add_variants(key, kept, _renderings(added))


def _renderings(contents: Mapping[str, bytes]) -> tuple[Rendering, ...]:
    return tuple(Rendering(kind, content) for kind, content in contents.items())


def _candidate(route: Route, site: UpstreamSite) -> Candidate | None:
    url = site.url(route.path) if route.kind is RouteKind.PROJECT_JSON else site.page_url(route.path)
    return None if url is None else Candidate(url, site, site.name)


def _validators(kept: StoredResponse) -> Fields:
    """What a conditional request carries (RFC 9110 section 13.1): of both, servers that know ETags use that alone."""
    last_modified = get(kept.headers, "last-modified")
    fields = (("if-none-match", kept.upstream_etag), ("if-modified-since", last_modified))
    return tuple((name, value) for name, value in fields if value)


def _says_the_same(kept: StoredResponse, come: StoredResponse) -> bool:
    """Whether a page that came is the kept one, byte for byte, from an upstream that did not say so."""
    return all(
        getattr(kept, name) == getattr(come, name) for name in ("sha256", "upstream", "url", "upstream_root")
    ) and get(kept.headers, "content-type") == get(come.headers, "content-type")
