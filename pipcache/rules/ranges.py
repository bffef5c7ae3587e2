"""Which bytes of a body a Range field asks for.

Must not know where the bytes are, nor whether conditions hold (``conditional.range_applies``). Source: RFC
9110 section 14. Only one range is ever answered with a 206; where several remain after joining, the whole
body is sent: "A server MAY ignore the Range header field" (section 14.2), and no installer asks for
multipart/byteranges.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from attrs import frozen

MAX_RANGES = 32  # section 17.15: servers ought to "ignore, coalesce, or reject" requests for "many small ranges"

# Bounded digits: a longer number cannot be meant, and would make int() refuse it by an error of its own.
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,64})-([0-9]{1,64})/([0-9]{1,64}|\*)", re.IGNORECASE)
_SPEC = re.compile(r"([0-9]{0,64})-([0-9]{0,64})")


@frozen
class IntRange:
    """From ``first`` to ``last``, both inside; ``last`` None: to the end."""

    first: int
    last: int | None


@frozen
class SuffixRange:
    """The last ``length`` bytes."""

    length: int


RangeSpec: TypeAlias = IntRange | SuffixRange


@frozen
class ByteRange:
    """Bytes of a body, from ``start`` up to but without ``stop``; ``start < stop``."""

    start: int
    stop: int

    def content_range(self, size: int | None) -> str:
        """The Content-Range of a 206; ``size`` None: not known yet, which section 14.4 writes as ``*``."""
        return f"bytes {self.start}-{self.stop - 1}/{'*' if size is None else size}"


@frozen
class Unsatisfiable:
    """None of the bytes exists: 416."""

    def content_range(self, size: int) -> str:
        """The Content-Range of a 416, which "SHOULD" tell the current length (section 15.5.17)."""
        return f"bytes */{size}"


@frozen
class Whole:
    """The Range field is ignored: the whole body, 200."""


@frozen
class ContentRange:
    """The part of a body that a 206 holds, up to but without ``stop``; ``total`` None: upstream does not know it."""

    start: int
    stop: int
    total: int | None


def parse_content_range(value: str | None) -> ContentRange | None:
    """What a Content-Range field says; None where it is absent, malformed, or of a 416."""
    match = _CONTENT_RANGE.fullmatch(value or "")
    if match is None:
        return None
    first, last, total = int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3])
    if last < first or (total is not None and last >= total):
        return None  # section 14.4: such a field "is invalid"
    return ContentRange(first, last + 1, total)


def parse_range(header: str | None) -> tuple[RangeSpec, ...] | None:
    """The ranges of a Range field, in its order; None where the field is to be ignored.

    Section 14.2: "A server that supports range requests MAY ignore or reject a Range header field that
    contains an invalid ranges-specifier", and it "MUST ignore a Range header field that contains a range unit
    it does not understand". We ignore both, and more than 32 ranges.

    Args:
        header: the field's value; None where the request has none.
    """
    if header is None:
        return None
    unit, equals, range_set = header.partition("=")
    # Section 14.1: "All range unit names are case-insensitive".
    if not equals or unit.strip(" \t").lower() != "bytes":
        return None
    # Section 5.6.1.2: "A recipient MUST parse and ignore a reasonable number of empty list elements".
    elements = [stripped for element in range_set.split(",") if (stripped := element.strip(" \t"))]
    if not elements or len(elements) > MAX_RANGES:
        return None
    specs = []
    for element in elements:
        spec = _parse_spec(element)
        if spec is None:
            return None
        specs.append(spec)
    return tuple(specs)


def resolve(specs: Sequence[RangeSpec], size: int) -> ByteRange | Unsatisfiable | Whole:
    """What to answer from a body of ``size`` bytes: one range that lies inside, nothing, or everything."""
    ranges = [found for spec in specs if (found := _satisfy(spec, size)) is not None]
    if ranges:
        joined = _join(ranges)
        return joined[0] if len(joined) == 1 else Whole()
    if size == 0 and any(isinstance(spec, SuffixRange) and spec.length for spec in specs):
        # A suffix that is not zero is satisfiable (section 14.1.2), but no Content-Range can describe zero
        # bytes.
        return Whole()
    return Unsatisfiable()


def first_byte(specs: Sequence[RangeSpec], size: int | None) -> int | None:
    """The lowest offset asked for: how far a growing body must have come before an answer can begin.

    Args:
        specs: what ``parse_range`` gave.
        size: the body's length; None where it is not known yet, and every first position counts as inside.

    Returns:
        None where it cannot be said: a suffix of a body of unknown length, or nothing that exists.
    """
    if size is None:
        starts = [spec.first if isinstance(spec, IntRange) else None for spec in specs]
        known = [start for start in starts if start is not None]
        return min(known, default=None) if len(known) == len(starts) else None
    return min((found.start for spec in specs if (found := _satisfy(spec, size)) is not None), default=None)


def _parse_spec(element: str) -> RangeSpec | None:
    """One range-spec; None where it is invalid."""
    match = _SPEC.fullmatch(element)
    if match is None or element == "-":
        return None
    first, last = match.groups()
    if not first:
        return SuffixRange(int(last))
    # "An int-range is invalid if the last-pos value is present and less than the first-pos" (14.1.1).
    if last and int(last) < int(first):
        return None
    return IntRange(int(first), int(last) if last else None)


def _satisfy(spec: RangeSpec, size: int) -> ByteRange | None:
    """The bytes of one spec that exist; None where there are none."""
    if isinstance(spec, SuffixRange):
        # Section 14.1.2: if the body "is shorter than the specified suffix-length, the entire representation
        # is used".
        start, stop = max(0, size - spec.length), size
    else:
        # There too: a last-pos beyond the end, or none, is "interpreted as the remainder of the
        # representation".
        start, stop = spec.first, size if spec.last is None else min(spec.last + 1, size)
    return ByteRange(start, stop) if start < stop else None


def _join(ranges: Iterable[ByteRange]) -> list[ByteRange]:
    """The same bytes in as few ranges as possible, ascending; section 15.3.7.2 lets us coalesce."""
    joined: list[ByteRange] = []
    for one in sorted(ranges, key=lambda each: each.start):
        if joined and one.start <= joined[-1].stop:
            joined[-1] = ByteRange(joined[-1].start, max(joined[-1].stop, one.stop))
        else:
            joined.append(one)
    return joined
