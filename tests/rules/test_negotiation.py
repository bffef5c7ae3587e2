"""Which dialect and which coding a client gets, by what it says that it takes."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.negotiation import ASKED_OF_UPSTREAMS, TEXT_HTML, V1_HTML, V1_JSON, Dialect, choose, choose_coding

LATEST_HTML = "application/vnd.pypi.simple.latest+html"
LATEST_JSON = "application/vnd.pypi.simple.latest+json"
PIP = f"{V1_JSON}, {V1_HTML}; q=0.1, text/html; q=0.01"
UV = f"{V1_JSON}, {V1_HTML};q=0.2, text/html;q=0.01"


def chosen(*accept: str, format_parameter: str | None = None) -> str | None:
    """The content type without its parameters."""
    choice = choose(accept, format_parameter)
    return choice.content_type.partition(";")[0] if choice else None


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ((), TEXT_HTML),
        (("",), TEXT_HTML),
        (("*/*",), TEXT_HTML),
        (("text/html",), TEXT_HTML),
        (("TEXT/HTML",), TEXT_HTML),
        (("text/html;charset=utf-8",), TEXT_HTML),
        (("text/*",), TEXT_HTML),
        (("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",), TEXT_HTML),
        ((PIP,), V1_JSON),
        ((UV,), V1_JSON),
        ((ASKED_OF_UPSTREAMS,), V1_JSON),
        ((V1_JSON, "text/html;q=0.5"), V1_JSON),
        (("text/html;q=0.5", V1_JSON), V1_JSON),
        ((V1_HTML,), V1_HTML),
        ((LATEST_JSON,), V1_JSON),
        ((LATEST_HTML,), V1_HTML),
        (("application/*",), V1_HTML),
        ((f"{V1_JSON}, {V1_HTML}",), V1_HTML),
        ((f"{V1_JSON}, text/html",), TEXT_HTML),
        ((f"{V1_JSON}, */*",), V1_JSON),
        ((f"{V1_JSON};q=0.5, */*",), TEXT_HTML),
        ((f"{V1_JSON};q=0, {LATEST_JSON};q=0.3",), V1_JSON),
        (("text/html;q=0, */*",), V1_HTML),
        (("text/html;q=0, application/vnd.pypi.simple.v1+html;q=0, */*;q=0.1",), V1_JSON),
        (("text/html;q=0, text/*;q=1, application/*;q=0.2",), V1_HTML),
        (("text/html;q=0.001, application/json",), TEXT_HTML),
        (("text/html ; q=1.000 ,",), TEXT_HTML),
        (('text/html;a="x,y;q=0";q=0.4',), TEXT_HTML),
        (("application/json",), None),
        (("text/plain, image/*",), None),
        (("*/*;q=0",), None),
        (("text/html;q=0",), None),
        (("application/vnd.pypi.simple.v2+json",), None),
        ((f"text/html;q=high, {V1_JSON};q=0.1",), V1_JSON),
        (("text/html;q=1.5",), TEXT_HTML),
        (("text/html;q=-1, text/html/x;q=1, @, ;;;",), TEXT_HTML),
    ],
)
def test_the_preferred_dialect(accept: tuple[str, ...], content_type: str | None) -> None:
    """By weight, then by what is named, then HTML; malformed members are absent; None where nothing fits."""
    assert chosen(*accept) == content_type


@pytest.mark.parametrize(
    ("parameter", "content_type"),
    [
        (V1_JSON, V1_JSON),
        (V1_JSON.replace("+", " "), V1_JSON),
        (LATEST_JSON, V1_JSON),
        (V1_HTML, V1_HTML),
        (LATEST_HTML.upper(), V1_HTML),
        ("text/html", TEXT_HTML),
        ("", None),
        ("json", None),
        ("*/*", None),
    ],
)
def test_the_format_parameter_comes_before_accept(parameter: str, content_type: str | None) -> None:
    """It names one content type exactly; one that is not known is answered with 406, whatever Accept says."""
    assert chosen("text/html", V1_JSON, format_parameter=parameter) == content_type


def test_a_dialect_comes_with_its_content_type() -> None:
    """HTML as text says its charset; the types of the simple API have no parameters."""
    html, json = choose([]), choose([V1_JSON])
    assert html is not None
    assert json is not None
    assert (html.dialect, html.content_type) == (Dialect.HTML, "text/html; charset=utf-8")
    assert (json.dialect, json.content_type) == (Dialect.JSON, V1_JSON)


@pytest.mark.parametrize(
    ("accept_encoding", "coding"),
    [
        ((), "identity"),
        (("",), "identity"),
        (("gzip",), "gzip"),
        (("GZIP",), "gzip"),
        (("x-gzip",), "gzip"),
        (("gzip, deflate, br, zstd",), "gzip"),
        (("deflate", "gzip;q=0.1"), "gzip"),
        (("deflate, br",), "identity"),
        (("identity",), "identity"),
        (("identity, gzip",), "gzip"),
        (("identity;q=0.8, gzip;q=0.5",), "identity"),
        (("identity;q=0",), "identity"),
        (("identity;q=0, *",), "gzip"),
        (("*",), "gzip"),
        (("*;q=0",), "identity"),
        (("gzip, *;q=0",), "gzip"),
        (("gzip;q=0",), "identity"),
        (("gzip;q=0, *",), "identity"),
        (("gzip;q=0.5, *",), "identity"),
        (("gzip;q=0, x-gzip",), "gzip"),
        (("gzip;q=0.0001",), "gzip"),
        (("gzip;q=much",), "identity"),
        (("gzip;q=",), "identity"),
    ],
)
def test_the_coding(accept_encoding: tuple[str, ...], coding: str) -> None:
    """Gzip only where it is taken and nothing says that plain is liked better."""
    assert choose_coding(accept_encoding) == coding


@given(st.lists(st.text(max_size=40), max_size=3), st.none() | st.text(max_size=20))
def test_no_field_is_too_odd(values: list[str], parameter: str | None) -> None:
    """Whatever a client sends, there is an answer."""
    choose(values, parameter)
    assert choose_coding(values) in {"gzip", "identity"}


@pytest.mark.parametrize("value", ['text/html;a="' + "\\" * 60_000, "," * 60_000, "a/b;" * 15_000, '"' * 60_000])
def test_a_long_field_is_read_in_linear_time(value: str) -> None:
    """Quotes that never end, empty members, endless parameters."""
    began = time.perf_counter()
    choose([value])
    assert time.perf_counter() - began < 1
