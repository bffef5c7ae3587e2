"""One result, many who wait for it: each gets a Deferred of its own.

A Deferred given to two waiters would share its chain of callbacks and its cancellation; so it is never done.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

T = TypeVar("T")


class Waiters(Generic[T]):
    """A result that comes once, now or later, to everybody who asks."""

    def __init__(self) -> None:
        self._waiting: deque[Deferred[T]] = deque()
        self._outcome: tuple[T | None, Exception | None] | None = None

    @property
    def result(self) -> T | None:
        """The result, where it is there and was a success."""
        return self._outcome[0] if self._outcome else None

    @property
    def is_decided(self) -> bool:
        """Whether the result is there, a failure counting as one."""
        return self._outcome is not None

    def wait(self) -> Deferred[T]:
        """A Deferred of the caller's own; cancelling it takes nobody else's away."""
        if self._outcome is not None:
            result, error = self._outcome
            return fail(Failure(error)) if error is not None else succeed(result)  # type: ignore[arg-type]
        waiter: Deferred[T] = Deferred(self._waiting_no_more)
        self._waiting.append(waiter)
        return waiter

    def fire(self, result: T) -> None:
        """Give the result to all, present and future."""
        self._outcome = (result, None)
        while self._waiting:  # one that is told may cancel another
            self._waiting.popleft().callback(result)

    def fail(self, error: Exception) -> None:
        """Tell all, present and future, that there will be none."""
        self._outcome = (None, error)
        while self._waiting:
            self._waiting.popleft().errback(Failure(error))

    def _waiting_no_more(self, waiter: Deferred[T]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)
