"""Header fields: lookup, what is kept of an upstream's, what is hostile, and how they stand in a meta."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.fields import (
    Fields,
    from_json,
    from_wire,
    get,
    get_all,
    is_valid_field,
    storable,
    strong_etag,
    to_json,
)

NAMES = st.sampled_from(["content-type", "x-a", "link", "etag", "connection", "set-cookie", "X-B", "a b", "x:y"])
FIELDS = st.lists(st.tuples(NAMES, st.text(max_size=8) | st.just("x-a, close"))).map(tuple)


def test_fields_are_decoded_once() -> None:
    """Names in lower case, values without surrounding whitespace, any byte readable."""
    assert from_wire([(b"Content-TYPE", b" text/html\t"), (b"X", b"\xff")]) == (
        ("content-type", "text/html"),
        ("x", "\xff"),
    )


def test_a_repeated_field_is_found_whole() -> None:
    """All its lines in order, or joined by commas; None where it is absent."""
    fields: Fields = (("a", "1"), ("b", "2"), ("a", "3"))
    assert get_all(fields, "a") == ["1", "3"]
    assert get(fields, "a") == "1, 3"
    assert get_all(fields, "c") == []
    assert get(fields, "c") is None


def test_what_upstream_says_about_the_file_is_kept_in_order() -> None:
    """Its type, date and serial, fields we do not know, and every line of a repeated one."""
    fields: Fields = (
        ("content-type", "text/html"),
        ("link", "<a>"),
        ("last-modified", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ("content-disposition", "attachment"),
        ("x-pypi-last-serial", "5"),
        ("x-unknown", ""),
        ("link", "<b>"),
    )
    assert storable(fields) == fields


@pytest.mark.parametrize(
    "name",
    [
        *("connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer"),
        *(
            "transfer-encoding",
            "upgrade",
            "set-cookie",
            "set-cookie2",
            "cache-status",
            "x-cache",
            "x-cache-hits",
        ),
        *(
            "x-cache-status",
            "x-upstream",
            "age",
            "date",
            "server",
            "via",
            "content-length",
            "content-encoding",
        ),
        *("content-range", "accept-ranges", "etag", "vary", "cache-control", "expires", "pragma", "alt-svc"),
        *("strict-transport-security", "nel", "report-to", "clear-site-data", "www-authenticate"),
        *("authentication-info", "content-md5", "repr-digest", "Set-Cookie"),
    ],
)
def test_what_upstream_says_about_itself_is_not_kept(name: str) -> None:
    """Its connection, its cache, its sessions and its site are not ours."""
    assert storable(((name, "x"), ("content-type", "text/html"))) == (("content-type", "text/html"),)


def test_fields_named_in_connection_are_hop_by_hop() -> None:
    """Whatever a Connection line names belongs to that connection only."""
    fields: Fields = (
        ("x-a", "1"),
        ("connection", "close, X-A"),
        ("connection", "x-b"),
        ("x-b", "2"),
        ("x-c", "3"),
    )
    assert storable(fields) == (("x-c", "3"),)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("", "x"), ("a b", "x"), ("a:", "x"), ("a\r\nb", "x"), ("é", "x"), ("a\n", "x")),
        *(
            ("a", "x\r\nSet-Cookie: y"),
            ("a", "x\n"),
            ("a", "\x00"),
            ("a", "\x1b"),
            ("a", "\x7f"),
            ("a", "\u0100"),
        ),
    ],
)
def test_a_field_that_breaks_a_response_apart_is_dropped(name: str, value: str) -> None:
    """A name that is no token, a value with line ends, control bytes or what no byte can say."""
    assert not is_valid_field(name, value)
    assert storable(((name, value),)) == ()
    with pytest.raises(ValueError, match="not valid"):
        from_json({name: value})


def test_tabs_and_high_bytes_are_valid() -> None:
    """RFC 9110 section 5.5 allows them inside a value."""
    assert is_valid_field("x-a", "a\tb \xe9")


def test_a_meta_holds_a_string_or_a_list() -> None:
    """A list only where a field repeats; what comes back has the same lines of each name."""
    fields: Fields = (("a", "1"), ("b", "2"), ("a", "3"))
    assert to_json(fields) == {"a": ["1", "3"], "b": "2"}
    assert from_json({"A": ["1", "3"], "b": "2"}) == (("a", "1"), ("a", "3"), ("b", "2"))


@pytest.mark.parametrize("value", [5, None, {"x": "y"}, ["a", 5], True])
def test_a_meta_of_another_shape_is_refused(value: object) -> None:
    """Neither a string nor a list of strings: not written by us."""
    with pytest.raises(ValueError, match="not valid"):
        from_json({"a": value})


@given(FIELDS)
def test_what_is_kept_survives_the_meta(fields: Fields) -> None:
    """Each name has the same lines afterwards, and nothing more is dropped the second time."""
    kept = storable(fields)
    back = from_json(json.loads(json.dumps(to_json(kept))))
    assert storable(back) == back
    assert {name: get_all(back, name) for name, _ in kept} == {name: get_all(kept, name) for name, _ in kept}
    assert len(back) == len(kept)


@pytest.mark.parametrize(
    ("values", "etag"),
    [
        (['"abc"'], '"abc"'),
        (['"a/b,c\'!#~"'], '"a/b,c\'!#~"'),
        (['"\xe9"'], '"\xe9"'),
        (['W/"abc"'], None),
        (['w/"abc"'], None),
        (['""'], None),
        (['"'], None),
        (["abc"], None),
        (['"abc'], None),
        (['abc"'], None),
        (['"a b"'], None),
        (['"a"b"'], None),
        (['"abc"\n'], None),
        (['"a\x7f"'], None),
        (['"a\x00"'], None),
        (['"a", "b"'], None),
        (['"a"', '"b"'], None),
        (['"a"', '"a"'], None),
        ([""], None),
        ([], None),
    ],
)
def test_a_strong_etag_is_one_that_vouches_for_every_byte(values: list[str], etag: str | None) -> None:
    """RFC 9110 section 8.8.3: quoted and one; a weak, an empty, a malformed or a repeated one vouches for nothing."""
    fields: Fields = (("x-a", '"no"'), *(("etag", value) for value in values))
    assert strong_etag(fields) == etag
