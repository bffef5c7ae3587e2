"""Work in the background: bounded, once at a time, in order, and over when it is stopped."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from pipcache.engine.queue import Queue
from pipcache.rules.errors import NotServed
from tests.fakes.engine import RecordedEvents


class Pieces:
    """Pieces of work by name; the test ends them."""

    def __init__(self, at_once: int = 2, waiting: int = 2) -> None:
        self.events = RecordedEvents()
        self.queue = Queue(at_once, waiting, self.events)
        self.begun: list[str] = []
        self.ends: dict[str, Deferred[None]] = {}

    def put(self, name: str) -> bool:
        """Have it done."""

        async def work() -> None:
            self.begun.append(name)
            self.ends[name] = Deferred()
            await self.ends[name]

        return self.queue.put(name, work)


def test_so_many_run_at_once_and_the_others_in_order() -> None:
    """One that ends lets the next begin."""
    pieces = Pieces()
    assert [pieces.put(name) for name in "abcd"] == [True] * 4
    assert pieces.begun == ["a", "b"]
    pieces.ends["b"].callback(None)
    assert pieces.begun == ["a", "b", "c"]
    pieces.ends["a"].callback(None)
    pieces.ends["c"].callback(None)
    assert (pieces.begun, len(pieces.queue)) == (["a", "b", "c", "d"], 1)


def test_what_finds_no_room_is_not_taken() -> None:
    """And may be put again when there is."""
    pieces = Pieces()
    assert [pieces.put(name) for name in "abcde"] == [True, True, True, True, False]
    pieces.ends["a"].callback(None)
    assert pieces.put("e")


def test_what_runs_or_waits_is_not_taken_twice() -> None:
    """When it is through it may be done again."""
    pieces = Pieces(at_once=1)
    assert [pieces.put(name) for name in "abab"] == [True, True, False, False]
    pieces.ends["a"].callback(None)
    pieces.ends["b"].callback(None)
    assert pieces.put("a")
    assert pieces.begun == ["a", "b", "a"]


def test_a_failure_is_nobodys() -> None:
    """One that is an answer is not told at all, any other is told as a crash; the queue goes on."""
    pieces = Pieces(at_once=1)
    for name in "abc":
        pieces.put(name)
    pieces.ends["a"].errback(NotServed(404, "no"))
    assert pieces.events.crashes == []
    pieces.ends["b"].errback(ZeroDivisionError())
    assert [failure.type for failure in pieces.events.crashes] == [ZeroDivisionError]
    assert pieces.begun == ["a", "b", "c"]


def test_after_a_stop_nothing_begins() -> None:
    """What runs may end; what waited is forgotten, and nothing is taken."""
    pieces = Pieces(at_once=1)
    pieces.put("a")
    pieces.put("b")
    pieces.queue.stop()
    pieces.ends["a"].callback(None)
    assert (pieces.begun, pieces.put("c"), len(pieces.queue)) == (["a"], False, 0)
