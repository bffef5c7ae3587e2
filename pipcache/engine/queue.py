"""Work in the background that nobody waits for.

It is bounded: each piece is done once at a time, and left undone where there is no room.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable

from twisted.internet.defer import Deferred

from pipcache.engine.interfaces import Events
from pipcache.rules.errors import PipcacheError

Work = Callable[[], Awaitable[None]]


class Queue:
    """Runs pieces of work, so many at once, in the order that they came in.

    Args:
        at_once: how many run at once.
        waiting: how many may wait; one more is not taken.
        events: told of what failed in a way that is an error of this program.
    """

    def __init__(self, at_once: int, waiting: int, events: Events) -> None:
        self._at_once = at_once
        self._most_waiting = waiting
        self._events = events
        self._waiting: OrderedDict[str, Work] = OrderedDict()
        self._running: set[str] = set()
        self._is_stopped = False

    def __len__(self) -> int:
        """How many run or wait."""
        return len(self._running) + len(self._waiting)

    def put(self, name: str, work: Work) -> bool:
        """Have this done; False where it is under way already, or there is no room."""
        if self._is_stopped or name in self._running or name in self._waiting:
            return False
        if len(self._running) >= self._at_once and len(self._waiting) >= self._most_waiting:
            return False
        self._waiting[name] = work
        self._begin()
        return True

    def stop(self) -> None:
        """Begin nothing more."""
        self._is_stopped = True
        self._waiting.clear()

    def _begin(self) -> None:
        while self._waiting and len(self._running) < self._at_once:
            name, work = self._waiting.popitem(last=False)
            self._running.add(name)
            Deferred.fromCoroutine(self._run(name, work))

    async def _run(self, name: str, work: Work) -> None:
        try:
            await work()
        except PipcacheError:
            return  # whoever asks for it will hear of it
        except Exception:
            self._events.crashed(name)
        finally:
            self._running.discard(name)
            self._begin()
