"""Where chunks are appended: in the reactor while that is fast, in a thread while it is not; the guarantees hold."""

from __future__ import annotations

import gc
import hashlib
from itertools import count
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from pipcache.engine import fetch as fetching
from pipcache.engine.appending import Appending
from pipcache.engine.fetch import Expected, Fetch
from pipcache.rules.errors import DigestMismatch, TruncatedBody, Unwanted, UpstreamError
from pipcache.rules.pace import FAST_SECONDS, SLOW_SECONDS, Pace
from pipcache.simple.digests import Digest
from tests.fakes.disk import MemoryFiles, Threads
from tests.fakes.engine import FakeResponse, Sink, Turns, begin, is_waiting, result_of

BODY = bytes(range(256)) * 40
CHUNK = 1000
RIGHT = Digest("sha512", hashlib.sha512(BODY).hexdigest())


class Slow:
    """A fetch on a disk that is slow, its thread, its upstream and its client."""

    def __init__(self, room_bytes: int | None = None, *, is_slow: bool = True, **expected: Any) -> None:
        self.threads = Threads()
        self.threads.is_held = True
        self.pace = Pace(is_slow=is_slow)
        self.pace.average_seconds = SLOW_SECONDS if is_slow else 0.0
        self.seconds_a_chunk = SLOW_SECONDS if is_slow else 0.0
        turns = count()
        self.disk = MemoryFiles(room_bytes)
        self.clock = Turns()
        self.response = FakeResponse(200, len(BODY))
        appending = Appending(self.pace, self.threads, lambda: (next(turns) % 2) * self.seconds_a_chunk)
        self.fetch = Fetch(self.disk.grow(), Expected(**expected), len(BODY), appending)
        self.sink = Sink()
        self.sink.follow(self.fetch, self.clock, 0, len(BODY))
        self.ran: Deferred[None] = begin(self.fetch.take(self.response))
        self.fetch.offered_to_all()
        self.sent = 0

    def give(self, size: int = CHUNK) -> None:
        """Send some more."""
        self.response.give(BODY[self.sent : self.sent + size])
        self.sent += size

    def give_rest(self) -> None:
        """Send all else as an upstream does that can be paused, and the end."""
        while self.sent < len(BODY):
            while self.response.is_paused:
                self.threads.run_one()
            self.give()
        self.response.end()

    def let_go(self) -> None:
        """Let the thread do all that waits for it, then what is due."""
        self.threads.let_go()
        self.clock.advance(0)

    def failure(self) -> UpstreamError:
        """Why it came to nothing; nobody goes on with it."""
        with pytest.raises(UpstreamError) as caught:
            result_of(self.ran)
        self.fetch.give_up()
        return caught.value


def test_a_fast_chunk_is_appended_at_once() -> None:
    """No thread, no pause, and how long it took is known."""
    slow = Slow(is_slow=False)
    slow.seconds_a_chunk = FAST_SECONDS
    slow.give()
    assert bytes(slow.sink.data) == BODY[:CHUNK]
    assert (slow.threads.calls, slow.response.pauses) == (0, 0)
    assert slow.pace.average_seconds > 0
    slow.give_rest()
    result_of(slow.ran)


def test_a_slow_chunk_is_appended_in_a_thread_while_upstream_is_paused() -> None:
    """Clients see it when it is in the file, not before; then upstream goes on."""
    slow = Slow()
    slow.give()
    assert slow.response.is_paused
    assert (slow.fetch.available, slow.sink.data) == (0, b"")
    slow.threads.run_one()
    assert bytes(slow.sink.data) == BODY[:CHUNK]
    assert not slow.response.is_paused
    slow.give_rest()
    slow.let_go()
    result_of(slow.ran)
    assert (bytes(slow.sink.data), slow.sink.end) == (BODY, "finished")
    assert slow.fetch.measured_bytes == 0  # it was our disk that took so long


