"""Lifetimes, age, and times as they stand in a meta."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.freshness import (
    MAX_CLOCK_SKEW_SECONDS,
    Freshness,
    TtlClass,
    Ttls,
    age_seconds,
    decide,
    format_timestamp,
    parse_timestamp,
    ttl_class,
    ttl_for,
)
from pipcache.rules.routes import RouteKind

TTLS = Ttls(simple_seconds=300.0, packages_seconds=1000.0, default_seconds=60.0)


@pytest.mark.parametrize("kind", list(RouteKind))
def test_every_kind_of_path_has_a_lifetime(kind: RouteKind) -> None:
    """Pages have the short one, files the long one, everything else the default."""
    expected = {
        RouteKind.PROJECT_LIST: (TtlClass.SIMPLE, 300.0),
        RouteKind.PROJECT_PAGE: (TtlClass.SIMPLE, 300.0),
        RouteKind.FILE: (TtlClass.PACKAGES, 1000.0),
        RouteKind.LINKED_FILE: (TtlClass.PACKAGES, 1000.0),
    }.get(kind, (TtlClass.DEFAULT, 60.0))
    assert (ttl_class(kind), ttl_for(kind, TTLS)) == expected


@pytest.mark.parametrize(
    ("now", "freshness"),
    [
        (100.0, Freshness.FRESH),
        (159.9, Freshness.FRESH),
        (160.0, Freshness.STALE),
        (1000.0, Freshness.STALE),
        (100.0 - MAX_CLOCK_SKEW_SECONDS, Freshness.FRESH),
        (99.9 - MAX_CLOCK_SKEW_SECONDS, Freshness.STALE),
    ],
)
def test_a_response_is_fresh_until_it_expires(now: float, freshness: Freshness) -> None:
    """Stale at the very moment, and when the clock went back by more than a minute since it was stored."""
    assert decide(100.0, 160.0, now) is freshness


@pytest.mark.parametrize(("now", "age"), [(100.0, 0), (100.99, 0), (101.0, 1), (50.0, 0)])
def test_age_is_whole_seconds_and_never_negative(now: float, age: int) -> None:
    """Whatever the clock does."""
    assert age_seconds(100.0, now) == age


def test_a_timestamp_is_rfc_3339_with_microseconds() -> None:
    """The form that DESIGN promises to those who read our metas."""
    assert format_timestamp(1738326896.123456) == "2025-01-31T12:34:56.123456Z"
    assert format_timestamp(0.0) == "1970-01-01T00:00:00.000000Z"


@pytest.mark.parametrize("epoch", [1e18, float("inf")])
def test_a_lifetime_without_end_still_has_a_timestamp(epoch: float) -> None:
    """A TTL of a million years must not make the meta unwritable."""
    assert parse_timestamp(format_timestamp(epoch)) == 253402300799.0


@pytest.mark.parametrize(
    ("text", "epoch"),
    [
        ("2025-01-31T12:34:56Z", 1738326896.0),
        ("2025-01-31t12:34:56.5z", 1738326896.5),
        ("2025-01-31T12:34:56.123456789+00:00", 1738326896.123456),
    ],
)
def test_other_writings_of_utc_are_read(text: str, epoch: float) -> None:
    """RFC 3339 allows any fraction, lower case, and a zero offset."""
    assert parse_timestamp(text) == epoch


@pytest.mark.parametrize(
    "text",
    [
        *("", "now", "2025-01-31", "2025-01-31T12:34:56", "2025-01-31T12:34:56+01:00", "20250131T123456Z"),
        *("2025-02-30T12:34:56Z", "2025-01-31T25:34:56Z", "2025-01-31 12:34:56Z", "2025-01-31T12:34:56.Z"),
        "2025-01-31T12:34:56Z\n",
    ],
)
def test_what_is_no_utc_time_is_refused(text: str) -> None:
    """Another format or zone, or a moment that does not exist."""
    with pytest.raises(ValueError, match=r".+"):
        parse_timestamp(text)


@given(st.integers(0, 2**32 * 10**6))
def test_a_timestamp_is_exact_to_the_microsecond(microseconds: int) -> None:
    """Written, read and written again it says the same, for every moment until 2106."""
    text = format_timestamp(microseconds / 10**6)
    assert round(parse_timestamp(text) * 10**6) == microseconds
    assert format_timestamp(parse_timestamp(text)) == text
