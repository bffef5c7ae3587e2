"""What a client gets for a body that exists: status, header fields, and which of its bytes.

A pure function from the client's request and a description of the body to the shape of the response. It is the same for
a body on disk and for one that is still growing, so MISS and HIT differ in nothing but what they say about themselves.
Sources: RFC 9110 sections 13 and 14, RFC 9111 section 5, RFC 9211 (Cache-Status).
"""

from __future__ import annotations

from enum import Enum

from attrs import frozen

from pipcache.rules.conditional import Condition, evaluate, range_applies
from pipcache.rules.fields import Fields, get, is_valid_field, storable
from pipcache.rules.ranges import ByteRange, RangeSpec, Unsatisfiable, Whole, first_byte, parse_range, resolve

NEAR_BYTES = 1 << 20
"""A range of a growing body is waited for when it begins at most this far ahead of what has come; else relayed."""

_IMMUTABLE_SECONDS = 365 * 86400
_RANGES = ("accept-ranges", "bytes")


class CacheStatus(Enum):
    """How a request was met; the value of X-Cache-Status."""

    HIT = "HIT"
    MISS = "MISS"
    REVALIDATED = "REVALIDATED"
    """Stale, and its upstream has just said that it is still right."""
    STALE = "STALE"
    """Past its time: it is being validated behind the answer, or no upstream gave a newer one."""


@frozen
class Representation:
    """A body that exists, or is coming, and what is known of it.

    ``length`` is in bytes, None while it is not known. ``age_seconds`` None: it comes straight from upstream.
    ``fresh_seconds`` is how much longer it is fresh. ``is_immutable``: the bytes under this path never change.
    ``etag`` None: it cannot be validated, nor cut into ranges (a relayed answer). ``vary``: the request's fields that
    chose it among others of the same path. ``forwarded`` is why upstream was asked, in RFC 9211's words.
    """

    fields: Fields
    length: int | None
    etag: str | None
    cache_status: CacheStatus
    upstream: str
    age_seconds: int = 0
    fresh_seconds: float = 0.0
    is_immutable: bool = False
    status: int = 200
    is_collapsed: bool = False
    vary: str | None = None
    forwarded: str = "uri-miss"

    def at(self, age_seconds: int, fresh_seconds: float) -> Representation:
        """The same at another time."""
        return Representation(
            self.fields,
            self.length,
            self.etag,
            self.cache_status,
            self.upstream,
            age_seconds,
            fresh_seconds,
            self.is_immutable,
            self.status,
            self.is_collapsed,
            self.vary,
            self.forwarded,
        )


@frozen
class Shape:
    """A response without its body: send bytes ``start`` to ``stop`` of it (``stop`` None: to its end)."""

    status: int
    fields: Fields
    start: int = 0
    stop: int | None = None
    has_body: bool = True


def wanted_range(request_fields: Fields, etag: str | None, last_modified: str | None) -> tuple[RangeSpec, ...] | None:
    """The ranges a GET asks for, or None where it asks for the whole: no Range, or an If-Range that does not match."""
    specs = parse_range(get(request_fields, "range"))
    if specs is None:
        return None
    return specs if range_applies(get(request_fields, "if-range"), etag or "", last_modified) else None


def is_near(specs: tuple[RangeSpec, ...], length: int | None, available: int) -> bool:
    """Whether a range of a growing body is better waited for than asked of upstream anew.

    Args:
        specs: what the client asks for.
        length: of the whole body, None where upstream did not say.
        available: how many bytes of it have come.
    """
    if length is not None and not isinstance(resolve(specs, length), ByteRange):
        return True  # answered without a byte of it, or with all of them
    start = first_byte(specs, length)
    return length is not None and start is not None and start <= available + NEAR_BYTES


def relayed_fields(fields: Fields) -> Fields:
    """An upstream's fields for an answer that is passed on as it is: a part of a body, or what HEAD says of it.

    Without validators: the body that is kept one day has its own. A Content-Length among the fields is that of HEAD.
    """
    kept = tuple(field for field in storable(fields) if field[0] != "last-modified")
    passed = ("accept-ranges", "content-range", "content-length")
    return (*kept, *(field for field in fields if field[0] in passed and is_valid_field(*field)))