def test_what_was_under_way_keeps_its_order_and_the_end_waits_for_it() -> None:
    """Chunks and the end that come while the thread works; nothing is complete before all of it is digested."""
    slow = Slow(digest=RIGHT)
    slow.give()
    for _ in range(len(BODY) // CHUNK):
        slow.give()
    slow.response.end()
    assert is_waiting(slow.ran)
    assert slow.sink.data == b""
    slow.let_go()
    result_of(slow.ran)
    assert (bytes(slow.sink.data), slow.sink.end, slow.fetch.is_verified) == (BODY, "finished", True)


def test_a_wrong_body_is_refused_all_the_same() -> None:
    """Its last chunk is withheld until the digest is compared."""
    slow = Slow(digest=Digest("sha512", hashlib.sha512(BODY[1:]).hexdigest()))
    slow.give_rest()
    slow.let_go()
    assert isinstance(slow.failure(), DigestMismatch)
    assert slow.sink.end == "aborted"
    assert len(slow.sink.data) < len(BODY)


def test_what_is_fast_again_comes_back_to_the_reactor() -> None:
    """After some chunks in the thread that took little; what becomes slow goes there again."""
    slow = Slow()
    slow.seconds_a_chunk = 0.0
    while slow.pace.is_slow:
        slow.give(10)
        slow.threads.run_one()
    calls = slow.threads.calls
    slow.give()
    assert slow.threads.calls == calls
    slow.seconds_a_chunk = 10.0
    slow.give()
    slow.give()
    assert slow.threads.calls == calls + 1
    slow.let_go()
    slow.give_rest()
    result_of(slow.ran)
    assert bytes(slow.sink.data) == BODY


@pytest.mark.parametrize("room_bytes", [0, 500, 1500, 9_999])
def test_a_disk_that_fails_in_the_thread_costs_nobody_a_byte(room_bytes: int) -> None:
    """From there on the bytes are in memory, where no thread touches them."""
    slow = Slow(room_bytes)
    while slow.sent < len(BODY):
        slow.give()
        while slow.response.is_paused:
            slow.threads.run_one()
            slow.clock.advance(0)
    calls = slow.threads.calls
    assert calls == room_bytes // CHUNK + 1
    slow.response.end()
    slow.clock.advance(0)
    result_of(slow.ran)
    assert (bytes(slow.sink.data), slow.sink.end) == (BODY, "finished")


def test_a_response_that_breaks_off_ends_when_the_thread_has_done() -> None:
    """So the next one goes on behind every byte that came."""
    slow = Slow()
    slow.give()
    slow.give()
    slow.response.fail(TruncatedBody("cut"))
    assert is_waiting(slow.ran)
    slow.let_go()
    with pytest.raises(TruncatedBody):
        result_of(slow.ran)
    assert slow.fetch.body.size == 2 * CHUNK
    rest = FakeResponse(206, len(BODY), (("content-range", f"bytes {2 * CHUNK}-{len(BODY) - 1}/{len(BODY)}"),))
    ran = begin(slow.fetch.take(rest))
    rest.give_all(BODY[2 * CHUNK :])
    slow.clock.advance(0)
    result_of(ran)
    assert (bytes(slow.sink.data), slow.sink.end) == (BODY, "finished")


def test_a_response_that_is_given_up_ends_when_the_thread_has_done() -> None:
    """What came behind the chunk in the thread is dropped, and reaches no later response."""
    slow = Slow()
    slow.give()
    slow.give()
    slow.fetch.abandon(Unwanted("nobody wants it"))
    assert is_waiting(slow.ran)
    assert slow.response.is_abandoned
    slow.let_go()
    assert isinstance(slow.failure(), Unwanted)
    assert (slow.fetch.body.size, slow.threads.calls) == (CHUNK, 1)


def test_a_body_is_not_closed_under_the_thread() -> None:
    """Its descriptor may be another file's the moment after."""
    slow = Slow()
    slow.give()
    assert slow.sink.follower is not None
    slow.sink.follower.stopProducing()
    slow.fetch.release()
    assert slow.disk.closes == 0
    slow.response.fail(TruncatedBody("cut"))
    slow.let_go()
    assert slow.disk.closes == 1
    assert isinstance(slow.failure(), TruncatedBody)


def test_two_who_pause_upstream_do_not_resume_for_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that is full keeps upstream waiting when the thread has done."""
    monkeypatch.setattr(fetching, "WINDOW_BYTES", 2 * CHUNK)
    slow = Slow(room_bytes=CHUNK)
    slow.sink.pause()
    slow.give()
    slow.threads.run_one()
    slow.give(4 * CHUNK)
    slow.threads.run_one()
    assert slow.response.is_paused
    slow.sink.resume()
    slow.clock.advance(0)
    assert not slow.response.is_paused
    slow.give_rest()
    slow.clock.advance(0)
    result_of(slow.ran)
    assert (bytes(slow.sink.data), slow.sink.end) == (BODY, "finished")


def test_an_append_that_crashes_breaks_off_the_response(nothing_left_behind: list[Any]) -> None:
    """A bug; it is logged, and the transfer ends."""
    slow = Slow()
    slow.fetch.append = lambda data: 1 / 0  # type: ignore[method-assign,assignment,return-value]
    slow.give()
    slow.let_go()
    assert isinstance(slow.failure(), TruncatedBody)
    assert slow.response.is_abandoned
    del slow
    gc.collect()
    nothing_left_behind.clear()
