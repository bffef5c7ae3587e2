"""How long a stored response is fresh, how old it is, and what may be done with one that is stale.

Must not know the clock (``now`` is an argument) nor how a response is validated. Sources: RFC 9111 sections
4.2 (freshness, age), 4.2.4 (stale responses) and 5.2.1 (what a request may ask for), RFC 5861
(stale-while-revalidate, stale-if-error), RFC 3339 (timestamps). The lifetimes are the operator's, by the class
of the path, not upstream's: what a mirror says in Cache-Control is meant for its own visitors.

Of the client's directives two are obeyed. ``no-cache`` (uv's ``--refresh``) has a page validated;
``only-if-cached`` asks nobody. ``max-age`` and ``no-store`` are not: pip sends ``max-age=0`` with every page,
and obeying it would void the cache.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from enum import Enum

from attrs import frozen

from pipcache.rules.fields import Fields, get_all
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


@frozen
class Grace:
    """For how long after its expiry a page may be served, in seconds.

    Attributes:
        while_revalidate_seconds: at once, while it is validated behind the answer.
        if_error_seconds: when no upstream gives a newer one.
    """

    while_revalidate_seconds: float
    if_error_seconds: float


@frozen
class Directives:
    """What a request's Cache-Control asks of a cache, as far as it is obeyed."""

    is_no_cache: bool = False
    is_only_if_cached: bool = False

    @classmethod
    def of(cls, fields: Fields) -> Directives:
        """The directives among a request's fields, names in lower case.

        RFC 9111 section 5.4: Pragma counts only "if the Cache-Control header field is not also present".
        """
        cache_control = get_all(fields, "cache-control")
        said = cache_control or get_all(fields, "pragma")
        names = {each.partition("=")[0].strip(" \t").lower() for value in said for each in value.split(",")}
        return cls("no-cache" in names, bool(cache_control) and "only-if-cached" in names)


class Freshness(Enum):
    """What may be done with a stored response before anybody is asked."""

    FRESH = "fresh"
    """Serve it."""
    REVALIDATE_BEHIND = "revalidate_behind"
    """Serve it, stale as it is, and validate it behind the answer."""
    STALE = "stale"
    """Validate it first."""


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


def decide(
    cached_at: float,
    expires_at: float,
    now: float,
    while_revalidate_seconds: float = 0.0,
    *,
    is_no_cache: bool = False,
) -> Freshness:
    """What may be done with a stored response now.

    Section 4.2: "response_is_fresh = (freshness_lifetime > current_age)", so it is stale at ``expires_at``
    itself. One that was stored in the future is stale too: the clock went back, and it could seem fresh for
    as long as that. A minute of it is let pass, as clocks are corrected in small steps.

    Args:
        cached_at: when it was received or last validated, epoch seconds.
        expires_at: until when it is fresh, epoch seconds.
        now: epoch seconds.
        while_revalidate_seconds: for how long after that it may be served while it is validated.
        is_no_cache: the client does not take it without validation.
    """
    if is_no_cache or cached_at - now > MAX_CLOCK_SKEW_SECONDS:
        return Freshness.STALE
    if now < expires_at:
        return Freshness.FRESH
    return Freshness.REVALIDATE_BEHIND if now < expires_at + while_revalidate_seconds else Freshness.STALE


def may_serve_on_error(cached_at: float, expires_at: float, now: float, if_error_seconds: float) -> bool:
    """Whether a stale page is better than the error that all upstreams together came to.

    RFC 5861 section 4: "the cached response MAY be used to satisfy the request" for so long after it expired.
    """
    return cached_at - now <= MAX_CLOCK_SKEW_SECONDS and now < expires_at + if_error_seconds


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
