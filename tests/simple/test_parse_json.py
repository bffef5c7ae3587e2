"""Pages in JSON, read into the model."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.errors import MalformedResponse
from pipcache.rules.negotiation import Dialect
from pipcache.simple.model import DistributionFile, ProjectPage
from pipcache.simple.parse_json import parse_json_page

PAGE = "https://mirror.example.org/pypi/simple/foo/"
ONE, TWO = "1" * 64, "2" * 128


def page_of(*files: Any, **keys: Any) -> ProjectPage:
    """The page with these entries of files."""
    return parse_json_page(json.dumps({"files": files, **keys}).encode(), PAGE)


def file_of(**keys: Any) -> DistributionFile | None:
    """The only file of a page, with these keys beside its URL; None where it is left out."""
    return next(iter(page_of({"url": "a-1.whl", **keys}).files), None)


def test_a_page_of_the_index() -> None:
    """Every key that a PEP names is found in the model, in HTML's names."""
    page = page_of(
        {
            "filename": "a-1.whl",
            "url": "https://files.example.org/packages/a-1.whl",
            "hashes": {"sha256": ONE},
            "requires-python": ">=3.8",
            "yanked": "it broke",
            "size": 12,
            "upload-time": "2025-01-31T12:00:00.123456Z",
            "gpg-sig": True,
            "provenance": "https://index.example.org/p",
            "core-metadata": {"sha256": ONE},
        },
        name="foo",
        versions=["1"],
        meta={"api-version": "1.4", "_last-serial": 7, "tracks": ["https://t.example.org/foo/"]},
        **{
            "alternate-locations": ["https://l.example.org/foo/"],
            "project-status": {"status": "archived", "reason": "moved"},
        },
    )
    assert page == ProjectPage(
        metas=(
            ("pypi:repository-version", "1.4"),
            ("pypi:tracks", "https://t.example.org/foo/"),
            ("pypi:alternate-locations", "https://l.example.org/foo/"),
            ("pypi:project-status", "archived"),
            ("pypi:project-status-reason", "moved"),
        ),
        comments=("SERIAL 7",),
        files=(
            DistributionFile(
                "a-1.whl",
                "https://files.example.org/packages/a-1.whl",
                f"sha256={ONE}",
                "a-1.whl",
                (
                    ("data-requires-python", ">=3.8"),
                    ("data-yanked", "it broke"),
                    ("data-gpg-sig", "true"),
                    ("data-provenance", "https://index.example.org/p"),
                    ("data-core-metadata", f"sha256={ONE}"),
                    ("data-dist-info-metadata", f"sha256={ONE}"),
                ),
                {"size": 12, "upload-time": "2025-01-31T12:00:00.123456Z"},
            ),
        ),
        dialect=Dialect.JSON,
        versions=("1",),
    )
    assert page.last_serial == 7


@pytest.mark.parametrize(
    ("keys", "attributes", "extras"),
    [
        ({"yanked": True}, {"data-yanked": ""}, {}),
        ({"yanked": False}, {}, {}),
        ({"yanked": ""}, {}, {}),
        ({"yanked": None, "size": None, "requires-python": None, "provenance": None, "gpg-sig": None}, {}, {}),
        ({"gpg-sig": False}, {"data-gpg-sig": "false"}, {}),
        ({"size": 0, "upload-time": "now"}, {}, None),
        ({"core-metadata": False}, {}, {}),
        ({"core-metadata": False, "dist-info-metadata": True}, {}, {}),
        ({"core-metadata": None, "dist-info-metadata": None}, {}, {}),
        ({"data-never-heard-of": "x", "data-odd": None}, {"data-never-heard-of": "x", "data-odd": None}, {}),
        ({"data-number": 1, "data-X": "x", "data-": "x", 'data-"': "x"}, {}, None),
        ({"data-yanked": "x", "data-core-metadata": "true"}, {}, None),
        ({"_private": {"a": [1, None]}, "x": None}, {}, None),
    ],
)
def test_keys_become_attributes_or_stay(
    keys: dict[str, Any], attributes: dict[str, str | None], extras: dict[str, Any] | None
) -> None:
    """What HTML has a form for takes it; the rest is kept as it is; null and false say nothing."""
    file = file_of(**keys)
    assert file is not None
    assert dict(file.attributes) == attributes
    assert file.extras == (keys if extras is None else extras)