def shape_response(method: str, request_fields: Fields, known: Representation) -> Shape:
    """What to answer to a GET or HEAD for a body that is known.

    Where the length is not known yet, a Range is ignored: nothing that could be said of it would be sure.
    """
    common = about_the_cache(known)
    if known.etag is not None:
        condition = evaluate(method, request_fields, known.etag, get(known.fields, "last-modified"))
        if condition is Condition.NOT_MODIFIED:
            return Shape(304, common, has_body=False)
        if condition is Condition.PRECONDITION_FAILED:
            return Shape(412, (*common, ("content-length", "0")), has_body=False)
    # RFC 9110 section 14.2: "A server MUST ignore a Range header field received with a request method other than GET."
    if method == "GET" and known.etag is not None and known.length is not None:
        partial = _partial(request_fields, known, known.length, (*known.fields, *common, _RANGES))
        if partial is not None:
            return partial
    return Shape(known.status, (*known.fields, *common, *about_the_body(known)), 0, known.length)


def about_the_body(known: Representation) -> Fields:
    """What a response with the whole body says of it behind all else."""
    ranges = (_RANGES,) if known.etag is not None else ()
    return ranges if known.length is None else (*ranges, ("content-length", str(known.length)))


def _partial(request_fields: Fields, known: Representation, length: int, described: Fields) -> Shape | None:
    specs = wanted_range(request_fields, known.etag, get(known.fields, "last-modified"))
    wanted = resolve(specs, length) if specs is not None else Whole()
    if isinstance(wanted, ByteRange):
        fields = (
            *described,
            ("content-range", wanted.content_range(length)),
            ("content-length", str(wanted.stop - wanted.start)),
        )
        return Shape(206, fields, wanted.start, wanted.stop)
    if isinstance(wanted, Unsatisfiable):
        fields = (
            *about_the_cache(known),
            ("content-range", wanted.content_range(length)),
            ("content-length", "0"),
        )
        return Shape(416, fields, has_body=False)
    return None


def about_the_cache(known: Representation) -> Fields:
    """What we say ourselves, also on a 304 (RFC 9110 section 15.4.5 names most of it)."""
    return (*about_what_lasts(known), *about_its_age(known, known.age_seconds, known.fresh_seconds))


def about_what_lasts(known: Representation) -> Fields:
    """What of it is the same however old the body is."""
    fields = [
        ("x-cache-status", known.cache_status.value),
        ("x-upstream", known.upstream),
        ("via", "1.1 pipcache"),
    ]
    if known.vary is not None:
        fields.append(("vary", known.vary))
    if known.etag is not None:
        fields.append(("etag", known.etag))
    return tuple(fields)


def about_its_age(known: Representation, age_seconds: int, fresh_seconds: float) -> Fields:
    """What of it changes with the age of the body; the seconds are as in ``Representation``."""
    fields = [] if known.cache_status is CacheStatus.MISS else [("age", str(age_seconds))]
    fields.append(("cache-status", _cache_status(known, int(fresh_seconds))))
    if known.etag is not None:
        seconds = _IMMUTABLE_SECONDS if known.is_immutable else max(0, int(fresh_seconds))
        directive = f"public, max-age={seconds}" + (", immutable" if known.is_immutable else "")
        fields.append(("cache-control", directive))
    return tuple(fields)


def _cache_status(known: Representation, fresh_seconds: int) -> str:
    """RFC 9211: a hit "was satisfied by the cache"; ``fwd`` says why upstream was asked."""
    if known.cache_status in (CacheStatus.HIT, CacheStatus.STALE):
        return f"pipcache; hit; ttl={fresh_seconds}"
    validated = "; fwd-status=304" if known.cache_status is CacheStatus.REVALIDATED else ""
    collapsed = "; collapsed" if known.is_collapsed else ""
    return f"pipcache; fwd={known.forwarded}{validated}{collapsed}"
