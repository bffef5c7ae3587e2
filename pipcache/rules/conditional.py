"""Whether a conditional request gets the body, a 304 or a 412.

Must not know where the body is. Source: RFC 9110 section 13; the order in which conditions are looked at is
that of section 13.2.2. The ETag is our own, chosen for the stored body; Last-Modified is what upstream said.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import Enum

from pipcache.rules.dates import parse_http_date
from pipcache.rules.fields import Fields, get

# Section 8.8.3: entity-tag = [ weak ] opaque-tag, and an opaque tag may hold commas.
_ENTITY_TAG = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"'
# One element of a list, possibly empty, up to the comma or the end. Matched one at a time, so in linear time.
_ELEMENT = re.compile(rf"[ \t]*(?:({_ENTITY_TAG})[ \t]*)?(?:,|\Z)")
_READS = ("GET", "HEAD")


class Condition(Enum):
    """What the conditions of a request come to."""

    PROCEED = "proceed"
    NOT_MODIFIED = "not_modified"
    PRECONDITION_FAILED = "precondition_failed"


def evaluate(method: str, request_fields: Fields, etag: str, last_modified: str | None) -> Condition:
    """What to answer to the conditions of a request for a body that exists.

    Args:
        method: upper case.
        request_fields: the client's fields.
        etag: the body's entity tag as it is sent, with its quotes.
        last_modified: the body's Last-Modified as it is sent; None where it has none, and dates do not count.
    """
    # "1. When recipient is the origin server and If-Match is present ...": of our ETags we are.
    if (if_match := get(request_fields, "if-match")) is not None:
        if not _any_matches(if_match, etag, weak=False):
            return Condition.PRECONDITION_FAILED
    # "2. ... If-Match is not present, and If-Unmodified-Since is present ..."
    elif _is_later(last_modified, get(request_fields, "if-unmodified-since")):
        return Condition.PRECONDITION_FAILED
    # "3. When If-None-Match is present ... if false for GET/HEAD, respond 304", else 412
    if (if_none_match := get(request_fields, "if-none-match")) is not None:
        if not _any_matches(if_none_match, etag, weak=True):
            return Condition.PROCEED
        return Condition.NOT_MODIFIED if method in _READS else Condition.PRECONDITION_FAILED
    # "4. When the method is GET or HEAD, If-None-Match is not present, and If-Modified-Since is present ..."
    since = get(request_fields, "if-modified-since")
    if method in _READS and _is_later(last_modified, since) is False:
        return Condition.NOT_MODIFIED
    return Condition.PROCEED


def range_applies(if_range: str | None, etag: str, last_modified: str | None) -> bool:
    """Whether a Range field counts, by the request's If-Range; without one it does.

    Section 13.1.5: "If the entity-tag validator provided exactly matches the ETag field value for the
    selected representation using the strong comparison function ... the condition is true", and for a date,
    "if the HTTP-date validator provided exactly matches the Last-Modified field value". Everything else is
    false: the whole body.
    """
    if if_range is None:
        return True
    validator = if_range.strip(" \t")
    if validator.startswith('"'):
        return validator == etag  # equal and beginning with a quote: neither is weak
    return validator == last_modified and parse_http_date(validator) is not None


def _any_matches(value: str, etag: str, *, weak: bool) -> bool:
    """Whether an If-Match or If-None-Match names the tag; ``*`` names every tag, a malformed list none.

    Section 8.8.3.2: strong comparison: "both are not weak and their opaque-tags match
    character-by-character"; weak: "regardless of either or both being tagged as weak".
    """
    if value.strip(" \t") == "*":
        return True
    if weak:
        return any(tag.removeprefix("W/") == etag.removeprefix("W/") for tag in _entity_tags(value))
    return not etag.startswith("W/") and etag in _entity_tags(value)


def _entity_tags(value: str) -> Iterator[str]:
    """The entity tags of a list, up to where it is malformed."""
    position = 0
    while position < len(value) and (match := _ELEMENT.match(value, position)):
        if match[1] is not None:
            yield match[1]
        position = match.end()


def _is_later(last_modified: str | None, date: str | None) -> bool | None:
    """Whether the body was modified after a date; None where that cannot be said: the field is ignored.

    Section 13.1.3: "A recipient MUST ignore the If-Modified-Since header field if the received field value is
    not a valid HTTP-date, the field value has more than one member", or there is no modification date.
    """
    if last_modified is None or date is None:
        return None
    modified_at, since = parse_http_date(last_modified), parse_http_date(date)
    if modified_at is None or since is None:
        return None
    return modified_at > since
