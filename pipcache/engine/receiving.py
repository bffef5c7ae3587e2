"""How one body is received: from its first byte to its publication, through as many upstreams as it takes.

Until its first byte is visible one upstream is as good as another: a body that breaks off or turns out wrong before that is
replaced by the next upstream's, and nobody notices. From then on the bytes that came are the beginning, and whoever sends
the rest must go on where they end: the same upstream once more, the others only where a digest says what is right. What
somebody left half done, killed or broken off, is a beginning too.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, TypeVar

from attrs import frozen
from twisted.internet.defer import Deferred, DeferredList

from pipcache.engine.fetch import Expected, Fetch
from pipcache.engine.holdings import Holdings
from pipcache.engine.interfaces import Events, GrowingBody
from pipcache.engine.upstreams import Asked, Attempt, Candidate, Manner, Upstreams
from pipcache.rules.errors import DigestMismatch, MalformedResponse, NotServed, Unwanted, UpstreamError
from pipcache.rules.fields import Fields, storable, strong_etag
from pipcache.rules.key import CacheKey
from pipcache.rules.routes import Route
from pipcache.simple.digests import Digest

T = TypeVar("T")

_PART_ONLY = frozenset({206})
_REST_STATUSES = frozenset({200, 206})  # of a 200, what is there already is skipped


@frozen
class Plan:
    """Where a thing may be had, in this order, and what its bytes must hash to, if anybody has said so.

    ``hint`` is what the path itself says, see ``simple.digests.digest_in_path``. ``shown_whole_bytes``: it is no longer
    than that, and shown to nobody before it is whole, so that one which is wrong can be replaced; None: it is shown as it
    comes. ``wheel``: what it can be made of where it cannot be had.
    """

    candidates: tuple[Candidate, ...]
    digest: Digest | None = None
    hint: Digest | None = None
    shown_whole_bytes: int | None = None
    wheel: Route | None = None


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


class Receiving:
    """Receives bodies and keeps them; tells health and events how it went."""

    def __init__(
        self,
        holdings: Holdings,
        upstreams: Upstreams,
        seconds: Callable[[], float],
        token: Callable[[int], str],
        events: Events,
    ) -> None:
        self._holdings = holdings
        self._upstreams = upstreams
        self._seconds = seconds
        self._token = token
        self._events = events

    async def begun(self, route: Route, key: CacheKey, plan: Plan, attempt: Attempt) -> Incoming:
        """A fetch whose first byte is there. Until then one upstream is as good as another, and nobody has noticed."""
        left = await self._holdings.resume(key, plan.digest)
        if left is not None:
            resumed = await self._resumed(route, key, plan, attempt, left)
            if resumed is not None:
                return resumed
        return await self._upstreams.ask(plan.candidates, attempt, route.path, partial(self.taken, key, plan))

    async def taken(self, key: CacheKey, plan: Plan, asked: Asked) -> Incoming:
        """A fetch of this response, whose first byte is there.

        Raises:
            UpstreamError: it ended before there was anything to show.
        """
        body = self._holdings.receive(key, asked.response.length, plan.digest)
        fetch = Fetch(body, self._expected(key, plan), appending=self._holdings.appending)
        try:
            return await self._shown(key, asked, fetch, plan)
        except UpstreamError as error:
            is_liar = isinstance(error, DigestMismatch)
            await self._dropped(key, fetch, asked.candidate.site.name if is_liar else None)
            raise

    async def _resumed(
        self, route: Route, key: CacheKey, plan: Plan, attempt: Attempt, left: GrowingBody
    ) -> Incoming | None:
        """A fetch that goes on where somebody left it; None where that cannot be: from the start then."""
        fetch = Fetch(left, self._expected(key, plan), appending=self._holdings.appending)

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
            max_bytes=plan.shown_whole_bytes,
            grown=partial(self._holdings.grown, key),
        )

    async def _shown(self, key: CacheKey, asked: Asked, fetch: Fetch, plan: Plan) -> Incoming:
        """Take the response; returns with its first byte, while the rest goes on, or when all of it is there (``Plan``).

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
        either: list[Deferred[Any]] = [taking]
        if plan.shown_whole_bytes is None:
            either.append(fetch.shown.wait())
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

    async def to_its_end(self, route: Route, key: CacheKey, plan: Plan, incoming: Incoming, attempt: Attempt) -> None:
        """See a body to its end, through as many upstreams as it takes, and keep it."""
        candidate, fetch = incoming.asked.candidate, incoming.fetch
        error = await incoming.taking
        if error is None:
            self._upstreams.succeeded(candidate.health_name, fetch.measured_bytes, incoming.asked.head_at)
        else:
            self.broke(route.path, incoming.asked, error)
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
            self._upstreams.succeeded(asked.candidate.health_name, fetch.measured_bytes, asked.head_at)
            return True

        validators = [(place, validator if place == first.candidate else None) for place in places]
        accepted = _REST_STATUSES if plan.digest else _PART_ONLY
        is_whole = await self._rest(route, attempt, fetch, validators, accepted, go_on)
        if fetch.is_wrong:  # by whom is not known: the other one, asked first the next time, shows itself if it was he
            self._upstreams.failed(first.candidate.health_name, first.began_at, DigestMismatch("a body of several"))
        return is_whole is True

    def broke(self, path: str, asked: Asked, error: UpstreamError) -> None:
        """Say that a body broke off, and count it; one that nobody wanted any more did not."""
        if not isinstance(error, Unwanted):
            self._upstreams.failed(asked.candidate.health_name, asked.began_at, error)
            self._events.fetch_broke(path, asked.candidate.site.name, error)
