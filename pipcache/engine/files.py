"""Distribution files, and everything else under an upstream that is no page: kept as they are, streamed as they come.

Where a file is, its project's page says; the digest that the page promises is what its body is held to. A path that no page
names is asked of every upstream. What is asked for in part, or by HEAD, before it is kept, is relayed and not kept.

The core metadata of a wheel is small, may have to be made, and is fetched whole whatever is asked of it.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from attrs import evolve
from twisted.internet.defer import Deferred

from pipcache.engine.absences import Absences
from pipcache.engine.ahead import Ahead
from pipcache.engine.fetch import Expected, Fetch
from pipcache.engine.holdings import Holdings
from pipcache.engine.interfaces import Clock, Events, Follower, InThread, UpstreamResponse
from pipcache.engine.outcome import Outcome, Request, outcome_of_stored
from pipcache.engine.pages import Pages
from pipcache.engine.planning import Planning, wheel_of
from pipcache.engine.receiving import Incoming, Plan, Receiving
from pipcache.engine.repeats import Repeat
from pipcache.engine.upstreams import PLAINLY, Asked, Attempt, Manner, Upstreams
from pipcache.engine.waiters import Waiters
from pipcache.engine.wheel_metadata import WheelMetadata
from pipcache.rules.errors import (
    DigestMismatch,
    NotCached,
    NotServed,
    PipcacheError,
    StorageError,
    UpstreamError,
)
from pipcache.rules.fields import get
from pipcache.rules.freshness import Directives
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
from pipcache.simple.digests import Digest, new_hasher

_HEAD = Manner(method="HEAD")
_RANGE_STATUSES = frozenset({200, 206, 416})


class Files:
    """Answers requests for what is streamed."""

    def __init__(
        self,
        holdings: Holdings,
        upstreams: Upstreams,
        absences: Absences,
        pages: Pages,
        in_thread: InThread,
        clock: Clock,
        token: Callable[[int], str],
        events: Events,
        max_ahead_bytes: int = 0,
    ) -> None:
        self._holdings = holdings
        self._upstreams = upstreams
        self._absences = absences
        self._events = events
        self._wheel_metadata = WheelMetadata(self.respond, upstreams, in_thread, clock.seconds, holdings.max_kept_bytes)
        self._planning = Planning(upstreams, pages)
        self._receiving = Receiving(holdings, upstreams, clock.seconds, token, events)
        self.ahead = Ahead(pages.fetch_ahead, self.fetch_ahead, max_ahead_bytes, clock, events)
        self._fetching: dict[str, Waiters[Incoming]] = {}

    async def respond(self, request: Request) -> Outcome:
        """The file, from disk, from a fetch in progress, or from upstream.

        Raises:
            NotCached: it is not kept, and the client wants nobody asked.
            NotServed: no upstream has it, or none could give it.
        """
        key = CacheKey.of(request.route)
        directives = Directives.of(request.fields)
        wheel = wheel_of(request.route)
        if wheel is not None and request.method == "GET" and not directives.is_only_if_cached:
            self.ahead.metadata_is_asked_for(wheel)
        fetching = self._fetching.get(key.digest)
        if fetching is None:
            kept = self._holdings.find_fresh(key)
            if kept is not None and kept.body.is_suspect:
                kept = await self._holdings.checked(key, kept)
            if kept is not None:
                known = self._holdings.as_stored(kept.stored, request.route.kind, kept.body.length)
                repeat = Repeat(key, kept.stored, kept.body.length, False, "", self._holdings, request.route.kind)
                return outcome_of_stored(request, known, kept.body, repeat)
            fetching = self._fetching.get(key.digest)  # while one was checked, somebody may have begun
        if directives.is_only_if_cached and fetching is None:
            raise NotCached("This is not kept here, and the request says only-if-cached.")
        if fetching is None:
            self._absences.check(key)
        try:
            return await self._from_upstream(request, key, fetching)
        except NotServed as error:
            self._absences.note(key, request.route.kind, error)
            raise

    async def fetch_ahead(self, route: Route, max_bytes: int | None = None) -> None:
        """Fetch a file that nobody has asked for yet, where it is not kept, on its way, or known to be absent.

        Args:
            route: of the file.
            max_bytes: a file that its page says to be larger, or of which it does not say, is left alone; None: none is.

        Raises:
            NotServed: no upstream has it, or none could give it.
        """
        key = CacheKey.of(route)
        if self._holdings.find(key) is not None:
            return
        if max_bytes is not None:
            located = await self._planning.located(route, Attempt())
            size = None if located is None else located.file.size
            if size is None or size > max_bytes:
                return
        if key.digest in self._fetching:
            return
        self._absences.check(key)
        try:
            await self._fetch(Request(route), key)
        except NotServed as error:
            self._absences.note(key, route.kind, error)
            raise

    async def _from_upstream(self, request: Request, key: CacheKey, fetching: Waiters[Incoming] | None) -> Outcome:
        if fetching is None and wheel_of(request.route) is None:
            if request.method == "HEAD":
                return await self._relayed(request, _HEAD)
            if wanted_range(request.fields, None, None) is not None:
                return await self._relayed_range(request)
            request = _without_range(request)  # an If-Range came with it, and the file is not known yet
        coming = fetching.result if fetching is not None else None
        # one who comes when all is there finds it; one who waited for it did not, however short it was
        status = CacheStatus.HIT if coming is not None and coming.fetch.is_whole else CacheStatus.MISS
        is_collapsed = fetching is not None
        incoming = await (fetching.wait() if fetching else self._fetch(request, key))
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
        is_window = not fetch.body.is_whole_on_disk and not fetch.is_whole
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

    def _fetch(self, request: Request, key: CacheKey) -> Deferred[Incoming]:
        """Begin to fetch a file, for all who want it."""
        fetching: Waiters[Incoming] = Waiters()
        self._fetching[key.digest] = fetching
        waiter = fetching.wait()
        Deferred.fromCoroutine(self._run(request.route, key, fetching, Attempt(request.via)))
        return waiter

    async def _run(self, route: Route, key: CacheKey, fetching: Waiters[Incoming], attempt: Attempt) -> None:
        """Fetch a file, let all follow it, keep it. Every end is told to those who wait; never fails itself."""
        try:
            plan = await self._planning.plan(route, attempt)
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
            if plan.wheel is not None:
                self._look_ahead(incoming.fetch)
            await self._receiving.to_its_end(route, key, plan, incoming, attempt)
        except Exception:
            self._events.crashed(f"fetching {route.path}")
            incoming.fetch.give_up()
        finally:
            del self._fetching[key.digest]
            incoming.fetch.release()
            self._holdings.received(key)

    def _look_ahead(self, metadata: Fetch) -> None:
        """See what core metadata that has come leads to."""
        if metadata.is_whole and self.ahead.is_wanted:
            with suppress(StorageError):
                self.ahead.metadata_came(metadata.read_at(0, metadata.available))

    async def _begun(self, route: Route, key: CacheKey, plan: Plan, attempt: Attempt) -> Incoming:
        """A fetch whose first byte is there, from upstream or of what is made where no upstream has it.

        Where an upstream has trouble of its own, which will pass, only what is kept is taken to make it of.
        """
        try:
            return await self._receiving.begun(route, key, plan, attempt)
        except NotServed as error:
            if plan.wheel is None:
                raise
            made = await self._wheel_metadata.made(plan.wheel, plan.digest, attempt, may_fetch=error.is_lacking)
            if made is None:
                raise
            return await self._receiving.taken(key, plan, made)

    # -- relayed -----------------------------------------------------------------------------------------------------

    async def _relayed_range(self, request: Request) -> Outcome:
        return await self._relayed(request, Manner(byte_range=get(request.fields, "range"), accepted=_RANGE_STATUSES))

    async def _relayed(self, request: Request, manner: Manner) -> Outcome:
        """What an upstream answers, as it is; not kept, and nobody joins it."""
        attempt = Attempt(request.via)
        plan = await self._planning.plan(request.route, attempt)

        async def take(asked: Asked) -> Asked:
            if manner.method == "GET" and asked.response.status == 200:
                _check_empty(asked, plan.digest)
            return asked

        # of a part, or of a length, no digest says whether it is right
        candidates = plan.candidates if manner is PLAINLY else self._planning.trusted(plan.candidates)
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
            self._receiving.broke(path, asked, error)
        except Exception:
            fetch.give_up()
            self._events.crashed(f"relaying {path}")
        else:
            if asked.response.status < 400:
                self._upstreams.succeeded(asked.candidate.health_name, fetch.measured_bytes, asked.head_at)
        finally:
            fetch.release()


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
    if get(request.fields, "range") is None:
        return request
    return evolve(request, fields=tuple(field for field in request.fields if field[0] != "range"))
