"""HTTP dates: three formats, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.dates import parse_http_date


@pytest.mark.parametrize(
    "text",
    ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"],
)
def test_the_three_formats_of_the_rfc_are_one_moment(text: str) -> None:
    """The example of RFC 9110 section 5.6.7."""
    assert parse_http_date(text) == 784111777


@pytest.mark.parametrize(
    ("text", "year"),
    [("Thursday, 01-Jan-70 00:00:00 GMT", 1970), ("Tuesday, 01-Jan-30 00:00:00 GMT", 2030)],
)
def test_a_year_of_two_digits_is_near(text: str, year: int) -> None:
    """70 to 99 are the last century, the others this one."""
    assert parse_http_date(text) == datetime(year, 1, 1, tzinfo=UTC).timestamp()


def test_a_leap_second_is_a_date() -> None:
    """It is read as the second before it."""
    assert parse_http_date("Sat, 31 Dec 2016 23:59:60 GMT") == 1483228799


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "-1", "784111777", "1994-11-06T08:49:37Z", "Sun, 06 Nov 1994 08:49:37 +0000"),
        *("Sun, 6 Nov 1994 08:49:37 GMT", "sun, 06 nov 1994 08:49:37 gmt", "06 Nov 1994 08:49:37 GMT"),
        *("Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 24:00:00 GMT", "Sun, 06 Nov 1994 08:49:61 GMT"),
        *(
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, 06 Nov 1994 08:49:37 GMT, x",
            "Sun, 06 Nov 1994 08:49:37 GMT\n",
        ),
    ],
)
def test_anything_else_is_no_date(text: str) -> None:
    """Other formats and zones, days and hours that do not exist, trailing text."""
    assert parse_http_date(text) is None


@given(st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)))
def test_every_moment_is_read_back(moment: datetime) -> None:
    """What our own servers write, for all years of four digits."""
    moment = moment.replace(microsecond=0, tzinfo=UTC)
    months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
    day = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"][moment.weekday()]
    text = f"{day}, {moment.day:02} {months[moment.month - 1]} {moment.year:04} {moment:%H:%M:%S} GMT"
    assert parse_http_date(text) == moment.timestamp()
