"""Whether what is done for each chunk of a body is quick enough to be done where all else waits for it.

The reactor does one thing at a time: what takes it a millisecond for each chunk keeps every other client waiting as long. A
thread keeps nobody waiting, but costs a tenth of a millisecond itself, and upstream pauses meanwhile. So a chunk belongs
there only while it takes long. The average is exponential, so one outlier does not decide, and what is slow must become
twice as fast before it counts as fast again, so that what is about at the limit does not go to and fro.

Must not know a clock: times are given. Source: issue E.
"""

from __future__ import annotations

from collections import deque
from typing import Final

from attrs import define, field

SLOW_SECONDS: Final = 0.001
"""More than this for a chunk, on average, is slow."""

FAST_SECONDS: Final = 0.0005
"""Less than this is fast again."""

WEIGHT: Final = 1 / 16
"""What a new measurement counts in the average."""

REMEMBERED_LOOKS: Final = 60


@define(eq=False)
class Pace:
    """How long a chunk takes, and what follows from that."""

    average_seconds: float = 0.0
    is_slow: bool = False

    def note(self, seconds: float) -> None:
        """One more chunk was done."""
        self.average_seconds += (seconds - self.average_seconds) * WEIGHT
        if self.average_seconds > SLOW_SECONDS:
            self.is_slow = True
        elif self.average_seconds < FAST_SECONDS:
            self.is_slow = False


@define(eq=False)
class Lateness:
    """How late the reactor was, at each of the last ``REMEMBERED_LOOKS`` looks."""

    _seconds: deque[float] = field(factory=lambda: deque(maxlen=REMEMBERED_LOOKS))

    def note(self, due: float, now: float) -> None:
        """It was looked at ``now``, where it should have been at ``due``."""
        self._seconds.append(max(0.0, now - due))

    @property
    def average_seconds(self) -> float:
        """Of them all; 0 before the first."""
        return sum(self._seconds) / len(self._seconds) if self._seconds else 0.0

    @property
    def worst_seconds(self) -> float:
        """The latest of them; 0 before the first."""
        return max(self._seconds, default=0.0)
