"""Whatever an upstream sends as a page: a page of ours or a refusal, nothing of its markup but links that lead back here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.negotiation import Dialect
from pipcache.rules.routes import RouteKind, parse_target
from pipcache.simple.listing import ListConverter
from pipcache.simple.pages import FormedPage, form_page

ROOT = "https://mirror.test/pypi"
URL = f"{ROOT}/simple/demo/"
ALLOWED_ATTRIBUTES = {"href", "name", "content", "charset", "rel", "title", "class", "id"}
HERE = "http://proxy.test/prefix/simple/demo/"

NAMES = st.sampled_from(
    ["demo-1.0.whl", "demo-1.0.tar.gz", "a b.whl", "%2e%2e/x.whl", "..", "d\u00e9mo.zip", "x.whl:y.whl"]
)
MARKUP = ["<", ">", '"', "'", "&", "&lt;script&gt;", "&#34;", "&#x3c;", "=", "\\", "\x00", "\r\n", "\ud7ff"]
PARTS_OF_URLS = [
    "javascript:",
    "https://",
    "http://[",
    "//",
    "mirror.test",
    "/pypi/packages/",
    "/packages/aa/bb/",
    "../",
    ":",
    "@",
]
WORDS = st.sampled_from([*MARKUP, *PARTS_OF_URLS, "/", "#sha256=", "?x=1", "%", "%2f"]) | st.text(max_size=4)
URLS = st.builds(lambda words, name: "".join(words) + name, st.lists(WORDS, max_size=4), NAMES | WORDS)
ATTRIBUTE_NAMES = st.sampled_from(
    ["href", "HREF", "data-yanked", "data-requires-python", "data-gpg-sig", "onclick", "rel", "data-x", "x<y"]
)
QUOTES = st.sampled_from(['"', "'", ""])
ATTRIBUTES = st.builds(
    lambda name, quote, value: f" {name}={quote}{value}{quote}", ATTRIBUTE_NAMES, QUOTES, URLS | WORDS
)
ANCHORS = st.builds(
    lambda url, attributes, text: f'<a href="{url}"{"".join(attributes)}>{text}</a>',
    NAMES | URLS,
    st.lists(ATTRIBUTES, max_size=3),
    URLS | WORDS,
)
PIECES = (
    ANCHORS
    | ATTRIBUTES.map("<a{}>".format)
    | WORDS
    | st.builds('<base href="{}">'.format, URLS)
    | st.builds(
        '<meta name="{0}" content="{1}">'.format, st.sampled_from(["pypi:repository-version", "x", "pypi:x"]), WORDS
    )
    | st.builds(
        "<{0}>{1}</{0}>".format, st.sampled_from(["title", "script", "style", "h1", "textarea", "template"]), WORDS
    )
    | st.sampled_from(["<!--", "-->", "<![CDATA[", "<?", "</", "<a ", "<a href", "<!doctype html>", "<script>", "</a>"])
)
DOCUMENTS = st.lists(PIECES, max_size=12).map("".join)
CHARSETS = st.sampled_from([None, "utf-8", "latin-1", "utf-16", "gbk", "shift_jis", "idna", "zlib", "\x00", "utf-7"])
BODIES = st.one_of(
    DOCUMENTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    st.builds(
        lambda mark, text: mark + text.encode("utf-16-le", "ignore"), st.sampled_from([b"", b"\xff\xfe"]), DOCUMENTS
    ),
    st.builds(bytes.__add__, st.sampled_from([b"", b'<meta charset="x"><a href="']), st.binary(max_size=80)),
)


class Seen(HTMLParser):
    """A page of ours as another parser reads it."""

    def __init__(self, html: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the element."""
        assert len(dict(attrs)) == len(attrs), "an attribute twice"
        self.tags.append((tag, dict(attrs)))


def html_in(charset: str | None) -> str:
    """The Content-Type of HTML in this charset."""
    return "text/html" if charset is None else f"text/html; charset={charset}"


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | URLS | WORDS | NAMES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=5,
)
KEYS_OF_FILES = st.sampled_from(
    ["filename", "hashes", "requires-python", "yanked", "size", "core-metadata", "upload-time", "gpg-sig", "x"]
)
JSON_FILES = st.builds(
    lambda url, others: {**others, "url": url}, NAMES | URLS | JSON_VALUES, st.dictionaries(KEYS_OF_FILES, JSON_VALUES)
)
JSON_PAGES = st.builds(
    lambda files, others: json.dumps(
        {"meta": {"api-version": "1.1"}, "name": "demo", **others, "files": files}
    ).encode(),
    st.lists(JSON_FILES | JSON_VALUES, max_size=4),
    st.dictionaries(st.sampled_from(["meta", "versions", "project-status", "tracks", "x"]), JSON_VALUES, max_size=2),
)


