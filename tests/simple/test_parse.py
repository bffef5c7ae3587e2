"""Which dialect a page is in, whatever its server says."""

from __future__ import annotations

import pytest

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.negotiation import V1_HTML, V1_JSON, Dialect
from pipcache.simple.parse import charset_of, dialect_of, parse_page

URL = "https://mirror.example.org/simple/foo/"
HTML = b'<a href="foo-1.zip" data-yanked="\xe9">foo-1.zip</a>'
JSON = b'{"files": [{"url": "foo-1.zip", "hashes": {}}]}'
TYPES = [None, "", "text/html", "text/html; charset=utf-8", V1_HTML, V1_JSON, "application/json", "text/plain", "octet"]


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize("before", [b"", b" \r\n\t", b"\xef\xbb\xbf"])
@pytest.mark.parametrize(("content", "dialect"), [(HTML, Dialect.HTML), (JSON, Dialect.JSON)])
def test_the_first_character_decides(content_type: str | None, before: bytes, content: bytes, dialect: Dialect) -> None:
    """Braces are JSON and angle brackets HTML, whatever the Content-Type, after blanks or a byte order mark."""
    page = parse_page(before + content, content_type, URL)
    assert page.dialect is dialect
    assert [file.filename for file in page.files] == ["foo-1.zip"]


@pytest.mark.parametrize(
    ("start", "content_type", "dialect"),
    [
        (b"Index <a href=x>", None, Dialect.HTML),
        (b"Index <a href=x>", "text/plain", Dialect.HTML),
        (b"\xff\xfe<\x00", "text/html; charset=utf-16", Dialect.HTML),
        (b"[]", V1_JSON, Dialect.JSON),
        (b"", "Application/JSON; x=y", Dialect.JSON),
        (b"", None, Dialect.HTML),
    ],
)
def test_content_type_decides_otherwise(start: bytes, content_type: str | None, dialect: Dialect) -> None:
    """HTML where it says nothing."""
    assert dialect_of(start, content_type) is dialect


@pytest.mark.parametrize("content_type", TYPES)
@pytest.mark.parametrize(
    "content", [b"", b"[]", b"null", b"Not found", b"{}", b'{"info": {}, "urls": []}', b"<p>Log in</p>", b"{x", b"\0\0"]
)
def test_what_is_no_simple_page_is_the_upstreams_failure(content_type: str | None, content: bytes) -> None:
    """A portal's page, another document of JSON, nothing at all."""
    with pytest.raises(MalformedResponse):
        parse_page(content, content_type, URL)


@pytest.mark.parametrize(
    ("content_type", "charset"),
    [
        (None, None),
        ("text/html", None),
        ("text/html; charset=latin1", "latin1"),
        ('text/html;x=y ; Charset = "UTF-8"', "UTF-8"),
        ("text/html; charset=", None),
    ],
)
def test_the_charset_of_a_content_type(content_type: str | None, charset: str | None) -> None:
    """With quotes or without, in any case, behind other parameters."""
    assert charset_of(content_type) == charset


def test_only_html_has_a_charset() -> None:
    """HTML is read in what the Content-Type says; JSON is UTF-8."""
    html = parse_page(HTML, "text/html; charset=iso-8859-1", URL)
    assert html.files[0].attributes == (("data-yanked", "\u00e9"),)
    content = '{"files": [{"url": "foo-1.zip", "yanked": "\u00e9"}]}'.encode()
    assert parse_page(content, "text/html; charset=iso-8859-1", URL).files[0].attributes == (("data-yanked", "\u00e9"),)
