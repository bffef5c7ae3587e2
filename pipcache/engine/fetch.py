"""One request to an upstream in progress: the body it brings, and those who follow it.

The tee. Each chunk is appended to the growing body first and offered to the followers second. A follower at that very
offset writes it to its client at once, the others read the body later. The body is the only buffer, so one client's speed
is nobody else's affair, and one that joins late reads from the start.

The end. The chunk that would complete the body is withheld until the body is known to be right: its length is the one that
upstream announced, its digest the one that the index promised. Until then no client can have a whole response, so a wrong
body can be broken off visibly. Where the length is not known only the terminator is withheld.

A body that has no file is a window. Then upstream is paused while the slowest follower is far behind, nobody joins any
more once bytes were let go, and when the last follower leaves there is nobody to fetch for.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import frozen
from twisted.internet.defer import Deferred

from pipcache.engine.interfaces import Follower, GrowingBody, UpstreamResponse
from pipcache.rules.errors import DigestMismatch, MalformedResponse, TruncatedBody, Unwanted, UpstreamError
from pipcache.simple.digests import Digest, new_hasher

WINDOW_BYTES = 1 << 18


@frozen
class Expected:
    """What is known of a body before it comes.

    ``digest``: what the index promised. ``max_kept_bytes``: a body that turns out longer is passed on, not kept.
    ``grown`` is told the size of a body of unknown length as it grows.
    ``max_bytes``: one that turns out longer is refused. ``is_held_whole``: it is needed whole in the end, so where it has
    no file it is held in memory, up to ``max_bytes``.
    """

    digest: Digest | None = None
    max_kept_bytes: int | None = None
    max_bytes: int | None = None
    is_held_whole: bool = False
    grown: Callable[[int], None] | None = None


class Fetch:
    """The body of one upstream response: a ``BodyReceiver`` on one side, a ``BodySource`` on the other.

    Whoever made it calls ``run`` once, and ``release`` when it needs the body no more; the body is closed when the followers
    have left too.
    """

    def __init__(self, response: UpstreamResponse, body: GrowingBody, expected: Expected) -> None:
        self.response = response
        self.body = body
        self.length = response.length
        self.is_whole = False
        self.had_length = True
        self.available = 0
        self._expected = expected
        self._hasher = (
            new_hasher(expected.digest.name) if expected.digest and expected.digest.name != "sha256" else None
        )
        self._followers: list[Follower] = []
        self._ended: Deferred[None] = Deferred()
        self._error: UpstreamError | None = None
        self._is_over = False
        self._is_released = False
        self._is_paused = False

    # -- for its owner -----------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Take the body from upstream; returns when it is whole and right.

        Raises:
            UpstreamError: it is not; every follower's client was broken off. ``Unwanted`` where there was none.
        """
        if not self._is_over:  # the last one may have left already
            if self._needs_followers and not self._followers:
                self._give_up(_unwanted())
            else:
                self.response.deliver(self)
        await self._ended

    @property
    def may_be_kept(self) -> bool:
        """Whether the body is, as far as it came, on disk and not too big to keep."""
        most = self._expected.max_kept_bytes
        return self.body.is_whole_on_disk and (most is None or self.body.size <= most)

    @property
    def is_joinable(self) -> bool:
        """Whether one who comes now could read it from the start."""
        return self._error is None and not self._is_released and self.body.first_readable == 0

    def release(self) -> None:
        """The owner needs the body no more."""
        self._is_released = True
        self._close_if_unread()

    # -- for its followers -------------------------------------------------------------------------------------------

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes at ``offset``."""
        return self.body.read_at(offset, count)

    def follow(self, follower: Follower) -> None:
        """Tell this follower of every chunk from now on; at once, if the body has broken off."""
        self._followers.append(follower)
        if self._error is not None:
            follower.broken()

    def unwanted(self) -> None:
        """One who might have followed does not; that changes nothing for the others."""

    def leave(self, follower: Follower) -> None:
        """Tell it no more."""
        if follower in self._followers:
            self._followers.remove(follower)
        if self._needs_followers and not self._followers and not self._is_over:
            self._give_up(_unwanted())
        self.taken()
        self._close_if_unread()

    def taken(self) -> None:
        """Let go what all are past, and go on when the slowest has caught up."""
        if self.body.window_bytes == 0 or self._expected.is_held_whole or not self._followers:
            return
        self.body.let_go(min(follower.position for follower in self._followers))
        if self._is_paused and not self._is_over and self.body.window_bytes <= WINDOW_BYTES // 2:
            self._is_paused = False
            self.response.resume()

    # -- for the tee -------------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Take the next chunk and offer it."""
        if self._is_over:
            return
        offset = self.body.size
        self.body.append(data)
        if self._hasher is not None:
            self._hasher.update(data)
        if self._expected.max_bytes is not None and self.body.size > self._expected.max_bytes:
            self._give_up(MalformedResponse(f"a body of more than {self._expected.max_bytes} bytes"))
            return
        if self.length is None or self.body.size < self.length:
            self.available = self.body.size
            for follower in tuple(self._followers):
                follower.offered(offset, data)
        if self._needs_followers and not self._is_over:
            self._hold_back()
        elif self.length is None and self._expected.grown is not None:
            self._expected.grown(self.body.size)

    def ended(self, length_was_known: bool) -> None:
        """Upstream says that this was all: see whether it is right."""
        if self._is_over:
            return
        self.had_length = length_was_known
        if self.length is not None and self.body.size != self.length:
            self._end(TruncatedBody(f"{self.body.size} bytes came of {self.length}"))
            return
        digest = self._expected.digest
        if digest is not None:
            found = self.body.sha256 if self._hasher is None else self._hasher.hexdigest()
            if found != digest.hex:
                self._end(DigestMismatch(f"its {digest.name} is {found}, the index promised {digest.hex}"))
                return
        self._end(None)

    def failed(self, error: UpstreamError) -> None:
        """Upstream broke off."""
        if not self._is_over:
            self._end(error)

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def is_verified(self) -> bool:
        """Whether the body is known to be whole: by a length, by the chunks' terminator, or by its digest."""
        return self.is_whole and (self.had_length or self._expected.digest is not None)

    @property
    def _needs_followers(self) -> bool:
        return not self.body.is_whole_on_disk and not self._expected.is_held_whole

    def _hold_back(self) -> None:
        if not self._followers:
            self._give_up(_unwanted())
            return
        self.body.let_go(min(follower.position for follower in self._followers))
        has_all = self.body.size == self.length  # and waits for the end, which no reading could bring nearer
        if not self._is_paused and not has_all and self.body.window_bytes > WINDOW_BYTES:
            self._is_paused = True
            self.response.pause()

    def _give_up(self, error: UpstreamError) -> None:
        self.response.abandon()
        self._end(error)

    def _end(self, error: UpstreamError | None) -> None:
        self._is_over = True
        self._error = error
        if error is None:
            self.is_whole = True
            self.available = self.body.size
        for follower in tuple(self._followers):
            if error is None:
                follower.advanced()
            else:
                follower.broken()
        if error is None:
            self._ended.callback(None)
        else:
            self._ended.errback(error)

    def _close_if_unread(self) -> None:
        if self._is_released and not self._followers:
            self.body.close()


def _unwanted() -> Unwanted:
    return Unwanted("the last client left, and the body cannot be kept")
