"""Threads for what blocks: results, failures, how many there are, and that a stop does what is left."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from queue import SimpleQueue
from threading import Barrier, Event, current_thread

import pytest
import pytest_twisted
from twisted.internet import reactor
from twisted.internet.defer import DeferredList
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from pipcache.edges.threads import _TELL_SECONDS, BATCH, TOGETHER_SECONDS, Threads

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


class FakeReactor(Clock):
    """Time that stands still, and calls from threads that are made when they are asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.from_threads: SimpleQueue[tuple[Callable[..., object], tuple[object, ...]]] = SimpleQueue()

    def callFromThread(self, function: Callable[..., object], *args: object) -> None:
        """Keep it."""
        self.from_threads.put((function, args))

    def make_call(self) -> None:
        """Wait for the next one, and make it."""
        function, args = self.from_threads.get(timeout=BOUND_SECONDS)
        function(*args)


@pytest.fixture
def fake() -> Iterator[tuple[FakeReactor, Threads]]:
    """Two threads at most, begun, of a reactor that stands still."""
    reactor = FakeReactor()
    threads = Threads(reactor, 2, "test-threads")
    threads.start()
    yield reactor, threads
    threads.stop()
    assert (names(), reactor.getDelayedCalls()) == (set(), [])


def test_a_stop_does_what_is_left(fake: tuple[FakeReactor, Threads]) -> None:
    """Nothing that was asked for before it is lost; what comes later is never done, and leaves no timer."""
    reactor, threads = fake
    done: list[int] = []
    go = Event()
    threads(lambda: go.wait(BOUND_SECONDS))
    for number in range(5):
        threads(lambda number=number: done.append(number))  # type: ignore[misc]
    threads.together(lambda: done.append(5))
    go.set()
    threads.stop()
    threads(lambda: done.append(99))
    threads.together(lambda: done.append(99))
    assert (sorted(done), reactor.from_threads.qsize()) == ([0, 1, 2, 3, 4, 5], 7)


def test_what_comes_together_is_done_together(fake: tuple[FakeReactor, Threads]) -> None:
    """A moment later, in order, by one thread, and the reactor is woken once; an error is that of one alone."""
    reactor, threads = fake
    done: list[tuple[int, str]] = []
    told: list[object] = []

    def work(number: int) -> None:
        done.append((number, current_thread().name))
        if number == 1:
            raise ValueError("no")

    for number in range(4):
        threads.together(partial(work, number)).addBoth(told.append)
    reactor.advance(TOGETHER_SECONDS / 2)
    assert names() == set()
    reactor.advance(TOGETHER_SECONDS / 2)
    reactor.make_call()
    assert done == [(number, "test-threads-0") for number in range(4)]
    assert [getattr(each, "value", each) for each in told][0::2] == [None, None]
    assert isinstance(told[1], Failure)
    assert (len(told), reactor.from_threads.empty()) == (4, True)
    told.clear()
    threads.together(lambda: "the next").addBoth(told.append)
    reactor.advance(TOGETHER_SECONDS)
    reactor.make_call()
    assert told == ["the next"]


def test_between_pieces_of_work_the_thread_rests(
    fake: tuple[FakeReactor, Threads], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No longer in all than they waited for each other; who is served meanwhile waits for one of them at most."""
    reactor, threads = fake
    steps: list[object] = []
    monkeypatch.setattr("pipcache.edges.threads.sleep", steps.append)
    for number in range(4):
        threads.together(partial(steps.append, f"work {number}"))
    reactor.advance(TOGETHER_SECONDS)
    reactor.make_call()
    rest = TOGETHER_SECONDS / 4
    assert steps == ["work 0", rest, "work 1", rest, "work 2", rest, "work 3"]


def test_what_does_not_wait_overtakes(fake: tuple[FakeReactor, Threads]) -> None:
    """Somebody waits for that."""
    reactor, threads = fake
    told: list[str] = []
    threads.together(lambda: "later").addBoth(told.append)
    threads(lambda: "now").addBoth(told.append)
    reactor.make_call()
    assert told == ["now"]


def test_many_are_shared_among_threads(fake: tuple[FakeReactor, Threads]) -> None:
    """A crowd that comes together keeps more than one thread busy, and no more than there may be."""
    reactor, threads = fake
    both = Barrier(2)
    for number in range(2 * BATCH):
        threads.together((lambda: both.wait(BOUND_SECONDS)) if number % BATCH == 0 else (lambda: None))
    reactor.advance(TOGETHER_SECONDS)
    for _ in range(2):
        reactor.make_call()
    assert not both.broken
    assert len(names()) == 2


def test_a_slow_one_keeps_nobodys_result_back(fake: tuple[FakeReactor, Threads]) -> None:
    """What is done is told before the next one is through, where that takes long."""
    reactor, threads = fake
    go, told = Event(), list[object]()
    for seconds in (_TELL_SECONDS, BOUND_SECONDS):
        threads.together(partial(go.wait, seconds)).addBoth(told.append)
    reactor.advance(TOGETHER_SECONDS)
    reactor.make_call()
    assert told == [False]
    go.set()
    reactor.make_call()
    assert told == [False, True]
