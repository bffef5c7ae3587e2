"""The one spelling of paths and queries, and what is refused."""

from __future__ import annotations

from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.errors import BadRequest
from pipcache.rules.paths import canonical_path, canonical_query

SEGMENTS = (
    st.text(
        st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\"),
        max_size=12,
    )
    .filter(lambda text: text not in (".", ".."))
    .filter(lambda text: "\x7f" not in text)
)


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("", ""),
        ("/simple/flask/", "/simple/flask/"),
        ("/a+b", "/a+b"),
        ("/a%2Bb", "/a+b"),
        ("/a%2bb", "/a+b"),
        ("/a%20b", "/a%20b"),
        ("/a b", "/a%20b"),
        ("/a%3fb", "/a%3Fb"),
        ("/a%23b", "/a%23b"),
        ("/a%25b", "/a%25b"),
        ("/a%252Fb", "/a%252Fb"),
        ("/%7Euser/%66lask", "/~user/flask"),
        ("/é", "/%C3%A9"),
        ("/%c3%a9", "/%C3%A9"),
        ("/a:b@c!$&'()*,;=", "/a:b@c!$&'()*,;="),
        ('/"<>[]^`{|}', "/%22%3C%3E%5B%5D%5E%60%7B%7C%7D"),
        ("/.../a.", "/.../a."),
        ("//a//b", "//a//b"),
    ],
)
def test_a_path_has_one_spelling(raw: str, canonical: str) -> None:
    """Everything but pchar and the slash is encoded, in upper-case digits; the rest is decoded."""
    assert canonical_path(raw) == canonical


@pytest.mark.parametrize(
    "raw",
    [
        *("/%", "/%2", "/%zz", "/%+1", "/a%%20"),
        *("/%ff", "/%c3", "/%ed%a0%80", "/\ud800"),
        *("/a%2Fb", "/a%2fb", "/a\\b", "/a%5Cb", "/a%5cb"),
        *("/a\x00", "/a\n", "/a\x1f", "/a\x7f", "/a%00", "/a%0D%0a", "/a%1f", "/a%7f", "/a%7F"),
        *("/.", "/..", "/a/./b", "/a/../b", "/%2e", "/%2E%2e/", "/.%2e/a", "..", "./a", "../a"),
        *("/a?b", "/a#b"),
    ],
)
def test_what_servers_read_differently_is_refused(raw: str) -> None:
    """Bad percent signs, invalid UTF-8, hidden separators, control bytes, dot segments, plain or encoded."""
    with pytest.raises(BadRequest):
        canonical_path(raw)


@given(st.lists(SEGMENTS, min_size=1))
def test_equal_texts_have_one_path_and_different_ones_differ(segments: list[str]) -> None:
    """However a path is encoded, its canonical form says the same text, and says it in one way."""
    text = "/" + "/".join(segments)
    canonical = canonical_path(quote(text, safe="/"))
    assert unquote(canonical) == text
    assert canonical_path(canonical) == canonical
    everything_encoded = "".join(
        each if each == "/" else "".join(f"%{byte:02x}" for byte in each.encode()) for each in text
    )
    assert canonical_path(everything_encoded) == canonical


@given(st.text())
def test_any_text_is_a_canonical_path_or_refused(raw: str) -> None:
    """Nothing raises but BadRequest, and what comes out is printable ASCII without separators in disguise."""
    try:
        canonical = canonical_path(raw)
    except BadRequest:
        return
    assert canonical.isascii()
    assert not set(canonical) & set(' ?#\\"<>')
    assert canonical_path(canonical) == canonical


@pytest.mark.parametrize(
    ("raw", "canonical"),
    [
        ("", ""),
        ("a=1&b=2", "a=1&b=2"),
        ("a=%31", "a=1"),
        ("a=1%262", "a=1%262"),
        ("a=%2b+%2B", "a=%2B+%2B"),
        ("a=/?%2f%3f", "a=/?%2F%3F"),
        ("a=%20%23%25", "a=%20%23%25"),
        ("é=%c3%a9", "%C3%A9=%C3%A9"),
        ("a[]=|\\", "a%5B%5D=%7C%5C"),
    ],
)
def test_a_query_has_one_spelling_and_keeps_its_meaning(raw: str, canonical: str) -> None:
    """Unreserved characters are decoded, reserved ones stay as they came: ``%26`` is not ``&``."""
    assert canonical_query(raw) == canonical
    assert canonical_query(canonical) == canonical


@pytest.mark.parametrize("raw", ["a b", "a#b", "a\n", "a\x00", "a\x7f", "%0a", "%7f", "%", "%g0", "%ff", "\udc80"])
def test_a_query_that_no_client_sends_is_refused(raw: str) -> None:
    """Raw spaces and ``#``, control bytes, bad percent signs and invalid UTF-8."""
    with pytest.raises(BadRequest):
        canonical_query(raw)


@given(st.text())
def test_any_text_is_a_canonical_query_or_refused(raw: str) -> None:
    """Nothing raises but BadRequest, and a canonical query says the same as the raw one."""
    try:
        canonical = canonical_query(raw)
    except BadRequest:
        return
    assert canonical.isascii()
    assert unquote(canonical) == unquote(raw)
    assert canonical_query(canonical) == canonical
