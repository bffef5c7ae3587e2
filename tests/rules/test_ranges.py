"""Range fields (RFC 9110 section 14): which are followed, and to which bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.ranges import (
    MAX_RANGES,
    ByteRange,
    ContentRange,
    IntRange,
    RangeSpec,
    SuffixRange,
    Unsatisfiable,
    Whole,
    first_byte,
    parse_content_range,
    parse_range,
    resolve,
)

SPECS = st.lists(
    st.one_of(
        st.builds(
            lambda first, more: IntRange(first, None if more is None else first + more),
            st.integers(0, 60),
            st.none() | st.integers(0, 60),
        ),
        st.builds(SuffixRange, st.integers(0, 60)),
    ),
    min_size=1,
    max_size=5,
)


@pytest.mark.parametrize(
    ("header", "specs"),
    [
        ("bytes=0-99", (IntRange(0, 99),)),
        ("bytes=5-", (IntRange(5, None),)),
        ("bytes=-7", (SuffixRange(7),)),
        ("bytes=-0", (SuffixRange(0),)),
        ("Bytes=0-0", (IntRange(0, 0),)),
        ("bytes= 0-1 ,\t-2", (IntRange(0, 1), SuffixRange(2))),
        ("bytes=,0-1,,", (IntRange(0, 1),)),
        ("bytes=0-99999999999999999999999", (IntRange(0, 99999999999999999999999),)),
    ],
)
def test_a_well_formed_field_is_its_ranges_in_order(header: str, specs: tuple[RangeSpec, ...]) -> None:
    """Units in any case, whitespace around elements and empty elements are accepted."""
    assert parse_range(header) == specs


@pytest.mark.parametrize(
    "header",
    [
        *(
            None,
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=a-b",
            "bytes=1",
            "bytes=2-1",
            "bytes=1-2-3",
        ),
        *("items=0-1", "0-1", "bytes=0 -1", "bytes=+1-2", "bytes=0-1;2-3", "bytes=0-1,x", "bytes=\u0661-"),
        "bytes=" + "9" * 5000 + "-",
        "bytes=" + ",".join(["0-0"] * (MAX_RANGES + 1)),
    ],
)
def test_what_is_no_byte_range_is_ignored(header: str | None) -> None:
    """Absent, malformed, of another unit, or more ranges than anybody needs."""
    assert parse_range(header) is None


@pytest.mark.parametrize(
    ("header", "size", "answer"),
    [
        ("bytes=0-99", 1000, ByteRange(0, 100)),
        ("bytes=0-99", 50, ByteRange(0, 50)),
        ("bytes=999-", 1000, ByteRange(999, 1000)),
        ("bytes=1000-", 1000, Unsatisfiable()),
        ("bytes=-10", 1000, ByteRange(990, 1000)),
        ("bytes=-5000", 1000, ByteRange(0, 1000)),
        ("bytes=-0", 1000, Unsatisfiable()),
        ("bytes=0-", 0, Unsatisfiable()),
        ("bytes=-5", 0, Whole()),
        ("bytes=0-9,5-19", 1000, ByteRange(0, 20)),
        ("bytes=10-19,0-9", 1000, ByteRange(0, 20)),
        ("bytes=0-9,11-19", 1000, Whole()),
        ("bytes=0-9,2000-", 1000, ByteRange(0, 10)),
        ("bytes=0-,3-4", 1000, ByteRange(0, 1000)),
        ("bytes=2000-,3000-", 1000, Unsatisfiable()),
    ],
)
def test_ranges_come_to_one_answer(header: str, size: int, answer: object) -> None:
    """One range is a 206, none that exists a 416, several that cannot be joined the whole body."""
    specs = parse_range(header)
    assert specs is not None
    assert resolve(specs, size) == answer


def test_content_range_says_what_is_sent() -> None:
    """With the length, with an unknown length, and for a 416."""
    assert ByteRange(0, 100).content_range(1000) == "bytes 0-99/1000"
    assert ByteRange(5, 6).content_range(None) == "bytes 5-5/*"
    assert Unsatisfiable().content_range(1000) == "bytes */1000"


@given(SPECS, st.integers(0, 100))
def test_a_range_stays_inside_and_holds_what_was_asked_for(specs: list[RangeSpec], size: int) -> None:
    """Never a byte that does not exist; exactly the bytes asked for, whenever a 206 is the answer."""
    wanted = {
        offset
        for spec in specs
        for offset in range(size)
        if (
            offset >= size - spec.length
            if isinstance(spec, SuffixRange)
            else spec.first <= offset and (spec.last is None or offset <= spec.last)
        )
    }
    answer = resolve(specs, size)
    if isinstance(answer, ByteRange):
        assert 0 <= answer.start < answer.stop <= size
        assert wanted == set(range(answer.start, answer.stop))
    elif isinstance(answer, Unsatisfiable):
        assert not wanted
    assert first_byte(specs, size) == min(wanted, default=None)


@pytest.mark.parametrize(
    ("header", "offset"),
    [("bytes=5-9", 5), ("bytes=70-,30-40", 30), ("bytes=-5", None), ("bytes=0-1,-5", None)],
)
def test_the_first_byte_is_known_before_the_size(header: str, offset: int | None) -> None:
    """Unless a suffix is asked for: where that begins, only the end can tell."""
    specs = parse_range(header)
    assert specs is not None
    assert first_byte(specs, None) == offset


@pytest.mark.parametrize(
    ("value", "part"),
    [
        ("bytes 0-99/1000", ContentRange(0, 100, 1000)),
        ("bytes 900-999/1000", ContentRange(900, 1000, 1000)),
        ("bytes 5-5/*", ContentRange(5, 6, None)),
        ("Bytes 0-0/1", ContentRange(0, 1, 1)),
        ("bytes 007-008/009", ContentRange(7, 9, 9)),
        ("bytes 0-99/99", None),
        ("bytes 0-1000/1000", None),
        ("bytes 9-8/1000", None),
        ("bytes */1000", None),
        ("bytes */*", None),
        ("bytes 0-/1000", None),
        ("bytes -9/1000", None),
        ("bytes 0-9", None),
        ("bytes 0-9/", None),
        ("bytes=0-9/10", None),
        ("bytes 0-9/10\n", None),
        ("bytes 0-9/10, bytes 0-9/10", None),
        ("items 0-9/10", None),
        ("bytes +0-9/10", None),
        ("bytes 0-9/1_0", None),
        ("bytes \u0660-9/10", None),
        (f"bytes 0-{'9' * 5000}/*", None),
        ("0-9/10", None),
        ("", None),
        (None, None),
    ],
)
def test_which_part_a_206_holds(value: str | None, part: ContentRange | None) -> None:
    """Section 14.4: well-formed, inside its length, and of bytes; anything else says nothing that one could go on with."""
    assert parse_content_range(value) == part


@given(st.integers(0, 1 << 70), st.integers(1, 1 << 70), st.none() | st.integers(0, 1 << 70))
def test_a_content_range_is_read_back(start: int, length: int, more: int | None) -> None:
    """What we say of a part is what we read of an upstream's."""
    total = None if more is None else start + length + more
    said = ByteRange(start, start + length).content_range(total)
    assert parse_content_range(said) == ContentRange(start, start + length, total)


@given(st.text(st.sampled_from("bytes 0123456789-/*="), max_size=20))
def test_a_part_that_is_read_lies_inside(value: str) -> None:
    """Whatever an upstream says, what comes of it is a part with bytes, within its total."""
    part = parse_content_range(value)
    assert part is None or (0 <= part.start < part.stop and (part.total is None or part.stop <= part.total))
