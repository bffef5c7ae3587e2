"""From one dialect to the other and back: what both can say is kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipcache.rules.negotiation import Dialect
from pipcache.simple.model import DistributionFile, ProjectPage
from pipcache.simple.pages import form_page
from pipcache.simple.parse import parse_page
from pipcache.simple.render_html import render_project_html
from pipcache.simple.rewrite import files_by_path

HERE = "https://proxy.example.org/simple/foo/"
ROOT = "https://proxy.example.org"
PAGES = Path(__file__).parent / "pages"


def through(content: bytes, *dialects: Dialect) -> bytes:
    """The page as one gets it behind a row of proxies that speak these dialects to each other."""
    for dialect in dialects:
        content = form_page(content, None, HERE, "foo", ROOT).render(dialect)
    return content


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
stripped = texts.map(str.strip)
digests = st.integers(0, 2**256 - 1).map(lambda number: f"{number:064x}")
names = st.from_regex(r"foo-[0-9]{1,3}(\.[0-9]){0,2}(-py3-none-any\.whl|\.tar\.gz)", fullmatch=True)
urls = st.sampled_from(["https://p.example.org/x", "../p", "p?a=1&b=2"])
times = st.datetimes().map(lambda time: f"{time:%Y-%m-%dT%H:%M:%S.%fZ}".rjust(27, "0"))
# in the order that JSON gives them back, each with the values that have one meaning
html_values: dict[str, st.SearchStrategy[str | None]] = {
    "data-requires-python": texts,
    "data-yanked": texts,
    "data-upload-time": times | texts,
    "data-size": st.integers(0, 10**18 - 1).map(str) | texts,
    "data-provenance": urls,
    "data-gpg-sig": st.sampled_from(["true", "false", "odd"]),
    "data-never-heard-of": st.none() | texts,
}


@st.composite
def files(draw: st.DrawFn) -> DistributionFile:
    """A file that both dialects have a form for."""
    name = draw(names)
    attributes = draw(st.fixed_dictionaries({}, optional=html_values))
    metadata = draw(st.none() | st.just("true") | digests.map("sha256={}".format))
    if metadata is not None:
        attributes |= {"data-core-metadata": metadata, "data-dist-info-metadata": metadata}
    fragment = draw(st.just("") | digests.map("sha256={}".format))
    url = f"https://files.example.org/packages/{draw(digests)}/{name}"
    return DistributionFile(name, url, fragment, name, tuple(sorted(attributes.items())))


@st.composite
def html_pages(draw: st.DrawFn) -> bytes:
    """A page of the simple API in HTML."""
    metas = [("pypi:tracks", text) for text in draw(st.lists(texts, max_size=2))]
    metas += [("pypi:alternate-locations", text) for text in draw(st.lists(texts, max_size=2))]
    if draw(st.booleans()):
        metas += [("pypi:project-status", "archived"), ("pypi:project-status-reason", draw(texts))]
    metas += [("pypi:never-heard-of", text) for text in draw(st.lists(texts, max_size=2))]
    comments = draw(st.just(()) | st.integers(0, 10**17).map(lambda serial: (f"SERIAL {serial}",)))
    page = ProjectPage(tuple(metas), None, comments, tuple(draw(st.lists(files(), max_size=4))))
    return render_project_html(page, "foo", files_by_path(page, "foo", ROOT))


def facts(content: bytes) -> tuple[Any, ...]:
    """What a page says, whatever the order of its attributes; the version says something of one dialect only."""
    page = parse_page(content, None, HERE)
    metas = sorted(meta for meta in page.metas if meta[0] != "pypi:repository-version")
    found = [(file.filename, file.url, file.fragment, file.text, dict(file.attributes)) for file in page.files]
    return metas, page.last_serial, found


@given(html_pages())
def test_html_through_json_keeps_everything(content: bytes) -> None:
    """Every attribute, known or not, the digests, the facts about the project, the serial, the order of files."""
    assert facts(through(content, Dialect.JSON, Dialect.HTML)) == facts(content)
    assert facts(through(content, Dialect.HTML, Dialect.JSON, Dialect.JSON, Dialect.HTML)) == facts(content)


json_scalars = st.none() | st.booleans() | st.integers() | texts
json_values = st.recursive(json_scalars, lambda inner: st.lists(inner) | st.dictionaries(texts, inner), max_leaves=4)
unknown = st.dictionaries(texts.map("_{}".format), json_values, max_size=2)


@st.composite
def entries(draw: st.DrawFn) -> dict[str, Any]:
    """A file's entry without anything that HTML has no form for."""
    name = draw(names)
    entry = {
        "filename": name,
        "url": f"https://files.example.org/packages/{draw(digests)}/{name}",
        "hashes": draw(st.just({}) | st.fixed_dictionaries({"sha256": digests})),
    }
    known = {
        "requires-python": texts,
        "yanked": st.just(True) | texts.filter(bool),
        "provenance": urls,
        "gpg-sig": st.booleans(),
        "core-metadata": st.just(True) | st.fixed_dictionaries({"sha256": digests}),
        "data-never-heard-of": st.none() | texts,
    }
    entry |= draw(st.fixed_dictionaries({}, optional=known))
    if "core-metadata" in entry:
        entry["data-dist-info-metadata"] = entry["core-metadata"]
    return entry


