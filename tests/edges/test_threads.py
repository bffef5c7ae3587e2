"""Threads for what blocks: results, failures, how many there are, and that a stop does what is left."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from threading import Barrier, Event, current_thread

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import DeferredList

from pipcache.edges.threads import Threads

BOUND_SECONDS = 20


@pytest.fixture
def threads() -> Iterator[Threads]:
    """Three at most, begun; all have ended afterwards."""
    threads = Threads(reactor, 3, "test-threads")  # type: ignore[arg-type]
    threads.start()
    yield threads
    threads.stop()
    assert names() == set()


def names() -> set[str]:
    """The threads that there are."""
    return {each.name for each in threading.enumerate() if each.name.startswith("test-threads")}


@pytest_twisted.ensureDeferred
async def test_a_result_comes_back_to_the_reactor(threads: Threads) -> None:
    """The function runs elsewhere, what waits for it goes on here."""
    assert await threads(lambda: current_thread().name) == "test-threads-0"
    assert current_thread() is threading.main_thread()


@pytest_twisted.ensureDeferred
@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(1), KeyboardInterrupt()])
async def test_an_error_comes_back_too(threads: Threads, error: BaseException) -> None:
    """Whatever it is, and the thread goes on."""

    def fail() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        await threads(fail)
    assert raised.value is error
    assert await threads(lambda: 1) == 1


@pytest_twisted.ensureDeferred
async def test_there_are_as_many_threads_as_there_is_work_for(threads: Threads) -> None:
    """None without work, one for work after work, and never more than the limit."""
    assert names() == set()
    for _ in range(5):
        await threads(lambda: None)
    assert len(names()) == 1
    all_at_once = Barrier(3)
    waiting = [threads(lambda: all_at_once.wait(BOUND_SECONDS)) for _ in range(9)]
    assert len(names()) == 3
    assert all(success for success, _ in await DeferredList(waiting))
    assert len(names()) == 3


@pytest_twisted.ensureDeferred
async def test_work_waits_for_the_start() -> None:
    """What is asked for before is done then."""
    threads = Threads(reactor, 2, "test-threads")  # type: ignore[arg-type]
    early = threads(lambda: "early")
    assert (names(), early.called) == (set(), False)
    threads.start()
    assert await early == "early"
    threads.stop()


def test_a_stop_does_what_is_left() -> None:
    """Nothing that was asked for before it is lost; what comes later is never done."""
    done: list[int] = []
    go = Event()
    results: list[object] = []

    class Reactor:
        def callFromThread(self, *call: object) -> None:
            results.append(call)

    threads = Threads(Reactor(), 1, "test-threads")
    threads.start()
    threads(lambda: go.wait(BOUND_SECONDS))
    for number in range(5):
        threads(lambda number=number: done.append(number))  # type: ignore[misc]
    go.set()
    threads.stop()
    threads(lambda: done.append(99))
    assert (done, len(results), names()) == ([0, 1, 2, 3, 4], 6, set())
