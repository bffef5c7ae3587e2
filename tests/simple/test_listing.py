"""The list of projects, converted piece by piece."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.negotiation import Dialect
from pipcache.simple.listing import BLOCK_BYTES, ListConverter
from pipcache.simple.markup import tokens
from pipcache.simple.parse_html import Document

VERSION = '<meta name="pypi:repository-version" content="1.4">'


def converted(content: bytes, target: Dialect, size: int = 1 << 20, charset: str | None = None) -> bytes:
    """The list as clients get it, fed in pieces of this size."""
    converter = ListConverter(None, charset, target)
    pieces = [converter.feed(content[at : at + size]) for at in range(0, len(content), size)]
    return b"".join(pieces) + converter.close()


def names_in(html: bytes) -> list[tuple[str, str]]:
    """The href and text of each link."""
    document = Document()
    return [(link.href, link.text) for link in document.links(tokens(html.decode()))]


def test_html_to_html() -> None:
    """Each link is the normalised name with a slash, its text what the index shows; metas and serial are kept."""
    content = f"{VERSION}<a href=/simple/Foo_Bar/>Foo_Bar</a><a href='x/'>&lt;x&gt;</a></body><!--SERIAL 7-->".encode()
    html = converted(content, Dialect.HTML)
    assert html == (
        b'<!DOCTYPE html>\n<html>\n<head>\n<meta charset="utf-8">\n'
        b'<meta name="pypi:repository-version" content="1.4">\n<title>Simple index</title>\n</head>\n'
        b"<body>\n<h1>Simple index</h1>\n"
        b'<a href="foo-bar/">Foo_Bar</a><br/>\n<a href="x/">&lt;x&gt;</a><br/>\n'
        b"</body>\n</html>\n<!--SERIAL 7-->\n"
    )
    assert converted(html, Dialect.HTML) == html


def test_html_to_json() -> None:
    """The version is of what JSON promises; a text that is another name than the link's is not the project's."""
    content = (
        f"{VERSION}<meta name=pypi:x content=y><a href=Foo_Bar>Foo_Bar</a><a href=b/>x</a><!--SERIAL 7-->".encode()
    )
    assert json.loads(converted(content, Dialect.JSON)) == {
        "projects": [{"name": "Foo_Bar"}, {"name": "b"}],
        "meta": {"api-version": "1.0", "pypi:x": ["y"], "_last-serial": 7},
    }


LIST = {
    "meta": {"api-version": "1.4", "_last-serial": 7, "_x": [1]},
    "projects": [{"_last-serial": 3, "name": "Foo_Bar"}, {"name": "x", "\u00e9": {"a": ["\U0001f600", None]}}],
    "_more": {"y": 1.5},
}


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("ascii_only", [True, False])
def test_json_to_json_keeps_everything(indent: int | None, ascii_only: bool) -> None:
    """Unknown keys at every place, upstream's version, and what entries say."""
    content = json.dumps(LIST, indent=indent, ensure_ascii=ascii_only).encode()
    assert json.loads(converted(content, Dialect.JSON)) == LIST


def test_json_to_html() -> None:
    """Normalised links, the names as they are shown, the serial, the version."""
    html = converted(json.dumps(LIST).encode(), Dialect.HTML)
    assert names_in(html) == [("foo-bar/", "Foo_Bar"), ("x/", "x")]
    assert VERSION.encode() in html
    assert b"<!--SERIAL 7-->" in html


def test_what_json_says_behind_its_projects() -> None:
    """A head that has gone out says nothing of it; the serial still comes."""
    html = converted(json.dumps(dict(reversed(LIST.items()))).encode(), Dialect.HTML)
    assert b'content="1.0"' in html
    assert b"<!--SERIAL 7-->" in html


