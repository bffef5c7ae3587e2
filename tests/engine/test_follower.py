"""One client reading one body: which bytes are written, when, and how it ends."""

from __future__ import annotations

import pytest
from twisted.internet.interfaces import IPushProducer
from zope.interface.verify import verifyObject

from pipcache.engine.follower import CHUNK_BYTES, CHUNKS_A_TURN
from pipcache.rules.errors import StorageError
from tests.fakes.engine import Sink, Source, Turns

BODY = b"0123456789"


def following(source: Source, start: int = 0, stop: int | None = None) -> tuple[Sink, Turns]:
    """A client that follows from now on."""
    sink, clock = Sink(), Turns()
    verifyObject(IPushProducer, sink.follow(source, clock, start, stop))
    return sink, clock


def test_a_body_that_is_whole_is_written_and_finished() -> None:
    """And its source is left, once, before the end is told."""
    source = Source(BODY, is_whole=True)
    sink, _ = following(source, 0, len(BODY))
    assert (bytes(sink.data), sink.end, source.leaves) == (BODY, "finished", 1)


def test_an_empty_body_is_finished_without_a_write() -> None:
    """A write of nothing would be the terminator of a chunked response."""
    sink, _ = following(Source(b"", is_whole=True), 0, 0)
    assert (sink.writes, sink.end) == ([], "finished")


def test_a_chunk_at_its_offset_is_written_without_reading_the_body() -> None:
    """The tee: one who keeps up costs no read."""
    source = Source()
    sink, _ = following(source, 0, len(BODY))
    source.give(BODY[:4])
    source.give(BODY[4:9])
    assert (sink.writes, source.reads, sink.end) == ([BODY[:4], BODY[4:9]], [], None)
    assert source.takes >= 2


def test_a_chunk_that_is_large_is_read_in_pieces() -> None:
    """A client that takes nothing is not to hold all of what one read of upstream, decoded, came to."""
    source = Source()
    sink, clock = Sink(), Turns()
    sink.on_write = lambda _: sink.pause()
    sink.follow(source, clock)
    source.give(bytes(8 * CHUNK_BYTES))
    clock.advance(0)
    assert [len(each) for each in sink.writes] == [CHUNK_BYTES]


def test_one_who_joins_late_reads_what_is_there_first() -> None:
    """Then it takes what comes."""
    source = Source(BODY[:6])
    sink, _ = following(source, 0, len(BODY))
    assert source.reads == [(0, 6)]
    source.give(BODY[6:])
    assert (sink.writes, sink.end) == ([BODY[:6], BODY[6:]], "finished")


def test_one_who_paused_reads_what_it_missed() -> None:
    """Nothing is written while it is paused; nothing is lost, and nothing comes twice."""
    source = Source()
    sink, _ = following(source, 0, len(BODY))
    source.give(BODY[:2])
    sink.pause()
    source.give(BODY[2:5])
    source.give(BODY[5:8])
    assert bytes(sink.data) == BODY[:2]
    sink.resume()
    assert (source.reads, bytes(sink.data)) == ([(2, 6)], BODY[:8])
    source.give(BODY[8:])
    assert (bytes(sink.data), sink.end) == (BODY, "finished")


def test_a_pause_inside_its_own_write_of_the_tee_is_obeyed() -> None:
    """A transport whose buffer is full says so before ``write`` returns."""
    source = Source()
    sink, _ = following(source, 0, len(BODY))
    sink.on_write = lambda _: sink.pause()
    source.give(BODY[:3])
    source.give(BODY[3:6])
    assert bytes(sink.data) == BODY[:3]
    sink.resume()
    assert bytes(sink.data) == BODY[:6]


def test_a_pause_inside_its_own_write_stops_the_reading_too() -> None:
    """Each resume lets one more read through; the end needs no room, so it does not wait for any."""
    source = Source(bytes(3 * CHUNK_BYTES), is_whole=True)
    sink, clock = Sink(), Turns()
    sink.on_write = lambda _: sink.pause()
    sink.follow(source, clock)
    assert len(sink.data) == CHUNK_BYTES
    sink.resume()
    assert len(sink.data) == 2 * CHUNK_BYTES
    sink.resume()
    assert (len(sink.data), sink.end) == (3 * CHUNK_BYTES, "finished")


def test_a_pause_and_resume_inside_one_write_change_nothing() -> None:
    """A buffer that was emptied at once; the pump must not run twice at a time."""
    source = Source(bytes(3 * CHUNK_BYTES) + b"end")
    sink, clock = Sink(), Turns()

    def blink(_: int) -> None:
        sink.pause()
        sink.resume()

    sink.on_write = blink
    sink.follow(source, clock)
    source.give(b"more")
    source.finish()
    assert (bytes(sink.data), sink.end) == (source.content, "finished")


@pytest.mark.parametrize("is_teed", [True, False])
def test_one_who_leaves_inside_its_own_write_is_written_to_no_more(is_teed: bool) -> None:
    """Neither finished nor aborted: there is nobody; the source is left once."""
    source = Source(b"" if is_teed else bytes(3 * CHUNK_BYTES))
    sink, clock = Sink(), Turns()
    sink.on_write = lambda _: sink.vanish()
    follower = sink.follow(source, clock)
    source.give(b"chunk")
    follower.stopProducing()
    assert (len(sink.writes), sink.end, source.leaves, source.followers) == (1, None, 1, [])


