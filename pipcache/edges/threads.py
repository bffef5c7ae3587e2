"""Threads for what may block: few, begun when there is work for one more, each call's result a Deferred in the reactor.

Twisted's own pool would do, but a call through it costs four times as much, which is a tenth of fetching a small file: it
carries contexts from thread to thread, and hands each call on through three queues.

What nobody waits for may come ``together``: it waits for a moment, and all that came meanwhile is done by one thread, one
after the other, and told of at once. A thread that works beside the reactor's slows both, so it is better woken seldom, and
rests between one piece of work and the next.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from time import monotonic, sleep
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

TOGETHER_SECONDS = 0.01
BATCH = 16
"""More than so many that come together are shared among threads."""

_TELL_SECONDS = 0.005
"""Where the disk is slow, results are not kept back for those of the others."""

_Job = tuple[Callable[[], Any], Deferred[Any]]
_Done = tuple[Deferred[Any], Any]


class Reactor(Protocol):
    """What is needed of the reactor."""

    def callFromThread(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """Call the function in the reactor's thread, soon."""
        ...

    def callLater(self, delay: float, function: Callable[..., Any], /, *args: Any) -> Any:
        """Call ``function`` after ``delay`` seconds; the result can be cancelled."""
        ...


class Threads:
    """Runs blocking functions, in the order they came, at most so many at once; an ``InThread``.

    What comes before ``start`` waits for it; ``stop`` runs all that came before it and joins the threads.
    """

    def __init__(self, reactor: Reactor, at_most: int, name: str) -> None:
        self.started = False
        self._reactor = reactor
        self._at_most = at_most
        self._name = name
        self._batches: SimpleQueue[list[_Job] | None] = SimpleQueue()
        self._unfinished = 0  # batches
        self._gathered: list[_Job] = []
        self._due: Any = None
        self._threads: list[Thread] = []
        self._has_stopped = False

    def __call__(self, function: Callable[[], T], /) -> Deferred[T]:
        """What the function returns, or raises."""
        result: Deferred[T] = Deferred()
        self._put([(function, result)])
        return result

    def together(self, function: Callable[[], T], /) -> Deferred[T]:
        """The same, a moment later, with all else that comes here meanwhile."""
        result: Deferred[T] = Deferred()
        self._gathered.append((function, result))
        if self._due is None and not self._has_stopped:
            self._due = self._reactor.callLater(TOGETHER_SECONDS, self._put_gathered)
        return result

    def start(self) -> None:
        """Begin to work."""
        self.started = True
        self._begin_threads()

    def stop(self) -> None:
        """Do what is left, and end; what comes later is never done."""
        if self._due is not None:
            self._due.cancel()
            self._put_gathered()
        self.started, self._has_stopped = False, True
        for _ in self._threads:
            self._batches.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _put_gathered(self) -> None:
        self._due = None
        gathered, self._gathered = self._gathered, []
        for start in range(0, len(gathered), BATCH):
            self._put(gathered[start : start + BATCH])

    def _put(self, batch: list[_Job]) -> None:
        self._unfinished += 1
        self._batches.put(batch)
        self._begin_threads()

    def _begin_threads(self) -> None:
        while self.started and len(self._threads) < min(self._unfinished, self._at_most):
            thread = Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (batch := self._batches.get()) is not None:
            self._run(batch)
            del batch  # a thread that waits holds on to nothing

    def _run(self, batch: list[_Job]) -> None:
        done: list[_Done] = []
        worked_seconds = 0.0
        for number, (function, result) in enumerate(batch):
            if number:
                sleep(TOGETHER_SECONDS / len(batch))  # or whoever is served meanwhile waits for all of it
            began_at = monotonic()
            try:
                done.append((result, function()))
            except BaseException:
                done.append((result, Failure()))
            worked_seconds += monotonic() - began_at
            if worked_seconds >= _TELL_SECONDS:
                self._reactor.callFromThread(self._tell, done)
                done, worked_seconds = [], 0.0
        self._reactor.callFromThread(self._finished, done)

    def _finished(self, done: list[_Done]) -> None:
        self._unfinished -= 1
        self._tell(done)

    def _tell(self, done: list[_Done]) -> None:
        for result, outcome in done:
            result.callback(outcome)
