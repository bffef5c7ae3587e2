"""HTTP dates: the three formats that a recipient has to understand.

Must not know the clock. Source: RFC 9110 section 5.6.7: "A recipient that parses a timestamp value in an HTTP
field MUST accept all three HTTP-date formats." ``email.utils`` is not used: it takes a great deal that is no
HTTP-date, and a condition with an invalid date has to be ignored.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH = "(?P<month>" + "|".join(_MONTHS) + ")"
_TIME = r"(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})"
_DAY = "(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LONG_DAY = "(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day"
_FORMATS = (
    re.compile(rf"{_DAY}, (?P<day>[0-9]{{2}}) {_MONTH} (?P<year>[0-9]{{4}}) {_TIME} GMT"),  # IMF-fixdate
    re.compile(rf"{_LONG_DAY}, (?P<day>[0-9]{{2}})-{_MONTH}-(?P<year>[0-9]{{2}}) {_TIME} GMT"),  # rfc850-date
    re.compile(rf"{_DAY} {_MONTH} (?P<day>[0-9]{{2}}| [0-9]) {_TIME} (?P<year>[0-9]{{4}})"),  # asctime-date
)


def parse_http_date(text: str) -> int | None:
    """The seconds since the epoch that an HTTP-date says; None where it is not one.

    A year of two digits is read as 1970 to 2069, as POSIX does. The RFC's rule ("more than 50 years in the
    future") needs a clock and gives the same for every date of a distribution file.
    """
    match = next((found for each in _FORMATS if (found := each.fullmatch(text))), None)
    if match is None:
        return None
    year = int(match["year"])
    if len(match["year"]) == 2:
        year += 1900 if year >= 70 else 2000
    second = 59 if match["second"] == "60" else int(match["second"])  # a leap second, which datetime does not know
    try:
        moment = datetime(
            year,
            _MONTHS.index(match["month"]) + 1,
            int(match["day"]),
            int(match["hour"]),
            int(match["minute"]),
            second,
            tzinfo=UTC,
        )
    except ValueError:
        return None
    return int(moment.timestamp())
