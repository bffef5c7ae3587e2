"""Where the chunks of a body are digested and appended: here, while that is fast, else in a thread.

``Chunks`` stands between a response and the fetch that takes it. As long as the pace is fast it passes each chunk on and
measures it. When it is slow the response is paused, the chunk is appended in a thread, and what was under way waits its
turn here, which is no more than one read from the network brought. The end of the response waits too, so whatever is done
at the end (comparing digests, asking another upstream for the rest, publishing, closing) finds the body at rest.

A body without a file is appended to here in any case: readers look into its memory while it grows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Protocol

from twisted.internet.defer import Deferred

from pipcache.engine.interfaces import InThread, UpstreamResponse
from pipcache.rules.errors import TruncatedBody, UpstreamError
from pipcache.rules.pace import Pace


class Taker(Protocol):
    """The fetch, as far as its chunks know it."""

    @property
    def is_filed(self) -> bool:
        """Whether what comes goes to a file."""
        ...

    def unseen(self, data: bytes) -> bytes:
        """What of the next chunk is to be appended; empty where nothing is."""
        ...

    def append(self, data: bytes) -> None:
        """Digest and append it; may be called in a thread, while the body is lent."""

    def appended(self, data: bytes) -> None:
        """It has been: offer it."""

    def lend(self) -> None:
        """A thread has the body from now on; nobody else changes or closes it."""

    def take_back(self) -> None:
        """The thread has done."""

    def abandon(self, error: UpstreamError) -> None:
        """Take no more of the response."""

    def ended(self, length_was_known: bool) -> None:
        """As in ``BodyReceiver``."""

    def failed(self, error: UpstreamError) -> None:
        """As in ``BodyReceiver``."""


class Appending:
    """What all bodies share: the pace that they are appended at, and where they are when it is slow.

    Args:
        pace: what is known of it.
        in_thread: runs what may block.
        seconds: a clock that can tell microseconds apart.
    """

    def __init__(self, pace: Pace, in_thread: InThread, seconds: Callable[[], float]) -> None:
        self.pace = pace
        self.in_thread = in_thread
        self.seconds = seconds

    def append(self, fetch: Taker, data: bytes) -> None:
        """Append a chunk, and note how long that took."""
        began = self.seconds()
        fetch.append(data)
        self.pace.note(self.seconds() - began)


class Chunks:
    """One response on its way into one fetch: the receiver of the one, and the response that the other pauses."""

    def __init__(self, appending: Appending, fetch: Taker, response: UpstreamResponse) -> None:
        self._appending = appending
        self._fetch = fetch
        self._response = response
        self._waiting: deque[bytes] = deque()
        self._end: Callable[[], None] | None = None
        self._is_held = False
        self._is_busy = False
        self._is_paused = False
        self._is_over = False

    # -- for the response --------------------------------------------------------------------------------------------

    def received(self, data: bytes) -> None:
        """Append the next chunk, or have it appended in its turn."""
        if self._is_busy:
            self._waiting.append(data)
        elif self._is_slow:
            self._waiting.append(data)
            self._is_busy = True
            self._pause_or_resume()
            Deferred.fromCoroutine(self._catch_up())
        else:
            data = self._fetch.unseen(data)
            if data:
                self._appending.append(self._fetch, data)
                self._fetch.appended(data)

    def ended(self, length_was_known: bool) -> None:
        """That was all."""
        self._at_end(partial(self._fetch.ended, length_was_known))

    def failed(self, error: UpstreamError) -> None:
        """It broke off."""
        self._at_end(partial(self._fetch.failed, error))

    # -- for the fetch -----------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """No more for now."""
        self._is_held = True
        self._pause_or_resume()

    def resume(self) -> None:
        """Go on."""
        self._is_held = False
        self._pause_or_resume()

    def abandon(self) -> None:
        """Take no more of it, where it has not ended itself."""
        if self._end is None:
            self._response.abandon()
        self.close()

    def close(self) -> None:
        """The fetch is through with this response; what still waits is not appended."""
        self._is_over = True
        self._waiting.clear()

    # -- inside ------------------------------------------------------------------------------------------------------

    @property
    def _is_slow(self) -> bool:
        return self._appending.pace.is_slow and self._fetch.is_filed

    async def _catch_up(self) -> None:
        while self._waiting:
            data = self._fetch.unseen(self._waiting.popleft())
            if not data:
                continue
            if self._is_slow:
                await self._append_in_thread(data)
            else:
                self._appending.append(self._fetch, data)
            if not self._is_over:
                self._fetch.appended(data)
        self._is_busy = False
        if self._end is None:
            self._pause_or_resume()
        elif not self._is_over:
            self._end()

    async def _append_in_thread(self, data: bytes) -> None:
        self._fetch.lend()
        try:
            await self._appending.in_thread(partial(self._appending.append, self._fetch, data))
        except Exception:
            self._fetch.abandon(TruncatedBody("what came could not be appended"))
            raise
        finally:
            self._fetch.take_back()

    def _at_end(self, end: Callable[[], None]) -> None:
        if self._is_over:
            return
        self._end = end
        if not self._is_busy:
            end()

    def _pause_or_resume(self) -> None:
        is_paused = self._is_held or self._is_busy
        if is_paused == self._is_paused or self._is_over or self._end is not None:
            return
        self._is_paused = is_paused
        if is_paused:
            self._response.pause()
        else:
            self._response.resume()
