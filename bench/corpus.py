"""What the upstream has: project pages in HTML and JSON, plain and gzipped, and wheels of random bytes.

Everything lies in one folder as the upstream serves it, the same bytes in every run::

    simple/index.html, .json, and each with .gz              the list of projects
    simple/<project>/index.html, .json, and each with .gz    a project's page
    packages/<aa>/<bb>/<60 hex digits>/body     the bytes of every file of this digest, whatever it is called
    packages/.../<filename>.metadata            core metadata of the set that installers install

One body has many names, so a cache can be asked for thousands of different files without thousands of bodies.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import shutil
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from random import Random
from typing import Final

from attrs import field, frozen

KB: Final = 1000
MB: Final = 1000 * 1000

PAGES: Final = {"hot12k": 12 * KB, "hot200k": 200 * KB, "hot2m": 2 * MB}
"""Projects by the size of their page in HTML, about."""

WHEELS: Final = {"wheel64k": 64 * KB, "wheel1m": MB, "wheel50m": 50 * MB, "wheel500m": 500 * MB}
"""Projects with one wheel of this size."""

COLD: Final = {"cold12k": (12 * KB, 4000), "cold1m": (MB, 1000), "cold50m": (50 * MB, 80)}
"""Projects with so many wheels of this size, for downloads that no cache has seen."""

MANY: Final = "many"
"""``many-0``, ``many-1`` ... are projects with the same page, as many as are asked for."""

BESIDE: Final = "../.."
"""The root of links that lead to the server that the page comes from."""

ELSEWHERE: Final = "https://files.bench.example"
"""The root of links in the pages that are only looked at; PyPI's pages too name a host of its own for files."""

INSTALLED: Final = 60
"""How many packages the set for installers has; the first needs all others, directly or not."""

_BLOCK: Final = MB
_JSON_TYPE: Final = "application/vnd.pypi.simple.v1+json"
JSON_ACCEPT: Final = _JSON_TYPE


@frozen
class Link:
    """One file as a page names it; ``path`` is absolute, ``metadata_sha256`` None where there is none beside it."""

    filename: str
    path: str
    sha256: str
    size: int
    metadata_sha256: str | None = None


@frozen
class Body:
    """Bytes in the folder: the path that their digest gives, their SHA-256, and where they lie."""

    folder: str
    sha256: str
    size: int
    file: Path = field(eq=False)

    def link(self, filename: str, metadata_sha256: str | None = None) -> Link:
        """These bytes under a name."""
        return Link(filename, f"{self.folder}/{filename}", self.sha256, self.size, metadata_sha256)


def random_blocks(seed: str, size: int) -> Iterator[bytes]:
    """Random bytes, ``size`` in all, the same for equal arguments."""
    source = Random(seed)
    while size > 0:
        yield source.randbytes(min(_BLOCK, size))
        size -= _BLOCK


def folder_of(blake2b: str) -> str:
    """Where an index puts the file with this digest (64 hex digits), as the large ones do."""
    return f"/packages/{blake2b[:2]}/{blake2b[2:4]}/{blake2b[4:]}"


def html_page(project: str, links: Sequence[Link], root: str = BESIDE) -> str:
    """A project page in HTML (PEP 503, 629, 714)."""
    anchors = "".join(f"{_anchor(link, root)}\n" for link in links)
    return (
        '<!DOCTYPE html>\n<html>\n<head>\n<meta name="pypi:repository-version" content="1.1">\n'
        f"<title>Links for {project}</title>\n</head>\n<body>\n<h1>Links for {project}</h1>\n{anchors}</body>\n</html>\n"
    )


def _anchor(link: Link, root: str) -> str:
    href = escape(f"{root}{link.path}#sha256={link.sha256}")
    metadata = f' data-core-metadata="sha256={link.metadata_sha256}"' if link.metadata_sha256 else ""
    return f'<a href="{href}" data-requires-python="&gt;=3.8"{metadata}>{escape(link.filename)}</a><br />'


def json_page(project: str, links: Sequence[Link], root: str = BESIDE) -> str:
    """The same page in JSON (PEP 691, 700)."""
    files = [
        {
            "filename": link.filename,
            "url": f"{root}{link.path}",
            "hashes": {"sha256": link.sha256},
            "requires-python": ">=3.8",
            "core-metadata": {"sha256": link.metadata_sha256} if link.metadata_sha256 else False,
            "size": link.size,
            "upload-time": "2024-01-01T00:00:00.000000Z",
            "yanked": False,
        }
        for link in links
    ]
    versions = sorted({link.filename.split("-")[1] for link in links})
    return json.dumps({"meta": {"api-version": "1.1"}, "name": project, "versions": versions, "files": files})


def list_pages(projects: Sequence[str]) -> dict[str, str]:
    """The list of all projects, by the form it is in."""
    anchors = "".join(f'<a href="{project}/">{project}</a><br />\n' for project in projects)
    html = f"<!DOCTYPE html>\n<html>\n<head><title>Simple index</title></head>\n<body>\n{anchors}</body>\n</html>\n"
    named = [{"name": project} for project in projects]
    return {"html": html, "json": json.dumps({"meta": {"api-version": "1.1"}, "projects": named})}


