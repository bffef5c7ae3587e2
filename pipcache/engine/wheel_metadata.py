"""Core metadata that no upstream gives, made of the wheel that it belongs to.

Some mirrors advertise on their pages what they do not have, or have other bytes; pip then ends with an error, though the
wheel is there. What is made is what they should have: the METADATA of the wheel (PEP 658), held to the page's digest like
any answer. The wheel comes as it comes to a client, so it is fetched once for all, verified and kept; the installer asks
for it next anyway.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from twisted.internet.defer import Deferred

from pipcache.engine.interfaces import BodySource, InThread
from pipcache.engine.outcome import Outcome, Request
from pipcache.engine.upstreams import Asked, Attempt, Candidate, Upstreams
from pipcache.rules.errors import MalformedResponse, NotCached, NotServed
from pipcache.rules.fields import Fields, get
from pipcache.rules.routes import Route
from pipcache.rules.sites import BodyReceiver
from pipcache.simple.digests import Digest, new_hasher
from pipcache.simple.wheels import core_metadata

_ONLY_KEPT: Fields = (("cache-control", "only-if-cached"),)


class WheelMetadata:
    """Makes core metadata.

    Args:
        respond: gives a wheel as a client would get it.
        upstreams: whose wheels they are.
        in_thread: where wheels are read.
        seconds: a clock.
        max_wheel_bytes: of a larger one none is made, as it would not be kept and each client would fetch it again.
    """

    def __init__(
        self,
        respond: Callable[[Request], Awaitable[Outcome]],
        upstreams: Upstreams,
        in_thread: InThread,
        seconds: Callable[[], float],
        max_wheel_bytes: int,
    ) -> None:
        self._respond = respond
        self._upstreams = upstreams
        self._in_thread = in_thread
        self._seconds = seconds
        self._max_wheel_bytes = max_wheel_bytes

    async def made(self, wheel: Route, digest: Digest | None, attempt: Attempt, *, may_fetch: bool) -> Asked | None:
        """The core metadata of a wheel, as if the upstream whose wheel it is had answered it.

        Args:
            wheel: where the wheel is.
            digest: what the metadata must hash to, None where nobody has said so.
            attempt: what the request for the metadata has met so far.
            may_fetch: whether the wheel may be fetched, where it is not kept.

        Returns:
            None where there is no such wheel, it has no metadata that is right, or is too big.

        Raises:
            PipcacheError: the wheel cannot be had or read now; it may be later.
        """
        request = Request(wheel, fields=() if may_fetch else _ONLY_KEPT, via=attempt.via)
        try:
            outcome = await self._respond(request)
        except NotCached:
            return None
        except NotServed as error:
            if error.is_absence:
                return None
            raise
        if int(get(outcome.shape.fields, "content-length") or 0) > self._max_wheel_bytes:
            outcome.drop()
            return None
        content = None if outcome.source is None else await self._read(wheel, outcome.source)
        if content is None or not _is_right(content, digest):
            return None
        return self._as_answer(content, wheel, get(outcome.shape.fields, "x-upstream"))

    def _as_answer(self, content: bytes, wheel: Route, upstream: str | None) -> Asked:
        """Counts for nobody's health, as nobody sent it."""
        sites = self._upstreams.sites
        site = next((each for each in sites if each.name == upstream), sites[0])  # it may be configured no more
        now = self._seconds()
        url = site.url(wheel.path) or site.index_url
        return Asked(_MadeResponse(content, url), Candidate(url, site, None), now, now)

    async def _read(self, wheel: Route, source: BodySource) -> bytes | None:
        waiting = _UntilWhole(source, self._max_wheel_bytes)
        try:
            if not await waiting.ended():
                return None
            read = partial(core_metadata, source.read_at, source.available, wheel.filename or "")
            return await self._in_thread(read)
        except MalformedResponse:
            return None
        finally:
            source.leave(waiting)


class _UntilWhole:
    """A follower that reads nothing before the body is whole, and holds nobody up."""

    def __init__(self, source: BodySource, max_bytes: int) -> None:
        self._source = source
        self._max_bytes = max_bytes
        self._ended: Deferred[bool] = Deferred()

    @property
    def position(self) -> int:
        """All that there is: of a body in memory nothing is held for it."""
        return self._source.available

    def ended(self) -> Deferred[bool]:
        """Whether the body is whole; False as soon as it is too big. Follows from here on, until it is left.

        Raises:
            NotServed: it broke off.
        """
        self._source.follow(self)
        self.advanced()
        return self._ended

    def offered(self, offset: int, data: bytes) -> None:
        """See how long it has become."""
        self._check_length()

    def advanced(self) -> None:
        """See whether it is whole."""
        self._check_length()
        if self._source.is_whole and not self._ended.called:
            self._ended.callback(True)

    def broken(self) -> None:
        """There is no wheel to read; the next one who asks may be luckier."""
        if not self._ended.called:
            self._ended.errback(NotServed(502, "The wheel that this is made of broke off."))

    def _check_length(self) -> None:
        if self._source.available > self._max_bytes and not self._ended.called:
            self._ended.callback(False)


class _MadeResponse:
    """What was made, as if an upstream had answered it."""

    status = 200

    def __init__(self, content: bytes, url: str) -> None:
        self.url = url
        self.fields: Fields = (("content-type", "application/octet-stream"),)  # as indexes say it
        self.length: int | None = len(content)
        self._content = content

    def deliver(self, receiver: BodyReceiver) -> None:
        """All of it, at once."""
        receiver.received(self._content)
        receiver.ended(length_was_known=True)

    def pause(self) -> None:
        """Nothing more comes."""

    def resume(self) -> None:
        """Nothing more comes."""

    def abandon(self) -> None:
        """Nobody is told."""


def _is_right(content: bytes, digest: Digest | None) -> bool:
    if digest is None:
        return True
    hasher = new_hasher(digest.name)
    hasher.update(content)
    return hasher.hexdigest() == digest.hex
