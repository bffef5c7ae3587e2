"""Pages of all kinds, read into the model."""

from __future__ import annotations

import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.negotiation import Dialect
from pipcache.simple.encoding import decoded
from pipcache.simple.listing import ListConverter
from pipcache.simple.model import DistributionFile
from pipcache.simple.parse_html import parse_html_page

PAGE = "https://mirror.example.org/pypi/simple/foo/"
VERSION = '<meta name="pypi:repository-version" content="1.0">'


def files(html: str, url: str = PAGE) -> list[DistributionFile]:
    """The files of a page."""
    return list(parse_html_page(html.encode(), url).files)


def url_of(href: str, base: str = "") -> str | None:
    """Where the only link of a page leads; None where it is dropped."""
    found = files(f'{VERSION}{base}<a href="{href}">x</a>')
    return found[0].url if found else None


@pytest.mark.parametrize(
    ("href", "url"),
    [
        ("../../packages/a-1.whl", "https://mirror.example.org/pypi/packages/a-1.whl"),
        ("a-1.whl", "https://mirror.example.org/pypi/simple/foo/a-1.whl"),
        ("./a-1.whl", "https://mirror.example.org/pypi/simple/foo/a-1.whl"),
        ("/packages/a-1.whl", "https://mirror.example.org/packages/a-1.whl"),
        ("//files.example.org/packages/a-1.whl", "https://files.example.org/packages/a-1.whl"),
        ("http://files.example.org:8080/a-1.whl", "http://files.example.org:8080/a-1.whl"),
        ("HTTPS://Files.Example.org/a-1.whl", "https://Files.Example.org/a-1.whl"),
        ("https://user:word@files.example.org/a-1.whl", "https://user:word@files.example.org/a-1.whl"),
        ("https://[::1]:8080/a-1.whl", "https://[::1]:8080/a-1.whl"),
        ("a-1%2Bcpu.whl", "https://mirror.example.org/pypi/simple/foo/a-1%2Bcpu.whl"),
        ("a-1+cpu.whl", "https://mirror.example.org/pypi/simple/foo/a-1+cpu.whl"),
        ("a-1&#43;cpu.whl", "https://mirror.example.org/pypi/simple/foo/a-1+cpu.whl"),
        ("a&#45;1.whl?x=1&amp;y=2#sha256=0", "https://mirror.example.org/pypi/simple/foo/a-1.whl?x=1&y=2"),
        ("a-1.whl?x=1&copy=2", "https://mirror.example.org/pypi/simple/foo/a-1.whl?x=1&copy=2"),
        (" \n\ta-1.whl\r\n ", "https://mirror.example.org/pypi/simple/foo/a-1.whl"),
        ("a 1.whl", "https://mirror.example.org/pypi/simple/foo/a%201.whl"),
        ("caf\u00e9-1.whl", "https://mirror.example.org/pypi/simple/foo/caf%C3%A9-1.whl"),
        ("a-1.3+cpu-cp311.whl", "https://mirror.example.org/pypi/simple/foo/a-1.3+cpu-cp311.whl"),
        ("a-1.TAR.GZ", "https://mirror.example.org/pypi/simple/foo/a-1.TAR.GZ"),
        ("a-1.wh%6C", "https://mirror.example.org/pypi/simple/foo/a-1.wh%6C"),
        ("a;b-1.zip", "https://mirror.example.org/pypi/simple/foo/a;b-1.zip"),
    ],
)
def test_a_link_leads_where_a_browser_would_go(href: str, url: str) -> None:
    """Relative, rooted, without a scheme, absolute; escapes, entities, blanks and queries; no fragment."""
    assert url_of(href) == url


@pytest.mark.parametrize(
    "href",
    [
        "",
        "#a-1.whl",
        "?file=a-1.whl",
        "../",
        "a-1.whl.asc",
        "a-1.whl.metadata",
        "a-1.whl/",
        "a-1.exe?x=.whl",
        "https://example.whl",
        "https://example.org?a.whl",
        "ftp://files.example.org/a-1.whl",
        "file:///etc/a-1.whl",
        "javascript:a-1.whl",
        "data:text/html,a-1.whl",
        "mailto:a@example.org/a-1.whl",
        "http:///a-1.whl",
        "https://[x/a-1.whl",
        "https://h:port/a-1.whl",
        "https://h:99999/a-1.whl",
        "https://a b/a-1.whl",
        "https://a&#60;b/a-1.whl",
    ],
)
def test_a_link_to_anything_else_is_dropped(href: str) -> None:
    """No suffix in the path's last segment, another scheme, or no URL at all: not a file, and no error."""
    assert url_of(href) is None


