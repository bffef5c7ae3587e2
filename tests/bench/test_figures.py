"""How figures of several rounds are summed up and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.figures import Series, number, percentile


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.00"),
        (0.0123, "0.012"),
        (0.5, "0.50"),
        (1.304, "1.30"),
        (12.34, "12.3"),
        (987.6, "988"),
        (47100.2, "47,100"),
    ],
)
def test_a_number_is_written_with_three_digits_that_mean_something(value, text):
    """Small ones keep their decimals, large ones are whole with commas."""
    assert number(value) == text


@pytest.mark.parametrize(
    ("values", "text"), [((5,), "5.00"), ((3, 1, 2), "2.00 (1.00-3.00)"), ((1, 2), "1.50 (1.00-2.00)")]
)
def test_a_series_shows_its_median_and_range(values, text):
    """The range is left out where there was one round only."""
    assert Series.of(values).text() == text


def test_a_series_of_nothing_is_refused():
    """A figure without a round would be a median of nothing."""
    with pytest.raises(ValueError, match="without a single round"):
        Series.of(())


@pytest.mark.parametrize(("percent", "value"), [(50, 50), (99, 99), (99.5, 100), (100, 100), (1, 1)])
def test_a_percentile_is_one_of_the_values(percent, value):
    """Of the numbers 1 to 100 the 99th percentile is 99, in whatever order they come."""
    assert percentile(list(range(100, 0, -1)), percent) == value


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(1, 100))
def test_at_least_so_many_are_not_over_a_percentile(values, percent):
    """That is what the word means."""
    found = percentile(values, percent)
    assert sum(value <= found for value in values) >= len(values) * percent / 100 - 1e-6


def test_a_percentile_of_nothing_is_refused():
    """There is none."""
    with pytest.raises(ValueError, match="nothing"):
        percentile([], 50)
