"""How long a stored response is fresh, how old it is, and how its times are written in a meta.

Must not know the clock (``now`` is an argument) nor what is done about a stale response. Source: RFC 9111
section 4.2 (freshness, age), RFC 3339 (timestamps). The lifetime is the operator's, by the class of the path,
not upstream's: what a mirror says in Cache-Control is meant for its own visitors.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import Enum

from attrs import frozen

from pipcache.rules.routes import RouteKind

MAX_CLOCK_SKEW_SECONDS = 60.0

_LAST_TIMESTAMP = 253402300799.0  # 9999-12-31T23:59:59Z, the last second that four digits can say
_RFC3339_UTC = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}:[0-9]{2}:[0-9]{2})(\.[0-9]{1,9})?(?:[Zz]|[+-]00:00)"
)


class TtlClass(Enum):
    """Which of the three lifetimes a path has; the value is the setting's name under ``cache``."""

    SIMPLE = "simple_ttl"
    PACKAGES = "packages_ttl"
    DEFAULT = "default_ttl"


@frozen
class Ttls:
    """The operator's lifetimes, in seconds, not negative."""

    simple_seconds: float
    packages_seconds: float
    default_seconds: float


class Freshness(Enum):
    """Whether a stored response may be served without asking anybody."""

    FRESH = "fresh"
    STALE = "stale"


_CLASSES = {
    RouteKind.PROJECT_LIST: TtlClass.SIMPLE,
    RouteKind.PROJECT_PAGE: TtlClass.SIMPLE,
    RouteKind.FILE: TtlClass.PACKAGES,
    RouteKind.LINKED_FILE: TtlClass.PACKAGES,
}


def ttl_class(kind: RouteKind) -> TtlClass:
    """The class of a path: pages change, files never do, of the rest nothing is known."""
    return _CLASSES.get(kind, TtlClass.DEFAULT)


def ttl_for(kind: RouteKind, ttls: Ttls) -> float:
    """How many seconds a response to such a path is fresh."""
    match ttl_class(kind):
        case TtlClass.SIMPLE:
            return ttls.simple_seconds
        case TtlClass.PACKAGES:
            return ttls.packages_seconds
        case TtlClass.DEFAULT:
            return ttls.default_seconds


def decide(cached_at: float, expires_at: float, now: float) -> Freshness:
    """Whether a stored response is fresh now.

    Section 4.2: "response_is_fresh = (freshness_lifetime > current_age)", so it is stale at ``expires_at``
    itself. One that was stored in the future is stale too: the clock went back, and it could seem fresh for
    as long as that. A minute of it is let pass, as clocks are corrected in small steps.

    Args:
        cached_at: when it was received or last validated, epoch seconds.
        expires_at: until when it is fresh, epoch seconds.
        now: epoch seconds.
    """
    if now >= expires_at or cached_at - now > MAX_CLOCK_SKEW_SECONDS:
        return Freshness.STALE
    return Freshness.FRESH


def age_seconds(cached_at: float, now: float) -> int:
    """The Age of a stored response: "a non-negative integer, representing time in seconds" (section 5.1)."""
    return max(0, int(now - cached_at))


def format_timestamp(epoch: float) -> str:
    """Epoch seconds as RFC 3339 in UTC with microseconds; what is after the year 9999 is its last second."""
    moment = datetime.fromtimestamp(min(epoch, _LAST_TIMESTAMP), UTC)
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse_timestamp(text: str) -> float:
    """The epoch seconds of an RFC 3339 time in UTC, with or without a fraction, to the microsecond.

    Raises:
        ValueError: the text is not such a time, or names a moment that does not exist.
    """
    match = _RFC3339_UTC.fullmatch(text)
    if match is None:
        raise ValueError(f"not an RFC 3339 time in UTC: {text!r}")
    date, time, fraction = match.groups()
    return datetime.fromisoformat(f"{date}T{time}{(fraction or '.0')[:7]}+00:00").timestamp()