@pytest.mark.parametrize(
    ("base", "url"),
    [
        ('<base href="https://files.example.org/x/">', "https://files.example.org/x/a-1.whl"),
        ('<base href="../../y/">', "https://mirror.example.org/pypi/y/a-1.whl"),
        ('<base href="/z/page">', "https://mirror.example.org/z/a-1.whl"),
        ('<base href="//files.example.org">', "https://files.example.org/a-1.whl"),
        (
            '<base target="_top"><base href="/one/"><base href="/two/">',
            "https://mirror.example.org/one/a-1.whl",
        ),
        ('<base href="javascript:x">', "https://mirror.example.org/pypi/simple/foo/a-1.whl"),
        ('<base href="https://[">', "https://mirror.example.org/pypi/simple/foo/a-1.whl"),
    ],
)
def test_the_first_base_moves_every_link(base: str, url: str) -> None:
    """It is itself relative to the page, later ones are ignored, an unfit one moves nothing."""
    assert url_of("a-1.whl", base) == url


def test_a_base_moves_the_links_before_it() -> None:
    """A base holds for the whole document, wherever it stands."""
    assert files('<a href="a.whl">x</a><base href="/b/">')[0].url == "https://mirror.example.org/b/a.whl"


def test_a_link_keeps_everything_that_it_says() -> None:
    """Text, fragment and each attribute in order, unescaped: empty, valueless and unknown ones too."""
    [file] = files(
        f'{VERSION}<a data-requires-python="&gt;=3.8,&lt;4"'
        ' href="https://f.example.org/a%2Bb-1.whl?k=1#sha256=ab&amp;egg=a"'
        ' DATA-YANKED="it &quot;broke&quot;" data-gpg-sig=true rel=internal data-x data-y="">\n'
        " <b>a+b</b>-1.whl </a>"
    )
    assert file == DistributionFile(
        filename="a+b-1.whl",
        url="https://f.example.org/a%2Bb-1.whl?k=1",
        fragment="sha256=ab&egg=a",
        text="a+b-1.whl",
        attributes=(
            ("data-requires-python", ">=3.8,<4"),
            ("data-yanked", 'it "broke"'),
            ("data-gpg-sig", "true"),
            ("rel", "internal"),
            ("data-x", None),
            ("data-y", ""),
        ),
    )


def test_a_page_keeps_what_it_says_of_its_project() -> None:
    """The pypi metas in order, the title and the comments; other metas are the upstream's own."""
    page = parse_html_page(
        b'<title> Links &amp; more </title><title>no</title><meta name="generator" content="x">'
        b'<meta name="pypi:repository-version" content="1.4">'
        b'<meta content="quarantined" name="PyPI:project-status">'
        b"<meta name='pypi:empty'><!--SERIAL 123--><!-- x -->",
        PAGE,
    )
    assert page.metas == (
        ("pypi:repository-version", "1.4"),
        ("PyPI:project-status", "quarantined"),
        ("pypi:empty", ""),
    )
    assert page.title == "Links & more"
    assert page.comments == ("SERIAL 123", " x ")
    assert page.files == ()


def test_anchors_end_where_a_browser_ends_them() -> None:
    """The next anchor or the end of the document ends one that has no end; what is hidden is no link."""
    found = files(
        '<!-- <a href="no.whl">no</a> -->'
        '<script>"<a href=no.whl>"</script><textarea><a href=no.whl></textarea>'
        "<a href=a.whl>one<a href=b.whl>two</a>three<a name=here>four</a><a href=c.whl>five"
    )
    assert [(file.filename, file.text) for file in found] == [
        ("a.whl", "one"),
        ("b.whl", "two"),
        ("c.whl", "five"),
    ]


def listed(body: bytes) -> bytes:
    """The body as a project list, read as HTML."""
    converter = ListConverter(Dialect.HTML, None, Dialect.HTML)
    return converter.feed(body) + converter.close()


