"""A fetch without a file: the window, which is as far as its slowest client lets it be."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred

from pipcache.engine.fetch import WINDOW_BYTES, Expected, Fetch
from pipcache.rules.errors import Unwanted
from tests.fakes.disk import MemoryFiles
from tests.fakes.engine import FakeResponse, Sink, Turns, begin, is_waiting, result_of

CHUNK = WINDOW_BYTES // 8
BODY = b"".join(bytes([number]) * CHUNK for number in range(32))


class Passage:
    """A fetch through a window (or a disk with little room), and its clients."""

    def __init__(self, length: int | None = len(BODY), room_bytes: int | None = None) -> None:
        self.clock = Turns()
        self.response = FakeResponse(200, length)
        self.disk = MemoryFiles(room_bytes)
        body = self.disk.window() if room_bytes is None else self.disk.grow()
        self.fetch = Fetch(body, Expected(), length)
        self.ran: Deferred[None] = Deferred()
        self.sent = 0

    def join(self, start: int = 0, stop: int | None = None) -> Sink:
        """A client follows from now on."""
        sink = Sink()
        sink.follow(self.fetch, self.clock, start, self.fetch.length if stop is None else stop)
        return sink

    def run(self) -> None:
        """Take the response; all who wanted it follow already."""
        self.ran = begin(self.fetch.take(self.response))
        self.fetch.offered_to_all()

    def give(self, chunks: int) -> None:
        """Send some more of the body, paused or not, and let all who have room read."""
        for _ in range(chunks):
            self.response.give(BODY[self.sent : self.sent + CHUNK])
            self.sent += CHUNK
        self.clock.advance(0)

    def give_rest(self) -> None:
        """Send as an upstream does that can be paused, to the end."""
        while self.sent < len(BODY):
            assert not self.response.is_paused, "it would wait for ever"
            self.give(1)
        self.response.end()
        self.clock.advance(0)


def test_upstream_waits_for_the_slowest_and_goes_on() -> None:
    """So memory stays small, whatever the size; all get all."""
    passage = Passage()
    slow, fast = passage.join(), passage.join()
    passage.run()
    slow.pause()
    passage.give(8)
    assert not passage.response.is_paused
    passage.give(1)
    assert passage.response.is_paused
    assert passage.fetch.body.window_bytes <= WINDOW_BYTES + CHUNK
    slow.resume()
    assert not passage.response.is_paused
    passage.give_rest()
    result_of(passage.ran)
    assert [(bytes(sink.data) == BODY, sink.end) for sink in (slow, fast)] == [(True, "finished")] * 2


def test_when_the_slowest_leaves_the_others_go_on() -> None:
    """Upstream is resumed by its leaving."""
    passage = Passage()
    slow, fast = passage.join(), passage.join()
    passage.run()
    slow.pause()
    passage.give(9)
    assert passage.response.is_paused
    slow.vanish()
    assert not passage.response.is_paused
    passage.give_rest()
    assert (bytes(fast.data), fast.end) == (BODY, "finished")


def test_nobody_joins_once_bytes_were_let_go() -> None:
    """They are held nowhere any more."""
    passage = Passage()
    passage.join()
    passage.run()
    assert passage.fetch.is_joinable
    passage.join().pause()
    passage.give(1)
    assert passage.fetch.is_joinable
    passage.fetch.leave(passage.fetch._followers[1])
    assert not passage.fetch.is_joinable


def test_when_the_last_one_leaves_it_is_given_up() -> None:
    """There is nobody to fetch for; the connection is given back, and it is nobody's failure."""
    passage = Passage()
    sink = passage.join()
    passage.run()
    passage.give(2)
    sink.vanish()
    assert passage.response.is_abandoned
    with pytest.raises(Unwanted):
        result_of(passage.ran)


def test_one_that_leaves_inside_the_write_of_a_chunk_ends_it_as_well() -> None:
    """While the chunk is being offered."""
    passage = Passage()
    sink = passage.join()
    sink.on_write = lambda _: sink.vanish()
    passage.run()
    passage.give(1)
    assert passage.response.is_abandoned
    with pytest.raises(Unwanted):
        result_of(passage.ran)


def test_where_nobody_follows_it_is_not_begun() -> None:
    """The response is given up, so its connection can serve others."""
    passage = Passage()
    passage.run()
    assert passage.response.is_abandoned
    with pytest.raises(Unwanted):
        result_of(passage.ran)


def test_one_that_left_before_it_began_ends_it_once() -> None:
    """It may leave while it is being told that the body is coming."""
    passage = Passage()
    passage.join().vanish()
    passage.run()
    assert passage.response.is_abandoned
    with pytest.raises(Unwanted):
        result_of(passage.ran)


