"""Addresses as they are asked for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.edges.targets import Target
from pipcache.rules.sites import Origin


@pytest.mark.parametrize(
    ("url", "host", "authority", "path"),
    [
        ("http://a.test/x", b"a.test", "a.test", "/x"),
        ("https://a.test:8443/x?y=%2f&z", b"a.test", "a.test:8443", "/x?y=%2f&z"),
        ("http://a.test:80/x#part", b"a.test", "a.test", "/x"),
        ("https://a.test", b"a.test", "a.test", "/"),
        ("http://a.test?x=1", b"a.test", "a.test", "/?x=1"),
        ("http://127.0.0.1:3141/a%2Bb/c+d-1.0%20x.whl", b"127.0.0.1", "127.0.0.1:3141", "/a%2Bb/c+d-1.0%20x.whl"),
        ("http://[::1]:3141/x", b"::1", "[::1]:3141", "/x"),
        ("https://[2001:db8::1]/x", b"2001:db8::1", "[2001:db8::1]", "/x"),
        ("HTTP://A.Test/X", b"a.test", "a.test", "/X"),
        ("http://user:pw@a.test/x", b"a.test", "a.test", "/x"),
        ("http://a.test/a b/\xe9?q=\xe9#f", b"a.test", "a.test", "/a%20b/%C3%A9?q=%C3%A9"),
        ('http://a.test/[1]"<>|\\^`{}', b"a.test", "a.test", "/%5B1%5D%22%3C%3E%7C%5C%5E%60%7B%7D"),
        ("http://b\xfccher.test/x", b"xn--bcher-kva.test", "xn--bcher-kva.test", "/x"),
        ("http://a.test/a\r\nHost: evil/x", b"a.test", "a.test", "/a%0D%0AHost:%20evil/x"),
    ],
)
def test_what_is_asked_for(url, host, authority, path):
    """What can go over the wire is left as it is written, the rest is encoded."""
    target = Target.of(url)
    assert (target.host, target.authority, target.path) == (host, authority, path)


@pytest.mark.parametrize(
    ("url", "origin", "shown"),
    [
        ("http://a.test/x?token=secret#f", Origin("http", "a.test", 80), "http://a.test/x"),
        ("https://me:pw@a.test:8443/x", Origin("https", "a.test", 8443), "https://a.test:8443/x"),
        ("http://b\xfccher.test/\xe9?x", Origin("http", "b\xfccher.test", 80), "http://b\xfccher.test/\xe9"),
    ],
)
def test_where_it_is_and_what_is_shown_of_it(url, origin, shown):
    """The origin is that of the URL as it was written; nothing that may be secret is shown."""
    target = Target.of(url)
    assert (target.origin, target.shown) == (origin, shown)


@pytest.mark.parametrize(
    "url",
    [
        "ftp://a.test/x",
        "//a.test/x",
        "/x",
        "",
        "http:///x",
        "http://a.test:port/x",
        "http://a.test:99999/x",
        "http://[::1/x",
        "http://a b.test/x",
        "http://a.test\r\nHost: evil/x",
    ],
)
def test_an_address_that_is_none(url):
    """What is no absolute http or https URL is refused."""
    with pytest.raises(ValueError):  # noqa: PT011 (whose parser says so is not to be relied on)
        Target.of(url)


@given(st.text(max_size=40))
def test_nothing_breaks_a_request_apart(text):
    """Whatever stands in a URL, its path is one word of visible ASCII, and so is its host; or it is refused."""
    for url in (f"http://a.test/{text}", f"http://{text}/x", f"http://{text}"):
        try:
            target = Target.of(url)
        except ValueError:
            continue
        for part in (target.path, target.authority, target.host.decode()):
            assert part.isascii()
            assert part.isprintable()
            assert " " not in part
