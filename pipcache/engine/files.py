"""Distribution files, and everything else under an upstream that is no page: kept as they are, streamed as they come.

Where a file is, its project's page says; the digest that the page promises is what its body is held to. A path that no page
names is asked of every upstream. What is asked for in part, or by HEAD, before it is kept, is relayed and not kept.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from functools import partial
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from attrs import evolve, frozen
from twisted.internet.defer import Deferred, DeferredList

from pipcache.engine.fetch import Expected, Fetch
from pipcache.engine.holdings import Holdings
from pipcache.engine.interfaces import Events, Follower, GrowingBody, UpstreamResponse
from pipcache.engine.outcome import Outcome, Request, outcome_of_stored
from pipcache.engine.pages import Located, Pages
from pipcache.engine.upstreams import PLAINLY, Asked, Attempt, Candidate, Manner, Upstreams
from pipcache.engine.waiters import Waiters
from pipcache.rules.errors import (
    DigestMismatch,
    MalformedResponse,
    NotServed,
    PipcacheError,
    Unwanted,
    UpstreamError,
)
from pipcache.rules.fields import Fields, get, storable, strong_etag
from pipcache.rules.key import CacheKey
from pipcache.rules.ranges import RangeSpec
from pipcache.rules.response import (
    CacheStatus,
    Representation,
    is_near,
    relayed_fields,
    shape_response,
    wanted_range,
)
from pipcache.rules.routes import Route, RouteKind
from pipcache.simple.digests import Digest, digest_in_path, new_hasher, preferred
from pipcache.simple.filenames import METADATA_SUFFIX, is_metadata_filename, project_of

T = TypeVar("T")

_HEAD = Manner(method="HEAD")
_PART_ONLY = frozenset({206})
_REST_STATUSES = frozenset({200, 206})  # of a 200, what is there already is skipped
_RANGE_STATUSES = frozenset({200, 206, 416})


@frozen
class Plan:
    """Where a thing may be had, in this order, and what its bytes must hash to, if anybody has said so.

    ``hint`` is what the path itself says, see ``simple.digests.digest_in_path``.
    """

    candidates: tuple[Candidate, ...]
    digest: Digest | None = None
    hint: Digest | None = None


@frozen
class Incoming:
    """A body on its way, as those see it who wait for it; ``etag`` and ``fields`` are those of the stored one to be.

    ``taking`` fires when the first response has ended: with None, or with what went wrong.
    """

    fetch: Fetch
    asked: Asked
    etag: str
    fields: Fields
    taking: Deferred[UpstreamError | None]


class Files:
    """Answers requests for what is streamed."""

    def __init__(
        self,
        holdings: Holdings,
        upstreams: Upstreams,
        pages: Pages,
        seconds: Callable[[], float],
        token: Callable[[int], str],
        events: Events,
    ) -> None:
        self._holdings = holdings
        self._upstreams = upstreams
        self._pages = pages
        self._seconds = seconds
        self._token = token
        self._events = events
        self._fetching: dict[str, Waiters[Incoming]] = {}

    async def respond(self, request: Request) -> Outcome:
        """The file, from disk, from a fetch in progress, or from upstream.

        Raises:
            NotServed: no upstream has it, or none could give it.
        """
        key = CacheKey.of(request.route)
        fetching = self._fetching.get(key.digest)
        if fetching is None:
            kept = self._holdings.find_fresh(key)
            if kept is not None and kept.body.is_suspect:
                kept = await self._holdings.checked(key, kept)
            if kept is not None:
                known = self._holdings.as_hit(kept.stored, request.route.kind, kept.body.length)
                return outcome_of_stored(request, known, kept.body)
            fetching = self._fetching.get(key.digest)  # while one was checked, somebody may have begun
        if fetching is None:
            if request.method == "HEAD":
                return await self._relayed(request, _HEAD)
            if wanted_range(request.fields, None, None) is not None:
                return await self._relayed_range(request)
            request = _without_range(request)  # an If-Range came with it, and the file is not known yet
        coming = fetching.result if fetching is not None else None
        # one who comes when all is there finds it; one who waited for it did not, however short it was
        status = CacheStatus.HIT if coming is not None and coming.fetch.is_whole else CacheStatus.MISS
        is_collapsed = fetching is not None
        incoming = await (fetching.wait() if fetching else self._fetch(request.route, key))
        return await self._from_incoming(request, incoming, status, is_collapsed=is_collapsed)

    # -- a body on its way -------------------------------------------------------------------------------------------

    async def _from_incoming(
        self, request: Request, incoming: Incoming, status: CacheStatus, *, is_collapsed: bool
    ) -> Outcome:
        fetch = incoming.fetch
        is_read = request.method != "HEAD"
        if is_read and not fetch.is_joinable:
            return await self._relayed(request, PLAINLY)
        specs: tuple[RangeSpec, ...] | None = None
        if is_read:
            specs = wanted_range(request.fields, incoming.etag, get(incoming.fields, "last-modified"))
        length = fetch.body.size if fetch.is_whole else fetch.length
        # of a window everybody reads all: one who stood ahead of it would wait for what is let go without him
        is_window = not fetch.body.is_whole_on_disk
        if specs is not None and (is_window or not is_near(specs, length, fetch.available)):
            return await self._relayed_range(request)
        known = Representation(
            fields=incoming.fields,
            length=length,
            etag=incoming.etag,
            cache_status=status,
            upstream=incoming.asked.candidate.site.name,
            fresh_seconds=self._holdings.ttl(request.route.kind),
            is_immutable=request.route.kind is not RouteKind.OTHER,
            is_collapsed=is_collapsed,
        )
        shape = shape_response(request.method, request.fields, known)
        return Outcome(shape, fetch if shape.has_body and is_read else None)

    def _fetch(self, route: Route, key: CacheKey) -> Deferred[Incoming]:
        """Begin to fetch a file, for all who want it."""
        fetching: Waiters[Incoming] = Waiters()
        self._fetching[key.digest] = fetching
        waiter = fetching.wait()
        Deferred.fromCoroutine(self._run(route, key, fetching))
        return waiter

    async def _run(self, route: Route, key: CacheKey, fetching: Waiters[Incoming]) -> None:
        """Fetch a file, let all follow it, keep it. Every end is told to those who wait; never fails itself."""
        attempt = Attempt()
        try:
            plan = await self._plan(route, attempt)
            incoming = await self._begun(route, key, plan, attempt)
        except PipcacheError as error:
            del self._fetching[key.digest]
            fetching.fail(error)
            return
        except Exception:
            self._events.crashed(f"asking for {route.path}")
            del self._fetching[key.digest]
            fetching.fail(PipcacheError("An error of this proxy; its log says more."))
            return
        try:
            fetching.fire(incoming)
            incoming.fetch.offered_to_all()
            await self._received(route, key, plan, incoming, attempt)
        except Exception:
            self._events.crashed(f"fetching {route.path}")
            incoming.fetch.give_up()
        finally:
            del self._fetching[key.digest]
            incoming.fetch.release()
            self._holdings.received(key)

    async def _begun(self, route: Route, key: CacheKey, plan: Plan, attempt: Attempt) -> Incoming:
        """A fetch whose first byte is there. Until then one upstream is as good as another, and nobody has noticed."""
        left = await self._holdings.resume(key, plan.digest)
        if left is not None:
            resumed = await self._resumed(route, key, plan, attempt, left)
            if resumed is not None:
                return resumed

        async def begin(asked: Asked) -> Incoming:
            body = self._holdings.receive(key, asked.response.length, plan.digest)
            fetch = Fetch(body, self._expected(key, plan))
            try:
                return await self._shown(key, asked, fetch, plan)
            except UpstreamError as error:
                is_liar = isinstance(error, DigestMismatch)
                await self._dropped(key, fetch, asked.candidate.site.name if is_liar else None)
                raise

        return await self._upstreams.ask(plan.candidates, attempt, route.path, begin)

    async def _resumed(
        self, route: Route, key: CacheKey, plan: Plan, attempt: Attempt, left: GrowingBody
    ) -> Incoming | None:
        """A fetch that goes on where somebody left it; None where that cannot be: from the start then."""
        fetch = Fetch(left, self._expected(key, plan))

        async def go_on(asked: Asked) -> Incoming:
            incoming = await self._shown(key, asked, fetch, plan)
            self._holdings.grown(key, fetch.length or fetch.body.size)
            return incoming

        places = [(candidate, None) for candidate in plan.candidates]
        incoming = None
        try:
            incoming = await self._rest(route, attempt, fetch, places, _REST_STATUSES, go_on)
        finally:
            if incoming is None:
                await self._dropped(key, fetch, "it is not known which" if fetch.is_wrong else None)
        return incoming

    async def _rest(
        self,
        route: Route,
        attempt: Attempt,
        fetch: Fetch,
        places: Sequence[tuple[Candidate, str | None]],
        accepted: frozenset[int],
        use: Callable[[Asked], Awaitable[T]],
    ) -> T | None:
        """What ``use`` makes of the first response that goes on where the body ends.

        Args:
            route: what is fetched.
            attempt: what the request has met so far.
            fetch: the body.
            places: where to ask, in this order, with the validator that the place gave for the body.
            accepted: which status codes are answers.
            use: as in ``Upstreams.ask``.

        Returns:
            None where there is none, nobody wants it any more, or the body turned out wrong. Whose bytes were wrong then
            nobody can say, so this blames nobody.
        """

        async def unless_over(asked: Asked) -> T | None:
            try:
                return await use(asked)
            except (DigestMismatch, Unwanted):
                return None

        for place, validator in places:
            if not fetch.is_wanted:
                return None
            manner = Manner(byte_range=f"bytes={fetch.body.size}-", if_range=validator, accepted=accepted)
            try:
                return await self._upstreams.ask((place,), attempt, route.path, unless_over, manner)
            except NotServed:
                continue
        return None

    def _expected(self, key: CacheKey, plan: Plan) -> Expected:
        return Expected(
            digest=plan.digest,
            hint=plan.hint,
            max_kept_bytes=self._holdings.max_kept_bytes,
            grown=partial(self._holdings.grown, key),
        )

    async def _shown(self, key: CacheKey, asked: Asked, fetch: Fetch, plan: Plan) -> Incoming:
        """Take the response; returns with its first byte, while the rest goes on.

        Raises:
            UpstreamError: it ended before there was anything to show.
        """

        async def take() -> UpstreamError | None:
            try:
                await fetch.take(asked.response)
            except UpstreamError as error:
                return error
            return None

        taking = Deferred.fromCoroutine(take())
        either: list[Deferred[Any]] = [taking, fetch.shown.wait()]
        error, _ = await DeferredList(either, fireOnOneCallback=True)
        if error is not None:
            raise error
        etag = f'"{plan.digest.hex[:32]}"' if plan.digest else f'"{self._token(16)}"'
        return Incoming(fetch, asked, etag, storable(asked.response.fields), taking)

    async def _dropped(self, key: CacheKey, fetch: Fetch, liar: str | None) -> None:
        """Let a body go that nobody has seen; into quarantine where somebody is to be named for it."""
        if liar is not None:
            await self._holdings.reject(key, fetch.body, liar)
        self._holdings.drop(fetch)
        fetch.release()
        self._holdings.received(key)

    async def _received(self, route: Route, key: CacheKey, plan: Plan, incoming: Incoming, attempt: Attempt) -> None:
        """See a body to its end, through as many upstreams as it takes, and keep it."""
        candidate, fetch = incoming.asked.candidate, incoming.fetch
        error = await incoming.taking
        if error is None:
            self._upstreams.succeeded(candidate.health_name)
        else:
            self._broke(route.path, incoming.asked, error)
            givers = [candidate.site.name]
            if fetch.is_wrong or not await self._handed_over(route, plan, incoming, attempt, givers):
                fetch.give_up()
                if fetch.is_wrong:
                    await self._holdings.reject(key, fetch.body, ", ".join(dict.fromkeys(givers)))
                if fetch.may_be_kept:
                    self._holdings.leave(fetch.body)
                else:
                    self._holdings.drop(fetch)
                return
        seconds = self._seconds() - incoming.asked.began_at
        self._events.fetched(route.path, candidate.site.name, fetch.body.size, seconds)
        stored = self._holdings.describe(key, route.kind, fetch, incoming.asked, incoming.etag)
        await self._holdings.publish(key, fetch, stored)

    async def _handed_over(
        self, route: Route, plan: Plan, incoming: Incoming, attempt: Attempt, givers: list[str]
    ) -> bool:
        """Whether some upstream gave the rest: the same one once more, others where the digest says what is right.

        Without a digest only a strong ETag shows that it is still the same body. Whoever gave some of it is added to
        ``givers``.
        """
        fetch, first = incoming.fetch, incoming.asked
        validator = strong_etag(first.response.fields)
        places = [first.candidate] if validator or plan.digest else []
        if plan.digest is not None:
            places += [each for each in plan.candidates if each != first.candidate]

        async def go_on(asked: Asked) -> bool:
            if plan.digest is None and strong_etag(asked.response.fields) not in (None, validator):
                asked.response.abandon()
                raise MalformedResponse("a range of another body, whatever If-Range said")
            size_before = fetch.body.size
            try:
                await fetch.take(asked.response)
            finally:
                if fetch.body.size > size_before:
                    givers.append(asked.candidate.site.name)
            self._upstreams.succeeded(asked.candidate.health_name)
            return True

        validators = [(place, validator if place == first.candidate else None) for place in places]
        accepted = _REST_STATUSES if plan.digest else _PART_ONLY
        is_whole = await self._rest(route, attempt, fetch, validators, accepted, go_on)
        if fetch.is_wrong:  # by whom is not known: the other one, asked first the next time, shows itself if it was he
            self._upstreams.failed(first.candidate.health_name, first.began_at, DigestMismatch("a body of several"))
        return is_whole is True

    # -- relayed -----------------------------------------------------------------------------------------------------

    async def _relayed_range(self, request: Request) -> Outcome:
        return await self._relayed(request, Manner(byte_range=get(request.fields, "range"), accepted=_RANGE_STATUSES))

    async def _relayed(self, request: Request, manner: Manner) -> Outcome:
        """What an upstream answers, as it is; not kept, and nobody joins it."""
        attempt = Attempt()
        plan = await self._plan(request.route, attempt)

        async def take(asked: Asked) -> Asked:
            if manner.method == "GET" and asked.response.status == 200:
                _check_empty(asked, plan.digest)
            return asked

        # of a part, or of a length, no digest says whether it is right
        candidates = plan.candidates if manner is PLAINLY else self._trusted(plan.candidates)
        asked = await self._upstreams.ask(candidates, attempt, request.route.path, take, manner)
        response = asked.response
        known = Representation(
            fields=relayed_fields(response.fields),
            length=None if manner.method == "HEAD" else response.length,
            etag=None,
            cache_status=CacheStatus.MISS,
            upstream=asked.candidate.site.name,
            status=response.status,
        )
        shape = shape_response(request.method, request.fields, known)
        if manner.method == "HEAD" or request.method == "HEAD":
            response.abandon()
            self._upstreams.succeeded(asked.candidate.health_name)
            return Outcome(shape)
        whole = plan.digest if response.status == 200 else None
        fetch = Fetch(self._holdings.store.window(), Expected(digest=whole))
        return Outcome(shape, _Relay(response, fetch, partial(self._relay, request.route.path, asked, fetch)))

    async def _relay(self, path: str, asked: Asked, fetch: Fetch) -> None:
        fetch.offered_to_all()
        try:
            await fetch.take(asked.response)
        except UpstreamError as error:
            fetch.give_up()
            self._broke(path, asked, error)
        except Exception:
            fetch.give_up()
            self._events.crashed(f"relaying {path}")
        else:
            if asked.response.status < 400:
                self._upstreams.succeeded(asked.candidate.health_name)
        finally:
            fetch.release()

    def _broke(self, path: str, asked: Asked, error: UpstreamError) -> None:
        """Say that a body broke off, and count it; one that nobody wanted any more did not."""
        if not isinstance(error, Unwanted):
            self._upstreams.failed(asked.candidate.health_name, asked.began_at, error)
            self._events.fetch_broke(path, asked.candidate.site.name, error)

    # -- where it is -------------------------------------------------------------------------------------------------

    async def _plan(self, route: Route, attempt: Attempt) -> Plan:
        """Where the thing may be had.

        Raises:
            NotServed: nowhere: no page links to it, or the page could not be had.
        """
        await self._upstreams.known()
        located = await self._located(route, attempt)
        if located is not None:
            return self._where_linked(route, located, attempt)
        if route.kind is RouteKind.LINKED_FILE:
            raise NotServed(404, f"The page of {route.project} links to no such file.")
        return Plan(self._trusted(self._everywhere(route, attempt)), hint=digest_in_path(route.path))

    async def _located(self, route: Route, attempt: Attempt) -> Located | None:
        if route.filename is None:
            return None
        project = route.project or project_of(route.filename)
        if project is None:
            return None
        path = route.path.removesuffix(METADATA_SUFFIX) if is_metadata_filename(route.filename) else route.path
        try:
            return await self._pages.locate(project, path, attempt)
        except PipcacheError:
            if route.kind is RouteKind.LINKED_FILE:
                raise
            return None

    def _where_linked(self, route: Route, located: Located, attempt: Attempt) -> Plan:
        """First where the page says, then, for a path of ``/packages/``, at the same path of the other upstreams."""
        is_metadata = route.filename is not None and is_metadata_filename(route.filename)
        url = _beside(located.file.url) if is_metadata else located.file.url
        hashes = located.file.metadata_hashes or {} if is_metadata else located.file.hashes
        site = next(site for site in self._upstreams.sites if site.name == located.upstream)
        host = next((each.name for each in self._upstreams.sites if each.has(url)), None)
        candidates = [Candidate(url, site, host)]
        if route.kind is RouteKind.FILE:
            candidates += [each for each in self._everywhere(route, attempt) if each.url != url]
        candidates.sort(key=lambda each: self._is_put_last(each.health_name, attempt))
        digest = preferred(hashes)
        return Plan(tuple(candidates) if digest else self._trusted(candidates), digest)

    def _is_put_last(self, health_name: str | None, attempt: Attempt) -> bool:
        return health_name is not None and (health_name in attempt.silent or self._upstreams.is_last(health_name))

    def _trusted(self, candidates: Iterable[Candidate]) -> tuple[Candidate, ...]:
        """Those whose bytes may be passed on where nothing proves them right."""
        untrusted = {site.name for site in self._upstreams.sites if not site.is_trusted}
        return tuple(each for each in candidates if each.health_name not in untrusted)

    def _everywhere(self, route: Route, attempt: Attempt) -> tuple[Candidate, ...]:
        places = ((site, site.url(route.path, route.query)) for site in self._upstreams.in_order(attempt))
        return tuple(Candidate(url, site, site.name) for site, url in places if url is not None)


class _Relay:
    """A fetch that begins when its one follower is there."""

    def __init__(self, response: UpstreamResponse, fetch: Fetch, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._response = response
        self._fetch = fetch
        self._run = run
        self._is_begun = False
        self.read_at = fetch.read_at
        self.taken = fetch.taken

    @property
    def available(self) -> int:
        """Bytes that may be read now."""
        return self._fetch.available

    @property
    def is_whole(self) -> bool:
        """Whether that is all."""
        return self._fetch.is_whole

    def follow(self, follower: Follower) -> None:
        """Begin."""
        self._is_begun = True
        self._fetch.follow(follower)
        Deferred.fromCoroutine(self._run())

    def leave(self, follower: Follower) -> None:
        """It has left; perhaps before it could follow."""
        if self._is_begun:
            self._fetch.leave(follower)
        else:
            self.unwanted()

    def unwanted(self) -> None:
        """Nobody will follow."""
        self._response.abandon()


def _check_empty(asked: Asked, digest: Digest | None) -> None:
    """Refuse a body that is announced empty and is promised not to be: to a client its head alone would be the whole."""
    if digest is None or asked.response.length != 0 or new_hasher(digest.name).hexdigest() == digest.hex:
        return
    asked.response.abandon()
    raise DigestMismatch("it is empty, and the index promised that it is not")


def _without_range(request: Request) -> Request:
    return evolve(request, fields=tuple(field for field in request.fields if field[0] != "range"))


def _beside(url: str) -> str:
    """The address of a file's core metadata: PEP 658 appends to the path, before any query."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(path=parts.path + METADATA_SUFFIX))