@pytest.mark.parametrize(
    ("href", "text", "names"),
    [
        ("/simple/foo/", "Foo", [("foo/", "Foo")]),
        ("Foo_Bar", "x", [("foo-bar/", "x")]),
        ("../simple/foo/?x=a/b#c/d", "", [("foo/", "foo")]),
        ("https://index.example.org/simple/foo/", "Foo", [("foo/", "Foo")]),
        ("//index.example.org/simple/foo", "Foo", [("foo/", "Foo")]),
        ("f%6Fo/", "Foo", [("foo/", "Foo")]),
        ("a%20b/", "Foo", [("foo/", "Foo")]),
        ("https://index.example.org", "Home", []),
        ("/", "Home", []),
        ("?C=N;O=D", "Name", []),
        ("#top", "Top", []),
        ("../", "Parent Directory", []),
        ("a b", "c d", []),
        ("javascript:x", "x", []),
        ("mailto:foo@example.org", "foo", []),
        ("https://[/foo", "foo", []),
        ("", "foo", []),
    ],
)
def test_a_link_names_a_project(href: str, text: str, names: list[tuple[str, str]]) -> None:
    """The path's last segment, else the text; without a path or with another scheme it is none."""
    assert names_in(converted(f'{VERSION}<a href="{href}">{text}</a>'.encode(), Dialect.HTML)) == names


@pytest.mark.parametrize(
    "entry",
    [None, 1, -2.5e3, "name", [], {}, {"name": None}, {"name": 5}, {"name": "-x"}, {"name": "a b"}, {"name": ""}],
)
@pytest.mark.parametrize("target", Dialect)
def test_an_entry_without_a_name_is_left_out(entry: object, target: Dialect) -> None:
    """And nothing else."""
    content = json.dumps({"projects": [{"name": "a"}, entry, {"name": "b"}, entry]}).encode()
    assert converted(content, target) == converted(b'{"projects": [{"name": "a"}, {"name": "b"}]}', target)


@pytest.mark.parametrize("target", Dialect)
@pytest.mark.parametrize(
    "content", [b'{"projects": []}', b' {"projects":[],"meta":{}} ', VERSION.encode(), b"<a href=/>"]
)
def test_an_empty_list_is_a_list(content: bytes, target: Dialect) -> None:
    """An index may have no project yet."""
    written = converted(content, target)
    if target is Dialect.JSON:
        assert json.loads(written)["projects"] == []
    else:
        assert names_in(written) == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"<html><body>Log in</body></html>",
        b"[]",
        b"{}",
        b'{"files": []}',
        b'{"projects": {}}',
        b'{"projects": null}',
        b'{"projects": [], "projects": []}',
        b'{"projects": []',
        b'{"projects": [{"name": "a"}',
        b'{"projects": [{"name": "a"},]}',
        b'{"projects": [{"name": "a"} {"name": "b"}]}',
        b'{"projects": [,]}',
        b'{"projects": []} x',
        b'{"projects": [], "x": NaN}',
        b'{"projects": [1e999]}',
        b'{"projects": [{"name": "a", "x": ' + b"[" * 40 + b"]" * 40 + b"}]}",
        b'{"projects": [' + b"[" * 60_000,
        b'{1: 2, "projects": []}',
        b'{"projects" []}',
        b'{"meta": {"api-version": "2.0"}, "projects": []}',
        b'{"meta": [], "projects": []}',
        b"{" + b",".join(b'"%d":1' % number for number in range(100)) + b',"projects": []}',
        VERSION.replace("1.4", "2.0").encode() + b"<a href=x/>x</a>",
    ],
)
@pytest.mark.parametrize("target", Dialect)
def test_what_is_no_list_is_the_upstreams_failure(content: bytes, target: Dialect) -> None:
    """At the latest when all is read."""
    with pytest.raises(MalformedResponse):
        converted(content, target)


