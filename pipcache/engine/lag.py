"""The gauge of the reactor's lag: a look once a second, and by how much it came too late."""

from __future__ import annotations

from typing import Any

from pipcache.engine.interfaces import Clock
from pipcache.rules.pace import Lateness

LOOK_SECONDS = 1.0


class LoopLag:
    """Looks from ``start`` to ``stop``."""

    def __init__(self, clock: Clock) -> None:
        self.lateness = Lateness()
        self._clock = clock
        self._due = 0.0
        self._timer: Any = None

    def start(self) -> None:
        """Begin to look."""
        self._due = self._clock.seconds() + LOOK_SECONDS
        self._timer = self._clock.callLater(LOOK_SECONDS, self._look)

    def stop(self) -> None:
        """Look no more; harmless where it never began."""
        timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()

    def _look(self) -> None:
        self.lateness.note(self._due, self._clock.seconds())
        self.start()
