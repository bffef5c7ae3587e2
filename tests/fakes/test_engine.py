"""The engine's stand-ins notice what must not be, or tests that lean on them would prove nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes.cache import Cached
from tests.fakes.disk import MemoryFiles, Threads
from tests.fakes.engine import FakeResponse, Sink, Source, Turns, begin, is_waiting, result_of


@pytest.mark.parametrize("state", ["paused", "gone", "over"])
def test_a_sink_refuses_what_its_client_could_not_take(state: str) -> None:
    """A write while paused, after it left, after the end; and a second end."""
    sink = Sink()
    sink.follow(Source(), Turns())
    if state == "paused":
        sink.pause()
    elif state == "gone":
        sink.vanish()
    else:
        sink.finish()
    with pytest.raises(AssertionError):
        sink.write(b"data")
    if state != "paused":
        with pytest.raises(AssertionError):
            sink.abort()


def test_a_response_refuses_what_a_connection_could_not_do() -> None:
    """Nothing is asked of it twice, or after its end."""
    response = FakeResponse()
    response.abandon()
    for ask in (response.abandon, response.resume):
        with pytest.raises(AssertionError):
            ask()


def test_a_turn_is_one_turn() -> None:
    """What it makes due waits for the next."""
    clock, seen = Turns(), list[int]()
    clock.callLater(0, seen.append, 1)
    clock.callLater(0, clock.callLater, 0, seen.append, 2)
    clock.turn()
    assert seen == [1]
    clock.turn()
    assert seen == [1, 2]


def test_threads_can_be_held() -> None:
    """An error arrives as one."""
    threads = Threads()
    threads.is_held = True
    result, error = begin(threads(lambda: 1)), begin(threads(lambda: 1 // 0))
    assert is_waiting(result)
    threads.let_go()
    assert result_of(result) == 1
    with pytest.raises(ZeroDivisionError):
        result_of(error)


def test_a_disk_in_memory_has_the_room_that_it_has() -> None:
    """A write is cut at the end of it, the next one fails."""
    disk = MemoryFiles(room_bytes=3)
    body = disk.grow()
    body.append(b"abcde")
    assert (body.read_at(0, 9), body.read_at(3, 9), body.failure is None) == (b"abc", b"de", False)


@pytest.mark.parametrize("left", ["pin", "promise", "response", "client"])
def test_the_books_are_checked(tmp_path: Path, left: str) -> None:
    """Each thing that is left in them is found."""
    cached = Cached(tmp_path)
    cached.check_books()
    if left == "pin":
        cached.catalog.pin("a")
    elif left == "promise":
        cached.catalog.reserve("a", 1)
    else:
        visit = cached.get("/other/thing")
        if left == "response":
            cached.client.answer(length=3)
            visit.leave()
    with pytest.raises(AssertionError):
        cached.check_books()
