"""How fast upstreams are: what was measured, who is asked first for it, and how many requests may be spent on haste.

Must not know a clock: times are given. Source: issue C.

Averages are exponential: a new measurement counts a quarter. So the last four make up two thirds of it: one outlier moves
it by a quarter and no more, and a change that stays shows within a handful of requests. What was measured over two
minutes ago says little about now, so then the new measurement stands alone; otherwise it would take an hour of probes,
one every five minutes, to find that a mirror is slow no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import define, frozen

WEIGHT: Final = 0.25
"""What a new measurement counts in an average."""

PROBE_SECONDS: Final = 300.0
"""How long an upstream may be left unasked."""

MEMORY_SECONDS: Final = 120.0
"""How long an average is worth anything when nothing is added to it; less than it takes to be probed."""

MEASURED_BYTES: Final = 1 << 16
"""A body shorter than this says more about the connection's latency than about its throughput."""


@frozen
class Average:
    """An exponential average, and when it was last added to (seconds)."""

    value: float
    at: float


def averaged(before: Average | None, value: float, now: float) -> Average:
    """The average with one more measurement."""
    if before is None or now - before.at > MEMORY_SECONDS:
        return Average(value, now)
    return Average(before.value + WEIGHT * (value - before.value), now)


@frozen
class Speed:
    """What is known of one upstream's speed; ``Speed()`` where it is nothing.

    Attributes:
        first_byte: seconds from the beginning of a request to the head of a 2xx or 304.
        throughput: bytes a second of whole bodies, from head to end.
        asked_at: when it was last asked for anything; None: never.
    """

    first_byte: Average | None = None
    throughput: Average | None = None
    asked_at: float | None = None

    def asked(self, now: float) -> Speed:
        """With one more request begun."""
        return Speed(self.first_byte, self.throughput, now)

    def answered(self, seconds: float, now: float) -> Speed:
        """With one more head, that came after so long."""
        return Speed(averaged(self.first_byte, seconds, now), self.throughput, self.asked_at)

    def silent(self, seconds: float, now: float) -> Speed:
        """With one more head that had not come after so long; it would have taken longer, so this makes no better."""
        known = self.first_byte.value if self.first_byte is not None else 0.0
        return self.answered(max(seconds, known), now)

    def brought(self, size_bytes: int, seconds: float, now: float) -> Speed:
        """With one more whole body; itself where that is too short to say anything."""
        if size_bytes < MEASURED_BYTES or seconds <= 0:
            return self
        return Speed(self.first_byte, averaged(self.throughput, size_bytes / seconds, now), self.asked_at)

    def is_due(self, now: float) -> bool:
        """Whether it was not asked for so long that nobody knows how fast it is now."""
        return self.asked_at is None or now - self.asked_at >= PROBE_SECONDS


def by_speed(names: Sequence[str], speeds: Mapping[str, Speed], now: float) -> list[str]:
    """The names, the one that answers soonest first; among equals the one with the higher throughput, then as given.

    Before them all one that is due: never asked, or not for ``PROBE_SECONDS``; so each becomes known, and one that was
    slow and is not any more is found. Behind them those of which nothing could be measured when they were asked.
    """
    unknown = Speed()

    def slowness(name: str) -> tuple[float, float]:
        speed = speeds.get(name, unknown)
        return (
            float("inf") if speed.first_byte is None else speed.first_byte.value,
            0.0 if speed.throughput is None else -speed.throughput.value,
        )

    def asked_at(name: str) -> float:
        at = speeds.get(name, unknown).asked_at
        return float("-inf") if at is None else at

    ordered = sorted(names, key=slowness)
    due = [name for name in names if speeds.get(name, unknown).is_due(now)]
    if due:
        probed = min(due, key=asked_at)
        ordered.remove(probed)
        ordered.insert(0, probed)
    return ordered


START_REQUESTS: Final = 3
MOST_REQUESTS: Final = 10
_POINTS_A_REQUEST = 1
_POINTS_A_SECOND_ONE = 20


@define
class Allowance:
    """How many requests may be sent beside another for haste's sake: one in twenty, and a few to begin with.

    Each request earns a twentieth of one. Ten can be saved up, so a mirror that begins to hang costs a burst at most;
    three are there at the start, so that the first slow starts are covered too. Counted in points, as twentieths do not
    add up in floats.
    """

    _points: int = START_REQUESTS * _POINTS_A_SECOND_ONE

    def earn(self) -> None:
        """A request was sent that had to be."""
        self._points = min(self._points + _POINTS_A_REQUEST, MOST_REQUESTS * _POINTS_A_SECOND_ONE)

    def spend(self) -> bool:
        """Whether one may be sent beside it; it is counted then."""
        if self._points < _POINTS_A_SECOND_ONE:
            return False
        self._points -= _POINTS_A_SECOND_ONE
        return True
