"""How fast upstreams are, who is asked first for it, and how many requests haste may cost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.speed import MEASURED_BYTES, PROBE_SECONDS, Allowance, Speed, by_speed


def first_byte(speed: Speed) -> float | None:
    """The average, where there is one."""
    return None if speed.first_byte is None else speed.first_byte.value


def known(seconds: float, now: float = 0.0, throughput: float | None = None) -> Speed:
    """An upstream that was asked then, and answered after so long."""
    speed = Speed().asked(now).answered(seconds, now)
    return speed if throughput is None else speed.brought(round(10 * throughput), 10.0, now)


def test_the_first_measurement_stands_alone() -> None:
    """There is nothing to average it with."""
    assert first_byte(Speed().answered(0.4, 0.0)) == 0.4


def test_a_new_measurement_counts_a_quarter() -> None:
    """One outlier does not make a mirror slow."""
    speed = Speed().answered(0.1, 0.0).answered(4.1, 1.0)
    assert first_byte(speed) == pytest.approx(1.1)


def test_a_change_that_stays_shows_soon() -> None:
    """After nine requests nine tenths of it are in."""
    speed = Speed().answered(0.0, 0.0)
    for second in range(9):
        speed = speed.answered(1.0, second)
    assert 0.9 <= (first_byte(speed) or 0.0) < 0.93


def test_what_was_measured_long_ago_is_forgotten() -> None:
    """One probe is enough to find that a mirror is slow no more, also where its last request took its time."""
    speed = Speed().asked(0.0).answered(30.0, 30.0)
    assert speed.is_due(PROBE_SECONDS)
    assert first_byte(speed.asked(PROBE_SECONDS).answered(0.1, PROBE_SECONDS + 0.1)) == 0.1


def test_silence_is_a_long_time_at_least() -> None:
    """Nobody knows how long it would have taken; so it makes no average better, and one that is unknown known."""
    assert first_byte(Speed().silent(5.0, 0.0)) == 5.0
    assert first_byte(known(9.0).silent(5.0, 1.0)) == 9.0
    assert first_byte(known(1.0).silent(5.0, 1.0)) == 2.0


@pytest.mark.parametrize(
    ("size_bytes", "seconds", "expected"),
    [
        (MEASURED_BYTES, 2.0, MEASURED_BYTES / 2),
        (MEASURED_BYTES - 1, 2.0, None),
        (0, 0.0, None),
        (MEASURED_BYTES, 0.0, None),  # all of it came with the head
        (MEASURED_BYTES, -1.0, None),
    ],
)
def test_which_bodies_say_how_fast_it_is(size_bytes: int, seconds: float, expected: float | None) -> None:
    """Those of 64 KiB and more, that took any time at all."""
    throughput = Speed().brought(size_bytes, seconds, 0.0).throughput
    assert (throughput.value if throughput else None) == expected


def test_throughput_is_averaged_too() -> None:
    """On its own."""
    speed = Speed().brought(1_000_000, 1.0, 0.0).brought(2_000_000, 1.0, 1.0)
    assert speed.throughput is not None
    assert speed.throughput.value == 1_250_000
    assert speed.first_byte is None


@pytest.mark.parametrize(
    ("speeds", "expected"),
    [
        ({"a": known(0.3), "b": known(0.1), "c": known(0.2)}, "bca"),
        ({"a": known(0.1, throughput=1e6), "b": known(0.1, throughput=9e6), "c": known(0.1)}, "bac"),
        ({"a": known(0.1), "b": known(0.1), "c": known(0.1)}, "abc"),
        ({}, "abc"),  # all are unknown and were never asked: as configured
        ({"a": known(0.1)}, "bac"),  # one at a time, or a new start would ask only slow ones
        ({"a": known(0.1), "b": known(0.2)}, "cab"),
        ({"a": Speed().asked(0.0), "b": known(0.2), "c": known(0.1)}, "cba"),  # it was asked and gave nothing
    ],
)
def test_the_fastest_first(speeds: dict[str, Speed], expected: str) -> None:
    """By time to first byte, then throughput, then as configured; one that was never asked before all."""
    assert "".join(by_speed("abc", speeds, 10.0)) == expected


def test_one_that_was_not_asked_for_five_minutes_is_tried() -> None:
    """Once: asked, it is due no more. Of two, the one that was left alone for longer."""
    speeds = {"a": known(0.1, 400.0), "b": known(0.9, 50.0), "c": known(0.8, 100.0)}
    assert "".join(by_speed("abc", speeds, 349.0)) == "acb"
    assert "".join(by_speed("abc", speeds, 400.0)) == "bac"
    speeds["b"] = speeds["b"].asked(400.0)
    assert "".join(by_speed("abc", speeds, 400.0)) == "cab"
    speeds["c"] = speeds["c"].asked(400.0)
    assert "".join(by_speed("abc", speeds, 400.0)) == "acb"


def test_the_first_three_slow_starts_are_covered() -> None:
    """Then there is nothing left."""
    allowance = Allowance()
    assert [allowance.spend() for _ in range(4)] == [True, True, True, False]


def test_twenty_requests_earn_one_beside_another() -> None:
    """Five in a hundred, and not one sooner."""
    allowance = Allowance()
    while allowance.spend():
        pass
    for _ in range(19):
        allowance.earn()
    assert not allowance.spend()
    allowance.earn()
    assert allowance.spend()
    assert not allowance.spend()


def test_what_is_saved_up_is_bounded() -> None:
    """After a quiet week a mirror that begins to hang costs ten."""
    allowance = Allowance()
    for _ in range(10_000):
        allowance.earn()
    assert [allowance.spend() for _ in range(11)] == [True] * 10 + [False]


@given(st.lists(st.booleans(), max_size=500))
def test_never_more_than_one_in_twenty_and_three(events: list[bool]) -> None:
    """Whatever comes in which order."""
    allowance, requests, second_ones = Allowance(), 0, 0
    for is_request in events:
        if is_request:
            allowance.earn()
            requests += 1
        else:
            second_ones += allowance.spend()
    assert second_ones <= 3 + requests / 20
