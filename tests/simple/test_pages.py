"""From what upstream sent to what clients get, in one step."""

from __future__ import annotations

import pytest

from pipcache.rules.errors import MalformedResponse
from pipcache.simple.pages import FormedPage, form_list, form_page

URL = "https://mirror.example.org/pypi/simple/foo/"
ROOT = "https://mirror.example.org/pypi"
PAGE = b"""<html><head><title>Links for foo</title></head><body>
<a href="../../packages/aa/foo-1.0.tar.gz#sha256=%s" data-requires-python="&gt;=3.8">foo-1.0.tar.gz</a>
<a href="https://files.example.net/x/foo-1.0-py3-none-any.whl?sig=1" data-core-metadata="true">wheel</a>
<a href="/about.html">about</a>
</body></html>""" % (b"ab" * 32)


def test_a_project_page_is_parsed_rewritten_and_rendered() -> None:
    """The HTML links each file by the very path that the mapping knows it by, relative to the page."""
    page = form_page(PAGE, URL, None, "foo", ROOT)
    first, second = page.files
    assert first == "/packages/aa/foo-1.0.tar.gz"
    assert second.startswith("/-/files/foo/")
    assert second.endswith("/foo-1.0-py3-none-any.whl")
    assert page.files[first].url == "https://mirror.example.org/pypi/packages/aa/foo-1.0.tar.gz"
    assert page.files[first].hashes == {"sha256": "ab" * 32}
    assert page.files[second].url == "https://files.example.net/x/foo-1.0-py3-none-any.whl?sig=1"
    assert page.files[second].metadata_hashes == {}
    for path in page.files:
        assert f'<a href="../..{path}'.encode() in page.html
    assert b'data-requires-python="&gt;=3.8"' in page.html
    assert page.html.count(b"<a ") == 2
    assert b"example" not in page.html


def test_a_page_without_files_is_a_page() -> None:
    """One whose links all lead elsewhere is served without them."""
    page = form_page(b'<a href="/about.html">about</a>', URL, None, "foo", ROOT)
    assert page.files == {}
    assert b"<a " not in page.html


def test_the_charset_of_the_response_counts() -> None:
    """What Content-Type says is what the page is read in; ours is UTF-8."""
    content = '<a href="foo-1.zip" data-yanked="broken: é">foo-1.zip</a>'.encode("cp1252")
    assert 'data-yanked="broken: é"'.encode() in form_page(content, URL, "iso-8859-1", "foo", ROOT).html
    assert "broken: \ufffd".encode() in form_page(content, URL, None, "foo", ROOT).html


def test_equal_bytes_are_equal_pages() -> None:
    """A page formed again is the same, so it may keep its ETag while its shape is the same."""
    assert form_page(PAGE, URL, None, "foo", ROOT) == form_page(PAGE, URL, None, "foo", ROOT)
    assert FormedPage.SHAPE


def test_the_project_list_is_formed() -> None:
    """Every link becomes ``<normalised>/``, and it names no files."""
    page = form_list(b'<a href="/simple/Foo_Bar/">Foo_Bar</a><a href="baz/">baz</a>', None)
    assert b'<a href="foo-bar/">Foo_Bar</a>' in page.html
    assert b'<a href="baz/">baz</a>' in page.html
    assert page.files == {}


@pytest.mark.parametrize("content", [b"", b"<html><body>Log in to this network</body></html>", b"{}", b"\0" * 100])
def test_what_is_no_page_is_refused(content: bytes) -> None:
    """A captive portal's answer is not formed, neither as a project's page nor as the list."""
    with pytest.raises(MalformedResponse):
        form_page(content, URL, None, "foo", ROOT)
    with pytest.raises(MalformedResponse):
        form_list(content, None)
