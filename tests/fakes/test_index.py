"""The index that tests build is one that installers and parsers accept."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import tarfile
import zipfile
from email import message_from_bytes
from html.parser import HTMLParser
from urllib.parse import urljoin

import pytest_twisted
import treq
from twisted.internet import reactor
from twisted.web.client import HTTPConnectionPool

from tests.fakes.index import Index, build_sdist, build_wheel
from tests.fakes.upstream import FakeUpstream


class Anchors(HTMLParser):
    """Collects the attributes of every link of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.found: list[dict[str, str | None]] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep a link's attributes."""
        if tag == "a":
            self.found.append(dict(attrs))


async def get(url: str) -> bytes:
    """Fetch a body with a connection of its own."""
    response = await treq.get(url, pool=HTTPConnectionPool(reactor, persistent=False))
    assert response.code == 200, url
    return await treq.content(response)


def test_a_wheel_records_every_file_with_its_hash():
    """RECORD names all files of the wheel; each hash and size is that of the file."""
    filename, data = build_wheel("My.Project", "1.0", size_bytes=5000)
    assert filename == "my_project-1.0-py3-none-any.whl"
    wheel = zipfile.ZipFile(io.BytesIO(data))
    rows = {row[0]: row[1:] for row in csv.reader(io.StringIO(wheel.read("my_project-1.0.dist-info/RECORD").decode()))}
    assert set(rows) == set(wheel.namelist())
    for path, (recorded, size) in rows.items():
        if not path.endswith("/RECORD"):
            digest = base64.urlsafe_b64encode(hashlib.sha256(wheel.read(path)).digest()).rstrip(b"=").decode()
            assert (recorded, int(size)) == (f"sha256={digest}", len(wheel.read(path)))


def test_a_wheel_says_what_it_needs():
    """METADATA carries name, version, requirements and the Python versions."""
    _, data = build_wheel("a", "2", requires=["b>=1", "c"], python_requires=">=3.8")
    metadata = message_from_bytes(zipfile.ZipFile(io.BytesIO(data)).read("a-2.dist-info/METADATA"))
    assert (metadata["Name"], metadata["Version"]) == ("a", "2")
    assert metadata.get_all("Requires-Dist") == ["b>=1", "c"]
    assert metadata["Requires-Python"] == ">=3.8"


def test_builds_are_reproducible():
    """The same arguments give the same bytes, and the padding does not compress."""
    assert build_wheel("a", "1", size_bytes=10_000) == build_wheel("a", "1", size_bytes=10_000)
    assert build_wheel("a", "1", size_bytes=10_000) != build_wheel("a", "2", size_bytes=10_000)
    assert build_sdist("a", "1") == build_sdist("a", "1")


def test_an_sdist_needs_nothing_to_be_built():
    """The source distribution names no build requirement and carries its own backend."""
    filename, data = build_sdist("My-Project", "1.0")
    assert filename == "my_project-1.0.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(data)) as sdist:
        names = sdist.getnames()
        project = sdist.extractfile("my_project-1.0/pyproject.toml").read()
    assert b"requires = []" in project
    assert "my_project-1.0/backend.py" in names
    assert "my_project-1.0/PKG-INFO" in names


def test_a_page_carries_the_attributes_of_its_files():
    """Hashes, required Python versions, core metadata and the yank reason are on the link, escaped."""
    index = Index()
    wheel = index.add_wheel("A.b", "1", python_requires=">=3.8", yanked='"bad" & <old>')
    sdist = index.add_sdist("a-b", "1")
    pages = {path: data for path, _, data in index.resources()}
    first, second = Anchors(pages["/simple/a-b/"]).found
    metadata = f"sha256={hashlib.sha256(pages[f'{wheel.path}.metadata']).hexdigest()}"
    assert first == {
        "href": f"../..{wheel.path}#sha256={hashlib.sha256(wheel.data).hexdigest()}",
        "data-requires-python": ">=3.8",
        "data-dist-info-metadata": metadata,
        "data-core-metadata": metadata,
        "data-yanked": '"bad" & <old>',
    }
    assert set(second) == {"href"}
    assert pages[sdist.path] == sdist.data
    assert [each["href"] for each in Anchors(pages["/simple/"]).found] == ["/simple/a-b/"]