def wheel_name(project: str, number: int = 0) -> str:
    """The name of a project's wheel of version 1.0.<number>."""
    return f"{project.replace('-', '_')}-1.0.{number}-py3-none-any.whl"


def links_for(project: str, body: Body, page_bytes: int) -> list[Link]:
    """As many links to one body as make an HTML page of about this size, where they lead elsewhere."""
    each = len(_anchor(body.link(wheel_name(project, 100)), ELSEWHERE)) + 1
    empty = len(html_page(project, ()))
    return [body.link(wheel_name(project, number)) for number in range(max(1, (page_bytes - empty) // each))]


def needs(number: int) -> list[int]:
    """Which packages of the set the one with this number needs: a tree with two branches at each."""
    return [each for each in (2 * number + 1, 2 * number + 2) if each < INSTALLED]


def set_project(number: int) -> str:
    """The name of a package of the set."""
    return f"benchset-{number:02d}"


def set_metadata(number: int) -> str:
    """The core metadata of a package of the set."""
    requires = "".join(f"Requires-Dist: {set_project(each)}\n" for each in needs(number))
    return f"Metadata-Version: 2.1\nName: {set_project(number)}\nVersion: 2.0.0\nRequires-Python: >=3.8\n{requires}"


def set_wheel(number: int) -> bytes:
    """A wheel of the set that installs: one module, and data of 5 KB to 2 MB, most of it small."""
    module = set_project(number).replace("-", "_")
    size = int(5 * KB * (400 ** Random(f"size {number}").random() ** 2))
    info = f"{module}-2.0.0.dist-info"
    content = {
        f"{module}/__init__.py": b"",
        f"{module}/data.bin": b"".join(random_blocks(f"set {number}", size)),
        f"{info}/METADATA": set_metadata(number).encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: bench\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},,\n" for name in (*content, f"{info}/RECORD"))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_STORED) as archive:
        for name, data in (*content.items(), (f"{info}/RECORD", record.encode())):
            archive.writestr(zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0)), data)
    return packed.getvalue()


class Corpus:
    """The folder and what lies in it. Making it takes seconds; one that was made whole before is used again."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.wheels: dict[str, Body] = {}
        self.cold: dict[str, Body] = {}

    def make(self) -> None:
        """Write everything."""
        shutil.rmtree(self.root, ignore_errors=True)
        small = self._body("small", random_blocks("small", 64 * KB))
        for project, size in PAGES.items():
            self._page(project, links_for(project, small, size), ELSEWHERE)
        self._page(MANY, links_for(MANY, small, PAGES["hot12k"]), ELSEWHERE)
        for project, size in WHEELS.items():
            self.wheels[project] = self._body(project, random_blocks(project, size))
            self._page(project, [self.wheels[project].link(wheel_name(project))])
        for project, (size, count) in COLD.items():
            body = self.cold[project] = self._body(project, random_blocks(project, size))
            self._page(project, [body.link(wheel_name(project, number)) for number in range(count)])
        for number in range(INSTALLED):
            self._set_member(number, small)
        projects = sorted(each.name for each in (self.root / "simple").iterdir())
        self._write(self.root / "simple", list_pages(projects))

    def wheel_path(self, project: str) -> str:
        """Where a project of ``WHEELS`` has its wheel."""
        return self.wheels[project].link(wheel_name(project)).path

    def cold_path(self, project: str, number: int) -> str:
        """Where a project of ``COLD`` has its wheel of this number."""
        return self.cold[project].link(wheel_name(project, number)).path

    def page(self, project: str, form: str = "html") -> bytes:
        """A project's page as the upstream serves it."""
        return (self.root / "simple" / project / f"index.{form}").read_bytes()

    def _set_member(self, number: int, older: Body) -> None:
        project = set_project(number)
        body = self._body(project, iter([set_wheel(number)]))
        metadata = set_metadata(number).encode()
        filename = f"{project.replace('-', '_')}-2.0.0-py3-none-any.whl"
        (self.root / body.folder[1:] / f"{filename}.metadata").write_bytes(metadata)
        links = [older.link(wheel_name(project, each)) for each in range(20)]
        self._page(project, [*links, body.link(filename, hashlib.sha256(metadata).hexdigest())])

    def _body(self, name: str, blocks: Iterator[bytes]) -> Body:
        waiting = self.root / f"{name}.new"
        self.root.mkdir(parents=True, exist_ok=True)
        sha256, blake2b, size = hashlib.sha256(), hashlib.blake2b(digest_size=32), 0
        with waiting.open("wb") as file:
            for block in blocks:
                file.write(block)
                sha256.update(block)
                blake2b.update(block)
                size += len(block)
        folder = folder_of(blake2b.hexdigest())
        target = self.root / folder[1:] / "body"
        target.parent.mkdir(parents=True, exist_ok=True)
        waiting.replace(target)
        return Body(folder, sha256.hexdigest(), size, target)

    def _page(self, project: str, links: Sequence[Link], root: str = BESIDE) -> None:
        forms = {"html": html_page(project, links, root), "json": json_page(project, links, root)}
        self._write(self.root / "simple" / project, forms)

    def _write(self, folder: Path, forms: Mapping[str, str]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for form, text in forms.items():
            (folder / f"index.{form}").write_text(text)
            (folder / f"index.{form}.gz").write_bytes(gzip.compress(text.encode(), 6, mtime=0))
