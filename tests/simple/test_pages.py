"""From what upstream sent to what clients get, in one step."""

from __future__ import annotations

import pytest

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.negotiation import Dialect
from pipcache.simple.listing import ListConverter
from pipcache.simple.pages import FormedPage, form_page

URL = "https://mirror.example.org/pypi/simple/foo/"
ROOT = "https://mirror.example.org/pypi"
PAGE = b"""<html><head><title>Links for foo</title></head><body>
<a href="../../packages/aa/foo-1.0.tar.gz#sha256=%s" data-requires-python="&gt;=3.8">foo-1.0.tar.gz</a>
<a href="https://files.example.net/x/foo-1.0-py3-none-any.whl?sig=1" data-core-metadata="true">wheel</a>
<a href="/about.html">about</a>
</body></html>""" % (b"ab" * 32)


def test_a_project_page_is_parsed_rewritten_and_rendered() -> None:
    """The HTML links each file by the very path that the mapping knows it by, relative to the page."""
    page = form_page(PAGE, None, URL, "foo", ROOT)
    first, second = page.files
    assert first == "/packages/aa/foo-1.0.tar.gz"
    assert second.startswith("/-/files/foo/")
    assert second.endswith("/foo-1.0-py3-none-any.whl")
    assert page.files[first].url == "https://mirror.example.org/pypi/packages/aa/foo-1.0.tar.gz"
    assert page.files[first].hashes == {"sha256": "ab" * 32}
    assert page.files[second].url == "https://files.example.net/x/foo-1.0-py3-none-any.whl?sig=1"
    assert page.files[second].metadata_hashes == {}
    for path in page.files:
        assert f'<a href="../..{path}'.encode() in page.render(Dialect.HTML)
    assert b'data-requires-python="&gt;=3.8"' in page.render(Dialect.HTML)
    assert page.render(Dialect.HTML).count(b"<a ") == 2
    assert b"example" not in page.render(Dialect.HTML)


def test_a_page_without_files_is_a_page() -> None:
    """One whose links all lead elsewhere is served without them."""
    page = form_page(b'<a href="/about.html">about</a>', None, URL, "foo", ROOT)
    assert page.files == {}
    assert b"<a " not in page.render(Dialect.HTML)


def test_the_charset_of_the_response_counts() -> None:
    """What Content-Type says is what the page is read in; ours is UTF-8."""
    content = '<a href="foo-1.zip" data-yanked="broken: é">foo-1.zip</a>'.encode("cp1252")
    assert 'data-yanked="broken: é"'.encode() in form_page(
        content, "text/html; charset=iso-8859-1", URL, "foo", ROOT
    ).render(Dialect.HTML)
    assert "broken: \ufffd".encode() in form_page(content, None, URL, "foo", ROOT).render(Dialect.HTML)


def test_equal_bytes_are_equal_pages() -> None:
    """A page formed again is the same in each dialect, so it may keep its ETag while its shape is the same."""
    one, other = (form_page(PAGE, None, URL, "foo", ROOT) for _ in range(2))
    assert [one.render(dialect) for dialect in Dialect] == [other.render(dialect) for dialect in Dialect]
    assert one.files == other.files
    assert FormedPage.SHAPE


@pytest.mark.parametrize("content", [b"", b"<html><body>Log in to this network</body></html>", b"{}", b"\0" * 100])
def test_what_is_no_page_is_refused(content: bytes) -> None:
    """A captive portal's answer is not formed, neither as a project's page nor as the list."""
    converter = ListConverter(None, None, Dialect.JSON)
    with pytest.raises(MalformedResponse):
        form_page(content, None, URL, "foo", ROOT)
    with pytest.raises(MalformedResponse):
        converter.feed(content) + converter.close()


@pytest.mark.parametrize("dialect", Dialect)
def test_a_page_is_formed_once_for_both_dialects(dialect: Dialect) -> None:
    """Whichever is rendered, it is of the same files, and rendered once; the serial is known before."""
    page = form_page(b'{"files": [{"url": "foo-1.zip"}], "meta": {"_last-serial": 7}}', None, URL, "foo", ROOT)
    assert page.last_serial == 7
    written = page.render(dialect)
    assert written is page.render(dialect)
    assert all(path.encode() in written for path in page.files)