@st.composite
def json_pages(draw: st.DrawFn) -> dict[str, Any]:
    """A page in JSON without anything that HTML has no form for."""
    page: dict[str, Any] = {"meta": {"api-version": "1.4"}, "name": "foo"}
    page["files"] = draw(st.lists(entries(), max_size=4, unique_by=lambda entry: entry["url"]))
    meta = {"tracks": st.lists(texts, min_size=1), "_last-serial": st.integers(0, 10**17)}
    page["meta"] |= draw(st.fixed_dictionaries({}, optional=meta))
    status = st.fixed_dictionaries({"status": texts}, optional={"reason": texts})
    known = {"alternate-locations": st.lists(texts, min_size=1), "project-status": status}
    return page | draw(st.fixed_dictionaries({}, optional=known))


def absolute(page: dict[str, Any]) -> dict[str, Any]:
    """The page with its links as a client resolves them, without what stands for the version of one dialect."""
    found = [{**entry, "url": urljoin(HERE, entry["url"])} for entry in page["files"]]
    meta = {key: value for key, value in page["meta"].items() if key != "api-version"}
    return {**page, "meta": meta, "files": found}


def ours(page: dict[str, Any]) -> dict[str, Any]:
    """The page with its links as they lead through the proxy."""
    found = [{**entry, "url": entry["url"].replace("https://files.example.org", ROOT)} for entry in page["files"]]
    return {**page, "files": found}


@given(json_pages())
def test_json_through_html_keeps_what_html_can_carry(page: dict[str, Any]) -> None:
    """What it cannot is versions, sizes and upload times, other digests, and unknown keys."""
    again = json.loads(through(json.dumps(page).encode(), Dialect.HTML, Dialect.JSON))
    again.pop("versions", None)
    assert absolute(again) == absolute(ours(page))


json_alone = st.fixed_dictionaries({}, optional={"upload-time": times, "size": st.integers(0, 10**18 - 1)})


@given(json_pages(), st.lists(texts), unknown, unknown, unknown | json_alone)
def test_json_to_json_keeps_everything(
    page: dict[str, Any], versions: list[str], top: dict[str, Any], meta: dict[str, Any], entry: dict[str, Any]
) -> None:
    """Unknown keys at every place, versions without files, sizes, all digests, and upstream's version."""
    page |= top | {"versions": versions}
    page["meta"] |= {key: value for key, value in meta.items() if key != "_last-serial"}
    entry = {**entry, "hashes": {"sha256": "A" * 64, "md5": "x"}}
    page["files"] = [{**each, **entry} for each in page["files"]]
    again = json.loads(through(json.dumps(page).encode(), Dialect.JSON, Dialect.JSON))
    assert again["meta"]["api-version"] == "1.4"
    assert absolute(again) == absolute(ours(page))


hostile = st.text(st.characters(), max_size=8) | st.sampled_from(["\ud800", "\0", "-->", "\"'><script>", "\r\n\x1b"])


@given(st.dictionaries(hostile.map("_{}".format), hostile), hostile, hostile)
def test_hostile_text_breaks_neither_dialect(unknown: dict[str, str], reason: str, status: str) -> None:
    """Whatever characters a page has, clients get one file that says them, or U+FFFD where nobody could."""
    files = [{**unknown, "url": "foo-1.zip", "yanked": f"x{reason}"}]
    content = json.dumps({**unknown, "files": files, "project-status": {"status": status}}).encode()
    for dialect in Dialect:
        [file] = parse_page(through(content, dialect), None, HERE).files
        said = dict(file.attributes)["data-yanked"]
        assert said is not None
        assert len(said) == len(json.loads(json.dumps(f"x{reason}")))  # which joins the halves of a pair
    assert b"<script" not in through(content, Dialect.HTML).lower()


@pytest.mark.parametrize("name", ["foo.html", "foo.json"])
@pytest.mark.parametrize("dialect", Dialect)
def test_a_page_like_those_of_large_indexes(name: str, dialect: Dialect) -> None:
    """Both dialects of it say the same of its three files, in either dialect."""
    page = parse_page(through((PAGES / name).read_bytes(), dialect), None, HERE)
    assert [file.filename for file in page.files] == ["foo-1.0.tar.gz", "foo-1.0-py3-none-any.whl", "foo-1.1.tar.gz"]
    assert [dict(file.attributes).get("data-yanked") for file in page.files] == [
        "broken: uses <b>old</b> setup",
        None,
        "",
    ]
    assert [file.metadata_hashes for file in page.files] == [None, {"sha256": "2f" * 32}, None]
    assert {dict(file.attributes)["data-requires-python"] for file in page.files} == {">=3.8,<4"}
    assert [list(file.hashes) for file in page.files] == [["sha256"]] * 3
    assert all(file.url.startswith(f"{ROOT}/packages/") for file in page.files)
    assert ("pypi:project-status", "archived") in page.metas
    assert page.last_serial == 123456