def test_calls_after_the_end_are_harmless() -> None:
    """Transports resume and stop what is over already."""
    source = Source(BODY, is_whole=True)
    sink, clock = Sink(), Turns()
    follower = sink.follow(source, clock)
    follower.pauseProducing()
    follower.resumeProducing()
    follower.stopProducing()
    follower.broken()
    follower.advanced()
    follower.offered(len(BODY), b"more")
    assert (bytes(sink.data), sink.end, source.leaves) == (BODY, "finished", 1)


@pytest.mark.parametrize("is_paused", [True, False])
def test_a_body_that_breaks_off_aborts_the_client_once(is_paused: bool) -> None:
    """Also a client that has no room: it must not take what it has for the whole."""
    source = Source()
    sink, _ = following(source, 0, len(BODY))
    follower = sink.follower
    assert follower is not None
    source.give(BODY[:9])
    if is_paused:
        sink.pause()
    source.breaks()
    follower.broken()
    follower.resumeProducing()
    assert (sink.end, source.leaves) == ("aborted", 1)


def test_a_disk_that_does_not_give_the_bytes_aborts_the_client() -> None:
    """What it has is not the whole, and nothing better can be done."""
    sink, _ = following(Source(BODY, is_whole=True, error=StorageError("gone")), 0, len(BODY))
    assert (sink.writes, sink.end) == ([], "aborted")


@pytest.mark.parametrize(("start", "stop"), [(0, 4), (2, 5), (3, 10), (9, 10), (0, 10)])
def test_a_range_is_written_from_start_to_stop(start: int, stop: int) -> None:
    """Whether it is teed, read or both; it ends when its last byte is there, whole body or not."""
    teed, read, both = Source(), Source(BODY), Source(BODY[:4])
    sinks = [following(source, start, stop) for source in (teed, read, both)]
    for number in range(len(BODY)):
        teed.give(BODY[number : number + 1])
    both.give(BODY[4:])
    for sink, clock in sinks:
        clock.advance(0)
        assert (bytes(sink.data), sink.end) == (BODY[start:stop], "finished")


def test_a_range_that_has_not_come_yet_is_waited_for() -> None:
    """Chunks before it are not its own."""
    source = Source()
    sink, clock = following(source, 6, 8)
    source.give(BODY[:3])
    clock.advance(0)
    assert sink.writes == []
    source.give(BODY[3:7])
    clock.advance(0)
    assert (bytes(sink.data), sink.end) == (BODY[6:7], None)
    source.give(BODY[7:])
    clock.advance(0)
    assert (bytes(sink.data), sink.end) == (BODY[6:8], "finished")


def test_a_body_of_unknown_length_ends_when_it_is_whole() -> None:
    """Not when there is nothing to read for now."""
    source = Source()
    sink, _ = following(source)
    source.give(BODY)
    assert (bytes(sink.data), sink.end) == (BODY, None)
    source.finish()
    assert sink.end == "finished"


def test_a_known_length_ends_with_its_last_byte_only() -> None:
    """A body that is not whole yet is not finished, though all that may be read was written."""
    source = Source()
    sink, _ = following(source, 0, len(BODY))
    source.give(BODY[:9])
    assert sink.end is None
    source.give(BODY[9:])
    assert sink.end == "finished"


def test_a_fast_client_lets_others_have_their_turn() -> None:
    """After some chunks it goes on in the next turn of the reactor, and by one timer only."""
    turns = 3
    source = Source(bytes(turns * CHUNKS_A_TURN * CHUNK_BYTES), is_whole=True)
    sink, clock = following(source)
    for turn in range(1, turns):
        assert len(sink.writes) == turn * CHUNKS_A_TURN
        assert len(clock.getDelayedCalls()) == 1
        clock.turn()
    clock.turn()
    assert (len(sink.data), sink.end, clock.getDelayedCalls()) == (source.available, "finished", [])


def test_while_its_turn_is_due_chunks_wait_in_the_body() -> None:
    """The tee would write them out of order."""
    source = Source(bytes(CHUNKS_A_TURN * CHUNK_BYTES) + b"a")
    sink, clock = following(source)
    source.give(b"b")
    assert len(sink.writes) == CHUNKS_A_TURN
    clock.advance(0)
    source.give(b"c")
    assert bytes(sink.data[-3:]) == b"abc"


def test_a_client_that_left_needs_no_turn() -> None:
    """The timer that is due finds nothing to do."""
    sink, clock = following(Source(bytes(2 * CHUNKS_A_TURN * CHUNK_BYTES), is_whole=True))
    sink.vanish()
    clock.advance(0)
    assert len(sink.writes) == CHUNKS_A_TURN


def test_more_that_comes_because_room_was_made_is_written_in_order() -> None:
    """A source may answer ``taken`` with the next chunk before it returns."""
    coming = [BODY[:2], BODY[2:4], BODY[4:6], BODY[6:]]

    class Answering(Source):
        """Has the next chunk as soon as one was taken."""

        def taken(self) -> None:
            if coming:
                self.give(coming.pop(0))

    source = Answering()
    sink, clock = Sink(), Turns()
    sink.follow(source, clock, 0, len(BODY))
    clock.advance(0)
    assert (bytes(sink.data), sink.end) == (BODY, "finished")