@pytest.mark.parametrize("key", ["core-metadata", "dist-info-metadata", "data-dist-info-metadata"])
@pytest.mark.parametrize(
    ("value", "written", "is_kept"),
    [
        (True, "true", False),
        ({}, "true", False),
        ({"sha256": ONE}, f"sha256={ONE}", False),
        ({"sha512": TWO}, f"sha512={TWO}", False),
        ({"sha512": TWO, "sha256": ONE}, f"sha256={ONE}", True),
        ({"unknown": "x"}, "true", True),
    ],
)
def test_core_metadata_under_each_name(key: str, value: Any, written: str, is_kept: bool) -> None:
    """HTML gets it under both names; what has no room there is kept whole for JSON."""
    file = file_of(**{key: value})
    assert file is not None
    assert dict(file.attributes) == {"data-core-metadata": written, "data-dist-info-metadata": written}
    assert file.extras == ({"core-metadata": value} if is_kept else {})


@pytest.mark.parametrize(
    ("hashes", "fragment", "is_kept"),
    [
        ({}, "", False),
        (None, "", False),
        ({"sha256": ONE}, f"sha256={ONE}", False),
        ({"sha512": TWO}, f"sha512={TWO}", False),
        ({"md5": "3" * 32}, f"md5={'3' * 32}", False),
        ({"md5": "3" * 32, "sha256": ONE}, f"sha256={ONE}", True),
        ({"sha256": "A" * 64}, f"sha256={'a' * 64}", True),
        ({"sha256": "12"}, "", True),
        ({"odd&sha256": ONE, "unknown": ""}, f"sha256={ONE}", True),
    ],
)
def test_the_best_digest_has_room_in_a_link(hashes: Any, fragment: str, is_kept: bool) -> None:
    """That which files are checked against; where there is more to say, all is kept for JSON."""
    file = file_of(hashes=hashes)
    assert file is not None
    assert file.fragment == fragment
    assert file.extras == ({"hashes": hashes} if is_kept else {})


def test_a_fragment_counts_where_there_are_no_hashes() -> None:
    """Some indexes leave the digest where HTML has it."""
    [file] = page_of({"url": f"a-1.whl#sha256={ONE}", "hashes": {}}).files
    assert file.hashes == {"sha256": ONE}


@pytest.mark.parametrize(
    ("given", "text"),
    [("a-1+x.whl", "a-1+x.whl"), ("a-1%2Bx.whl", "a-1%2Bx.whl"), ("b-2.whl", "a-1+x.whl"), (None, "a-1+x.whl")],
)
def test_a_file_is_called_what_its_url_says(given: str | None, text: str) -> None:
    """Another name would have one installer take it for another file; its own spelling is kept."""
    [file] = page_of({"url": "https://files.example.org/a-1%2Bx.whl?sig=1", "filename": given}).files
    assert (file.filename, file.text) == ("a-1+x.whl", text)


@pytest.mark.parametrize(
    "entry",
    [
        None,
        "a-1.whl",
        [],
        {},
        {"filename": "a-1.whl"},
        {"url": None},
        {"url": 1},
        {"url": "a-1.exe", "filename": "a-1.whl"},
        {"url": "ftp://files.example.org/a-1.whl"},
        {"url": "https://[/a-1.whl"},
        {"url": "a-1.whl", "filename": 1},
        {"url": "a-1.whl", "hashes": []},
        {"url": "a-1.whl", "hashes": {"sha256": 1}},
        {"url": "a-1.whl", "hashes": "sha256=1"},
        {"url": "a-1.whl", "requires-python": [">=3"]},
        {"url": "a-1.whl", "yanked": 1},
        {"url": "a-1.whl", "yanked": ["x"]},
        {"url": "a-1.whl", "size": "12"},
        {"url": "a-1.whl", "size": -1},
        {"url": "a-1.whl", "size": 1.5},
        {"url": "a-1.whl", "size": True},
        {"url": "a-1.whl", "size": 10**40},
        {"url": "a-1.whl", "upload-time": 1700000000},
        {"url": "a-1.whl", "provenance": {}},
        {"url": "a-1.whl", "gpg-sig": "yes"},
        {"url": "a-1.whl", "core-metadata": "true"},
        {"url": "a-1.whl", "core-metadata": {"sha256": None}},
    ],
)
def test_a_bad_entry_is_left_out(entry: Any) -> None:
    """And nothing else: the page has its other files."""
    assert [file.filename for file in page_of(entry, {"url": "b-1.whl"}).files] == ["b-1.whl"]


