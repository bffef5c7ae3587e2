"""How many files a page may list; how long a list of projects may be is not bounded."""

from __future__ import annotations

from collections.abc import Callable
from unittest.mock import patch

import pytest

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.negotiation import Dialect
from pipcache.simple import markup, parse_html
from pipcache.simple.listing import ListConverter
from pipcache.simple.model import MAX_FILES
from pipcache.simple.parse import parse_page

PAGE = "https://mirror.example.org/simple/foo/"


def html(count: int) -> bytes:
    """A page of so many links."""
    return b"<!DOCTYPE html>" + b"<a href=a-1.whl>" * count


def json(count: int) -> bytes:
    """The same in JSON."""
    return b'{"files":[' + b",".join([b'{"url":"a-1.whl"}'] * count) + b"]}"


@pytest.mark.parametrize("page_of", [html, json])
def test_a_page_of_too_many_files_is_none(page_of: Callable[[int], bytes]) -> None:
    """Up to the limit it is one."""
    with patch.object(parse_html, "MAX_FILES", 50), patch("pipcache.simple.parse_json.MAX_FILES", 50):
        assert len(parse_page(page_of(50), None, PAGE).files) == 50
        with pytest.raises(MalformedResponse, match="files"):
            parse_page(page_of(51), None, PAGE)


@pytest.mark.parametrize("value", [b"{}", b"[]", b"1", b'"a"', b'{"a":{"a":[]}}'])
def test_json_of_too_many_values_is_not_read(value: bytes) -> None:
    """Whatever they are, in whatever place: they cost memory before anything could be counted."""
    content = b'{"files":[],"more":[' + b",".join([value] * 500) + b"]}"
    with patch("pipcache.simple.parse_json.MAX_VALUES", 3000):
        assert parse_page(content, None, PAGE).files == ()
    with patch("pipcache.simple.parse_json.MAX_VALUES", 400), patch("pipcache.simple.parse_json.loaded_object") as load:
        with pytest.raises(MalformedResponse, match="files"):
            parse_page(content, None, PAGE)
        load.assert_not_called()


def test_links_to_anything_count() -> None:
    """Each is held until the page's base is known, whatever it leads to."""
    with patch.object(parse_html, "MAX_FILES", 50), pytest.raises(MalformedResponse):
        parse_page(b"<!DOCTYPE html>" + b"<a href=x>" * 51, None, PAGE)


def test_nothing_behind_the_link_that_is_too_many_is_read() -> None:
    """Of a page of millions of links the first alone cost memory."""
    seen = 0

    def counted(document: str):
        nonlocal seen
        for token in markup.tokens(document):
            seen += 1
            yield token

    with patch.object(parse_html, "tokens", counted), pytest.raises(MalformedResponse, match="200000"):
        parse_page(html(MAX_FILES + 5000), None, PAGE)
    assert MAX_FILES < seen < MAX_FILES + 10


def test_a_list_of_projects_may_be_as_long_as_it_is() -> None:
    """It is converted as it comes, so it costs no memory."""
    converter = ListConverter(Dialect.HTML, None, Dialect.JSON)
    content = b'<!DOCTYPE html><meta name="pypi:repository-version" content="1.0">'
    content += b'<a href="/simple/a/">a</a>\n' * (MAX_FILES + 1)
    out = converter.feed(content) + converter.close()
    assert out.count(b'"name"') == MAX_FILES + 1
