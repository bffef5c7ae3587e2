"""What a client gets for a body that exists: the same on MISS and HIT, whole or in part, with or without a body."""

from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.fields import Fields, get, get_all
from pipcache.rules.ranges import parse_range
from pipcache.rules.response import (
    NEAR_BYTES,
    CacheStatus,
    Representation,
    Shape,
    is_near,
    relayed_fields,
    shape_response,
    wanted_range,
)

MODIFIED = "Sun, 06 Nov 1994 08:49:37 GMT"
AFTER = "Mon, 07 Nov 1994 08:49:37 GMT"
BEFORE = "Sat, 05 Nov 1994 08:49:37 GMT"
HIT = Representation(
    fields=(("content-type", "text/plain"), ("last-modified", MODIFIED), ("x-a", "1"), ("x-a", "2")),
    length=100,
    etag='"ours"',
    cache_status=CacheStatus.HIT,
    upstream="one",
    age_seconds=12,
    fresh_seconds=287.9,
)
MISS = evolve(HIT, cache_status=CacheStatus.MISS)
RELAYED = Representation(
    fields=(("content-range", "bytes 0-9/100"), ("content-length", "10")),
    length=None,
    etag=None,
    cache_status=CacheStatus.MISS,
    upstream="one",
    status=206,
)
ABOUT_THE_CACHE = {"x-cache-status", "cache-status", "age"}

# request fields by name, to what they come to for a GET and for a HEAD: status, content-length, content-range, bytes
REQUESTS: list[tuple[dict[str, str], tuple[object, ...], tuple[object, ...]]] = [
    ({}, (200, "100", None, (0, 100)), (200, "100", None, (0, 100))),
    ({"range": "bytes=0-9"}, (206, "10", "bytes 0-9/100", (0, 10)), (200, "100", None, (0, 100))),
    ({"range": "bytes=90-"}, (206, "10", "bytes 90-99/100", (90, 100)), (200, "100", None, (0, 100))),
    ({"range": "bytes=-10"}, (206, "10", "bytes 90-99/100", (90, 100)), (200, "100", None, (0, 100))),
    ({"range": "bytes=-500"}, (206, "100", "bytes 0-99/100", (0, 100)), (200, "100", None, (0, 100))),
    ({"range": "bytes=50-500"}, (206, "50", "bytes 50-99/100", (50, 100)), (200, "100", None, (0, 100))),
    ({"range": "bytes=0-4,5-9"}, (206, "10", "bytes 0-9/100", (0, 10)), (200, "100", None, (0, 100))),
    ({"range": "bytes=0-4,50-59"}, (200, "100", None, (0, 100)), (200, "100", None, (0, 100))),
    ({"range": "bytes=9-0"}, (200, "100", None, (0, 100)), (200, "100", None, (0, 100))),
    ({"range": "items=0-9"}, (200, "100", None, (0, 100)), (200, "100", None, (0, 100))),
    ({"range": "bytes=100-"}, (416, "0", "bytes */100", None), (200, "100", None, (0, 100))),
    ({"range": "bytes=-0"}, (416, "0", "bytes */100", None), (200, "100", None, (0, 100))),
    (
        {"range": "bytes=0-9", "if-range": '"ours"'},
        (206, "10", "bytes 0-9/100", (0, 10)),
        (200, "100", None, (0, 100)),
    ),
    (
        {"range": "bytes=0-9", "if-range": MODIFIED},
        (206, "10", "bytes 0-9/100", (0, 10)),
        (200, "100", None, (0, 100)),
    ),
    ({"range": "bytes=0-9", "if-range": '"theirs"'}, (200, "100", None, (0, 100)), (200, "100", None, (0, 100))),
    ({"range": "bytes=200-", "if-range": '"theirs"'}, (200, "100", None, (0, 100)), (200, "100", None, (0, 100))),
    ({"if-none-match": '"ours"'}, (304, None, None, None), (304, None, None, None)),
    ({"if-none-match": '"a", W/"ours"'}, (304, None, None, None), (304, None, None, None)),
    ({"if-none-match": '"ours"', "range": "bytes=200-"}, (304, None, None, None), (304, None, None, None)),
    ({"if-none-match": '"theirs"'}, (200, "100", None, (0, 100)), (200, "100", None, (0, 100))),
    ({"if-modified-since": AFTER}, (304, None, None, None), (304, None, None, None)),
    ({"if-modified-since": BEFORE}, (200, "100", None, (0, 100)), (200, "100", None, (0, 100))),
    ({"if-match": '"theirs"'}, (412, "0", None, None), (412, "0", None, None)),
    ({"if-match": '"theirs"', "range": "bytes=0-9"}, (412, "0", None, None), (412, "0", None, None)),
    ({"if-unmodified-since": BEFORE}, (412, "0", None, None), (412, "0", None, None)),
    (
        {"if-match": '"ours"', "range": "bytes=0-9"},
        (206, "10", "bytes 0-9/100", (0, 10)),
        (200, "100", None, (0, 100)),
    ),
]