def test_the_last_chunk_does_not_pause_upstream() -> None:
    """It is withheld until the end is told, so nobody could make room by reading it."""
    passage = Passage()
    sink = passage.join()
    passage.run()
    passage.give(len(BODY) // CHUNK - 9)
    sink.pause()
    rest = BODY[passage.sent :]
    passage.response.give(rest[: 7 * CHUNK])
    passage.response.give(rest[7 * CHUNK :])
    assert not passage.response.is_paused
    passage.response.end()
    sink.resume()
    assert (bytes(sink.data), sink.end) == (BODY, "finished")


def test_upstream_is_not_resumed_after_its_end() -> None:
    """It may have been paused by the chunk before; what is left is read from the window."""
    passage = Passage()
    sink = passage.join()
    passage.run()
    sink.pause()
    passage.give(10)
    assert passage.response.is_paused
    passage.give(len(BODY) // CHUNK - 10)
    passage.response.end()
    sink.resume()
    passage.clock.advance(0)
    assert (bytes(sink.data), sink.end) == (BODY, "finished")
    result_of(passage.ran)


def test_an_upstream_that_answers_resume_with_bytes_is_written_in_order() -> None:
    """A TLS connection hands over what it had decrypted before ``resume`` returns."""
    passage = Passage()
    sinks = [passage.join(), passage.join()]
    passage.run()
    passage.response.on_resume = lambda: passage.give(1)
    for sink in sinks:
        sink.pause()
    passage.give(9)
    for sink in sinks:
        sink.resume()
    passage.clock.advance(0)
    passage.give_rest()
    assert [(bytes(sink.data) == BODY, sink.end) for sink in sinks] == [(True, "finished")] * 2


@pytest.mark.parametrize("room_chunks", [0, 1, 5, 31])
@pytest.mark.parametrize("spare_bytes", [0, 7])
def test_a_disk_that_fails_in_mid_body_costs_nobody_a_byte(room_chunks: int, spare_bytes: int) -> None:
    """What it has is read from it, the rest comes through the window; it is not to be kept."""
    passage = Passage(room_bytes=room_chunks * CHUNK + spare_bytes)
    fast, slow = passage.join(), passage.join()
    passage.run()
    passage.give(1)
    slow.pause()
    while passage.sent < len(BODY):
        if passage.response.is_paused:
            slow.resume()
            passage.clock.advance(0)
            slow.pause()
        passage.give(1)
    passage.response.end()
    slow.resume()
    passage.clock.advance(0)
    result_of(passage.ran)
    assert [(bytes(sink.data) == BODY, sink.end) for sink in (fast, slow)] == [(True, "finished")] * 2
    assert (passage.fetch.may_be_kept, passage.fetch.body.failure is None) == (False, False)
    passage.fetch.release()
    assert (passage.disk.closes, passage.disk.unlinked) == (1, 1)


def test_a_disk_that_fails_with_nobody_there_ends_the_fetch() -> None:
    """The last client left, which was fine while there was a file."""
    passage = Passage(room_bytes=3 * CHUNK)
    sink = passage.join()
    passage.run()
    passage.give(1)
    sink.vanish()
    passage.give(2)
    assert is_waiting(passage.ran)
    passage.give(1)
    assert passage.response.is_abandoned
    with pytest.raises(Unwanted):
        result_of(passage.ran)


def test_a_range_ahead_of_the_window_gets_its_own_bytes() -> None:
    """Also when those before it leave: what was skipped is not taken for what was asked for."""
    passage = Passage()
    ahead, sink = passage.join(5 * CHUNK + 3, 9 * CHUNK), passage.join()
    passage.run()
    sink.vanish()
    passage.give(10)
    assert (bytes(ahead.data), ahead.end) == (BODY[5 * CHUNK + 3 : 9 * CHUNK], "finished")
    with pytest.raises(Unwanted):
        result_of(passage.ran)


@pytest.mark.parametrize("room_chunks", [None, 0, 5, 32])
def test_a_page_is_whole_in_its_file_and_in_memory(room_chunks: int | None) -> None:
    """It is needed whole, and nobody follows it: what the disk does not take is held, what it takes is not."""
    response = FakeResponse(200, len(BODY))
    disk = MemoryFiles(room_chunks and room_chunks * CHUNK)
    body = disk.grow() if room_chunks else disk.window()
    fetch = Fetch(body, Expected(is_needed_whole=True, max_bytes=len(BODY)))
    ran = begin(fetch.take(response))
    response.give_all(BODY, CHUNK)
    result_of(ran)
    filed = (room_chunks or 0) * CHUNK
    assert fetch.read_at(0, len(BODY)) == BODY[: filed or len(BODY)]
    assert not filed or fetch.read_at(filed, len(BODY)) == BODY[filed:]
    assert (body.window_bytes, response.pauses) == (len(BODY) - filed, 0)
