"""Pages in JSON as clients get them: what upstream said under the keys of the PEPs, and nothing made up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from attrs import evolve

from pipcache.rules.negotiation import Dialect
from pipcache.simple.model import Attributes, DistributionFile, ProjectPage
from pipcache.simple.render_json import render_project_json
from pipcache.simple.rewrite import files_by_path

ROOT = "https://mirror.example.org/pypi"
ONE, TWO = "1" * 64, "2" * 64
FILE = DistributionFile("a-1.whl", "https://files.example.org/packages/aa/a-1.whl?token=x", text="wheel")
ENTRY = {"filename": "a-1.whl", "url": "../../packages/aa/a-1.whl", "hashes": {}}


def rendered(page: ProjectPage) -> Any:
    """The page as clients of the project ``foo`` get it."""
    return json.loads(render_project_json(page, "foo", files_by_path(page, "foo", ROOT)))


def entry_of(*attributes: tuple[str, str | None], **extras: Any) -> dict[str, Any]:
    """What the only file's entry has beside its name, URL and digests."""
    [entry] = rendered(ProjectPage(files=(evolve(FILE, attributes=attributes, extras=extras),)))["files"]
    return {key: value for key, value in entry.items() if key not in ENTRY or ENTRY[key] != value}


def test_a_page_is_a_document_of_the_simple_api() -> None:
    """Version, normalised name, and files with links that are relative and have no query."""
    page = ProjectPage(files=(evolve(FILE, fragment=f"sha256={ONE}"),))
    assert render_project_json(page, "foo", files_by_path(page, "foo", ROOT)) == (
        b'{"meta":{"api-version":"1.0"},"name":"foo","files":[{"filename":"a-1.whl",'
        b'"url":"../../packages/aa/a-1.whl","hashes":{"sha256":"' + ONE.encode() + b'"}}]}'
    )


@pytest.mark.parametrize(
    ("attributes", "keys"),
    [
        ((("data-requires-python", ">=3.8"),), {"requires-python": ">=3.8"}),
        ((("data-yanked", "it broke"),), {"yanked": "it broke"}),
        ((("data-yanked", ""),), {"yanked": True}),
        ((("data-yanked", None),), {"yanked": True}),
        ((("data-size", "12"),), {"size": 12, "data-size": "12"}),
        ((("data-size", "012"),), {"data-size": "012"}),
        ((("data-size", "12 MB"),), {"data-size": "12 MB"}),
        ((("data-size", "9" * 5000),), {"data-size": "9" * 5000}),
        (
            (("data-upload-time", "2025-01-31T12:00:00Z"),),
            {"upload-time": "2025-01-31T12:00:00Z", "data-upload-time": "2025-01-31T12:00:00Z"},
        ),
        (
            (("data-upload-time", "2025-01-31T12:00:00.1Z"),),
            {"upload-time": "2025-01-31T12:00:00.1Z", "data-upload-time": "2025-01-31T12:00:00.1Z"},
        ),
        ((("data-upload-time", "31 Jan"),), {"data-upload-time": "31 Jan"}),
        ((("data-gpg-sig", "true"),), {"gpg-sig": True}),
        ((("data-gpg-sig", "false"),), {"gpg-sig": False}),
        ((("data-gpg-sig", "x"),), {"data-gpg-sig": "x"}),
        ((("data-provenance", "https://p.example.org"),), {"provenance": "https://p.example.org"}),
        ((("data-requires-python", None),), {"data-requires-python": None}),
        ((("data-never-heard-of", "x"),), {"data-never-heard-of": "x"}),
        ((("rel", "internal"), ("onclick", "x"), ("title", "x")), {}),
        ((("data-core-metadata", "false"),), {}),
        ((("data-core-metadata", None),), {}),
    ],
)
def test_attributes_become_keys(attributes: Attributes, keys: dict[str, Any]) -> None:
    """Where the value is one that the key may have; else they keep their name; those of documents are left out."""
    assert entry_of(*attributes) == keys


