"""Keys: one for equal requests, different ones for different requests, and their place on disk."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.errors import BadRequest
from pipcache.rules.key import CacheKey
from pipcache.rules.routes import parse_target


def key_of(target: bytes) -> CacheKey:
    """The key of a request target."""
    return CacheKey.of(parse_target(target))


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (b"/simple/flask/", "GET-/simple/flask/"),
        (b"/packages/aa/x-1%2bcpu.whl?x", "GET-/packages/aa/x-1+cpu.whl"),
        (b"/pypi/flask/json?a=1", "GET-/pypi/flask/json?a=1"),
    ],
)
def test_the_text_is_the_request_as_it_stands_in_the_meta(target: bytes, text: str) -> None:
    """``GET-``, the canonical path, and the query where it counts."""
    assert key_of(target).text == text


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"/a%3Fb", b"/a?b"),
        (b"/a%23b", b"/ab"),
        (b"/a?b=1%262", b"/a?b=1&2"),
        (b"/a", b"/a/"),
        (b"/A", b"/a"),
    ],
)
def test_different_requests_never_share_a_key(one: bytes, other: bytes) -> None:
    """An encoded question mark begins no query, an encoded ampersand ends no parameter."""
    assert key_of(one).digest != key_of(other).digest


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"/packages/a%2Bb.whl", b"/packages/a+b.whl"),
        (b"/packages/a%2bb.whl", b"/packages/a+b.whl"),
        (b"/simple/flask/?a", b"/simple/flask/?b"),
        (b"/%61?%62", b"/a?b"),
        ("/é".encode(), b"/%c3%A9"),
    ],
)
def test_equal_spellings_share_a_key(one: bytes, other: bytes) -> None:
    """However a client encodes it, and whatever query it hangs on a page or a file."""
    assert key_of(one) == key_of(other)


def test_the_place_on_disk_is_the_digest_in_two_parts() -> None:
    """Three digits of SHA-256 are the folder, the other 61 the stem."""
    key = CacheKey("GET-/simple/flask/")
    assert key.digest == hashlib.sha256(b"GET-/simple/flask/").hexdigest()
    assert (len(key.folder), len(key.stem)) == (3, 61)
    assert key.folder + key.stem == key.digest


@given(st.binary(max_size=20), st.binary(max_size=20))
def test_two_targets_share_a_key_only_if_they_are_one_request(one: bytes, other: bytes) -> None:
    """The key is equal exactly when path and query are."""
    try:
        routes = parse_target(b"/" + one), parse_target(b"/" + other)
    except BadRequest:
        return
    same_request = (routes[0].path, routes[0].query) == (routes[1].path, routes[1].query)
    assert (CacheKey.of(routes[0]) == CacheKey.of(routes[1])) == same_request
