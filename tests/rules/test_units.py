"""Durations and sizes: what is read, what is refused, and that what is written is read back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.units import approximate_size, format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5m", 300),
        ("90s", 90),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("87600h", 315_360_000),
        ("7d", 604_800),
        ("1w", 604_800),
        ("250ms", 0.25),
        ("1m250ms", 60.25),
        ("1.5h", 5400),
        (" 30 s ", 30),
        ("30", 30),
        ("0.5", 0.5),
        (30, 30),
        (0.25, 0.25),
        (0, 0),
        ("0s", 0),
    ],
)
def test_durations_are_read(text: object, seconds: float) -> None:
    """Units, sums of units, plain numbers and plain text numbers are seconds."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *("", " ", "m", "5x", "5M", "-5m", "30m1h", "1h1h", "1e3", "1_000", "٣s", "5m\n;"),
        *(-1, math.nan, math.inf, 10**400, True, False, None, [], {}, b"5m"),
    ],
)
def test_what_is_no_duration_is_refused_with_help(value: object) -> None:
    """Anything else is an error that shows the value and what is allowed."""
    with pytest.raises(ValueError, match=r"is not a duration; allowed: .*1h30m"):
        parse_duration(value)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (1.5, "1.5s"),
        (90, "1m30s"),
        (300, "5m"),
        (5400, "1h30m"),
        (315_360_000, "3650d"),
        (60.25, "1m250ms"),
        (0.0001, "0.0001s"),
    ],
)
def test_durations_are_written(seconds: float, text: str) -> None:
    """A duration is written in days, hours, minutes and seconds, without units that count nothing."""
    assert format_duration(seconds) == text


@given(st.floats(min_value=0, max_value=1e10, allow_subnormal=False))
def test_a_duration_survives_the_round_trip(seconds: float) -> None:
    """What `format_duration` writes is read back as the very same number."""
    assert parse_duration(format_duration(seconds)) == seconds


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        (1073741824, 2**30),
        ("1073741824", 2**30),
        (1024.0, 1024),
        ("10GiB", 10 * 2**30),
        ("10gib", 10 * 2**30),
        ("10 GiB", 10 * 2**30),
        ("10G", 10 * 2**30),
        ("512MiB", 512 * 2**20),
        ("1GB", 10**9),
        ("1kB", 1000),
        ("1K", 1024),
        ("2T", 2 * 2**40),
        ("1PiB", 2**50),
        ("1.5KiB", 1536),
        ("0.3KiB", 307),
        ("512B", 512),
        ("0", 0),
    ],
)
def test_sizes_are_read(text: object, size_bytes: int) -> None:
    """Binary and decimal units in any case, a bare letter as binary, and plain numbers as bytes."""
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "value",
    [
        "",
        "GiB",
        "10Q",
        "10EiB",
        "-1",
        "1e9",
        "1.5",
        "1 2",
        "1GiB2",
        -1,
        1.5,
        math.inf,
        10**400,
        True,
        None,
        [],
        b"1",
    ],
)
def test_what_is_no_size_is_refused_with_help(value: object) -> None:
    """Anything else is an error that shows the value and what is allowed."""
    with pytest.raises(ValueError, match=r"is not a size; allowed: .*10GiB"):
        parse_size(value)


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0B"), (1000, "1000B"), (1024, "1KiB"), (1536, "1536B"), (2**30, "1GiB"), (3 * 2**39, "1536GiB")],
)
def test_sizes_are_written(size_bytes: int, text: str) -> None:
    """A size is written in the largest power of 1024 that divides it."""
    assert format_size(size_bytes) == text


@given(st.integers(min_value=0, max_value=2**63))
def test_a_size_survives_the_round_trip(size_bytes: int) -> None:
    """What `format_size` writes is read back as the very same number."""
    assert parse_size(format_size(size_bytes)) == size_bytes


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1000 B"),
        (1023, "1023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (1_290_000, "1.23 MiB"),
        (999 * 1024, "999 KiB"),
        (int(999.4 * 1024), "999 KiB"),
        (int(999.6 * 1024), "1000 KiB"),
        (1023 * 1024, "1023 KiB"),
        (1024 * 1024 - 1, "1 MiB"),
        (1 << 20, "1 MiB"),
        (10 << 30, "10 GiB"),
        (5 << 40, "5 TiB"),
        (1 << 50, "1024 TiB"),
        (1 << 60, "1048576 TiB"),
    ],
)
def test_sizes_for_people(size_bytes: int, text: str) -> None:
    """Three digits and the unit that suits, never an exponent, and no 1024 of what is 1 of the next."""
    assert approximate_size(size_bytes) == text


@given(st.integers(0, 1 << 62))
def test_sizes_for_people_are_near(size_bytes: int) -> None:
    """What is shown is within half of the last digit of what is meant, less the byte that reading it back rounds off."""
    assert parse_size(approximate_size(size_bytes)) == pytest.approx(size_bytes, rel=0.0061, abs=1)