def summary(shape: Shape) -> tuple[object, ...]:
    """Status, Content-Length, Content-Range and the bytes that are sent."""
    sent = (shape.start, shape.stop) if shape.has_body else None
    return shape.status, get(shape.fields, "content-length"), get(shape.fields, "content-range"), sent


@pytest.mark.parametrize("known", [HIT, MISS], ids=["hit", "miss"])
@pytest.mark.parametrize(("request_fields", "of_get", "of_head"), REQUESTS)
def test_each_request_is_answered_as_rfc_9110_says(
    request_fields: dict[str, str], of_get: tuple[object, ...], of_head: tuple[object, ...], known: Representation
) -> None:
    """Conditions first, then ranges; HEAD knows no ranges and says the length of the whole."""
    fields = tuple(request_fields.items())
    assert summary(shape_response("GET", fields, known)) == of_get
    assert summary(shape_response("HEAD", fields, known)) == of_head


@pytest.mark.parametrize("length", [100, None])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("request_fields", [fields for fields, *_ in REQUESTS])
def test_miss_and_hit_differ_in_what_they_say_of_themselves_only(
    request_fields: dict[str, str], method: str, length: int | None
) -> None:
    """The same status, bytes and fields in the same order, but for X-Cache-Status, Cache-Status and Age."""
    shapes = [
        shape_response(method, tuple(request_fields.items()), evolve(known, length=length)) for known in (HIT, MISS)
    ]
    hit, miss = (
        evolve(shape, fields=tuple(field for field in shape.fields if field[0] not in ABOUT_THE_CACHE))
        for shape in shapes
    )
    assert hit == miss
    assert get(shapes[0].fields, "x-cache-status") == "HIT"
    assert get(shapes[1].fields, "x-cache-status") == "MISS"


def test_what_a_hit_says() -> None:
    """Upstream's fields, each line of them, and ours."""
    assert dict(shape_response("GET", (), HIT).fields) == {
        "content-type": "text/plain",
        "last-modified": MODIFIED,
        "x-a": "2",
        "x-cache-status": "HIT",
        "x-upstream": "one",
        "via": "1.1 pipcache",
        "age": "12",
        "cache-status": "pipcache; hit; ttl=287",
        "etag": '"ours"',
        "cache-control": "public, max-age=287",
        "accept-ranges": "bytes",
        "content-length": "100",
    }
    assert get_all(shape_response("GET", (), HIT).fields, "x-a") == ["1", "2"]


@pytest.mark.parametrize(("is_collapsed", "value"), [(False, "fwd=uri-miss"), (True, "fwd=uri-miss; collapsed")])
def test_what_a_miss_says(is_collapsed: bool, value: str) -> None:
    """It has no Age, and RFC 9211 says whether the request was collapsed."""
    fields = shape_response("GET", (), evolve(MISS, is_collapsed=is_collapsed)).fields
    assert get(fields, "age") is None
    assert get(fields, "cache-status") == f"pipcache; {value}"
    assert get(fields, "x-upstream") == "one"


@pytest.mark.parametrize(
    ("changes", "cache_control"),
    [
        ({"fresh_seconds": 300.0}, "public, max-age=300"),
        ({"fresh_seconds": 0.9}, "public, max-age=0"),
        ({"fresh_seconds": -5.0}, "public, max-age=0"),
        ({"is_immutable": True, "fresh_seconds": 5.0}, "public, max-age=31536000, immutable"),
    ],
)
def test_freshness_is_promised_for_as_long_as_we_mean_it(changes: dict[str, float], cache_control: str) -> None:
    """Files that never change for a year, the rest for what is left of its time, never a negative one."""
    assert get(shape_response("GET", (), evolve(HIT, **changes)).fields, "cache-control") == cache_control


