"""Tokens: what a browser would see, in one pass, whatever the document is."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.simple.markup import tokens, unescaped, unescaped_value


def pieces(document: str) -> list[tuple[str, str]]:
    """Kind and data of each token."""
    return [(token.kind, token.data) for token in tokens(document)]


def attributes(tag: str) -> dict[str, str | None] | None:
    """The attributes of the first start tag; None where there is none."""
    return next((token.attributes for token in tokens(tag) if token.kind == "start"), None)


@pytest.mark.parametrize(
    ("tag", "expected"),
    [
        ('<a href="x">', {"href": "x"}),
        ("<A HREF='x'>", {"href": "x"}),
        ("<a href=x/y/>", {"href": "x/y/"}),
        ("<a\n href\t=\r\n x >", {"href": "x"}),
        ("<a href=>", {"href": ""}),
        ("<a href>", {"href": None}),
        ("<a a=\"\"b=''c>", {"a": "", "b": "", "c": None}),
        ('<a x="1" X="2">', {"x": "1"}),
        ('<a x="a>b" y>', {"x": "a>b", "y": None}),
        ("<a/x/>", {"x": None}),
        ("<a =x=y>", {"=x": "y"}),
        ('<a x="&lt;&#62;&amp;amp;">', {"x": "<>&amp;"}),
        ("<a x=\"'\" y='\"'>", {"x": "'", "y": '"'}),
        ("<a>", {}),
        ("<a", None),
        ("<a href", None),
        ('<a href="x', None),
        ('<a href="x"', None),
        ("< a href=x>", None),
        ("<1a>", None),
    ],
)
def test_attributes_are_read_as_a_browser_reads_them(tag: str, expected: dict[str, str | None] | None) -> None:
    """Quotes or none, no value, blanks and slashes anywhere; the first of a name counts; no end, no tag."""
    assert attributes(tag) == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ("a<b>c</b >d", [("text", "a"), ("start", "b"), ("text", "c"), ("end", "b"), ("text", "d")]),
        ("<!DOCTYPE html><?xml?><![CDATA[x]]>y", [("text", "y")]),
        ("<!--SERIAL 1-->", [("comment", "SERIAL 1")]),
        ("<!--a<b>--!>c", [("comment", "a<b>"), ("text", "c")]),
        ("<!-->a<!--->b", [("comment", ""), ("text", "a"), ("comment", ""), ("text", "b")]),
        ("<!----><!-- - -- -->", [("comment", ""), ("comment", " - -- ")]),
        ("1 < 2 <3", [("text", "1 < 2 <3")]),
        ("</><//a>x", [("text", "x")]),
        (
            "<script><a href=x></script\n>y",
            [("start", "script"), ("text", "<a href=x>"), ("end", "script"), ("text", "y")],
        ),
        ("<title>a<b></TITLE>", [("start", "title"), ("text", "a<b>"), ("end", "title")]),
        ("a<!--b", [("text", "a")]),
        ("a<style>b", [("text", "a"), ("start", "style")]),
        ("a</b", [("text", "a")]),
        ("a<!b", [("text", "a")]),
        ("", []),
    ],
)
def test_a_document_is_cut_as_a_browser_cuts_it(document: str, expected: list[tuple[str, str]]) -> None:
    """Comments, raw text and stray brackets hide and make no tags; what never ends takes the rest along."""
    assert pieces(document) == expected


def test_a_reference_in_a_query_is_none() -> None:
    """In an attribute `&copy=` is the query's, in text a sign; with a semicolon a sign in both."""
    assert unescaped_value("?a=1&copy=2&copyx&amp;b&copy;&copy") == "?a=1&copy=2&copyx&b\u00a9\u00a9"
    assert unescaped("&copy=") == "\u00a9="
    assert unescaped_value("&#x2B;&#43&nosuch;&") == "++&nosuch;&"


def test_an_endless_number_is_no_character() -> None:
    """A reference with more digits than Python reads as a number is U+FFFD, not an exception."""
    endless = "&#" + "9" * 5000 + ";"
    assert unescaped(endless) == unescaped_value(endless) == "\ufffd"


@given(st.text(alphabet="<>/!-?=\"'& ab\n[]", max_size=80))
def test_any_text_has_tokens(document: str) -> None:
    """No document raises, and no more text comes out than went in."""
    assert sum(len(token.data) for token in tokens(document)) <= len(document)


HOSTILE = [
    *(
        "<a ",
        "<a href=",
        '<a href="',
        "<a b='",
        "<a href=x",
        "<a=",
        "<a/",
        "<a >",
        "<a href=&#1>",
        "</a",
        "</",
        "<",
    ),
    *(
        "<!",
        "<!-",
        "<!--",
        "<!-->",
        "<!--x--",
        "<![CDATA[",
        "<?",
        "<title>",
        "<script>",
        "</script",
        "<title></title",
    ),
    *(
        "&",
        "&#",
        "&#9",
        "&amp",
        "&a",
        "a",
        "=",
        " ",
        '"',
        "-",
        "<base href=x>",
        "<meta name=pypi:x content=y>",
    ),
]


@pytest.mark.parametrize("unit", HOSTILE)
@pytest.mark.parametrize("prefix", ["", "<a ", '<a href="', "<a href=x>", "<!--", "<title>"])
def test_work_grows_with_the_length_alone(unit: str, prefix: str) -> None:
    """Four times the input costs about four times the time, in whatever unfinished construct it repeats.

    Quadratic work would cost sixteen times, and minutes at this length: short measurements are let pass.
    """

    def seconds(size: int) -> float:
        document = prefix + unit * (size // len(unit))
        started = time.process_time()
        for token in tokens(document):
            unescaped(token.data)
        return time.process_time() - started

    long = seconds(400_000)
    assert long < 1.5 or long < 10 * seconds(100_000)


def read(document: str) -> tuple[list[tuple[str, str]], str]:
    """The tokens of a document that may go on, and what is left of it."""
    found = []
    reading = tokens(document, is_whole=False)
    while True:
        try:
            token = next(reading)
        except StopIteration as end:
            return found, document[end.value :]
        found.append((token.kind, token.data))


@pytest.mark.parametrize(
    ("document", "found", "left"),
    [
        ("a", [("text", "a")], ""),
        ("a<", [("text", "a")], "<"),
        ("a<b", [("text", "a")], "<b"),
        ("<b x='>", [], "<b x='>"),
        ("<b>c</b", [("start", "b"), ("text", "c")], "</b"),
        ("<!-- x -", [], "<!-- x -"),
        ("<!", [], "<!"),
        ("<!--x-->", [("comment", "x")], ""),
        ("<title>x</title", [], "<title>x</title"),
        ("<title></title>", [("start", "title"), ("end", "title")], ""),
    ],
)
def test_a_document_that_may_go_on(document: str, found: list[tuple[str, str]], left: str) -> None:
    """What might turn out to be something else with the next character is no token yet."""
    assert read(document) == (found, left)


@given(st.text("<>ab/!-=\"' ;&#1", max_size=40), st.text("<>ab/!-=\"' ;&#1", max_size=40))
def test_a_document_in_two_pieces(one: str, two: str) -> None:
    """Its tokens are those of the whole, but that text may come in several."""
    found, left = read(one)
    again = [*found, *pieces(left + two)]
    assert _joined(again) == _joined(pieces(one + two))


def _joined(found: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """The tokens with neighbouring texts made one."""
    joined: list[tuple[str, str]] = []
    for kind, data in found:
        if kind == "text" and joined and joined[-1][0] == "text":
            joined[-1] = ("text", joined[-1][1] + data)
        else:
            joined.append((kind, data))
    return joined