@pytest.mark.parametrize("parse", [lambda body: parse_html_page(body, PAGE), listed])
@pytest.mark.parametrize(
    ("body", "is_page"),
    [
        (VERSION, True),
        ('<a href="/login">Log in to the network</a>', True),
        ("<a href>x", True),
        ("<html><body>Blocked by your administrator</body></html>", False),
        ('<a name="top">x</a>', False),
        ('<meta name="pypi:project-status" content="active">', False),
        ('{"meta": {"api-version": "1.1"}, "files": []}', False),
        ("<!-- <a href=x> -->", False),
        ("\x1f\x8b\x08\x00", False),
        ("", False),
        ('<meta name="pypi:repository-version" content="1">', True),
        ('<meta name="pypi:repository-version" content=" 1.99 ">', True),
        ('<meta name="pypi:repository-version" content="2.0"><a href="a.whl">a</a>', False),
        ('<meta name="pypi:repository-version" content="0.9"><a href="a.whl">a</a>', False),
        ('<meta name="pypi:repository-version" content="10.0">', False),
        ('<meta name="pypi:repository-version" content="new">', False),
        ('<meta name="pypi:repository-version"><a href="a.whl">a</a>', False),
    ],
)
def test_what_is_no_simple_page_is_the_upstreams_failure(parse, body: str, is_page: bool) -> None:
    """A version 1 or, without any version, a link; what it links to does not matter. Anything else raises."""
    if is_page:
        parse(body.encode())
    else:
        with pytest.raises(MalformedResponse):
            parse(body.encode())


@pytest.mark.parametrize(
    ("body", "charset", "text"),
    [
        ("\u00e9".encode(), None, "\u00e9"),
        ("\u00e9".encode(), "utf-8", "\u00e9"),
        (b"\xe9", None, "\ufffd"),
        (b"\xe9", "ISO-8859-1", "\u00e9"),
        (b"\xe9", '"latin1"', "\u00e9"),
        ("\u4e2d".encode("gbk"), "GBK", "\u4e2d"),
        (b"\xef\xbb\xbf\xc3\xa9", "iso-8859-1", "\u00e9"),
        (b"\xff\xfe\xe9\x00", None, "\u00e9"),
        (b"\xfe\xff\x00\xe9", "utf-8", "\u00e9"),
        (b"\x00", None, "\ufffd"),
        (b"a", "zlib", "a"),
        (b"a", "idna", "a"),
        (b"a", "nonsense", "a"),
        (b"a", "", "a"),
        (b'<meta charset="windows-1252">\xe9', None, '<meta charset="windows-1252">\u00e9'),
        (b'<meta charset="windows-1252">\xc3\xa9', "utf-8", '<meta charset="windows-1252">\u00e9'),
        (
            b"<META content='text/html; charset=latin1'>\xe9",
            None,
            "<META content='text/html; charset=latin1'>\u00e9",
        ),
        (b"<meta charset=utf-16>\xc3\xa9", None, "<meta charset=utf-16>\u00e9"),
    ],
)
def test_the_encoding_is_the_marks_the_fields_or_the_metas(body: bytes, charset: str | None, text: str) -> None:
    """In that order, else UTF-8; no codec that is none of the web's, and never an exception."""
    assert decoded(body, charset) == text


def test_five_thousand_links_are_read_quickly() -> None:
    """A large project's page takes far less than a second (measured: 0.1 s), so this bound is a hang's."""
    line = (
        '<a href="../../packages/aa/bb/{0:060x}/foo-1.{0}-py3-none-any.whl#sha256={0:064x}" '
        'data-requires-python="&gt;=3.8" data-core-metadata="sha256={0:064x}">'
        "foo-1.{0}-py3-none-any.whl</a><br/>\n"
    )
    started = time.process_time()
    assert len(files("".join(line.format(number) for number in range(5000)))) == 5000
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "unit",
    [
        "<a href=x.whl>",
        "<a href=x.whl#",
        "<a href='//[",
        "<base href=",
        "<title>x",
        "&#1",
        "<a href=../x.whl>",
        "a" * 9,
        "/..",
    ],
)
def test_a_hostile_page_of_two_megabytes_ends(unit: str) -> None:
    """Two megabytes of one unfinished construct are read or refused in seconds, alone or inside a link."""
    for prefix in (VERSION, f'{VERSION}<a href="'):
        started = time.process_time()
        parse_html_page((prefix + unit * (2_000_000 // len(unit))).encode(), PAGE)
        assert time.process_time() - started < 10


@given(st.binary(max_size=200), st.sampled_from([None, "utf-16", "gbk"]))
def test_no_body_raises_anything_else(body: bytes, charset: str | None) -> None:
    """Any octets are a page or the upstream's failure, never an exception of another kind."""
    for document in (body, b'<a href="' + body + b'">', b'<base href="' + body + b'"><a href=a.whl>'):
        with contextlib.suppress(MalformedResponse):
            parse_html_page(document, PAGE, charset)