@pytest.mark.parametrize(
    "keys",
    [
        {"files": None},
        {"files": {}},
        {"meta": []},
        {"meta": {"api-version": 1.1}},
        {"meta": {"api-version": "2.0"}},
        {"meta": {"api-version": "0.1"}},
        {"meta": {"api-version": "one"}},
        {"meta": {"tracks": "https://t.example.org"}},
        {"name": 1},
        {"versions": "1"},
        {"versions": [1]},
        {"alternate-locations": {"a": 1}},
        {"project-status": "archived"},
        {"project-status": {"status": 1}},
        {"x": [[[[[]]]]], "y": json.loads("[" * 60 + "]" * 60)},
    ],
)
def test_a_bad_page_is_the_upstreams_failure(keys: dict[str, Any]) -> None:
    """A key of the page that is of a wrong type, another major version, or nesting without end."""
    with pytest.raises(MalformedResponse):
        parse_json_page(json.dumps({"files": [], **keys}).encode(), PAGE)


@pytest.mark.parametrize(
    "body",
    [
        b'{"files": [], "x": NaN}',
        b'{"files": [], "x": -Infinity}',
        b'{"files": [], "x": 1e999}',
        b'{"files": [], "x": ' + b"1" * 5000 + b"}",
        b'{"files": []',
        b'{"files": []} {}',
        b'{"files": [],}',
        b'{"files": [], "x": "\n"}',
        b'{"files": ' + b"[" * 1_000_000,
        b'{"x": ' * 500_000,
    ],
)
def test_what_is_no_json_is_the_upstreams_failure(body: bytes) -> None:
    """In seconds, with no error of another kind."""
    started = time.process_time()
    with pytest.raises(MalformedResponse):
        parse_json_page(body, PAGE)
    assert time.process_time() - started < 5


def test_a_page_needs_no_more_than_files() -> None:
    """Without a version it is of the first (PEP 629); minor versions that are not known yet are fine."""
    assert page_of() == ProjectPage(dialect=Dialect.JSON)
    assert page_of(meta={"api-version": "1.99"}).metas == (("pypi:repository-version", "1.99"),)


def test_of_repeated_keys_the_last_counts() -> None:
    """As for nearly every reader; clients get one."""
    body = b'{"files": [], "files": [{"url": "a-1.whl", "size": 1, "size": 2}]}'
    assert parse_json_page(body, PAGE).files[0].extras == {"size": 2}


def test_what_nobody_knows_is_kept() -> None:
    """At the top and in meta; an odd serial, and empty lists, which HTML has no form for."""
    meta = {"x": [1], "_last-serial": "7", "tracks": []}
    page = page_of(meta=meta, y={"z": None}, **{"alternate-locations": [], "project-status": {"status": "a", "x": 1}})
    assert page.meta_extras == meta
    assert page.extras == {"y": {"z": None}, "alternate-locations": [], "project-status": {"status": "a", "x": 1}}
    assert page.last_serial is None


def test_halves_of_surrogate_pairs_are_replaced() -> None:
    """They are characters nowhere but in JSON; whole pairs are."""
    body = rb'{"files": [{"url": "a-1.whl", "yanked": "\ud83d\ude00 \ud800", "\udfff": ["\uDC00"]}], "\ud800": 1}'
    page = parse_json_page(body, PAGE)
    assert page.files[0].attributes == (("data-yanked", "\U0001f600 \ufffd"),)
    assert page.files[0].extras == {"\ufffd": ["\ufffd"]}
    assert page.extras == {"\ufffd": 1}


scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=5)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=5)
keys = st.sampled_from(["filename", "hashes", "yanked", "size", "core-metadata", "gpg-sig", "data-x"]) | st.text()


@given(st.lists(st.dictionaries(keys, values)), st.dictionaries(keys | st.just("meta"), values))
def test_no_page_raises_anything_else(entries: list[dict[str, Any]], page: dict[str, Any]) -> None:
    """Any JSON is a page or the upstream's failure."""
    entries = [{**entry, "url": "a-1.whl"} for entry in entries]
    try:
        parsed = parse_json_page(json.dumps({**page, "files": entries}).encode(), PAGE)
    except MalformedResponse:
        return
    assert {file.filename for file in parsed.files} <= {"a-1.whl"}
