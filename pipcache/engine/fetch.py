"""One body being fetched: those who follow it, and the upstream responses that it comes from, one after the other.

The tee. Each chunk is appended to the growing body first and offered to the followers second. A follower at that very offset
writes it to its client at once, the others read the body later. The body is the only buffer, so one client's speed is nobody
else's affair, and one that joins late reads from the start. The chunk that came last is at hand until the next one, or
until the owner is through: who begins with the first, or waited for the last to be verified, reads that without the disk.

The end. The chunk that would complete the body is withheld until the body is known to be right: its length is the one that
upstream announced, its digest the one that the index promised. Until then no client can have a whole response, so a wrong
body can be broken off visibly. Where the length is not known only the terminator is withheld.

Hand-over. A response that breaks off ends ``take``, not the fetch: the owner may give it another response, which goes on
where the body ends, from the same upstream or another. The digest runs on, the clients see a pause. Only ``give_up`` breaks
them off.

A body that has no file is a window. Then upstream is paused while the slowest follower is far behind, nobody joins any more
once bytes were let go, and when the last follower leaves there is nobody to fetch for.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from attrs import frozen
from twisted.internet.defer import Deferred

from pipcache.engine.appending import Appending, Chunks
from pipcache.engine.interfaces import Follower, GrowingBody, UpstreamResponse
from pipcache.engine.waiters import Waiters
from pipcache.rules.errors import DigestMismatch, MalformedResponse, TruncatedBody, Unwanted, UpstreamError
from pipcache.rules.fields import get
from pipcache.rules.ranges import parse_content_range
from pipcache.simple.digests import Digest, Hasher, new_hasher

WINDOW_BYTES = 1 << 18


@frozen
class Expected:
    """What is known of a body before it comes.

    ``digest``: what the index promised. ``hint``: what the path itself says it is, which proves a body right but not wrong.
    ``max_kept_bytes``: a body that turns out longer is passed on, not kept. ``grown`` is told the size of a body of unknown
    length as it grows. ``max_bytes``: one that is longer, or turns out so, is refused. ``is_needed_whole``: nobody follows
    it, its owner reads it when it is whole; so no window lets go of it.
    """

    digest: Digest | None = None
    hint: Digest | None = None
    max_kept_bytes: int | None = None
    max_bytes: int | None = None
    is_needed_whole: bool = False
    grown: Callable[[int], None] | None = None


class Fetch:
    """A body as it comes: a ``BodyReceiver`` for responses, a ``BodySource`` for followers.

    Its owner calls ``take`` for a response, again for one that goes on where that broke off, then ``release``; ``give_up``
    where there is no other. The body is closed when the followers have left too.

    ``measured_bytes``: how many bytes the response that is taken has brought; 0 where a slow client held it up, so that
    its time says nothing of its upstream.

    ``length``: in bytes, None while nobody has said it. ``shown`` fires once, with the first byte that a client may see or
    when the body is whole, whichever response brings that.

    ``appending``: where chunks are appended when that is slow; None: here in any case.
    """

    def __init__(
        self, body: GrowingBody, expected: Expected, length: int | None = None, appending: Appending | None = None
    ) -> None:
        self.body = body
        self.length = length
        self.is_whole = False
        self.is_verified = False
        self.is_wrong = False
        self.available = body.size
        self.shown: Waiters[None] = Waiters()
        self._response_bytes = 0
        self._was_held_up = False
        self._expected = expected
        self._hasher = _hasher(expected.digest)
        self._hint_hasher = None if expected.digest else _hasher(expected.hint)
        self._followers: list[Follower] = []
        self._appending = appending
        self._response: UpstreamResponse | Chunks | None = None
        self._taken: Deferred[None] | None = None
        self._is_lent = False
        self._when_back: Callable[[], None] | None = None
        self._skip_bytes = 0
        self._is_over = False
        self._is_broken = False
        self._is_released = False
        self._is_paused = False
        self._is_offered_to_all = False
        self._latest = (0, b"")

    # -- for its owner -----------------------------------------------------------------------------------------------

    async def take(self, response: UpstreamResponse) -> None:
        """Take the body, or its rest, from a response; returns when the body is whole and right.

        A 206 must go on where the body ends; of a 200 what the body has already is skipped.

        Raises:
            UpstreamError: it is not. The followers still wait: give it another response, or give up.
        """
        try:
            if not self.is_wanted:
                raise Unwanted("nobody wants the rest any more")
            self._skip_bytes = self._begins_at(response)
        except UpstreamError:
            response.abandon()
            raise
        chunks = None if self._appending is None else Chunks(self._appending, self, response)
        self._response = chunks or response
        self._taken = Deferred()
        self._response_bytes = 0
        taken = self._taken
        if self._is_paused:
            self._response.pause()
        response.deliver(chunks or self)
        await taken

    @property
    def measured_bytes(self) -> int:
        """See the class."""
        return 0 if self._was_held_up else self._response_bytes

    @property
    def is_wanted(self) -> bool:
        """Whether going on makes sense: nobody gave up, somebody will have it, and it is not known to be wrong."""
        return not self._is_broken and not self.is_wrong

    def abandon(self, error: UpstreamError) -> None:
        """Take no more of the response; ``take`` ends with this error."""
        if self._response is not None and not self._is_over:
            self._response.abandon()
        self._end(error)

    def give_up(self) -> None:
        """There is nobody to take the rest from: break off every follower's client."""
        self._is_over = self._is_broken = True
        for follower in tuple(self._followers):
            follower.broken()

    @property
    def may_be_kept(self) -> bool:
        """Whether the body is, as far as it came, on disk and not too big to keep."""
        most = self._expected.max_kept_bytes
        return self.body.is_whole_on_disk and (most is None or self.body.size <= most)

    @property
    def is_joinable(self) -> bool:
        """Whether one who comes now could read it from the start."""
        return not self._is_broken and not self._is_released and self.body.first_readable == 0

    def offered_to_all(self) -> None:
        """Everybody who waited for the first byte has had the chance to follow; a window needs somebody from here on."""
        self._is_offered_to_all = True
        self._abandon_unwanted()
        self.taken()

    def release(self) -> None:
        """The owner needs the body no more."""
        self._is_released = True
        self._latest = (0, b"")
        self._close_if_unread()

    # -- for its followers -------------------------------------------------------------------------------------------

    def read_at(self, offset: int, count: int) -> bytes:
        """Up to ``count`` bytes at ``offset``; the chunk that came last, which most want, without asking the body."""
        if offset == self._latest[0] and 0 < len(self._latest[1]) <= count:
            return self._latest[1]
        return self.body.read_at(offset, count)

    def follow(self, follower: Follower) -> None:
        """Tell this follower of every chunk from now on; at once, if the body has broken off."""
        self._followers.append(follower)
        if self._is_broken:
            follower.broken()

    def unwanted(self) -> None:
        """One who might have followed does not; that changes nothing for the others."""

    def leave(self, follower: Follower) -> None:
        """Tell it no more."""
        if follower in self._followers:
            self._followers.remove(follower)
        self._abandon_unwanted()
        self.taken()
        self._close_if_unread()

    def taken(self) -> None:
        """Let go what all are past, and go on when the slowest has caught up."""
        if not self._is_window or not self._followers or not self._is_offered_to_all:
            return
        self.body.let_go(min(follower.position for follower in self._followers))
        if self._is_paused and not self._is_over and self.body.window_bytes <= WINDOW_BYTES // 2:
            self._is_paused = False
            if self._response is not None:
                self._response.resume()

    # -- for the response --------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Take the next chunk and offer it."""
        data = self.unseen(data)
        if data:
            self.append(data)
            self.appended(data)

    def unseen(self, data: bytes) -> bytes:
        """What of the next chunk is to be appended; empty where nothing is."""
        self._response_bytes += len(data)
        if self._skip_bytes:
            skipped = min(self._skip_bytes, len(data))
            self._skip_bytes -= skipped
            data = data[skipped:]
        if not data or self._taken is None:
            return b""
        if self._is_too_long(self.body.size + len(data)):
            self.abandon(self._too_long())
            return b""
        return data

    def append(self, data: bytes) -> None:
        """Digest it and append it to the body; in a thread only while that is lent."""
        self.body.append(data)
        for hasher in (self._hasher, self._hint_hasher):
            if hasher is not None:
                hasher.update(data)

    def appended(self, data: bytes) -> None:
        """Offer what has just been appended."""
        offset = self.body.size - len(data)
        self._latest = (offset, data)
        if self.length is not None and self.body.size > self.length:
            self.is_wrong = True
            self.abandon(TruncatedBody(f"more bytes came than the {self.length} that were announced"))
            return
        if self.length is None or self.body.size < self.length:
            self.available = self.body.size
            self._show()
            for follower in tuple(self._followers):
                follower.offered(offset, data)
        if self._taken is None:
            return  # the last follower left
        if self._is_window:
            self._hold_back()
        elif self.length is None and self._expected.grown is not None:
            self._expected.grown(self.body.size)

    @property
    def is_filed(self) -> bool:
        """Whether what comes goes to a file."""
        return self.body.is_whole_on_disk

    def lend(self) -> None:
        """A thread has the body from now on; the response does not end, and the body is not closed, until it is back."""
        self._is_lent = self._was_held_up = True

    def take_back(self) -> None:
        """The thread has done."""
        self._is_lent = False
        when_back, self._when_back = self._when_back, None
        if when_back is not None:
            when_back()
        self._close_if_unread()

    def ended(self, length_was_known: bool) -> None:
        """The response says that this was all: see whether it is right."""
        if self._taken is None:
            return
        if self._skip_bytes or (self.length is not None and self.body.size != self.length):
            self._end(TruncatedBody(f"{self.body.size} bytes came of {self.length or 'more'}"))
            return
        digest = self._expected.digest
        if digest is not None:
            found = self._found()
            if found != digest.hex:
                self.is_wrong = True
                self._end(DigestMismatch(f"its {digest.name} is {found}, the index promised {digest.hex}"))
                return
        hint = self._expected.hint
        is_as_hinted = self._hint_hasher is not None and hint is not None and self._hint_hasher.hexdigest() == hint.hex
        self.is_verified = length_was_known or digest is not None or is_as_hinted
        self.is_whole = self._is_over = True
        self.available = self.body.size
        self._show()
        for follower in tuple(self._followers):
            follower.advanced()
        self._end(None)

    def failed(self, error: UpstreamError) -> None:
        """The response broke off; which is nothing to anybody where all the bytes that were promised had come."""
        digest = self._expected.digest
        if digest is not None and self._found() == digest.hex:
            self.ended(length_was_known=True)
        else:
            self._end(error)

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _is_window(self) -> bool:
        return not self.body.is_whole_on_disk and not self._expected.is_needed_whole and not self._is_over

    def _begins_at(self, response: UpstreamResponse) -> int:
        """How many bytes of the response the body has already; also learns the length, where it says it.

        Raises:
            MalformedResponse: it does not go on where the body ends, or is too long.
        """
        part = parse_content_range(get(response.fields, "content-range")) if response.status == 206 else None
        if response.status == 206 and self.body.size:
            if part is None or part.start != self.body.size:
                raise MalformedResponse("a range that is not the one that was asked for")
            total = part.total
            skip = 0
            if total is None and self.length is None and self._expected.digest is None:
                raise MalformedResponse("a range of a body whose end nobody knows")
        elif part is not None:  # a part that is relayed says how long it is in any case
            total, skip = part.stop - part.start, 0
        else:
            total = response.length
            skip = self.body.size
        if total is not None and self._is_too_long(total):
            raise self._too_long()
        if total is not None and total < self.body.size:
            raise MalformedResponse(f"a body of {total} bytes, where {self.body.size} have come already")
        if self.length is None:
            self.length = total
        elif total is not None and total != self.length:
            raise MalformedResponse(f"a body of {total} bytes, where {self.length} were announced before")
        return skip

    def _is_too_long(self, size: int) -> bool:
        return self._expected.max_bytes is not None and size > self._expected.max_bytes

    def _too_long(self) -> MalformedResponse:
        return MalformedResponse(f"a body of more than {self._expected.max_bytes} bytes")

    def _found(self) -> str:
        """What all bytes so far come to, by the digest that was promised."""
        return self.body.sha256 if self._hasher is None else self._hasher.hexdigest()

    def _show(self) -> None:
        if not self.shown.is_decided:
            self.shown.fire(None)

    def _hold_back(self) -> None:
        if not self._is_offered_to_all:
            return  # of those who wait for the first byte none has been left out yet
        if not self._followers:  # all left while there was a file
            self._abandon_unwanted()
            return
        self.body.let_go(min(follower.position for follower in self._followers))
        has_all = self.body.size == self.length  # and waits for the end, which no reading could bring nearer
        is_ahead = self.body.window_bytes > WINDOW_BYTES and not has_all
        if is_ahead and not self._is_paused and self._response is not None:
            self._is_paused = self._was_held_up = True
            self._response.pause()

    def _abandon_unwanted(self) -> None:
        if self._is_window and self._is_offered_to_all and not self._followers:
            self._is_broken = True
            if self._taken is not None:
                self.abandon(Unwanted("the last client left, and the body cannot be kept"))

    def _end(self, error: UpstreamError | None) -> None:
        taken, self._taken = self._taken, None
        response, self._response = self._response, None
        if isinstance(response, Chunks):
            response.close()
        if taken is None:
            return
        tell = partial(taken.callback, None) if error is None else partial(taken.errback, error)
        if self._is_lent:
            self._when_back = tell
        else:
            tell()

    def _close_if_unread(self) -> None:
        if self._is_released and not self._followers and not self._is_lent:
            self.body.close()


def _hasher(digest: Digest | None) -> Hasher | None:
    """What computes the digest as the bytes pass; None where there is none, or the body does it anyway."""
    return new_hasher(digest.name) if digest is not None and digest.name != "sha256" else None
