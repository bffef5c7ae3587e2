"""The older JSON documents: links of ours, and nothing else changed."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.errors import MalformedResponse
from pipcache.simple.legacy import form_legacy_json
from pipcache.simple.rewrite import local_path

ROOT = "https://mirror.example.org/pypi"
URL = f"{ROOT}/pypi/foo/json"
FILES = "https://files.example.org"


def formed(document: Any, path: str = "/pypi/foo/json") -> Any:
    """The document as clients get it."""
    return json.loads(form_legacy_json(json.dumps(document).encode(), URL, path, "foo", ROOT))


@pytest.mark.parametrize("path", ["/pypi/foo/json", "/pypi/foo/1.0/json"])
def test_links_lead_through_this_proxy(path: str) -> None:
    """Those of the version and of all releases, relative to the document, by the paths that the page has them at."""
    entry = {"url": f"{FILES}/packages/aa/foo-1.0.tar.gz", "digests": {"sha256": "0" * 64}, "size": 3}
    other = {"url": f"{FILES}/x/foo-1.1-py3-none-any.whl?v=1"}
    document = formed({"info": {"name": "Foo"}, "urls": [entry], "releases": {"1.0": [entry], "1.1": [other]}}, path)
    for url, found in ((entry["url"], document["urls"][0]), (other["url"], document["releases"]["1.1"][0])):
        assert urljoin(f"https://proxy.example.org/prefix{path}", found["url"]) == (
            f"https://proxy.example.org/prefix{local_path(url, 'foo', ROOT)}"
        )
    assert document["releases"]["1.0"][0] == {**entry, "url": document["urls"][0]["url"]}
    assert document["info"] == {"name": "Foo"}


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"urls": None, "releases": None},
        {"urls": {"url": f"{FILES}/a-1.whl"}, "releases": []},
        {"urls": [None, 1, "x", [], {}, {"url": None}, {"url": 5}]},
        {
            "urls": [
                {"url": "https://example.org/about"},
                {"url": "ftp://example.org/a-1.whl"},
                {"url": "https://[/a.whl"},
            ]
        },
        {"releases": {"1.0": {"url": f"{FILES}/a-1.whl"}, "2.0": None}},
        {"info": {"home_page": f"{FILES}/packages/a-1.whl", "urls": [{"url": f"{FILES}/a-1.whl"}]}},
        {"vulnerabilities": [{"aliases": ["\u00e9\U0001f600"], "n": [1, 1.5, -0.0, 10**30, True, None]}]},
    ],
)
def test_everything_else_is_left_alone(document: dict[str, Any]) -> None:
    """Other shapes, other links, and links in other places: nothing of it is an error."""
    assert formed(document) == document


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"<html>", b"{", b'{"a": NaN}', b'{"a": 1e999}'])
def test_what_is_no_object_is_the_upstreams_failure(content: bytes) -> None:
    """Also numbers that are none."""
    with pytest.raises(MalformedResponse):
        form_legacy_json(content, URL, "/pypi/foo/json", "foo", ROOT)


scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(st.dictionaries(st.text(), values))
def test_any_object_keeps_its_meaning(document: dict[str, Any]) -> None:
    """What comes out is the same value in ASCII; half a surrogate pair cannot be, and is replaced."""
    assert formed(document) == document
    form_legacy_json(json.dumps({**document, "x": "\ud800"}).encode(), URL, "/", "foo", ROOT).decode("ascii")
