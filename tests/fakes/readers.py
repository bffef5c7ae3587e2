"""Simulated clients: each asks for one thing, reads at a pace of its own, may leave, and knows what it may be given."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from pipcache.engine.cache import Cache
from pipcache.engine.follower import BodyFollower
from pipcache.engine.interfaces import Clock
from pipcache.engine.outcome import Outcome, Request
from pipcache.rules.errors import PipcacheError
from pipcache.rules.fields import Fields, get
from tests.fakes.truth import TRUTH, rendered, route_of

if TYPE_CHECKING:
    from tests.fakes.exchanges import Said


class Wrong(AssertionError):
    """Something that must never be."""


class Reader:
    """One client: the request it makes, and the ``BodySink`` of its response.

    ``end`` says how it ended: finished, aborted, left, refused, cut (the server died); None while it has not.
    """

    def __init__(self, path: str, method: str, fields: Fields, random: Random, haste: float) -> None:
        self.path = path
        self.method = method
        self.fields = fields
        self.end: str | None = None
        self.status = 0
        self.head: Fields = ()
        self.received = bytearray()
        self.is_paused = False
        self.has_promise = False  # whether a page that is kept promised a digest when it asked
        self.follower: BodyFollower | None = None
        self._random = random
        self._haste = haste

    def ask(self, cache: Cache, clock: Clock) -> None:
        """Send the request."""
        Deferred.fromCoroutine(self._ask(cache, clock)).addErrback(self._crashed)

    async def _ask(self, cache: Cache, clock: Clock) -> None:
        try:
            outcome = await cache.respond(Request(route_of(self.path), self.method, self.fields))
        except PipcacheError as error:
            self.end = self.end or "refused"
            if error.status not in (404, 502, 503, 504):
                raise Wrong(f"refused with {error.status}: {error}") from error
            return
        if self.end is not None:
            outcome.drop()
            return
        self._answered(outcome, clock)

    def _answered(self, outcome: Outcome, clock: Clock) -> None:
        self.status, self.head = outcome.shape.status, outcome.shape.fields
        if outcome.source is None:
            self.end = "finished"
            return
        self.follower = BodyFollower(outcome.source, self, clock, outcome.shape.start, outcome.shape.stop)
        if self._haste < 1.0 and self._random.random() < 0.02:
            self.leave()  # gone by the time that it could be told
            return
        self.follower.begin()

    def _crashed(self, failure: object) -> None:
        self.end = "crashed"
        self.crash = failure

    # -- the sink ----------------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Take these bytes; the connection may be full then."""
        if self.end is not None or self.is_paused:
            raise Wrong(f"bytes for a client that is {self.end or 'paused'}")
        self.received += data
        if self._random.random() >= self._haste:
            self.pause()

    def finish(self) -> None:
        """The response is complete."""
        if self.end is not None:
            raise Wrong(f"finished a client that is {self.end}")
        self.end = "finished"

    def abort(self) -> None:
        """The connection is broken."""
        if self.end is not None:
            raise Wrong(f"broke off a client that is {self.end}")
        self.end = "aborted"

    # -- the client --------------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Read no more for now."""
        if self.follower is not None and self.end is None:
            self.is_paused = True
            self.follower.pauseProducing()

    def resume(self) -> None:
        """Read on."""
        if self.is_paused:
            self.is_paused = False
            assert self.follower is not None
            self.follower.resumeProducing()

    def leave(self) -> None:
        """Go away."""
        self.end = self.end or "left"
        if self.follower is not None:
            self.follower.stopProducing()

    # -- what it may be given ----------------------------------------------------------------------------------------

    def check(self, said: Said) -> None:
        """Whether what was received, and said to be complete, is right.

        Raises:
            Wrong: it is not.
        """
        if self.end != "finished" or self.status not in (200, 206) or self.method == "HEAD":
            return
        body = bytes(self.received)
        length = get(self.head, "content-length")
        if length is not None and len(body) != int(length):
            raise Wrong(f"{len(body)} bytes of {self.path}, where {length} were announced")
        if not any(body == self._cut(content) for content in self._allowed(said)):
            raise Wrong(f"{len(body)} bytes of {self.path} that are not right ({self.status}, {self.head})")

    def _allowed(self, said: Said) -> set[bytes]:
        """The whole contents that its response may be of; the bodies themselves where it was relayed."""
        etag = get(self.head, "etag")
        if self.path.startswith("/simple/"):
            project = self.path.split("/")[2]
            pages = said.pages.get(project, set()) | said.closed_pages.get(project, set())
            return {rendered(project, content, site) for content, site in pages}
        if etag is None:
            if self.status == 206:
                return said.parts.get(self.path, set())
            return said.whole.get(self.path, set()) | said.closed.get(self.path, set())
        digest = TRUTH.digests.get(self.path)
        status = get(self.head, "cache-status") or ""
        if self.has_promise and "fwd" in status and "collapsed" not in status:
            return {TRUTH.contents[self.path]}
        if digest is not None and etag == f'"{digest[:32]}"':
            return {TRUTH.contents[self.path]}
        return said.whole.get(self.path, set()) | said.closed.get(self.path, set())

    def _cut(self, content: bytes) -> bytes:
        content_range = get(self.head, "content-range")
        if content_range is None or get(self.head, "etag") is None:
            return content
        first, _, last = content_range.removeprefix("bytes ").partition("/")[0].partition("-")
        return content[int(first) : int(last) + 1]