@pytest.mark.parametrize("request_fields", [fields for fields, *_ in REQUESTS])
def test_no_field_is_said_twice(request_fields: dict[str, str]) -> None:
    """Whatever is answered: a second Content-Length or ETag could be read in two ways."""
    for method in ("GET", "HEAD"):
        names = [name for name, _ in shape_response(method, tuple(request_fields.items()), HIT).fields if name != "x-a"]
        assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("fields", "status"),
    [((("if-none-match", "*"),), 304), ((("if-match", '"x"'),), 412), ((("range", "bytes=200-"),), 416)],
)
def test_answers_without_the_body_do_not_describe_it(fields: Fields, status: int) -> None:
    """A 304, 412 or 416 has no Content-Type or other field of the body, but says who we are, and its ETag."""
    shape = shape_response("GET", fields, HIT)
    assert shape.status == status
    assert not shape.has_body
    assert {"content-type", "last-modified", "x-a", "accept-ranges"}.isdisjoint(name for name, _ in shape.fields)
    assert get(shape.fields, "etag") == '"ours"'
    assert get(shape.fields, "x-cache-status") == "HIT"


# -- unknown length, empty bodies, relayed answers -------------------------------------------------------------------


@pytest.mark.parametrize("range_", ["bytes=0-9", "bytes=-1", "bytes=9999-"])
def test_an_unknown_length_is_not_said_and_not_cut(range_: str) -> None:
    """While a body grows without a length a Range is ignored and no Content-Length sent; ranges are offered for later."""
    shape = shape_response("GET", (("range", range_),), evolve(MISS, length=None))
    assert summary(shape) == (200, None, None, (0, None))
    assert get(shape.fields, "accept-ranges") == "bytes"
    assert summary(shape_response("HEAD", (), evolve(MISS, length=None))) == (200, None, None, (0, None))


def test_conditions_count_while_the_length_is_unknown() -> None:
    """The ETag is chosen when the fetch begins, so a 304 or 412 can be said."""
    known = evolve(MISS, length=None)
    assert shape_response("GET", (("if-none-match", '"ours"'),), known).status == 304
    assert shape_response("GET", (("if-match", '"theirs"'),), known).status == 412


@pytest.mark.parametrize(("range_", "status"), [(None, 200), ("bytes=0-", 416), ("bytes=-5", 200), ("bytes=0-0", 416)])
def test_an_empty_body(range_: str | None, status: int) -> None:
    """It has a length, zero, and no bytes to cut."""
    fields = (("range", range_),) if range_ else ()
    shape = shape_response("GET", fields, evolve(HIT, length=0))
    assert (shape.status, get(shape.fields, "content-length")) == (status, "0")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "fields",
    [(), (("range", "bytes=0-9"),), (("if-none-match", "*"),), (("if-match", '"x"'),), (("if-modified-since", AFTER),)],
)
def test_a_relayed_answer_is_passed_on_as_it_is(method: str, fields: Fields) -> None:
    """Without an ETag nothing is evaluated, cut or promised: upstream has answered the client's Range."""
    shape = shape_response(method, fields, RELAYED)
    assert summary(shape) == (206, "10", "bytes 0-9/100", (0, None))
    names = {name for name, _ in shape.fields}
    assert names == {"content-range", "content-length", "x-cache-status", "x-upstream", "via", "cache-status"}


UPSTREAMS_FIELDS = (
    ("content-type", "application/zip"),
    ("content-length", "10"),
    ("content-range", "bytes 0-9/100"),
    ("accept-ranges", "bytes"),
    ("etag", '"theirs"'),
    ("last-modified", MODIFIED),
    ("cache-control", "no-store"),
    ("set-cookie", "a=b"),
    ("connection", "x-hop"),
    ("x-hop", "1"),
    ("transfer-encoding", "chunked"),
    ("content-encoding", "gzip"),
    ("x-other", "1"),
)


def test_relayed_fields_have_no_validators() -> None:
    """What describes the part is passed on; what is about upstream's connection, cache or body's identity is not."""
    assert relayed_fields(UPSTREAMS_FIELDS) == (
        ("content-type", "application/zip"),
        ("x-other", "1"),
        ("content-length", "10"),
        ("content-range", "bytes 0-9/100"),
        ("accept-ranges", "bytes"),
    )


