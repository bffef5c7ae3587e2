"""Threads for what may block: few, begun when there is work for one more, each call's result a Deferred in the reactor.

Twisted's own pool would do, but a call through it costs four times as much, which is a tenth of fetching a small file: it
carries contexts from thread to thread, and hands each call on through three queues.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import SimpleQueue
from threading import Thread
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

T = TypeVar("T")

_Job = tuple[Callable[[], Any], Deferred[Any]]


class CallsFromThreads(Protocol):
    """The reactor."""

    def callFromThread(self, function: Callable[..., Any], /, *args: Any) -> Any:
        """Call the function in the reactor's thread, soon."""
        ...


class Threads:
    """Runs blocking functions, in the order they came, at most so many at once; an ``InThread``.

    What comes before ``start`` waits for it; ``stop`` runs all that came before it and joins the threads.
    """

    def __init__(self, reactor: CallsFromThreads, at_most: int, name: str) -> None:
        self.started = False
        self._reactor = reactor
        self._at_most = at_most
        self._name = name
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._unfinished = 0

    def __call__(self, function: Callable[[], T], /) -> Deferred[T]:
        """What the function returns, or raises."""
        result: Deferred[T] = Deferred()
        self._unfinished += 1
        self._jobs.put((function, result))
        self._begin_threads()
        return result

    def start(self) -> None:
        """Begin to work."""
        self.started = True
        self._begin_threads()

    def stop(self) -> None:
        """Do what is left, and end; what comes later is never done."""
        self.started = False
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join()
        self._threads.clear()

    def _begin_threads(self) -> None:
        while self.started and len(self._threads) < min(self._unfinished, self._at_most):
            thread = Thread(target=self._work, name=f"{self._name}-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, result = job
            try:
                outcome = function()
            except BaseException:
                outcome = Failure()
            self._reactor.callFromThread(self._finished, result, outcome)
            del job, function, result, outcome  # a thread that waits holds on to nothing

    def _finished(self, result: Deferred[Any], outcome: Any) -> None:
        self._unfinished -= 1
        result.callback(outcome)
