"""One question to several upstreams, one after the other; beside one that does not begin to answer, the next.

Knows neither what is asked nor which answer is good: who runs the race takes the answers as they come and stops when one
will do. Never more than two requests are under way at once, and the second one only while there is an allowance for it.
While an answer is being looked at, the other request goes on, in case that answer is no good after all.

Whoever began a race closes it. What is under way then is cancelled, which closes its connection; an answer that came too
late for that, or that nobody took, is abandoned.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

from attrs import define
from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure

from pipcache.engine.interfaces import Clock, UpstreamResponse
from pipcache.rules.errors import PipcacheError
from pipcache.rules.speed import Allowance

T = TypeVar("T")


@define(eq=False)
class Entrant(Generic[T]):
    """One of those asked: since when, and what came of it, at ``ended_at`` (the clock's seconds; None: nothing yet)."""

    place: T
    began_at: float
    ended_at: float | None = None
    response: UpstreamResponse | None = None
    failure: Failure | None = None
    is_lost: bool = False

    def taken(self) -> UpstreamResponse:
        """The response, which is the caller's from now on; raises what came instead of one."""
        if self.failure is not None:
            self.failure.raiseException()
        assert self.response is not None
        return self.response


class Race(Generic[T]):
    """Asks for the answers of some places, in their order."""

    def __init__(
        self,
        places: Sequence[T],
        send: Callable[[T], Awaitable[UpstreamResponse]],
        clock: Clock,
        patience_seconds: float,
        allowance: Allowance,
    ) -> None:
        """Begin nothing yet.

        Args:
            places: in the order to ask.
            send: asks one of them; its result may be cancelled.
            clock: which tells when to ask the next one.
            patience_seconds: how long one alone is waited for.
            allowance: what second requests are paid from.
        """
        self._left = deque(places)
        self._send = send
        self._clock = clock
        self._patience_seconds = patience_seconds
        self._allowance = allowance
        self._running: list[tuple[Entrant[T], Deferred[Any]]] = []
        self._arrived: deque[Entrant[T]] = deque()
        self._waiter: Deferred[None] | None = None
        self._timer: Any = None

    async def next(self) -> Entrant[T] | None:
        """The next one that came to an end, be it an error; None when all have been heard."""
        if not self._arrived and not self._running:
            if not self._left:
                return None
            self._allowance.earn()
            self._begin()
        if not self._arrived:
            await self._arrival()
        return self._arrived.popleft()

    def close(self) -> list[Entrant[T]]:
        """End all that is under way; gives those whose answers nobody took."""
        self._stop_timer()
        running, self._running = self._running, []
        unheard, self._arrived = [*self._arrived], deque()
        for entrant in unheard:
            if entrant.response is not None:
                entrant.response.abandon()
        for entrant, sending in running:
            entrant.is_lost = True
            sending.cancel()
        return [*unheard, *(entrant for entrant, _ in running)]

    async def _arrival(self) -> None:
        """Return when somebody has arrived; meanwhile look whether a second one is to be asked."""
        if self._left and len(self._running) == 1:
            due = self._running[0][0].began_at + self._patience_seconds
            self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._begin_second)
        self._waiter = Deferred()
        await self._waiter

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _begin_second(self) -> None:
        self._timer = None
        if self._allowance.spend():
            self._begin()

    def _begin(self) -> None:
        entrant = Entrant(self._left.popleft(), self._clock.seconds())
        sending = Deferred.fromCoroutine(self._answer(entrant.place))
        self._running.append((entrant, sending))
        sending.addBoth(partial(self._ended, entrant))

    async def _answer(self, place: T) -> UpstreamResponse:
        return await self._send(place)

    def _ended(self, entrant: Entrant[T], result: UpstreamResponse | Failure) -> None:
        if entrant.is_lost:
            if isinstance(result, Failure):
                result.trap(PipcacheError, CancelledError)
            else:
                result.abandon()
            return
        if isinstance(result, Failure):
            entrant.failure = result
        else:
            entrant.response = result
        self._stop_timer()
        entrant.ended_at = self._clock.seconds()
        self._running = [each for each in self._running if each[0] is not entrant]
        self._arrived.append(entrant)
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.called:
            waiter.callback(None)