@pytest.mark.parametrize("name", ["content-length", "content-range", "accept-ranges", "content-type"])
def test_relayed_fields_cannot_break_the_response_apart(name: str) -> None:
    """A value that could is dropped with its field."""
    assert relayed_fields(((name, "1\r\nx: y"),)) == ()


# -- ranges of a growing body ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "specs"),
    [
        ({}, None),
        ({"range": "bytes=0-"}, True),
        ({"range": "lines=0-"}, None),
        ({"range": "bytes=0-", "if-range": '"ours"'}, True),
        ({"range": "bytes=0-", "if-range": MODIFIED}, True),
        ({"range": "bytes=0-", "if-range": '"theirs"'}, None),
        ({"range": "bytes=0-", "if-range": AFTER}, None),
        ({"if-range": '"ours"'}, None),
    ],
)
def test_which_ranges_are_wanted(fields: dict[str, str], specs: bool | None) -> None:
    """None where the whole is: no Range that we know, or an If-Range that is of another body."""
    wanted = wanted_range(tuple(fields.items()), '"ours"', MODIFIED)
    assert wanted == (parse_range("bytes=0-") if specs else None)


def test_no_if_range_matches_what_has_no_etag() -> None:
    """Nothing that a client has can be a part of a body that we have not seen."""
    for if_range in ('"ours"', '""', "", MODIFIED):
        assert wanted_range((("range", "bytes=0-"), ("if-range", if_range)), None, None) is None
    assert wanted_range((("range", "bytes=0-"),), None, None) == parse_range("bytes=0-")


BIG = 100 * NEAR_BYTES


@pytest.mark.parametrize(
    ("range_", "length", "available", "near"),
    [
        (f"bytes={NEAR_BYTES}-", BIG, 0, True),
        (f"bytes={NEAR_BYTES + 1}-", BIG, 0, False),
        (f"bytes={NEAR_BYTES + 6}-", BIG, 5, False),
        (f"bytes={NEAR_BYTES + 5}-", BIG, 5, True),
        ("bytes=0-", BIG, 0, True),
        ("bytes=0-0", BIG, BIG, True),
        ("bytes=-1", BIG, 0, False),
        ("bytes=-1", BIG, BIG - 1 - NEAR_BYTES, True),
        ("bytes=-1", BIG, BIG - 2 - NEAR_BYTES, False),
        (f"bytes=-{BIG}", BIG, 0, True),
        (f"bytes={BIG}-", BIG, 0, True),  # a 416, which needs no byte
        (f"bytes={BIG - 1}-{BIG * 2}", BIG, 0, False),
        ("bytes=-0", BIG, 0, True),
        (f"bytes=0-0,{BIG - 1}-", BIG, 0, True),  # not one range: the whole
        (f"bytes={BIG - 2}-{BIG - 2},{BIG - 1}-", BIG, 0, False),
        ("bytes=0-0", None, 10, False),  # it could be answered with the whole only
        ("bytes=-1", None, 10, False),
        ("bytes=-5", 0, 0, True),
    ],
)
def test_near_ranges_are_waited_for(range_: str, length: int | None, available: int, near: bool) -> None:
    """One that begins at most 1 MiB ahead of what has come, and what is answered without a part of the body."""
    specs = parse_range(range_)
    assert specs is not None
    assert is_near(specs, length, available) is near


@given(
    first=st.integers(0, 150),
    last=st.one_of(st.none(), st.integers(0, 150)),
    length=st.integers(0, 120),
    method=st.sampled_from(["GET", "HEAD"]),
)
def test_a_shape_never_asks_for_bytes_that_are_not_there(
    first: int, last: int | None, length: int, method: str
) -> None:
    """Whatever the range: the bytes lie inside, and Content-Length is how many they are."""
    shape = shape_response(
        method, (("range", f"bytes={first}-{'' if last is None else last}"),), evolve(HIT, length=length)
    )
    said = get(shape.fields, "content-length")
    if shape.has_body:
        assert shape.stop is not None
        assert 0 <= shape.start <= shape.stop <= length
        assert said == str(shape.stop - shape.start)
    else:
        assert (shape.status, said) == (416, "0")
