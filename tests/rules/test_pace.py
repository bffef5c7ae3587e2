"""What counts as slow, and when it counts as fast again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.pace import FAST_SECONDS, REMEMBERED_LOOKS, SLOW_SECONDS, Lateness, Pace


def test_what_takes_more_than_a_millisecond_on_average_is_slow() -> None:
    """Not what takes a little less, however often."""
    slow, fast = Pace(), Pace()
    for _ in range(200):
        slow.note(SLOW_SECONDS * 1.1)
        fast.note(SLOW_SECONDS * 0.99)
    assert (slow.is_slow, fast.is_slow) == (True, False)


def test_one_outlier_is_not_slow() -> None:
    """A chunk that takes ten times as long as is allowed, among others that take a tenth of it."""
    pace = Pace()
    for number in range(100):
        pace.note(SLOW_SECONDS * (10 if number == 50 else 0.1))
        assert not pace.is_slow


@pytest.mark.parametrize(("seconds", "is_slow"), [(FAST_SECONDS * 1.1, True), (FAST_SECONDS * 0.9, False)])
def test_it_is_fast_again_at_half_the_time(seconds: float, is_slow: bool) -> None:
    """What is between the two limits stays what it was."""
    pace = Pace()
    for _ in range(200):
        pace.note(SLOW_SECONDS * 2)
    for _ in range(200):
        pace.note(seconds)
    assert pace.is_slow is is_slow


@given(st.lists(st.floats(0, 0.1), max_size=50))
def test_the_average_stays_between_what_was_measured(seconds: list[float]) -> None:
    """And what is slow has been above the limit at least once."""
    pace = Pace()
    for each in seconds:
        pace.note(each)
    assert 0 <= pace.average_seconds <= max(seconds, default=0)
    assert not pace.is_slow or max(seconds) > SLOW_SECONDS


def test_lateness_is_that_of_the_last_looks() -> None:
    """The average and the worst of them; an early look is none that is late."""
    lateness = Lateness()
    assert (lateness.average_seconds, lateness.worst_seconds) == (0, 0)
    lateness.note(10, 19)
    for due in range(REMEMBERED_LOOKS - 1):
        lateness.note(due, due)
    lateness.note(30, 29)
    assert (lateness.average_seconds, lateness.worst_seconds) == (0, 0)
    lateness.note(40, 46)
    assert (lateness.average_seconds, lateness.worst_seconds) == (6 / REMEMBERED_LOOKS, 6)
