"""Whatever happens in whatever order: each client that stayed got its bytes, exactly, and an end."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipcache.engine import fetch as fetching
from pipcache.engine import follower as following
from pipcache.engine.fetch import Expected, Fetch
from pipcache.rules.errors import TruncatedBody, Unwanted
from tests.fakes.disk import MemoryFiles
from tests.fakes.engine import FakeResponse, Sink, Turns, begin, is_waiting, result_of

BODY = bytes(number * 7 % 251 for number in range(400))

MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("give"), st.integers(1, 90)),
        st.tuples(st.just("join"), st.none() | st.tuples(st.integers(0, 399), st.integers(1, 400))),
        st.tuples(st.sampled_from(["pause", "resume", "leave", "pause inside", "leave inside"]), st.integers(0, 5)),
        st.tuples(st.just("turn"), st.none()),
        st.tuples(st.just("cut"), st.booleans()),
    ),
    max_size=40,
)


class Schedule:
    """One fetch, its clients, and the moves that are made with them."""

    def __init__(self, room_bytes: int | None, length: int | None) -> None:
        self.clock = Turns()
        self.length = length
        self.response = FakeResponse(200, length)
        self.responses = [self.response]
        self.disk = MemoryFiles(room_bytes)
        self.fetch = Fetch(self.disk.grow(), Expected(), length)
        self.sinks: list[tuple[Sink, int, int | None]] = []
        self.sent = 0
        self.join(None)
        self.ran = begin(self.fetch.take(self.response))
        self.fetch.offered_to_all()

    def make(self, move: str, what: Any) -> None:
        """One move; one that is impossible now is none."""
        if move == "give":
            self.give(what)
        elif move == "join":
            self.join(what)
        elif move == "turn":
            self.clock.advance(0)
        elif move == "cut":
            self.cut(is_part=what)
        elif what < len(self.sinks):
            self.touch(move, self.sinks[what][0])

    def give(self, count: int) -> None:
        """Upstream sends some bytes, where it may; the last ones with its end."""
        if self.response.is_paused or self.response.is_settled or self.sent == len(BODY):
            return
        data = BODY[self.sent : self.sent + count]
        self.sent += len(data)
        self.response.give(data)
        if self.sent == len(BODY):
            self.response.end()

    def cut(self, *, is_part: bool) -> None:
        """Upstream dies; another one goes on where the body ends, or sends all of it again."""
        if self.response.is_settled or not is_waiting(self.ran):
            return
        self.response.fail(TruncatedBody("cut"))
        with pytest.raises(TruncatedBody):
            result_of(self.ran)
        size = self.fetch.body.size
        fields = (("content-range", f"bytes {size}-{len(BODY) - 1}/{len(BODY)}"),)
        is_part = is_part and 0 < size < len(BODY)
        self.sent = size if is_part else 0
        self.response = FakeResponse(206, None, fields) if is_part else FakeResponse(200, self.length)
        self.responses.append(self.response)
        self.ran = begin(self.fetch.take(self.response))

    def join(self, wanted: tuple[int, int] | None) -> None:
        """A client follows, where it may: the whole body, or a range of it where its length is known."""
        if not self.fetch.is_joinable:
            return
        start, stop = 0, self.fetch.length
        if wanted is not None and stop is not None:
            start, stop = wanted[0], min(stop, wanted[0] + wanted[1])
        sink = Sink()
        self.sinks.append((sink, start, stop))
        sink.follow(self.fetch, self.clock, start, stop)

    def touch(self, move: str, sink: Sink) -> None:
        """Something happens to one client."""
        if sink.is_gone or sink.end is not None:
            return
        match move:
            case "pause":
                sink.pause()
            case "resume":
                sink.resume()
            case "leave":
                sink.vanish()
            case "pause inside":
                sink.on_write = lambda _: sink.pause()
            case "leave inside":
                sink.on_write = lambda _: sink.vanish()

    def wind_up(self) -> None:
        """All who are still there read on, and upstream sends the rest."""
        for _ in range(2 * len(BODY)):
            for sink, _, _ in self.sinks:
                sink.on_write = None
                if sink.is_paused and not sink.is_gone:
                    sink.resume()
            self.clock.advance(0)
            self.give(50)
        self.fetch.release()


@settings(deadline=None, max_examples=300)
@given(MOVES, st.none() | st.integers(0, 400), st.sampled_from([len(BODY), None]))
@example([("join", (120, 50)), ("leave", 0)], 0, len(BODY))
@example([("give", 90), ("leave", 0)], 100, len(BODY))
@example([("give", 90), ("give", 90), ("cut", True), ("leave", 0)], 0, len(BODY))
@example([("pause", 0), ("give", 90), ("cut", False), ("give", 90), ("cut", True)], 0, len(BODY))
def test_each_client_that_stayed_got_exactly_its_bytes(
    moves: list[tuple[str, Any]], room_bytes: int | None, length: int | None
) -> None:
    """With a disk, without one, and with one that fails somewhere; whole bodies and ranges; however often it is cut."""
    with patch.object(following, "CHUNK_BYTES", 16), patch.object(fetching, "WINDOW_BYTES", 64):
        schedule = Schedule(room_bytes, length)
        for move, what in moves:
            schedule.make(move, what)
        schedule.wind_up()
    for sink, start, stop in schedule.sinks:
        wanted = BODY[start:stop]
        if sink.is_gone:
            assert wanted.startswith(bytes(sink.data))
        else:
            assert (bytes(sink.data), sink.end) == (wanted, "finished")
    assert not is_waiting(schedule.ran)
    try:
        result_of(schedule.ran)
        assert schedule.sent == len(BODY)
    except Unwanted:
        assert schedule.response.is_abandoned
    assert all(response.is_settled for response in schedule.responses)
    assert (schedule.disk.closes, schedule.disk.open_parts, schedule.clock.getDelayedCalls()) == (1, {}, [])