def check_markup(html: bytes) -> None:
    """Nothing but the elements that our pages consist of, and no attribute that does something."""
    for tag, attributes in Seen(html).tags:
        assert tag in {"html", "head", "meta", "title", "body", "h1", "a", "br"}, tag
        for name in attributes:
            assert name in ALLOWED_ATTRIBUTES or name.startswith("data-"), name


def check_links(formed: FormedPage) -> None:
    """Each link leads to a file of this page by the path that a request for it is looked up by."""
    html, document = formed.render(Dialect.HTML), json.loads(formed.render(Dialect.JSON))
    hrefs = [attributes["href"] for tag, attributes in Seen(html).tags if tag == "a"]
    urls = [file["url"] for file in document["files"]]
    assert len(hrefs) == len(urls) == len(formed.files)
    for href in (*hrefs, *urls):
        there = urlsplit(urljoin(HERE, href))
        assert (there.scheme, there.netloc, there.query) == ("http", "proxy.test", "")
        route = parse_target(there.path.removeprefix("/prefix").encode("ascii"))
        assert route.kind in (RouteKind.FILE, RouteKind.LINKED_FILE)
        assert urlsplit(formed.files[route.path].url).scheme in ("http", "https")


@given(BODIES, CHARSETS, st.sampled_from([ROOT, "https://mirror.test", None]))
@settings(max_examples=800)
@example(b'<a href="javascript:alert(1)//x.whl">x.whl</a>', None, ROOT)
@example(b'<a href="x.whl" data-yanked="&#34;&gt;&lt;script>">&lt;script>x.whl</a>', None, ROOT)
def test_a_project_page_is_ours_or_refused(content: bytes, charset: str | None, root: str | None) -> None:
    """No other error than that it is no simple page; no markup but ours; every link leads back here."""
    try:
        formed = form_page(content, html_in(charset), URL, "demo", root)
    except MalformedResponse:
        return
    check_markup(formed.render(Dialect.HTML))
    check_links(formed)


@given(JSON_PAGES)
@settings(max_examples=300)
def test_a_page_in_json_is_ours_or_refused(content: bytes) -> None:
    """The same, whatever its values are."""
    try:
        formed = form_page(content, "application/vnd.pypi.simple.v1+json", URL, "demo", ROOT)
    except MalformedResponse:
        return
    check_markup(formed.render(Dialect.HTML))
    check_links(formed)


@given(BODIES, CHARSETS)
@settings(max_examples=300)
def test_a_project_list_is_ours_or_refused(content: bytes, charset: str | None) -> None:
    """No other error, no markup but ours; every link leads to a project's page."""
    try:
        converter = ListConverter(None, charset, Dialect.HTML)
        html = converter.feed(content) + converter.close()
    except MalformedResponse:
        return
    check_markup(html)
    for tag, attributes in Seen(html).tags:
        if tag == "a":
            there = urlsplit(urljoin("http://proxy.test/prefix/simple/", attributes["href"]))
            route = parse_target(there.path.removeprefix("/prefix").encode("ascii"))
            assert (route.kind, there.query) == (RouteKind.PROJECT_PAGE, "")


def steps(function: Callable[[], object]) -> int:
    """How many functions, of Python's and of C's, are called."""
    count = 0

    def called(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(called)
    try:
        function()
    finally:
        sys.setprofile(before)
    return count


@given(st.lists(PIECES, min_size=1, max_size=3).map("".join), DOCUMENTS)
@settings(max_examples=60)
def test_twice_the_page_is_twice_the_work(piece: str, start: str) -> None:
    """However a piece of markup is repeated, what is done grows with the length and no faster."""

    def work(times: int) -> int:
        content = (start + piece * times).encode("utf-8", "surrogatepass")

        def form() -> None:
            try:
                form_page(content, html_in("utf-8"), URL, "demo", ROOT)
            except MalformedResponse:
                return

        return steps(form)

    assert work(400) <= 2.2 * work(200) + 200


@pytest.mark.parametrize("depth", [10_000])
def test_depth_is_no_trouble(depth: int) -> None:
    """Elements within elements need no stack."""
    content = b"<div>" * depth + b'<a href="demo-1.0.whl">demo-1.0.whl</a>' + b"</div>" * depth
    assert len(form_page(content, html_in(None), URL, "demo", ROOT).files) == 1