def test_files_lie_where_the_public_index_puts_them():
    """The path is made of the BLAKE2b-256 of the file: two digits, two digits, sixty, the name."""
    wheel = Index().add_wheel("a", "1+local")
    digest = hashlib.blake2b(wheel.data, digest_size=32).hexdigest()
    assert wheel.path == f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/a-1%2Blocal-py3-none-any.whl"


@pytest_twisted.ensureDeferred
async def test_relative_links_lead_to_the_files():
    """Every link of an installed index leads to its file, under a prefix and with a plus sign too."""
    index = Index()
    wheel = index.add_wheel("a", "1+local")
    async with FakeUpstream() as upstream:
        index.install_into(upstream, prefix="/pypi")
        page_url = f"{upstream.url}/pypi/simple/a/"
        (link,) = Anchors(await get(page_url)).found
        assert urljoin(page_url, link["href"]).startswith(f"{upstream.url}/pypi/packages/")
        assert await get(urljoin(page_url, link["href"])) == wheel.data
        assert await get(urljoin(page_url, link["href"].replace("%2B", "+"))) == wheel.data


@pytest_twisted.ensureDeferred
async def test_absolute_links_lead_to_another_server():
    """With a second upstream the pages are on the first and the files on the second only."""
    index = Index()
    wheel = index.add_wheel("a", "1")
    async with FakeUpstream() as pages, FakeUpstream() as files:
        index.install_into(pages, prefix="/pypi", files_upstream=files)
        (link,) = Anchors(await get(f"{pages.url}/pypi/simple/a/")).found
        assert link["href"] == f"{files.url}{wheel.path}#sha256={wheel.sha256}"
        assert await get(link["href"]) == wheel.data
        assert await get(f"{files.url}{wheel.path}.metadata") == wheel.metadata
        assert pages.count(wheel.path) == 0


def test_a_written_index_has_a_file_for_every_resource(tmp_path):
    """On disk a page is the index of its folder, and a file has its own name, unquoted."""
    index = Index()
    wheel = index.add_wheel("a", "1+local")
    index.write_to(tmp_path)
    assert (tmp_path / "simple/a/index.html").read_bytes().startswith(b"<!DOCTYPE html>")
    assert (tmp_path / wheel.path.lstrip("/").replace("%2B", "+")).read_bytes() == wheel.data


def test_requirements_pin_every_file():
    """One line a release, with the hash of each of its files."""
    index = Index()
    wheel, sdist = index.add_wheel("a", "1"), index.add_sdist("a", "1")
    other = index.add_wheel("b", "2")
    assert index.requirements().splitlines() == [
        f"a==1 --hash=sha256:{wheel.sha256} --hash=sha256:{sdist.sha256}",
        f"b==2 --hash=sha256:{other.sha256}",
    ]


def test_a_page_in_json_says_what_the_one_in_html_says(tmp_path):
    """Link, digest, required Python, metadata, reason of the yank and time of the upload are the same in both."""
    index = Index()
    index.add_wheel("a", "1.0", python_requires=">=3.8", yanked="<bad>", uploaded="2024-01-01T00:00:00.000000Z")
    index.add_sdist("a", "2.0")
    for dialect in ("html", "json"):
        index.write_to(tmp_path, dialect=dialect)
    page = json.loads((tmp_path / "simple/a/index.json").read_bytes())
    assert (page["meta"], page["name"], page["versions"]) == ({"api-version": "1.1"}, "a", ["1.0", "2.0"])
    said = [
        {
            "href": f"{file['url']}#sha256={file['hashes']['sha256']}",
            "data-requires-python": file.get("requires-python"),
            "data-core-metadata": f"sha256={file['core-metadata']['sha256']}" if "core-metadata" in file else None,
            "data-yanked": file["yanked"] or None,
            "data-upload-time": file.get("upload-time"),
        }
        for file in page["files"]
    ]
    anchors = Anchors((tmp_path / "simple/a/index.html").read_bytes()).found
    assert said == [{name: anchor.get(name) for name in said[0]} for anchor in anchors]
    assert [file["size"] for file in page["files"]] == [len(each.data) for each in index.files]