@pytest.mark.parametrize("name", ["data-core-metadata", "data-dist-info-metadata"])
@pytest.mark.parametrize(("written", "value"), [("true", True), ("odd", True), (f"sha256={ONE}", {"sha256": ONE})])
def test_core_metadata_is_offered(name: str, written: str, value: Any) -> None:
    """Under the name that installers look for and the one that older ones know, whichever upstream wrote."""
    assert entry_of((name, written)) == {"core-metadata": value, "data-dist-info-metadata": value}


def test_what_only_json_can_say_is_as_it_was() -> None:
    """All digests, unknown keys, the whole of a value that HTML has a part of."""
    extras = {"hashes": {"md5": "x", "sha256": ONE}, "core-metadata": {"a": "b"}, "_x": [None]}
    assert entry_of(("data-core-metadata", "true"), **extras) == {**extras, "data-dist-info-metadata": True}


def test_what_is_known_of_the_project() -> None:
    """Each of the meta elements under its key, the serial, and one that nobody knows."""
    metas = (
        ("pypi:repository-version", "1.4"),
        ("PyPI:Tracks", "https://a.example.org"),
        ("pypi:tracks", "https://b.example.org"),
        ("pypi:alternate-locations", "https://c.example.org"),
        ("pypi:project-status", "archived"),
        ("pypi:project-status-reason", "moved"),
        ("pypi:new", "x"),
    )
    page = rendered(ProjectPage(metas, "Foo", ("not this", "SERIAL 7")))
    assert page == {
        "meta": {
            "api-version": "1.0",
            "tracks": ["https://a.example.org", "https://b.example.org"],
            "pypi:new": ["x"],
            "_last-serial": 7,
        },
        "name": "foo",
        "alternate-locations": ["https://c.example.org"],
        "project-status": {"status": "archived", "reason": "moved"},
        "files": [],
    }


@pytest.mark.parametrize(
    ("names", "sizes", "versions"),
    [
        (["a-1.whl", "a-1.tar.gz", "a-b-2.zip"], ["1", "2", "3"], ["1", "2"]),
        (["a-1.whl", "a-2.whl"], ["1", None], None),
        (["a-1.whl", "a-2.whl"], ["1", "big"], None),
        (["a-1.whl", "nothing.zip"], ["1", "2"], None),
        (["a-1.3+cpu-cp311.whl"], ["1"], ["1.3+cpu"]),
        ([], [], None),
    ],
)
def test_html_promises_a_version_only_where_it_holds(
    names: list[str], sizes: list[str | None], versions: list[str] | None
) -> None:
    """PEP 700 demands every size and all versions; where one is not known the page is of version 1.0."""
    files = tuple(
        DistributionFile(name, f"https://f.example.org/{name}", attributes=(("data-size", size),) if size else ())
        for name, size in zip(names, sizes, strict=True)
    )
    page = rendered(ProjectPage((("pypi:repository-version", "1.4"),), files=files))
    assert page["meta"]["api-version"] == ("1.0" if versions is None else "1.1")
    assert page.get("versions") == versions


@pytest.mark.parametrize("versions", [None, ("1", "2")])
def test_json_is_of_upstreams_version(versions: tuple[str, ...] | None) -> None:
    """What upstream said in JSON is said in JSON, also of versions that have no files."""
    metas = (("pypi:repository-version", "1.9"),)
    page = rendered(ProjectPage(metas, files=(FILE,), dialect=Dialect.JSON, versions=versions))
    assert page["meta"]["api-version"] == "1.9"
    assert page.get("versions") == (None if versions is None else list(versions))


def test_hostile_text_is_ascii() -> None:
    """No control character and no half of a pair ever stands in the document."""
    content = render_project_json(
        ProjectPage(extras={"\x00\ud800": "\x1b\u2028\U0001f600"}, dialect=Dialect.JSON), "foo", {}
    )
    assert content.isascii()
    assert content.decode().isprintable()