@pytest.mark.parametrize(
    "unit",
    [b"x", b"<b>", b"<!--", b"<a name=x>", b'{"x":', b"{", b'{"x": "', b"<title>", b'<a href="', b"<meta name=pypi:x>"],
)
def test_what_shows_no_list_is_refused_early(unit: bytes) -> None:
    """Long before its end, with nothing passed on, in linear time."""
    converter = ListConverter(None, None, Dialect.HTML)
    block = unit * (BLOCK_BYTES // len(unit))
    started = time.process_time()
    assert converter.feed(block) == b""
    with pytest.raises(MalformedResponse):
        converter.feed(block * 20)
    assert time.process_time() - started < 5


def test_a_named_dialect_is_believed() -> None:
    """Where the source is given, the first character decides nothing."""
    converter = ListConverter(Dialect.JSON, None, Dialect.HTML)
    converter.feed(b"<a href=x>x</a>")
    with pytest.raises(MalformedResponse):
        converter.close()


def test_the_charset_counts() -> None:
    """Of HTML only, as it was said or declared."""
    content = "<a href=x>\u00e9</a>".encode("latin-1")
    assert names_in(converted(content, Dialect.HTML, charset="latin1")) == [("x/", "\u00e9")]
    assert names_in(converted(b"<meta charset=latin1>" + content, Dialect.HTML)) == [("x/", "\u00e9")]


pieces = st.sampled_from(
    [
        '<a href="foo/">foo</a>',
        "<a href='/simple/Foo_Bar/'>Foo &amp; <b>Bar</b></a><br/>\n",
        '<A HREF="x">',
        "</a>",
        "<!-- </a> -->",
        "<!--SERIAL 5-->",
        "<title>a</a>b</title>",
        "<script></a></script>",
        "<",
        "&lt;",
        ">",
        '"',
        "\u00e9\U0001f600",
        "\0",
        "<!x>",
        " ",
        "y" * 40,
        VERSION,
    ]
)
entries = st.fixed_dictionaries(
    {"name": st.sampled_from(["a", "B_c", "\u00e9", 1])}, optional={"x": st.text() | st.lists(st.text())}
)
members = st.dictionaries(
    st.sampled_from(["meta", "a", "b", "\u00e9"]), st.just({}) | st.fixed_dictionaries({"x": st.text()})
)


@st.composite
def lists(draw: st.DrawFn) -> bytes:
    """A list in either dialect, or nearly one, of several blocks."""
    if draw(st.booleans()):
        unit = "".join(draw(st.lists(pieces, min_size=1, max_size=12)))
        return (unit * draw(st.integers(1, 3 * BLOCK_BYTES // len(unit) + 1))).encode()
    found = draw(st.lists(entries, min_size=1, max_size=5)) * draw(st.integers(1, 500))
    indent = draw(st.none() | st.just(1))
    return json.dumps({**draw(members), "projects": found, "z": 12}, indent=indent, ensure_ascii=False).encode("utf-8")


@given(lists(), st.sampled_from(Dialect), st.integers(1, 3 * BLOCK_BYTES))
def test_any_pieces_give_the_same(content: bytes, target: Dialect, size: int) -> None:
    """However the bytes come in, the same go out, or the same error."""
    size = max(size, len(content) // 500)
    try:
        whole = converted(content, target, len(content) or 1)
    except MalformedResponse:
        with pytest.raises(MalformedResponse):
            converted(content, target, size)
    else:
        assert converted(content, target, size) == whole


@given(st.lists(pieces, max_size=30).map("".join))
def test_html_is_read_as_a_whole_document_is(document: str) -> None:
    """What is read block by block, and faster where it is plain, is what the tokenizer reads in one go."""
    one = Document()
    links = [*one.links(tokens(document.replace("\0", "\ufffd"))), *one.last_link()]
    hrefs = {"foo/": "foo/", "/simple/Foo_Bar/": "foo-bar/", "x": "x/"}
    if not links and not one.metas:
        return
    expected = [(hrefs[link.href], link.text or hrefs[link.href][:-1]) for link in links]
    for padding in (0, BLOCK_BYTES - len(document.encode()) // 2):
        found = names_in(converted((VERSION + " " * padding + document).encode(), Dialect.HTML))
        assert found == expected


@pytest.mark.parametrize("target", Dialect)
@pytest.mark.parametrize(
    "line", [b'<a href="/simple/project-%d/">Project_%d</a>\n', b'{"_last-serial": %d, "name": "Project_%d"},']
)
def test_memory_does_not_grow_with_the_list(line: bytes, target: Dialect) -> None:
    """Megabytes pass through, and what is held is a block and what is made of it."""
    converter = ListConverter(None, None, target)
    converter.feed(b'{"projects": [' if line.startswith(b"{") else b"<html>")
    chunk = b"".join(line % (number, number) for number in range(2000))
    tracemalloc.start()
    try:
        for _ in range(4_000_000 // len(chunk)):
            assert converter.feed(chunk)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3_000_000
