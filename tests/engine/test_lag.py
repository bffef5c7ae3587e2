"""The gauge of the reactor's lag."""

from __future__ import annotations

import pytest
from twisted.internet.task import Clock

from pipcache.engine.lag import LOOK_SECONDS, LoopLag


def test_it_says_how_late_the_reactor_is() -> None:
    """Once a second, from its start to its stop, and nothing of it is left behind."""
    clock = Clock()
    lag = LoopLag(clock)
    lag.start()
    clock.advance(LOOK_SECONDS)
    assert lag.lateness.worst_seconds == 0
    clock.advance(LOOK_SECONDS + 0.25)
    assert lag.lateness.worst_seconds == pytest.approx(0.25)
    assert lag.lateness.average_seconds == pytest.approx(0.125)
    lag.stop()
    assert clock.getDelayedCalls() == []


def test_it_may_be_stopped_before_it_is_started() -> None:
    """As at a start that fails."""
    LoopLag(Clock()).stop()
